package workflows

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
)

// BuildsFailed is the type of Submission's failure when builds failed. Its
// detail is the bakehouse.Results.
const BuildsFailed = "builds-failed"

// keepLeftovers is how long after its submission a build may hold what it
// made before a sweep takes it for lost.
const keepLeftovers = 7 * 24 * time.Hour

// Search attributes by which submissions and builds are found.
var (
	AttributeTemplate   = temporal.NewSearchAttributeKeyKeyword("BakehouseTemplate")
	AttributePool       = temporal.NewSearchAttributeKeyKeyword("BakehousePool")
	AttributeSource     = temporal.NewSearchAttributeKeyKeyword("BakehouseSource")
	AttributeSubmission = temporal.NewSearchAttributeKeyKeyword("BakehouseSubmission")
)

// Submission plans a template and makes all its builds, each a workflow of its
// own: one that fails does not disturb the others.
func Submission(ctx workflow.Context, s bakehouse.Submission) (bakehouse.Results, error) {
	results, err := builds(ctx, s)
	trace(ctx)
	return results, err
}

// trace asks for the submission's trace to be sent, however it ended and
// whether or not anybody looks on. It is a local activity, which asks nothing
// of the farm, and it does not wait: the agent follows when the submission is
// over. A trace that is lost can be sent again from history.
func trace(ctx workflow.Context) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: 2 * time.Second,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	e := workflow.GetInfo(ctx).WorkflowExecution
	if err := workflow.ExecuteLocalActivity(ctx, do.SendTrace, e.ID, e.RunID).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("trace was not sent", "error", err)
	}
}

// builds plans a template and makes all its builds.
func builds(ctx workflow.Context, s bakehouse.Submission) (bakehouse.Results, error) {
	info := workflow.GetInfo(ctx)
	run := cmp.Or(info.FirstRunID, info.WorkflowExecution.RunID) // the test environment knows no first run
	request := BuildRequest{
		Build: bakehouse.Build{
			ID: bakehouse.BuildID(info.WorkflowExecution.ID), Name: s.Title,
			Submission: info.WorkflowExecution.ID,
			RunUUID:    uuid(run),
			Started:    workflow.Now(ctx).UTC(),
			ExpiresAt:  workflow.Now(ctx).UTC().Add(keepLeftovers),
			Force:      s.Force,
		},
		Plan: activities.PlanRef{
			Files: activities.FilesRef{Bundle: s.Bundle, Template: s.Template, Cwd: s.Cwd, Home: s.Home},
			Trace: activities.Trace{Parent: s.TraceParent, Run: run},
		},
		Policy: s.Policy,
	}
	planned, err := plan(ctx, s, request)
	if err != nil {
		return bakehouse.Results{}, err
	}
	request.Plan.Digest = planned.Digest

	// Each build has its place in the results from the start; they are filled as
	// builds end, in any order.
	results := bakehouse.Results{Builds: make([]bakehouse.Result, len(planned.Builds))}
	limit := int64(len(planned.Builds))
	if s.Parallel > 0 {
		limit = int64(s.Parallel)
	}
	slots := workflow.NewSemaphore(ctx, limit)
	wg := workflow.NewWaitGroup(ctx)
	for i, outline := range planned.Builds {
		r := request
		r.Outline, r.Plan.Index = outline, i
		r.Build.Name, r.Build.Type, r.Build.Source = outline.Name, outline.Type, outline.Source
		r.Build.ID = buildID(run, outline.Source, i)
		results.Builds[i] = bakehouse.Result{Build: r.Build, Cancelled: true, Error: "build was cancelled before it began"}
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			if slots.Acquire(ctx, 1) != nil {
				return
			}
			defer slots.Release(1)
			res := oneBuild(ctx, s, r)
			res.Log = nil // the build's own result has it
			results.Builds[i] = res
		})
	}
	wg.Wait(ctx)
	return verdict(ctx, results)
}

// plan evaluates the template.
func plan(ctx workflow.Context, s bakehouse.Submission, r BuildRequest) (activities.Planned, error) {
	const key = "00-plan"
	ctx = asks(ctx)
	o := workflow.GetActivityOptions(ctx)
	o.ActivityID = key
	ctx = workflow.WithActivityOptions(ctx, o)
	var planned activities.Planned
	err := workflow.ExecuteActivity(ctx, do.Plan, activities.PlanInput{
		Step:       activities.Step{Key: key, Build: r.Build, Plan: r.Plan},
		Submission: s, Run: r.Plan.Trace.Run, Time: r.Build.Started, RunUUID: r.Build.RunUUID,
	}).Get(ctx, &planned)
	if err != nil && !temporal.IsCanceledError(err) {
		// The type says whether it was the template.
		return planned, temporal.NewApplicationErrorWithOptions(cause(err), string(kind(err)), temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	return planned, err
}

// oneBuild makes one build and says how it ended.
func oneBuild(ctx workflow.Context, s bakehouse.Submission, r BuildRequest) bakehouse.Result {
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: string(r.Build.ID),
		// A submission that is terminated takes its builds along, but lets them
		// clean up.
		ParentClosePolicy:   enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation: true,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			AttributeTemplate.ValueSet(s.Title), AttributePool.ValueSet(s.Pool),
			AttributeSource.ValueSet(r.Build.Name), AttributeSubmission.ValueSet(r.Build.Submission)),
	})
	var res bakehouse.Result
	err := workflow.ExecuteChildWorkflow(child, Build, r).Get(child, &res)
	if err == nil {
		return res
	}
	var app *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case errors.As(err, &cancelled) && cancelled.HasDetails() && cancelled.Details(&res) == nil:
		return res
	case errors.As(err, &app) && app.HasDetails() && app.Details(&res) == nil:
		return res
	}
	return bakehouse.Result{
		Build: r.Build, Error: cause(err), Kind: kind(err),
		Cancelled: temporal.IsCanceledError(err), Ended: workflow.Now(ctx),
	}
}

// verdict says how the submission ended.
func verdict(ctx workflow.Context, results bakehouse.Results) (bakehouse.Results, error) {
	failed := 0
	for _, r := range results.Builds {
		if r.Error != "" {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return results, temporal.NewCanceledError(results)
	case failed > 0:
		return results, temporal.NewApplicationErrorWithOptions(
			fmt.Sprintf("%d of %d builds failed", failed, len(results.Builds)), BuildsFailed,
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{results}})
	}
	return results, nil
}

// buildID derives the name of a build from the run of its submission, so that
// a submission that is sent again later makes builds of its own.
func buildID(run, source string, index int) bakehouse.BuildID {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s|%s|%d", run, source, index)))
	suffix := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:10]
	return bakehouse.BuildID(slug(source) + "-" + suffix)
}

// slug keeps of a name what a BuildID may hold, at most 40 bytes of it.
func slug(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	if len(out) > 40 {
		out = out[:40]
	}
	return strings.Trim(out, "-")
}

// uuid makes Packer's run UUID from the run of the submission.
func uuid(run string) string {
	sum := sha256.Sum256([]byte("packer-run-uuid|" + run))
	s := fmt.Sprintf("%x", sum[:16])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:32]}, "-")
}
