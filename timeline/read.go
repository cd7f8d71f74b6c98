package timeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"golang.org/x/sync/errgroup"

	"github.com/bakehouse-farm/bakehouse"
)

// Histories is where a timeline is read from: the part of client.Client that it
// takes.
type Histories interface {
	GetWorkflowHistory(ctx context.Context, workflowID, runID string, isLongPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// Names of the two workflows.
const (
	submissionWorkflow = "Submission"
	buildWorkflow      = "Build"
)

// Read reads the timeline of a submission or of one build from the history of
// a run; empty means its latest. dc decrypts payloads; nil reads what is not
// encrypted.
//
// The error is a serviceerror.NotFound when there is no such workflow, or its
// history is no longer kept.
func Read(ctx context.Context, from Histories, dc converter.DataConverter, id, run string) (*Timeline, error) {
	r := reader{from, newDecoder(dc)}
	top, err := r.story(ctx, id, run, true)
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", id, err)
	}
	t := &Timeline{ID: id, Now: time.Now().UTC(), Root: top.span, Pool: top.taskQueue}
	switch top.workflow {
	case submissionWorkflow:
		err = r.submission(ctx, t, top)
	case buildWorkflow:
		err = r.build(ctx, t, top)
	default:
		err = fmt.Errorf("%s is a workflow of type %s, neither a submission nor a build", id, top.workflow)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

type reader struct {
	from   Histories
	decode decoder
}

// submission fills in a submission and all its builds.
func (r reader) submission(ctx context.Context, t *Timeline, s *story) error {
	in := r.decode.submission(s.input)
	t.Title, t.Submission, t.Run, t.TraceParent = in.Title, s.id, s.firstRun, in.TraceParent
	s.span.Kind, s.span.Name = Submission, in.Title
	if s.span.Name == "" {
		s.span.Name = s.id
	}
	own(s.span, s.id)

	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, c := range s.builds {
		if c.run == "" {
			continue // it has not begun
		}
		group.Go(func() error {
			b, err := r.story(ctx, string(c.build.ID), c.run, true)
			var gone *serviceerror.NotFound
			if errors.As(err, &gone) {
				return nil // what the submission knows of it is all there is
			}
			if err != nil {
				return fmt.Errorf("read history of build %s: %w", c.build.ID, err)
			}
			c.span.Children = b.span.Children
			own(c.span, string(c.build.ID))
			return nil
		})
	}
	return group.Wait()
}

// build fills in a build that was asked for by itself.
func (r reader) build(ctx context.Context, t *Timeline, s *story) error {
	b := r.decode.build(s.input)
	s.span.Kind, s.span.Name, t.Title = Build, b.Name, b.Name
	if s.span.Name == "" {
		s.span.Name, t.Title = s.id, s.id
	}
	own(s.span, s.id)
	t.Submission, t.Run = s.id, s.firstRun
	if s.parentID == "" {
		return nil
	}
	// Only its first event is needed.
	parent, err := r.story(ctx, s.parentID, s.parentRun, false)
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		t.Submission, t.Run = s.parentID, s.parentRun
		return nil
	case err != nil:
		return fmt.Errorf("read history of submission %s: %w", s.parentID, err)
	}
	in := r.decode.submission(parent.input)
	t.Title, t.Submission, t.Run, t.TraceParent = in.Title, s.parentID, parent.firstRun, in.TraceParent
	return nil
}

// own says to whom spans belong.
func own(s *Span, id string) {
	for _, c := range s.Children {
		if c.Kind == Step || c.Kind == Pause {
			c.Build = bakehouse.BuildID(id)
		}
	}
	if s.Kind == Build {
		s.Build = bakehouse.BuildID(id)
	}
}

// story reads one history; without whole only its first event, and nothing of
// what goes on.
func (r reader) story(ctx context.Context, id, run string, whole bool) (*story, error) {
	var events []*historypb.HistoryEvent
	it := r.from.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
		if !whole {
			break
		}
	}
	s := tell(events, r.decode)
	s.id, s.run = id, run
	if !whole || !s.span.Ended.IsZero() {
		return s, nil
	}
	d, err := r.from.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return nil, err
	}
	s.pending(d.GetPendingActivities())
	return s, nil
}
