package farm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	enumspb "go.temporal.io/api/enums/v1"
)

const pruneType = "Prune"

// PruneRequest asks for a prune (workflows.PruneRequest).
type PruneRequest struct {
	OlderThan time.Duration `json:"older_than"`
	DryRun    bool          `json:"dry_run,omitempty"`
}

// Pruned tells what was removed from the store, or would have been.
type Pruned struct {
	Blobs struct {
		Blobs int   `json:"blobs"`
		Bytes int64 `json:"bytes"`
		Kept  int   `json:"kept"`
	} `json:"blobs"`
	Logs struct {
		Logs  int   `json:"logs"`
		Bytes int64 `json:"bytes"`
		Kept  int   `json:"kept"`
	} `json:"logs"`
}

// Prune removes from the farm's store what nothing needs and is old, now. An
// agent of the pool does it. One prune of a pool runs at a time: another is joined.
func (f *Farm) Prune(ctx context.Context, pool string, r PruneRequest) (Pruned, error) {
	id := "prune-" + pool
	if r.DryRun {
		id += "-dry-run"
	}
	var done Pruned
	run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: pool, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("BakehousePool").ValueSet(pool)),
	}, pruneType, r)
	if err != nil {
		return done, fmt.Errorf("start prune by pool %s: %w", pool, err)
	}
	err = run.Get(ctx, &done)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		err = errors.New(app.Message())
	}
	if err != nil {
		return done, fmt.Errorf("prune by pool %s: %w", pool, err)
	}
	return done, nil
}

// PruneEvery has a pool prune the store again and again. Zero ends that; ending
// what was not begun is no error.
func (f *Farm) PruneEvery(ctx context.Context, pool string, every time.Duration, r PruneRequest) error {
	return f.repeat(ctx, "bakehouse-prune-"+pool, every,
		&client.ScheduleWorkflowAction{ID: "prune-" + pool, Workflow: pruneType, TaskQueue: pool, Args: []any{r}})
}
