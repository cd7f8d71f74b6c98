package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
)

// AttributeState is the search attribute that tells whether a build waits for
// somebody: StateParked while it does, StateRunning when it goes on.
var AttributeState = temporal.NewSearchAttributeKeyKeyword("BakehouseState")

// The states.
const (
	StateRunning = "running"
	StateParked  = "parked"
)

// What one can ask of a build while it runs. Those that tell are queries, the
// others updates.
const (
	AskStatus  = "status"  // returns a bakehouse.Status
	AskResolve = "resolve" // takes a bakehouse.Decision
	AskPause   = "pause"   // parks the build before its next step
	AskExecute = "execute" // takes an Execution, returns an exit status
	AskAdmit   = "admit"   // takes a Visit, returns an activities.Door
	AskDismiss = "dismiss" // takes a Visit
)

// parking is what a build knows of waiting for people.
type parking struct {
	pausing  bool
	parked   *bakehouse.Parked
	decision *bakehouse.Decision
	// settled tells that somebody has decided how the build ends; ended, that
	// nothing had failed then.
	settled, ended bool
	// passed is the step that the debugged build has waited before.
	passed string
	next   string // the step that is being done or comes next, for people who ask
}

// listen lets people ask.
func (b *build) listen(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, AskStatus, func() (bakehouse.Status, error) { return b.status(), nil }); err != nil {
		return err
	}
	resolve := workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, d bakehouse.Decision) error { return b.mayDecide(d) }}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, AskResolve, func(_ workflow.Context, d bakehouse.Decision) error {
		b.pausing = b.pausing && d.Action != bakehouse.Resume
		if b.parked != nil {
			b.decision = &d
		}
		return nil
	}, resolve); err != nil {
		return err
	}
	pause := workflow.UpdateHandlerOptions{Validator: func(workflow.Context) error {
		if b.leaving {
			return refuse("the machine of this build is finished: there is no step to pause before")
		}
		return nil
	}}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, AskPause, func(workflow.Context) error {
		b.pausing = true
		return nil
	}, pause); err != nil {
		return err
	}
	return b.receive(ctx)
}

func refuse(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), string(bakehouse.Invalid), nil)
}

// mayDecide says why a decision cannot be taken now.
func (b *build) mayDecide(d bakehouse.Decision) error {
	if b.parked == nil {
		if d.Action == bakehouse.Resume && b.pausing {
			return nil // it has not come to a stop yet
		}
		return refuse("the build is not waiting for a decision")
	}
	if b.decision != nil {
		return refuse("somebody else has just decided: %s", b.decision.Action)
	}
	if !slices.Contains(b.parked.Actions, d.Action) {
		return refuse("%q is not what a build can do that waits at %s because of: %s; it can %s",
			d.Action, b.parked.Step, b.parked.Why, join(b.parked.Actions))
	}
	if n := len(b.Outline.Provisioners); d.Action == bakehouse.RetryFrom && (d.From < 1 || d.From > min(b.Provisioner+1, n)) {
		return refuse("retry-from %d: the provisioners that have run are 1 to %d", d.From, min(b.Provisioner+1, n))
	}
	return nil
}

func join(actions []bakehouse.Action) string {
	var s []string
	for _, a := range actions {
		s = append(s, string(a))
	}
	return strings.Join(s, ", ")
}

func (b *build) status() bakehouse.Status {
	s := bakehouse.Status{
		Build: b.Build, Step: b.next, Done: b.Provisioner, Parked: b.parked, Pausing: b.pausing,
		Machine: b.Login.Machine.ID, Host: b.Login.Machine.Host,
	}
	for _, p := range b.Outline.Provisioners {
		s.Provisioners = append(s.Provisioners, p.Type)
	}
	return s
}

// gate parks the build before a step when somebody has asked for that.
func (b *build) gate(ctx workflow.Context, step string) error {
	b.next = step
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if step == stages()[provisioning].name {
		return nil // the provisioners have gates of their own
	}
	why := "debug"
	switch {
	case b.pausing:
		why = "paused"
	case !b.Debug || b.passed == step:
		return nil
	}
	b.passed, b.pausing = step, false
	return b.wait(ctx, why, step)
}

// wait parks a build in which nothing has failed, until it is told to go on.
func (b *build) wait(ctx workflow.Context, why, step string) error {
	d, err := b.park(ctx, bakehouse.Parked{
		Why: why, Step: step, Actions: []bakehouse.Action{bakehouse.Resume, bakehouse.Cleanup, bakehouse.Abort},
	})
	if err != nil || d.Action == bakehouse.Resume {
		return err
	}
	b.settle(d.Action)
	b.ended = true
	return temporal.NewApplicationError("build was ended while it waited", string(bakehouse.Failed))
}

// settle makes the end of the build what was decided.
func (b *build) settle(a bakehouse.Action) {
	b.settled, b.Keep, b.OnError = true, 0, "cleanup"
	if a == bakehouse.Abort {
		b.OnError = "abort"
	}
}

// reconsider says what a failed stage means: nil when the build goes on, with
// the stage that b.Stage then names; otherwise the error that ends it.
func (b *build) reconsider(ctx workflow.Context, failed error) error {
	if temporal.IsCanceledError(failed) || ctx.Err() != nil || b.settled {
		return failed
	}
	if b.replaces(failed) {
		return b.replace(ctx, failed)
	}
	if b.OnError != "ask" {
		return failed
	}
	p := bakehouse.Parked{
		Why: "failed", Step: "post-process", Error: cause(failed),
		Actions: []bakehouse.Action{bakehouse.Retry, bakehouse.Cleanup, bakehouse.Abort},
	}
	if b.Stage < baked {
		p.Step = stages()[b.Stage].name
	}
	if b.Stage == provisioning {
		p.Step = fmt.Sprintf("provision-%d-%s", b.Provisioner+1, b.Outline.Provisioners[b.Provisioner].Type)
		if kind(failed) != bakehouse.Gone {
			p.Actions = append(p.Actions, bakehouse.RetryFrom, bakehouse.Skip)
		}
	}
	d, err := b.park(ctx, p)
	if err != nil {
		return err
	}
	switch d.Action {
	case bakehouse.Retry:
		if kind(failed) == bakehouse.Gone && b.Outline.Replaces {
			return b.replace(ctx, failed)
		}
		b.Attempt++
	case bakehouse.RetryFrom:
		b.Provisioner = d.From - 1
	case bakehouse.Skip:
		b.Provisioner++
	default:
		b.settle(d.Action)
		return failed
	}
	return nil
}

// park waits for a decision. When none is made while the lease lasts, it
// returns the failure that the build waited because of, and the build cleans up.
func (b *build) park(ctx workflow.Context, p bakehouse.Parked) (bakehouse.Decision, error) {
	lease := time.Duration(b.Lease)
	if lease <= 0 {
		lease = bakehouse.DefaultLease
	}
	p.Since, p.Until = workflow.Now(ctx).UTC(), workflow.Now(ctx).Add(lease).UTC()
	b.parked, b.decision = &p, nil
	b.announce(ctx, StateParked)
	line := fmt.Sprintf("Build %s waits before %s (%s), until %s", b.Build.ID, p.Step, p.Why, p.Until.Format(time.RFC3339))
	if p.Error != "" {
		line = fmt.Sprintf("Build %s waits, as %s failed: %s", b.Build.ID, p.Step, p.Error)
	}
	b.sayAll(ctx, "park", line, fmt.Sprintf("Decide with: submit resolve %s %s", b.Build.ID, strings.ReplaceAll(join(p.Actions), ", ", "|")))
	ok, err := workflow.AwaitWithTimeout(ctx, lease, func() bool { return b.decision != nil })
	b.parked = nil
	if err != nil {
		return bakehouse.Decision{}, err
	}
	if !ok {
		b.sayAll(ctx, "lease", "Nobody decided while the lease lasted: the build ends")
		b.settle(bakehouse.Cleanup)
		text := "nobody decided within " + lease.String()
		if p.Error != "" {
			text = p.Error + " (" + text + ")"
		}
		return bakehouse.Decision{}, temporal.NewApplicationError(text, string(bakehouse.Timeout))
	}
	d := *b.decision
	b.announce(ctx, StateRunning)
	by := ""
	if d.By != "" {
		by = " by " + d.By
	}
	b.say(ctx, "decision", fmt.Sprintf("Decided%s: %s", by, d.Action))
	return d, nil
}

// announce makes the state of the build known to lists.
func (b *build) announce(ctx workflow.Context, state string) {
	if err := workflow.UpsertTypedSearchAttributes(ctx, AttributeState.ValueSet(state)); err != nil {
		workflow.GetLogger(ctx).Warn("state is not shown in lists", "state", state, "error", err)
	}
}
