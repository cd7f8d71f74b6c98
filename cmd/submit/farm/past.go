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

// Builds returns what has a log: the plan, as a build with the submission's ID,
// and the builds that have begun, in that order.
func (f *Farm) Builds(ctx context.Context, id, run string) ([]bakehouse.Build, error) {
	builds, _, err := f.past(ctx, id, run)
	return builds, err
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

// past reads what has happened until now.
func (f *Farm) past(ctx context.Context, id, run string) ([]bakehouse.Build, []bakehouse.Result, error) {
	r := reader{f.data, secret.FailureConverter(f.keys)}
	var builds []bakehouse.Build
	results := []bakehouse.Result{}
	byEvent := map[int64]bakehouse.Build{}
	it := f.client.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return nil, nil, fmt.Errorf("read history of %s: %w", id, err)
		}
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			builds = append(builds, r.plan(id, e.GetWorkflowExecutionStartedEventAttributes()))
		case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
			b := r.build(e.GetStartChildWorkflowExecutionInitiatedEventAttributes())
			byEvent[e.GetEventId()] = b
			builds = append(builds, b)
		default:
			res, initiated, ended := r.result(e)
			if b, known := byEvent[initiated]; ended && known {
				results = append(results, completed(res, b))
			}
		}
	}
	return builds, results, nil
}
