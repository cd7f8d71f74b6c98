package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

// A Sender sends what has ended of a timeline as a trace, and returns how many
// spans that are.
type Sender func(context.Context, *timeline.Timeline) (int, error)

// traceTimeout is how long sending a trace may take in all. What takes longer is
// lost: `submit timeline -export` sends it from history.
const traceTimeout = 10 * time.Second

// traces sends the traces of submissions behind their backs: it reads a history
// when it is complete, so that what it sends does not depend on who sends it.
type traces struct {
	from timeline.Histories
	data converter.DataConverter
	send Sender
	log  *slog.Logger

	ctx    context.Context // ends some time after the agent was told to stop
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newTraces(from timeline.Histories, data converter.DataConverter, send Sender, log *slog.Logger) *traces {
	t := &traces{from: from, data: data, send: send, log: log}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Send implements activities.Traces.
func (t *traces) Send(submission, run string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(t.ctx, traceTimeout)
		defer cancel()
		if err := t.one(ctx, submission, run); err != nil {
			t.log.Warn("trace was not sent; submit timeline -export sends it again", "submission", submission, "error", err)
		}
	})
}

func (t *traces) one(ctx context.Context, submission, run string) error {
	// The last event comes when the submission is over.
	it := t.from.GetWorkflowHistory(ctx, submission, run, true, enums.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	for it.HasNext() {
		if _, err := it.Next(); err != nil {
			return fmt.Errorf("wait for the end: %w", err)
		}
	}
	tl, err := timeline.Read(ctx, t.from, t.data, submission, run)
	if err != nil || !tl.Sampled() {
		return err
	}
	n, err := t.send(ctx, tl)
	if err == nil {
		t.log.Debug("trace was sent", "submission", submission, "spans", n)
	}
	return err
}

// close waits for what is being sent, but not for long.
func (t *traces) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	stop := time.AfterFunc(traceTimeout/2, t.cancel)
	defer stop.Stop()
	t.wg.Wait()
	t.cancel()
}
