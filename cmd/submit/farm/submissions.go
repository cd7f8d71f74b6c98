package farm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/bakehouse-farm/bakehouse"
)

// A Started is a submission that is on the farm.
type Started struct {
	ID, Run string
	At      time.Time
	// Joined tells that it was there before: the same submission had been sent.
	Joined bool
}

// Start sends a submission, or joins the one with this ID that is running.
func (f *Farm) Start(ctx context.Context, id string, s bakehouse.Submission) (Started, error) {
	run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: s.Pool,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword("BakehouseTemplate").ValueSet(s.Title),
			temporal.NewSearchAttributeKeyKeyword("BakehousePool").ValueSet(s.Pool),
			temporal.NewSearchAttributeKeyKeyword("BakehouseSubmission").ValueSet(id),
		),
		StaticSummary: s.Template,
		// Builds and steps inherit it: whoever submits a hundred builds of a template
		// waits for them, but others do not.
		Priority: temporal.Priority{FairnessKey: fairnessKey(s)},
	}, submissionType, s)
	if err != nil {
		return Started{}, fmt.Errorf("start submission %s: %w", id, err)
	}
	first, err := f.first(ctx, run.GetID(), run.GetRunID())
	if err != nil {
		return Started{}, fmt.Errorf("submission %s was started, but cannot be read: %w", id, err)
	}
	return Started{
		ID: run.GetID(), Run: run.GetRunID(), At: first.GetEventTime().AsTime(),
		Joined: first.GetWorkflowExecutionStartedEventAttributes().GetIdentity() != f.Identity,
	}, nil
}

// Submission returns what was submitted.
func (f *Farm) Submission(ctx context.Context, id, run string) (bakehouse.Submission, error) {
	var s bakehouse.Submission
	first, err := f.first(ctx, id, run)
	if err != nil {
		return s, fmt.Errorf("read submission %s: %w", id, err)
	}
	in := first.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()
	if len(in) == 0 {
		return s, fmt.Errorf("read submission %s: it has no input", id)
	}
	if err := f.data.FromPayload(in[0], &s); err != nil {
		return s, fmt.Errorf("read submission %s (was it encrypted with another key?): %w", id, err)
	}
	return s, nil
}

// first returns the first event of a history.
func (f *Farm) first(ctx context.Context, id, run string) (*historypb.HistoryEvent, error) {
	it := f.client.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !it.HasNext() {
		return nil, errors.New("history is empty")
	}
	return it.Next()
}

// Cancel asks a submission or a build to end, and to clean up. That it has
// ended already is no error.
func (f *Farm) Cancel(ctx context.Context, id, run string) error {
	err := f.client.CancelWorkflow(ctx, id, run)
	var gone *serviceerror.NotFound
	if err != nil && !errors.As(err, &gone) {
		return fmt.Errorf("cancel %s: %w", id, err)
	}
	return nil
}

// A StepState is a step that goes on now.
type StepState struct {
	Key     string
	Since   time.Time // when it was first asked for, or its attempt began
	Attempt int
	Waiting bool // for an agent
}

// Steps returns what a build is doing now.
func (f *Farm) Steps(ctx context.Context, id string) ([]StepState, error) {
	d, err := f.client.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return nil, err
	}
	var steps []StepState
	for _, p := range d.GetPendingActivities() {
		s := StepState{
			Key: p.GetActivityId(), Attempt: int(p.GetAttempt()),
			Waiting: p.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED,
		}
		if t := p.GetLastStartedTime(); t != nil {
			s.Since = t.AsTime()
		} else if t := p.GetScheduledTime(); t != nil {
			s.Since = t.AsTime()
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// fairnessKey names those who share a turn on a busy pool: the same user's
// submissions of the same template. Temporal takes 64 bytes at most.
func fairnessKey(s bakehouse.Submission) string {
	key := s.User + "/" + s.Title
	return strings.ToValidUTF8(key[:min(len(key), 64)], "")
}
