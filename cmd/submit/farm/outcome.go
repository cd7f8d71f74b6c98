package farm

import (
	"cmp"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/bakehouse-farm/bakehouse"
)

// How a submission may end other than well.
var (
	// ErrBuilds: builds failed; the results say which and why.
	ErrBuilds = errors.New("builds failed")
	// ErrCancelled: somebody ended it. The results hold what is known.
	ErrCancelled = errors.New("submission was cancelled")
)

// A PlanError tells that the template could not be evaluated on the farm.
type PlanError struct {
	// Text is what the user should read, diagnostics with their source lines.
	Text string
}

func (e *PlanError) Error() string { return e.Text }

// reader decrypts what histories hold.
type reader struct {
	data     converter.DataConverter
	failures converter.FailureConverter
}

// closed tells whether e ends a workflow, and how the submission ended.
func (r reader) closed(e *historypb.HistoryEvent) (results bakehouse.Results, ended bool, err error) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		err = r.payload(e.GetWorkflowExecutionCompletedEventAttributes().GetResult(), &results)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		results, err = r.failed(e.GetWorkflowExecutionFailedEventAttributes().GetFailure())
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		// That there are no results means that it ended before it had builds.
		_ = r.payload(e.GetWorkflowExecutionCanceledEventAttributes().GetDetails(), &results)
		err = ErrCancelled
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		err = fmt.Errorf("submission was terminated in Temporal: %s", cmp.Or(e.GetWorkflowExecutionTerminatedEventAttributes().GetReason(), "no reason given"))
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		err = errors.New("submission did not end within its time limit")
	default:
		return results, false, nil
	}
	return results, true, err
}

// ErrKey tells that what the farm keeps was encrypted with a key that is not
// ours.
var ErrKey = errors.New("the farm's agents have another key than this command, so that neither can read what the other writes: copy their key file here, and name it with -key or BAKEHOUSE_KEY")

// problem reads a failure.
func (r reader) problem(f *failurepb.Failure) error {
	if p := f.GetEncodedAttributes(); p != nil {
		var attributes any
		if r.data.FromPayload(p, &attributes) != nil {
			return ErrKey
		}
	}
	return r.failures.FailureToError(f)
}

func (r reader) failed(f *failurepb.Failure) (results bakehouse.Results, err error) {
	err = r.problem(f)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return results, err
	}
	if app.HasDetails() {
		if derr := app.Details(&results); derr == nil && len(results.Builds) > 0 {
			return results, ErrBuilds
		}
	}
	return results, &PlanError{app.Message()}
}

// result reads how a build ended from the event by which its submission knows,
// and the event that initiated it. ended is false for other events.
func (r reader) result(e *historypb.HistoryEvent) (res bakehouse.Result, initiated int64, ended bool) {
	at := e.GetEventTime().AsTime()
	var err error
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
		a := e.GetChildWorkflowExecutionCompletedEventAttributes()
		err = r.payload(a.GetResult(), &res)
		initiated = a.GetInitiatedEventId()
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
		a := e.GetChildWorkflowExecutionFailedEventAttributes()
		err = r.problem(a.GetFailure())
		var app *temporal.ApplicationError
		if errors.As(err, &app) {
			res.Error, res.Kind = app.Message(), bakehouse.Kind(app.Type())
			if app.HasDetails() && app.Details(&res) == nil {
				err = nil
			}
		}
		initiated = a.GetInitiatedEventId()
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
		a := e.GetChildWorkflowExecutionCanceledEventAttributes()
		_ = r.payload(a.GetDetails(), &res) // may have none
		res.Cancelled, res.Error = true, cmp.Or(res.Error, "build was cancelled")
		initiated = a.GetInitiatedEventId()
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT:
		res.Error, res.Kind = "build did not end within its time limit", bakehouse.Timeout
		initiated = e.GetChildWorkflowExecutionTimedOutEventAttributes().GetInitiatedEventId()
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
		res.Error = "build was terminated in Temporal"
		initiated = e.GetChildWorkflowExecutionTerminatedEventAttributes().GetInitiatedEventId()
	case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
		a := e.GetStartChildWorkflowExecutionFailedEventAttributes()
		res.Error = "build could not be started: " + a.GetCause().String()
		initiated = a.GetInitiatedEventId()
	default:
		return res, 0, false
	}
	if err != nil && res.Error == "" {
		res.Error = err.Error()
	}
	if res.Ended.IsZero() {
		res.Ended = at
	}
	return res, initiated, true
}

func (r reader) payload(p *commonpb.Payloads, into any) error {
	if len(p.GetPayloads()) == 0 {
		return errors.New("no result")
	}
	return r.data.FromPayload(p.GetPayloads()[0], into)
}

// completed names the build of a result that does not say whose it is.
func completed(res bakehouse.Result, b bakehouse.Build) bakehouse.Result {
	if res.Build.ID == "" {
		res.Build = b
	}
	return res
}

// build reads what a submission started. What cannot be read is shown by its ID.
func (r reader) build(a *historypb.StartChildWorkflowExecutionInitiatedEventAttributes) bakehouse.Build {
	var request struct {
		Build bakehouse.Build `json:"build"`
	}
	_ = r.payload(a.GetInput(), &request)
	b := request.Build
	b.ID = bakehouse.BuildID(a.GetWorkflowId())
	b.Name = cmp.Or(b.Name, a.GetWorkflowId())
	return b
}

// plan is the build as which the plan of a submission keeps its log.
func (r reader) plan(id string, a *historypb.WorkflowExecutionStartedEventAttributes) bakehouse.Build {
	var s bakehouse.Submission
	_ = r.payload(a.GetInput(), &s) // else it is shown by its ID
	return bakehouse.Build{ID: bakehouse.BuildID(id), Name: cmp.Or(s.Title, id), Submission: id}
}
