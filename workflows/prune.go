package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse/activities"
)

// A PruneRequest is the input of workflow Prune.
type PruneRequest struct {
	// OlderThan is the age below which everything stays.
	OlderThan time.Duration `json:"older_than"`
	// DryRun removes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Prune removes from the farm's store what no submission or build needs that
// runs, waits, is kept, or has ended lately. How that goes together with
// submissions that begin meanwhile is told at bundle.Store.Prune.
func Prune(ctx workflow.Context, r PruneRequest) (activities.Pruned, error) {
	ask := named(options(ctx, 12*time.Hour, 12*time.Hour), "prune")
	o := workflow.GetActivityOptions(ask)
	o.ScheduleToCloseTimeout = 12 * time.Hour // a store may hold millions of blobs
	ask = workflow.WithActivityOptions(ask, o)
	var done activities.Pruned
	err := workflow.ExecuteActivity(ask, do.Prune, workflow.Now(ctx).Add(-r.OlderThan), r.DryRun).Get(ask, &done)
	if err != nil {
		return done, plainly(err)
	}
	return done, nil
}
