package workflows

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
)

// KeptID is the ID of the workflow that keeps what a failed build has made,
// until somebody retries it or its time is over.
func KeptID(id bakehouse.BuildID) string { return string(id) + ".kept" }

// keep hands what the build has made to a workflow that waits for a retry, when
// the expensive part of the build was over before it failed: the machine is
// finished, and only its image, a copy, or a post-processor is missing. It tells
// whether it did.
//
// It is the same workflow, which begins parked: so this one can end at once,
// and whoever waits for the build learns that it failed.
func (b *build) keep(ctx workflow.Context, failed error) bool {
	switch {
	case b.Keep <= 0, b.Kept != nil, b.settled, b.overdue, b.Stage < stopping,
		b.OnError != "" && b.OnError != "cleanup",
		temporal.IsCanceledError(failed), ctx.Err() != nil, kind(failed) == bakehouse.Gone:
		return false
	}
	progress := b.Progress
	progress.Error, progress.Kind = cause(failed), kind(failed)
	r := b.BuildRequest
	r.Kept = &progress
	r.Timeout = 0
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            KeptID(b.Build.ID),
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		TypedSearchAttributes: workflow.GetTypedSearchAttributes(ctx),
	})
	var begun workflow.Execution
	if err := workflow.ExecuteChildWorkflow(child, Build, r).GetChildWorkflowExecution().Get(child, &begun); err != nil {
		workflow.GetLogger(ctx).Error("build is not kept", "build", b.Build.ID, "error", err)
		return false
	}
	b.keptUntil = workflow.Now(ctx).Add(time.Duration(b.Keep)).UTC()
	b.say(ctx, "kept", fmt.Sprintf("What the build has made is kept until %s. Do again what failed with: submit retry %s",
		b.keptUntil.Format(time.RFC3339), b.Build.ID))
	return true
}
