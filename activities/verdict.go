package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/timeline"
)

// errDetached ends a step that the agent lets go of: it is told to stop, or it
// cannot reach the farm. What the step started goes on; another agent follows.
var errDetached = errors.New("agent let go of the step; another follows")

// Detached is the type of the failure by which an agent hands a step over.
const Detached = "detached"

// begin starts a step: it beats in the background, gives the step its log and
// its place in the trace, and ends the step's context with bakehouse.ErrStop
// when the user cancels, with errDetached when the agent lets go. The returned
// function must be called with the step's error when it ends; what it returns
// is the activity's verdict and must be returned as it is: wrapping it would
// undo it.
func (a *Activities) begin(ctx context.Context, s Step) (context.Context, func(error) error, error) {
	veil, err := a.veil(ctx, s.Plan.Digest)
	if err != nil {
		return nil, nil, verdict(ctx, err)
	}
	unuse, err := a.use(ctx, s)
	if err != nil {
		return nil, nil, verdict(ctx, err)
	}
	log, err := a.Logs.Step(ctx, s.Build.ID, s.Key, veil.Mask)
	if err != nil {
		unuse()
		return nil, nil, verdict(ctx, err)
	}
	log.HoldBack(veil.Pending)
	step, let := context.WithCancelCause(context.WithoutCancel(ctx))
	step = timeline.WithStep(step, s.Plan.Trace.Run, s.Plan.Trace.Parent, s.Build.ID, s.Key)
	done := make(chan struct{})
	go beat(ctx, let, done)
	return withVeil(bakehouse.WithLog(step, log), veil), func(err error) error {
		err = conceal(err, veil)
		if err != nil && step.Err() == nil && !bakehouse.KindOf(err).Final() {
			log.Error(err.Error() + " (trying again)")
		}
		close(done)
		unuse()
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if lerr := log.Close(flush); lerr != nil && err == nil {
			err = lerr
		}
		err = verdict(step, err)
		let(nil)
		return err
	}, nil
}

// use keeps the files of a step on this agent while the step runs.
func (a *Activities) use(ctx context.Context, s Step) (done func(), err error) {
	if s.Plan.Files.Bundle == "" {
		return func() {}, nil
	}
	return bundle.Use(ctx, bundle.Digest(s.Plan.Files.Bundle), a.Cache)
}

// beat tells the farm that the step lives, and the step when it must end.
func beat(ctx context.Context, let context.CancelCauseFunc, done <-chan struct{}) {
	every := activity.GetInfo(ctx).HeartbeatTimeout / 4
	if every <= 0 || every > 2*time.Second {
		every = 2 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			activity.RecordHeartbeat(ctx)
		case <-activity.GetWorkerStopChannel(ctx):
			let(errDetached)
			return
		case <-ctx.Done():
			if temporal.IsCanceledError(context.Cause(ctx)) || errors.Is(context.Cause(ctx), context.Canceled) {
				let(bakehouse.ErrStop)
			} else {
				let(errDetached)
			}
			return
		}
	}
}

// conceal masks the secrets in the text of a failure: it is shown to the user
// and kept in history.
func conceal(err error, veil *veil) error {
	if err == nil {
		return nil
	}
	text := veil.Mask(err.Error())
	if text == err.Error() {
		return err
	}
	return &concealed{err: err, text: text}
}

type concealed struct {
	err  error
	text string
}

func (c *concealed) Error() string { return c.text }
func (c *concealed) Unwrap() error { return c.err }

// verdict says what a failure means to Temporal. It is the last thing an
// activity does.
func verdict(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bakehouse.ErrStop) || bakehouse.Stopping(ctx):
		return temporal.NewCanceledError()
	case errors.Is(err, errDetached) || errors.Is(context.Cause(ctx), errDetached):
		return temporal.NewApplicationErrorWithOptions(errDetached.Error(), Detached,
			temporal.ApplicationErrorOptions{NextRetryDelay: time.Millisecond, Category: temporal.ApplicationErrorCategoryBenign})
	}
	kind := bakehouse.KindOf(err)
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind),
		temporal.ApplicationErrorOptions{NonRetryable: kind.Final()})
}
