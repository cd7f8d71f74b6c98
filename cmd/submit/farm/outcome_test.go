package farm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// farmKey is what the histories of these tests are encrypted with.
func farmKey(t *testing.T) reader {
	t.Helper()
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return reader{secret.DataConverter(keys), secret.FailureConverter(keys)}
}

func (r reader) sealed(t *testing.T, v any) *commonpb.Payloads {
	t.Helper()
	p, err := r.data.ToPayloads(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r reader) failure(typ, message string, details ...any) *failurepb.Failure {
	return r.failures.ErrorToFailure(temporal.NewApplicationErrorWithOptions(message, typ, temporal.ApplicationErrorOptions{NonRetryable: true, Details: details}))
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// However a submission ends, it is told apart from the other ways.
func TestClosed(t *testing.T) {
	r := farmKey(t)
	results := bakehouse.Results{Builds: []bakehouse.Result{{Build: bakehouse.Build{ID: "web-1", Name: "web"}, Error: "no"}}}
	failed := func(f *failurepb.Failure) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, Attributes: &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{
			WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{Failure: f},
		}}
	}
	cancelled := func(p *commonpb.Payloads) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes{
			WorkflowExecutionCanceledEventAttributes: &historypb.WorkflowExecutionCanceledEventAttributes{Details: p},
		}}
	}
	tests := []struct {
		name  string
		event *historypb.HistoryEvent
		want  bakehouse.Results
		err   func(error) bool
	}{
		{"done", &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
			WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: r.sealed(t, results)},
		}}, results, func(err error) bool { return err == nil }},
		{"builds failed", failed(r.failure("builds-failed", "1 of 1 builds failed", results)), results, func(err error) bool { return errors.Is(err, ErrBuilds) }},
		{"plan failed", failed(r.failure("plan-failed", "Error: no AMI")), bakehouse.Results{}, func(err error) bool {
			var plan *PlanError
			return errors.As(err, &plan) && plan.Text == "Error: no AMI"
		}},
		{"cancelled", cancelled(r.sealed(t, results)), results, func(err error) bool { return errors.Is(err, ErrCancelled) }},
		{"cancelled before there were builds", cancelled(nil), bakehouse.Results{}, func(err error) bool { return errors.Is(err, ErrCancelled) }},
		{"terminated", &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{
			WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{Reason: "by hand"},
		}}, bakehouse.Results{}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "by hand") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ended, err := r.closed(tt.event)
			if !ended || !tt.err(err) {
				t.Errorf("ended %t, error %v", ended, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, ended, _ := r.closed(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED}); ended {
		t.Error("any event ends the submission")
	}
}

// However a build ends, something is known of it: its name, when, and why.
func TestResult(t *testing.T) {
	r := farmKey(t)
	b := bakehouse.Build{ID: "web-1", Name: "web"}
	event := func(typ enumspb.EventType, set func(e *historypb.HistoryEvent)) *historypb.HistoryEvent {
		e := &historypb.HistoryEvent{EventType: typ, EventTime: timestamppb.New(noon)}
		set(e)
		return e
	}
	failed := func(f *failurepb.Failure) *historypb.HistoryEvent {
		return event(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes{ChildWorkflowExecutionFailedEventAttributes: &historypb.ChildWorkflowExecutionFailedEventAttributes{InitiatedEventId: 7, Failure: f}}
		})
	}
	told := bakehouse.Result{Build: b, Error: "exit status: 3", Kind: bakehouse.Script, Leftovers: "sg-1", Started: noon.Add(-time.Hour), Ended: noon.Add(-time.Second)}
	tests := []struct {
		name  string
		event *historypb.HistoryEvent
		want  bakehouse.Result
	}{
		{"done", event(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes{ChildWorkflowExecutionCompletedEventAttributes: &historypb.ChildWorkflowExecutionCompletedEventAttributes{
				InitiatedEventId: 7, Result: r.sealed(t, bakehouse.Result{Build: b, Ended: noon}),
			}}
		}), bakehouse.Result{Build: b, Ended: noon}},
		{"failed, with all that is known", failed(r.failure("script", "exit status: 3", told)), told},
		{"failed, with a text only", failed(r.failure("denied", "may not")), bakehouse.Result{Build: b, Error: "may not", Kind: bakehouse.Denied, Ended: noon}},
		{"cancelled", event(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED, func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionCanceledEventAttributes{ChildWorkflowExecutionCanceledEventAttributes: &historypb.ChildWorkflowExecutionCanceledEventAttributes{InitiatedEventId: 7}}
		}), bakehouse.Result{Build: b, Error: "build was cancelled", Cancelled: true, Ended: noon}},
		{"terminated", event(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED, func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionTerminatedEventAttributes{ChildWorkflowExecutionTerminatedEventAttributes: &historypb.ChildWorkflowExecutionTerminatedEventAttributes{InitiatedEventId: 7}}
		}), bakehouse.Result{Build: b, Error: "build was terminated in Temporal", Ended: noon}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, initiated, ended := r.result(tt.event)
			if !ended || initiated != 7 {
				t.Errorf("ended %t, of event %d", ended, initiated)
			}
			if diff := cmp.Diff(tt.want, completed(got, b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
