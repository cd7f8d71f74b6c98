package timeline

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bakehouse-farm/bakehouse"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// at is so many milliseconds after noon.
func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

// A script writes a history.
type script struct {
	t      *testing.T
	events []*historypb.HistoryEvent
}

func (s *script) add(ms int, typ enumspb.EventType, set func(e *historypb.HistoryEvent)) int64 {
	e := &historypb.HistoryEvent{EventId: int64(len(s.events) + 1), EventTime: timestamppb.New(at(ms)), EventType: typ}
	if set != nil {
		set(e)
	}
	s.events = append(s.events, e)
	return e.EventId
}

func payloads(t *testing.T, v any) *commonpb.Payloads {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *script) begin(ms int, workflow, firstRun string, input any, parent *commonpb.WorkflowExecution) {
	s.add(ms, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: workflow}, Input: payloads(s.t, input), FirstExecutionRunId: firstRun,
			TaskQueue: &taskqueuepb.TaskQueue{Name: "east"}, ParentWorkflowExecution: parent,
		}}
	})
}

func (s *script) schedule(ms int, key string) int64 {
	return s.add(ms, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityId: key}}
	})
}

func (s *script) started(ms int, scheduled int64, attempt int32, last *failurepb.Failure) {
	s.add(ms, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{
			ScheduledEventId: scheduled, Attempt: attempt, LastFailure: last, Identity: "agent-1",
		}}
	})
}

func (s *script) completed(ms int, scheduled int64) {
	s.add(ms, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: scheduled}}
	})
}

func (s *script) failed(ms int, scheduled int64, f *failurepb.Failure) {
	s.add(ms, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{ScheduledEventId: scheduled, Failure: f}}
	})
}

func (s *script) step(from, begun, to int, key string) {
	id := s.schedule(from, key)
	s.started(begun, id, 1, nil)
	s.completed(to, id)
}

func (s *script) pause(from, to int) {
	id := s.add(from, enumspb.EVENT_TYPE_TIMER_STARTED, nil)
	s.add(to, enumspb.EVENT_TYPE_TIMER_FIRED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_TimerFiredEventAttributes{TimerFiredEventAttributes: &historypb.TimerFiredEventAttributes{StartedEventId: id}}
	})
}

func (s *script) child(from, begun int, b bakehouse.Build, run string) int64 {
	id := s.add(from, enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_StartChildWorkflowExecutionInitiatedEventAttributes{StartChildWorkflowExecutionInitiatedEventAttributes: &historypb.StartChildWorkflowExecutionInitiatedEventAttributes{
			WorkflowId: string(b.ID), Input: payloads(s.t, map[string]any{"build": b}),
		}}
	})
	s.add(begun, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionStartedEventAttributes{ChildWorkflowExecutionStartedEventAttributes: &historypb.ChildWorkflowExecutionStartedEventAttributes{
			InitiatedEventId: id, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: string(b.ID), RunId: run},
		}}
	})
	return id
}

func (s *script) childDone(ms int, initiated int64) {
	s.add(ms, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes{ChildWorkflowExecutionCompletedEventAttributes: &historypb.ChildWorkflowExecutionCompletedEventAttributes{InitiatedEventId: initiated}}
	})
}

func (s *script) childFailed(ms int, initiated int64, f *failurepb.Failure) {
	s.add(ms, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes{ChildWorkflowExecutionFailedEventAttributes: &historypb.ChildWorkflowExecutionFailedEventAttributes{InitiatedEventId: initiated, Failure: f}}
	})
}

func (s *script) end(ms int, f *failurepb.Failure) {
	if f == nil {
		s.add(ms, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, nil)
		return
	}
	s.add(ms, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{Failure: f}}
	})
}

func application(typ, message string) *failurepb.Failure {
	return &failurepb.Failure{Message: message, FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: typ}}}
}

func noHeartbeat() *failurepb.Failure {
	return &failurepb.Failure{Message: "activity Heartbeat timeout", FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: enumspb.TIMEOUT_TYPE_HEARTBEAT}}}
}

// memory is a Temporal that remembers what it was told.
type memory struct {
	histories map[string][]*historypb.HistoryEvent // by workflow ID, and ID/run
	pending   map[string][]*workflowpb.PendingActivityInfo
}

func (m memory) GetWorkflowHistory(_ context.Context, id, run string, _ bool, _ enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	if run != "" {
		id += "/" + run
	}
	events, ok := m.histories[id]
	if !ok {
		return &iterator{err: serviceerror.NewNotFound("no such workflow")}
	}
	return &iterator{events: events}
}

func (m memory) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{PendingActivities: m.pending[id]}, nil
}

type iterator struct {
	events []*historypb.HistoryEvent
	err    error
}

func (i *iterator) HasNext() bool { return i.err != nil || len(i.events) > 0 }

func (i *iterator) Next() (*historypb.HistoryEvent, error) {
	if i.err != nil {
		return nil, i.err
	}
	e := i.events[0]
	i.events = i.events[1:]
	return e, nil
}

const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// farm is a submission with three builds: one is done, one failed after an
// agent was lost, one goes on.
func farm(t *testing.T) memory {
	web := bakehouse.Build{ID: "web-1", Name: "amazon-ebs.web"}
	bad := bakehouse.Build{ID: "bad-1", Name: "amazon-ebs.bad"}
	slow := bakehouse.Build{ID: "slow-1", Name: "amazon-ebs.slow"}

	top := &script{t: t}
	top.begin(0, "Submission", "run-1", bakehouse.Submission{Title: "site", TraceParent: caller}, nil)
	top.step(0, 1000, 2000, "00-plan")
	w := top.child(2000, 2000, web, "rw")
	b := top.child(2000, 2000, bad, "rb")
	top.child(2000, 2000, slow, "rs")
	top.childFailed(6000, b, &failurepb.Failure{
		Cause:       application("script", "Script exited with non-zero exit status: 7."),
		FailureInfo: &failurepb.Failure_ChildWorkflowExecutionFailureInfo{ChildWorkflowExecutionFailureInfo: &failurepb.ChildWorkflowExecutionFailureInfo{}},
	})
	top.childDone(10000, w)

	parent := &commonpb.WorkflowExecution{WorkflowId: "site-x", RunId: "run-1"}
	one := &script{t: t}
	one.begin(2000, "Build", "rw", map[string]any{"build": web}, parent)
	one.step(2000, 2000, 3000, "01-resolve")
	one.pause(3000, 4000)
	one.step(4000, 4000, 10000, "02-launch")
	one.end(10000, nil)

	two := &script{t: t}
	two.begin(2000, "Build", "rb", map[string]any{"build": bad}, parent)
	id := two.schedule(2000, "01-provision-1-shell")
	two.started(5000, id, 2, noHeartbeat())
	two.failed(6000, id, application("script", "Script exited with non-zero exit status: 7."))
	two.end(6000, application("script", "Script exited with non-zero exit status: 7."))

	three := &script{t: t}
	three.begin(2000, "Build", "rs", map[string]any{"build": slow}, parent)
	three.schedule(2000, "01-resolve")
	three.schedule(3000, "02-connect")
	return memory{
		histories: map[string][]*historypb.HistoryEvent{
			"site-x": top.events, "site-x/run-1": top.events,
			"web-1": one.events, "web-1/rw": one.events, "bad-1/rb": two.events, "slow-1/rs": three.events,
		},
		pending: map[string][]*workflowpb.PendingActivityInfo{"slow-1": {
			{ActivityId: "01-resolve", State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED, Attempt: 1},
			{
				ActivityId: "02-connect", State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED, Attempt: 3,
				LastStartedTime: timestamppb.New(at(9000)), LastWorkerIdentity: "agent-2", LastFailure: application("detached", "agent let go of the step; another follows"),
			},
		}},
	}
}

func read(t *testing.T, id string) *Timeline {
	t.Helper()
	tl, err := Read(context.Background(), farm(t), nil, id, "")
	if err != nil {
		t.Fatal(err)
	}
	tl.Now = at(20000)
	return tl
}

func TestRead(t *testing.T) {
	got := read(t, "site-x")
	step := func(build, key, name string, scheduled, started, ended, attempts int, outcome Outcome, reason string) *Span {
		s := &Span{Kind: Step, Name: name, Build: bakehouse.BuildID(build), Step: key, Scheduled: at(scheduled), Attempts: attempts, Outcome: outcome, Reason: reason}
		if attempts > 0 {
			s.Started, s.Worker = at(started), "agent-1"
		}
		if ended > 0 {
			s.Ended = at(ended)
		}
		return s
	}
	resolve := step("slow-1", "01-resolve", "resolve", 2000, 0, 0, 0, Running, "")
	resolve.Waiting = true
	connect := step("slow-1", "02-connect", "connect", 3000, 9000, 0, 3, Running, "agent let go of the step; another follows")
	connect.Waiting, connect.Worker = true, "agent-2"
	want := &Timeline{
		ID: "site-x", Title: "site", Submission: "site-x", Run: "run-1", TraceParent: caller, Pool: "east", Now: at(20000),
		Root: &Span{Kind: Submission, Name: "site", Scheduled: at(0), Started: at(0), Children: []*Span{
			step("site-x", "00-plan", "plan", 0, 1000, 2000, 1, Success, ""),
			{Kind: Build, Name: "amazon-ebs.web", Build: "web-1", Scheduled: at(2000), Started: at(2000), Ended: at(10000), Outcome: Success, Children: []*Span{
				step("web-1", "01-resolve", "resolve", 2000, 2000, 3000, 1, Success, ""),
				{Kind: Pause, Name: "pause", Build: "web-1", Scheduled: at(3000), Started: at(3000), Ended: at(4000), Outcome: Success},
				step("web-1", "02-launch", "launch", 4000, 4000, 10000, 1, Success, ""),
			}},
			{Kind: Build, Name: "amazon-ebs.bad", Build: "bad-1", Scheduled: at(2000), Started: at(2000), Ended: at(6000), Outcome: Failure, Reason: "Script exited with non-zero exit status: 7.", Children: []*Span{
				step("bad-1", "01-provision-1-shell", "provision-1-shell", 2000, 5000, 6000, 2, Failure, "Script exited with non-zero exit status: 7."),
			}},
			{Kind: Build, Name: "amazon-ebs.slow", Build: "slow-1", Scheduled: at(2000), Started: at(2000), Children: []*Span{resolve, connect}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A build by itself has the trace of its submission.
func TestReadBuild(t *testing.T) {
	got := read(t, "web-1")
	if got.Root.Kind != Build || got.Submission != "site-x" || got.Run != "run-1" || got.TraceParent != caller || got.Root.Build != "web-1" {
		t.Errorf("%+v", got)
	}
	whole := map[string]bool{}
	for _, s := range Spans(read(t, "site-x")) {
		whole[s.SpanContext().SpanID().String()+s.Parent().SpanID().String()+s.Name()] = true
	}
	for _, s := range Spans(got) {
		if !whole[s.SpanContext().SpanID().String()+s.Parent().SpanID().String()+s.Name()] {
			t.Errorf("span %q is another when the build is read by itself", s.Name())
		}
	}
}

func TestReadUnknown(t *testing.T) {
	_, err := Read(context.Background(), farm(t), nil, "nobody", "")
	var unknown *serviceerror.NotFound
	if !errors.As(err, &unknown) {
		t.Errorf("error %v, want NotFound", err)
	}
}

// What the submission knows of a build whose history is gone is still drawn.
func TestReadBuildGone(t *testing.T) {
	m := farm(t)
	delete(m.histories, "web-1/rw")
	tl, err := Read(context.Background(), m, nil, "site-x", "")
	if err != nil {
		t.Fatal(err)
	}
	if web := tl.Root.Children[1]; web.Outcome != Success || len(web.Children) != 0 {
		t.Errorf("%+v", web)
	}
}

func TestSpans(t *testing.T) {
	type span struct{ Name, Parent, Result string }
	names := map[string]string{}
	spans := Spans(read(t, "site-x"))
	for _, s := range spans {
		names[s.SpanContext().SpanID().String()] = s.Name()
	}
	var got []span
	for _, s := range spans {
		if s.SpanContext().TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("%s is in trace %s, not in the caller's", s.Name(), s.SpanContext().TraceID())
		}
		if s.EndTime().Before(s.StartTime()) {
			t.Errorf("%s ends before it begins", s.Name())
		}
		out := span{Name: s.Name(), Parent: names[s.Parent().SpanID().String()]}
		for _, a := range s.Attributes() {
			if a.Key == "cicd.pipeline.task.run.result" || a.Key == "cicd.pipeline.result" {
				out.Result = a.Value.AsString()
			}
		}
		got = append(got, out)
	}
	// What goes on (the submission, the build "slow" and its steps) is left out.
	want := []span{
		{"plan", "", "success"},
		{"wait for an agent", "plan", ""},
		{"BUILD amazon-ebs.web", "", "success"},
		{"resolve", "BUILD amazon-ebs.web", "success"},
		{"pause", "BUILD amazon-ebs.web", "success"},
		{"launch", "BUILD amazon-ebs.web", "success"},
		{"BUILD amazon-ebs.bad", "", "failure"},
		{"provision-1-shell", "BUILD amazon-ebs.bad", "failure"},
		{"earlier attempts", "provision-1-shell", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(names) != len(spans) {
		t.Errorf("%d spans share %d identities", len(spans), len(names))
	}
}

// What an agent puts into TRACEPARENT is the span that is drawn later.
func TestTraceContextIsTheSpan(t *testing.T) {
	for _, s := range Spans(read(t, "site-x")) {
		if s.Name() != "launch" {
			continue
		}
		want := "00-" + s.SpanContext().TraceID().String() + "-" + s.SpanContext().SpanID().String() + "-01"
		if got := TraceContext("run-1", caller, "web-1", "02-launch"); got != want {
			t.Errorf("TraceContext = %s, want %s", got, want)
		}
		return
	}
	t.Error("no span for the step")
}

func TestTraceContext(t *testing.T) {
	own := TraceContext("run-1", "", "b", "s")
	tests := []struct {
		name, run, parent, build, step string
		same                           bool
	}{
		{"again", "run-1", "", "b", "s", true},
		{"malformed parent", "run-1", "00-xyz", "b", "s", true},
		{"another run", "run-2", "", "b", "s", false},
		{"another step", "run-1", "", "b", "t", false},
		{"parts are not run together", "run-1", "", "bs", "", false},
		{"with a parent", "run-1", caller, "b", "s", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := TraceContext(tt.run, tt.parent, bakehouse.BuildID(tt.build), tt.step)
			if (got == own) != tt.same {
				t.Errorf("%s, and %s: same should be %t", got, own, tt.same)
			}
			if !parseTraceparent(got).IsValid() {
				t.Errorf("%q is no traceparent", got)
			}
		})
	}
	if unsampled := TraceContext("r", strings.TrimSuffix(caller, "01")+"00", "b", "s"); !strings.HasSuffix(unsampled, "-00") {
		t.Errorf("%s is sampled, although its caller is not", unsampled)
	}
}

func TestDraw(t *testing.T) {
	var out bytes.Buffer
	Draw(&out, read(t, "site-x"), 110)
	want := `
Timeline of site-x: running, 20.0s in all
                      0                  20.0s
site                  ───────────────────────▸      20.0s  100%
  plan                ░██                            2.0s   10%  waited 1.0s for an agent
  amazon-ebs.web        ──────────                   8.0s   40%
    resolve             ██                           1.0s    5%
    pause                ··                          1.0s    5%
    launch                ████████                   6.0s   30%
  amazon-ebs.bad        ──────                       4.0s   20%  failed
    provision-1-shell   ▒▒▒▒██                       4.0s   20%  failed; attempt 2 after 3.0s; Script exited …
  amazon-ebs.slow       ─────────────────────▸      18.0s   90%
    resolve             ░░░░░░░░░░░░░░░░░░░░░▸      18.0s   90%  ◀ longest; waiting for an agent
    connect              ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▸      17.0s   85%  waiting for another agent; attempt 3 after 6…
█ work   ░ waiting for an agent   ▒ earlier attempts and what lay between them   · pause   ▸ goes on
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever the width, no bar is wider than there is room, and none is missing.
func TestDrawWidths(t *testing.T) {
	for _, width := range []int{0, 40, 60, 80, 120, 300} {
		var out bytes.Buffer
		Draw(&out, read(t, "web-1"), width)
		lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		for _, l := range lines[1:] {
			if n := len([]rune(l)); width >= 40 && n > width && !strings.HasPrefix(l, "█") {
				t.Errorf("width %d: a line is %d wide: %s", width, n, l)
			}
		}
		for _, name := range []string{"amazon-ebs.web", "resolve", "pause", "launch"} {
			if !strings.Contains(out.String(), name) {
				t.Errorf("width %d: %s is missing:\n%s", width, name, out.String())
			}
		}
	}
}
