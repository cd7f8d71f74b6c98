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

// once has an agent of the pool do a chore now, and waits for the answer. One of
// a name runs at a time: another is joined, but a dry run is none.
func (f *Farm) once(ctx context.Context, name, pool string, dry bool, workflow string, request, answer any) error {
	id := name
	if dry {
		id += "-dry-run"
	}
	run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: pool, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("BakehousePool").ValueSet(pool)),
	}, workflow, request)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	err = run.Get(ctx, answer)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		err = errors.New(app.Message())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// repeat makes a schedule of chores, in the place of the one there is. Zero only
// ends that.
func (f *Farm) repeat(ctx context.Context, name, pool string, every time.Duration, workflow string, request any) error {
	id := "bakehouse-" + name
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
		Action:        &client.ScheduleWorkflowAction{ID: name, Workflow: workflow, TaskQueue: pool, Args: []any{request}},
	})
	if err != nil {
		return fmt.Errorf("create schedule %s: %w", id, err)
	}
	return nil
}
