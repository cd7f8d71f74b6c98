package farm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A Logged is what has a log: a build, or the plan of a submission.
type Logged struct {
	bakehouse.Build
	// Ended tells whether it has ended; Log where its log did, nil when nobody
	// noted that (an older agent, or an end without a last word).
	Ended bool
	Log   *bakehouse.LogEnd
}

// Builds returns what has a log: the plan, as a build with the submission's ID,
// and the builds that have begun, in that order.
func (f *Farm) Builds(ctx context.Context, id, run string) ([]Logged, error) {
	builds, results, err := f.past(ctx, id, run)
	if err != nil {
		return nil, err
	}
	retried, err := f.Retried(ctx, results)
	if err != nil {
		return nil, err
	}
	for _, r := range retried {
		if i := slices.IndexFunc(builds, func(l Logged) bool { return l.ID == r.Build.ID }); i > 0 {
			builds[i].Log = r.Log // a retry goes on with the log
		}
	}
	return builds, nil
}

// Results returns how the builds of a submission ended, those that have.
func (f *Farm) Results(ctx context.Context, id, run string) ([]bakehouse.Result, error) {
	_, results, err := f.past(ctx, id, run)
	return results, err
}

// Retried returns the results with what became of the builds that were kept when
// they failed: the end of the retry stands where the failure stood. One that is
// still kept, or is being retried, has failed until then.
func (f *Farm) Retried(ctx context.Context, results []bakehouse.Result) ([]bakehouse.Result, error) {
	out := slices.Clone(results)
	for i, r := range out {
		if r.KeptUntil.IsZero() {
			continue
		}
		id := string(r.Build.ID) + keptSuffix
		d, err := f.client.DescribeWorkflowExecution(ctx, id, "")
		var unknown *serviceerror.NotFound
		if errors.As(err, &unknown) {
			continue // forgotten
		}
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", id, err)
		}
		if entry(d.GetWorkflowExecutionInfo()).Running() {
			continue
		}
		res, err := f.ended(ctx, f.client.GetWorkflow(ctx, id, ""))
		if err != nil {
			return nil, fmt.Errorf("result of %s: %w", id, err)
		}
		out[i] = completed(res, r.Build)
	}
	return out, nil
}

// Missing returns what is missing at the end of the log of what has ended, by
// name of chunk: nothing when the log is whole, or when it is not known where
// it ended.
func (f *Farm) Missing(ctx context.Context, l Logged) ([]error, error) {
	if !l.Ended || l.Log == nil {
		return nil, nil
	}
	logs, err := f.Logs(ctx)
	if err != nil {
		return nil, err
	}
	return logs.Missing(ctx, l.ID, *l.Log)
}

// Stores tells whether the farm's blob store was named.
func (f *Farm) Stores() bool { return f.url != "" }

// past reads what has happened until now.
func (f *Farm) past(ctx context.Context, id, run string) ([]Logged, []bakehouse.Result, error) {
	r := reader{f.data, secret.FailureConverter(f.keys)}
	var builds []Logged
	results := []bakehouse.Result{}
	byEvent := map[int64]int{} // places in builds
	var planned int64
	it := f.client.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return nil, nil, fmt.Errorf("read history of %s: %w", id, err)
		}
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			builds = append(builds, Logged{Build: r.plan(id, e.GetWorkflowExecutionStartedEventAttributes())})
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			if planned == 0 {
				planned = e.GetEventId()
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			if a := e.GetActivityTaskCompletedEventAttributes(); a.GetScheduledEventId() == planned && len(builds) > 0 {
				var plan struct {
					Log *bakehouse.LogEnd `json:"log"`
				}
				_ = r.payload(a.GetResult(), &plan) // else it is not known
				builds[0].Ended, builds[0].Log = true, plan.Log
			}
		case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
			byEvent[e.GetEventId()] = len(builds)
			builds = append(builds, Logged{Build: r.build(e.GetStartChildWorkflowExecutionInitiatedEventAttributes())})
		default:
			res, initiated, ended := r.result(e)
			if i, known := byEvent[initiated]; ended && known {
				builds[i].Ended, builds[i].Log = true, res.Log
				results = append(results, completed(res, builds[i].Build))
			}
		}
	}
	return builds, results, nil
}
