package farm

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

const sweepType = "Sweep"

// SweepRequest asks for a sweep (workflows.SweepRequest).
type SweepRequest struct {
	Regions []string `json:"regions,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// Found is one thing that a build owns, and what the sweep did about it.
type Found struct {
	Build   string    `json:"build"`
	Source  string    `json:"source,omitempty"`
	Region  string    `json:"region"`
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Fate    string    `json:"fate"`
	Lost    bool      `json:"lost,omitempty"`
	Removed bool      `json:"removed,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Sweep finds and removes what no living build owns, now, and returns what it
// found. One sweep of a pool runs at a time: another is joined.
func (f *Farm) Sweep(ctx context.Context, pool string, r SweepRequest) ([]Found, error) {
	id := "sweep-" + pool
	if r.DryRun {
		id += "-dry-run"
	}
	run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: pool, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("BakehousePool").ValueSet(pool)),
	}, sweepType, r)
	if err != nil {
		return nil, fmt.Errorf("start sweep of pool %s: %w", pool, err)
	}
	var out struct {
		Found []Found `json:"found"`
	}
	err = run.Get(ctx, &out)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		err = errors.New(app.Message())
	}
	if err != nil {
		return nil, fmt.Errorf("sweep of pool %s: %w", pool, err)
	}
	return out.Found, nil
}

// SweepEvery has a pool swept again and again. Zero ends that; ending what was
// not begun is no error.
func (f *Farm) SweepEvery(ctx context.Context, pool string, every time.Duration, r SweepRequest) error {
	return f.repeat(ctx, "bakehouse-sweep-"+pool, every,
		&client.ScheduleWorkflowAction{ID: "sweep-" + pool, Workflow: sweepType, TaskQueue: pool, Args: []any{r}})
}

// repeat makes a schedule, in the place of one with its ID. Zero only ends that.
func (f *Farm) repeat(ctx context.Context, id string, every time.Duration, action *client.ScheduleWorkflowAction) error {
	schedules := f.client.ScheduleClient()
	handle := schedules.GetHandle(ctx, id)
	if err := handle.Delete(ctx); err != nil {
		var gone *serviceerror.NotFound
		if !errors.As(err, &gone) {
			return fmt.Errorf("end schedule %s: %w", id, err)
		}
	}
	if every == 0 {
		return nil
	}
	_, err := schedules.Create(ctx, client.ScheduleOptions{
		ID:      id,
		Spec:    client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}, Jitter: every / 10},
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		// What was missed while the farm was away is not made up for: the next
		// one finds the same.
		CatchupWindow: time.Minute,
		Action:        action,
	})
	if err != nil {
		return fmt.Errorf("create schedule %s: %w", id, err)
	}
	return nil
}
