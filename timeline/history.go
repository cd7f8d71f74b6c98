package timeline

import (
	"errors"
	"regexp"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bakehouse-farm/bakehouse"
)

// A story is what the history of one workflow tells.
type story struct {
	decode decoder

	id, run, firstRun string
	parentID          string
	parentRun         string
	taskQueue         string
	workflow          string // its type
	input             *commonpb.Payloads

	span   *Span
	builds []*child
}

// A child is a build that a submission started.
type child struct {
	build bakehouse.Build
	run   string // empty until it has started
	span  *Span
}

// tell reads a history from its beginning.
func tell(events []*historypb.HistoryEvent, decode decoder) *story {
	s := &story{decode: decode, span: &Span{}}
	steps := map[int64]*Span{}     // by the event that scheduled them
	timers := map[int64]*Span{}    // by the event that started them
	children := map[int64]*child{} // by the event that initiated them
	for _, e := range events {
		at := when(e.GetEventTime())
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			s.begin(e.GetWorkflowExecutionStartedEventAttributes(), at)
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
			s.span.close(at, Success, "")
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
			outcome, reason := decode.failure(e.GetWorkflowExecutionFailedEventAttributes().GetFailure())
			s.span.close(at, outcome, reason)
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
			s.span.close(at, Cancelled, "")
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
			s.span.close(at, TimedOut, "workflow did not end in time")
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
			s.span.close(at, Error, "terminated in Temporal: "+e.GetWorkflowExecutionTerminatedEventAttributes().GetReason())

		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			a := e.GetActivityTaskScheduledEventAttributes()
			steps[e.GetEventId()] = &Span{Kind: Step, Name: stepName(a.GetActivityId()), Step: a.GetActivityId(), Scheduled: at}
			s.span.Children = append(s.span.Children, steps[e.GetEventId()])
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			a := e.GetActivityTaskStartedEventAttributes()
			if step := steps[a.GetScheduledEventId()]; step != nil {
				step.Started, step.Worker, step.Attempts = at, a.GetIdentity(), int(a.GetAttempt())
				if f := a.GetLastFailure(); f != nil {
					_, step.Reason = decode.failure(f)
				}
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			steps[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()].close(at, Success, "")
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
			a := e.GetActivityTaskFailedEventAttributes()
			outcome, reason := decode.failure(a.GetFailure())
			steps[a.GetScheduledEventId()].close(at, outcome, reason)
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
			a := e.GetActivityTaskTimedOutEventAttributes()
			outcome, reason := decode.failure(a.GetFailure())
			steps[a.GetScheduledEventId()].close(at, outcome, reason)
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
			steps[e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId()].close(at, Cancelled, "")

		case enumspb.EVENT_TYPE_TIMER_STARTED:
			timers[e.GetEventId()] = &Span{Kind: Pause, Name: "pause", Scheduled: at, Started: at}
			s.span.Children = append(s.span.Children, timers[e.GetEventId()])
		case enumspb.EVENT_TYPE_TIMER_FIRED:
			timers[e.GetTimerFiredEventAttributes().GetStartedEventId()].close(at, Success, "")
		case enumspb.EVENT_TYPE_TIMER_CANCELED:
			timers[e.GetTimerCanceledEventAttributes().GetStartedEventId()].close(at, Cancelled, "")

		case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
			c := s.initiate(e.GetStartChildWorkflowExecutionInitiatedEventAttributes(), at)
			children[e.GetEventId()] = c
		case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
			a := e.GetStartChildWorkflowExecutionFailedEventAttributes()
			children[a.GetInitiatedEventId()].close(at, Error, "build could not be started: "+strings.ToLower(a.GetCause().String()))
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
			a := e.GetChildWorkflowExecutionStartedEventAttributes()
			if c := children[a.GetInitiatedEventId()]; c != nil {
				c.run, c.span.Started = a.GetWorkflowExecution().GetRunId(), at
			}
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
			children[e.GetChildWorkflowExecutionCompletedEventAttributes().GetInitiatedEventId()].close(at, Success, "")
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
			a := e.GetChildWorkflowExecutionFailedEventAttributes()
			outcome, reason := decode.failure(a.GetFailure())
			children[a.GetInitiatedEventId()].close(at, outcome, reason)
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
			children[e.GetChildWorkflowExecutionCanceledEventAttributes().GetInitiatedEventId()].close(at, Cancelled, "")
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT:
			children[e.GetChildWorkflowExecutionTimedOutEventAttributes().GetInitiatedEventId()].close(at, TimedOut, "")
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
			children[e.GetChildWorkflowExecutionTerminatedEventAttributes().GetInitiatedEventId()].close(at, Error, "terminated in Temporal")
		}
	}
	return s
}

func (s *story) begin(a *historypb.WorkflowExecutionStartedEventAttributes, at time.Time) {
	s.span.Scheduled, s.span.Started = at, at
	s.firstRun = a.GetFirstExecutionRunId()
	s.workflow = a.GetWorkflowType().GetName()
	s.taskQueue = a.GetTaskQueue().GetName()
	s.parentID = a.GetParentWorkflowExecution().GetWorkflowId()
	s.parentRun = a.GetParentWorkflowExecution().GetRunId()
	s.input = a.GetInput()
}

func (s *story) initiate(a *historypb.StartChildWorkflowExecutionInitiatedEventAttributes, at time.Time) *child {
	c := &child{build: s.decode.build(a.GetInput())}
	c.build.ID = bakehouse.BuildID(a.GetWorkflowId())
	c.span = &Span{Kind: Build, Name: c.build.Name, Build: c.build.ID, Scheduled: at}
	if c.span.Name == "" {
		c.span.Name = a.GetWorkflowId()
	}
	s.builds = append(s.builds, c)
	s.span.Children = append(s.span.Children, c.span)
	return c
}

// pending adds what history does not have yet: attempts of steps that go on.
func (s *story) pending(activities []*workflowpb.PendingActivityInfo) {
	for _, p := range activities {
		step := s.open(p.GetActivityId())
		if step == nil {
			continue
		}
		step.Attempts = int(p.GetAttempt())
		step.Worker = p.GetLastWorkerIdentity()
		if p.GetLastStartedTime() != nil {
			step.Started = when(p.GetLastStartedTime())
		}
		if f := p.GetLastFailure(); f != nil {
			_, step.Reason = s.decode.failure(f)
		}
		if p.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED {
			step.Waiting = true
			if step.Started.IsZero() {
				step.Attempts = 0
			}
		}
	}
}

// open returns the step with this key that has not ended.
func (s *story) open(key string) *Span {
	for _, c := range s.span.Children {
		if c.Kind == Step && c.Step == key && c.Ended.IsZero() {
			return c
		}
	}
	return nil
}

// close ends a span; that it is not known is no error, as a history may be
// read from its middle.
func (s *Span) close(at time.Time, outcome Outcome, reason string) {
	if s == nil {
		return
	}
	s.Ended, s.Outcome = at, outcome
	if reason != "" {
		s.Reason = reason
	}
}

func (c *child) close(at time.Time, outcome Outcome, reason string) {
	if c != nil {
		c.span.close(at, outcome, reason)
	}
}

func when(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

var numbered = regexp.MustCompile(`^[0-9]+-`)

// stepName takes the number from the key of a step.
func stepName(key string) string {
	if name := numbered.ReplaceAllString(key, ""); name != "" {
		return name
	}
	return key
}

// A decoder reads what is encrypted in a history. What it cannot read it leaves
// out: a timeline without texts is better than none.
type decoder struct {
	data     converter.DataConverter
	failures converter.FailureConverter
}

func newDecoder(dc converter.DataConverter) decoder {
	if dc == nil {
		dc = converter.GetDefaultDataConverter()
	}
	return decoder{dc, temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})}
}

// build reads the first argument of workflow Build.
func (d decoder) build(in *commonpb.Payloads) bakehouse.Build {
	var request struct {
		Build bakehouse.Build `json:"build"`
	}
	if len(in.GetPayloads()) > 0 {
		_ = d.data.FromPayload(in.GetPayloads()[0], &request)
	}
	return request.Build
}

// submission reads the argument of workflow Submission.
func (d decoder) submission(in *commonpb.Payloads) (s bakehouse.Submission) {
	if len(in.GetPayloads()) > 0 {
		_ = d.data.FromPayload(in.GetPayloads()[0], &s)
	}
	return s
}

// failure says how something ended, and in which words.
func (d decoder) failure(f *failurepb.Failure) (Outcome, string) {
	if f == nil {
		return Error, ""
	}
	return outcomeOf(d.failures.FailureToError(f))
}

func outcomeOf(err error) (Outcome, string) {
	var app *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	switch {
	case temporal.IsCanceledError(err):
		return Cancelled, ""
	case errors.As(err, &app):
		switch kind := bakehouse.Kind(app.Type()); kind {
		case bakehouse.Timeout:
			return TimedOut, app.Message()
		case bakehouse.Invalid, bakehouse.Denied, bakehouse.NotFound, bakehouse.Conflict, bakehouse.Script, "plan-failed", "builds-failed":
			return Failure, app.Message()
		}
		return Error, app.Message()
	case errors.As(err, &timeout):
		if timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_HEARTBEAT {
			return TimedOut, "agent was lost"
		}
		return TimedOut, "no end in time (" + strings.ToLower(timeout.TimeoutType().String()) + ")"
	}
	return Error, err.Error()
}
