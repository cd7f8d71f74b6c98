package farm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A Viewer is shown a submission as it goes on. Its methods may be called by
// several goroutines at once.
type Viewer interface {
	// Began tells of a build, or of the plan, whose build has the submission's ID.
	Began(b bakehouse.Build)
	// Line is a line of the log of a build or of the plan.
	Line(b bakehouse.Build, l buildlog.Line)
	// Ended tells how a build ended, after its last line. Of the plan only
	// Build is told.
	Ended(r bakehouse.Result)
	// Away tells, once, that the farm cannot be reached, and Back that it can be
	// again. The submission goes on meanwhile.
	Away(why string)
	Back()
}

// Follow shows a submission from its beginning until it has ended, and returns
// how: nil when all builds are done, ErrBuilds, ErrCancelled, a *PlanError, or
// what else ended it. When ctx ends it returns the cause of that; the
// submission is none the wiser.
func (f *Farm) Follow(ctx context.Context, id, run string, v Viewer) (bakehouse.Results, error) {
	logs, err := f.Logs(ctx)
	if err != nil {
		return bakehouse.Results{}, err
	}
	w := &follower{
		farm: f, id: id, run: run, viewer: v, logs: logs,
		reader:  reader{f.data, secret.FailureConverter(f.keys)},
		builds:  map[int64]*tail{},
		reached: &reached{viewer: v},
	}
	results, err := w.follow(ctx)
	for _, t := range w.tails() {
		t.end(nil)
	}
	w.running.Wait()
	return results, err
}

type follower struct {
	farm    *Farm
	id, run string
	viewer  Viewer
	logs    *buildlog.Store
	reader  reader
	reached *reached

	plan    *tail
	planned int64           // the event that scheduled the plan
	builds  map[int64]*tail // by the event that initiated them
	running sync.WaitGroup
}

func (w *follower) tails() []*tail {
	var all []*tail
	if w.plan != nil {
		all = append(all, w.plan)
	}
	for _, t := range w.builds {
		all = append(all, t)
	}
	return all
}

// follow reads the history as it grows.
func (w *follower) follow(ctx context.Context) (bakehouse.Results, error) {
	var token []byte
	var last int64 // the last event that was seen
	for {
		if ctx.Err() != nil {
			return bakehouse.Results{}, context.Cause(ctx)
		}
		page, err := w.page(ctx, token)
		if err != nil {
			if ctx.Err() != nil {
				return bakehouse.Results{}, context.Cause(ctx)
			}
			if !passing(err) {
				return bakehouse.Results{}, fmt.Errorf("follow %s: %w", w.id, err)
			}
			w.reached.not(err)
			// A server that comes back may not know the token: begin again, and
			// pass over what was seen.
			token = nil
			pause(ctx, 500*time.Millisecond)
			continue
		}
		w.reached.again()
		for _, e := range page.GetHistory().GetEvents() {
			if e.GetEventId() <= last {
				continue
			}
			last = e.GetEventId()
			w.see(ctx, e)
			if results, ended, err := w.reader.closed(e); ended {
				return results, err
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			// The run has ended and all of it was seen, or the server let go of the
			// long poll: ask again, but not in a hurry.
			pause(ctx, 200*time.Millisecond)
		}
	}
}

// page asks for what comes next. The call is made without the SDK's own
// retries, which hide for a minute that the farm is away.
func (w *follower) page(ctx context.Context, token []byte) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 70*time.Second) // the server holds a long poll for less
	defer cancel()
	return w.farm.client.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace:     w.farm.Namespace,
		Execution:     &commonpb.WorkflowExecution{WorkflowId: w.id, RunId: w.run},
		NextPageToken: token, WaitNewEvent: true,
		HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
	})
}

// passing tells whether trouble is worth another try.
func passing(err error) bool {
	var gone *serviceerror.NotFound
	var invalid *serviceerror.InvalidArgument
	var denied *serviceerror.PermissionDenied
	var nospace *serviceerror.NamespaceNotFound
	return !errors.As(err, &gone) && !errors.As(err, &invalid) && !errors.As(err, &denied) && !errors.As(err, &nospace)
}

// see starts and ends what is followed.
func (w *follower) see(ctx context.Context, e *historypb.HistoryEvent) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		w.plan = w.start(ctx, w.reader.plan(w.id, e.GetWorkflowExecutionStartedEventAttributes()))
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		if w.planned == 0 {
			w.planned = e.GetEventId()
		}
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		if w.plan != nil && e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId() == w.planned {
			w.plan.end(nil)
			<-w.plan.done // what it said stands before what the builds say
		}
	case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
		w.builds[e.GetEventId()] = w.start(ctx, w.reader.build(e.GetStartChildWorkflowExecutionInitiatedEventAttributes()))
	default:
		if res, initiated, ended := w.reader.result(e); ended && w.builds[initiated] != nil {
			t := w.builds[initiated]
			res = completed(res, t.build)
			t.end(&res)
		}
	}
}

func (w *follower) start(ctx context.Context, b bakehouse.Build) *tail {
	t := &tail{build: b, ended: make(chan struct{}), done: make(chan struct{})}
	w.viewer.Began(b)
	w.running.Go(func() {
		defer close(t.done)
		t.run(ctx, w.logs, w.viewer)
	})
	return t
}

// A tail follows the log of one build.
type tail struct {
	build  bakehouse.Build
	once   sync.Once
	ended  chan struct{} // closed by end
	result *bakehouse.Result
	done   chan struct{} // closed when all has been shown
}

// end tells that the build has ended: what is left of the log is shown, and
// then the result, if there is one.
func (t *tail) end(r *bakehouse.Result) {
	t.once.Do(func() {
		t.result = r
		close(t.ended)
	})
}

func (t *tail) run(ctx context.Context, logs *buildlog.Store, v Viewer) {
	follow, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-t.ended:
			stop()
		case <-follow.Done():
		}
	}()
	var lines joiner
	var last string // the error that was shown last
	for line, err := range logs.Follow(follow, t.build.ID, time.Second) {
		if ctx.Err() != nil {
			return // the user leaves
		}
		if err != nil {
			// Follow goes on; that the log has trouble is worth one line each.
			if err.Error() != last {
				last = err.Error()
				v.Line(t.build, buildlog.Line{Kind: buildlog.Error, Time: time.Now(), Text: "cannot read the log now: " + last})
			}
			continue
		}
		last = ""
		if line, ok := lines.add(line); ok {
			v.Line(t.build, line)
		}
	}
	for _, line := range lines.rest() {
		v.Line(t.build, line)
	}
	t.missing(ctx, logs, v)
	select {
	case <-t.ended:
		if t.result != nil && ctx.Err() == nil {
			v.Ended(*t.result)
		}
	default:
	}
}

// missing says what is missing at the end of the log of a build that has ended.
func (t *tail) missing(ctx context.Context, logs *buildlog.Store, v Viewer) {
	select {
	case <-t.ended:
	default:
		return
	}
	if t.result == nil || t.result.Log == nil || ctx.Err() != nil {
		return
	}
	missing, err := logs.Missing(ctx, t.build.ID, *t.result.Log)
	if err != nil {
		missing = []error{err}
	}
	for _, m := range missing {
		v.Line(t.build, buildlog.Line{Kind: buildlog.Error, Time: time.Now(), Text: m.Error()})
	}
}

// A joiner holds the beginnings of lines until their ends come, by step.
type joiner struct {
	held  map[string]buildlog.Line
	order []string
}

// longest is how much of a line without an end is held back.
const longest = 64 << 10

func (j *joiner) add(l buildlog.Line) (buildlog.Line, bool) {
	if begun, ok := j.held[l.Step]; ok {
		delete(j.held, l.Step)
		l.Text, l.Time = begun.Text+l.Text, begun.Time
	}
	if !l.Partial || len(l.Text) > longest {
		return l, true
	}
	if j.held == nil {
		j.held = map[string]buildlog.Line{}
	}
	j.held[l.Step] = l
	j.order = append(j.order, l.Step)
	return l, false
}

// rest returns the beginnings whose end never came.
func (j *joiner) rest() []buildlog.Line {
	var out []buildlog.Line
	for _, step := range j.order {
		if l, ok := j.held[step]; ok {
			out = append(out, l)
			delete(j.held, step)
		}
	}
	return out
}

// reached tells the viewer, once each time, that the farm is away.
type reached struct {
	viewer Viewer
	away   bool
	since  time.Time
}

// A blip is not worth a word.
const blip = 2 * time.Second

func (r *reached) not(err error) {
	if r.since.IsZero() {
		r.since = time.Now()
	}
	if !r.away && time.Since(r.since) >= blip {
		r.away = true
		r.viewer.Away(unreachable(err))
	}
}

func (r *reached) again() {
	if r.away {
		r.viewer.Back()
	}
	r.away, r.since = false, time.Time{}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
