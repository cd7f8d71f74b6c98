package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
)

// maxMachines is how many machines a build may lose. A template that kills its
// machine would use up any number.
const maxMachines = 5

// resolve fixes every choice: source image, network, names.
func (b *build) resolve(ctx workflow.Context) error {
	ctx, step := b.step(asks(ctx), "resolve")
	return workflow.ExecuteActivity(ctx, do.Resolve, step).Get(ctx, &b.Resolved)
}

// launch starts the machine, with a key and a way in of its own.
func (b *build) launch(ctx workflow.Context) error {
	if b.Resolved.KeyPair != "" && b.Login.Key.Public == "" {
		local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
		if err := workflow.ExecuteLocalActivity(local, do.MakeKey, b.Resolved.KeyType).Get(local, &b.Login.Key); err != nil {
			return err
		}
	}
	b.Login.Expires = b.expires()
	var groups []string
	keyCtx, keyStep := b.step(asks(ctx), "keypair")
	groupCtx, groupStep := b.step(asks(ctx), "securitygroup")
	key := workflow.ExecuteActivity(keyCtx, do.KeyPair, keyStep, b.Resolved, b.Login.Key.Public)
	group := workflow.ExecuteActivity(groupCtx, do.SecurityGroup, groupStep, b.Resolved)
	// Both are waited for, also when the first fails: what they make must be
	// there before release looks for it.
	keyErr, groupErr := key.Get(keyCtx, nil), group.Get(groupCtx, &groups)
	keyErr = b.made(keyErr)
	groupErr = b.made(groupErr)
	if b.Resolved.OwnGroup && groupErr == nil {
		b.Holding.Made = append(b.Holding.Made, groups...)
	}
	if err := first(keyErr, groupErr); err != nil {
		return err
	}
	ask, step := b.step(waits(ctx), "launch")
	if err := b.made(workflow.ExecuteActivity(ask, do.Launch, step, b.Resolved, groups).Get(ask, &b.Login.Machine), &b.Login.Machine.ID); err != nil {
		return err
	}
	wait, step := b.step(waits(ctx), "await-machine")
	return workflow.ExecuteActivity(wait, do.AwaitMachine, step, b.Login.Machine).Get(wait, &b.Login.Machine)
}

// expires is for how long nobody may have talked to the machine before it
// switches itself off: longer than the build ever waits.
func (b *build) expires() time.Duration {
	longest := max(time.Duration(b.Lease), bakehouse.DefaultLease)
	for _, p := range b.Outline.Provisioners {
		longest = max(longest, time.Duration(p.PauseBefore))
	}
	return longest + max(b.Outline.PauseBeforeConnecting, time.Hour)
}

// connect waits until one can log in, and pins the machine's host key.
func (b *build) connect(ctx workflow.Context) error {
	wait, step := b.step(waits(ctx), "connect")
	err := workflow.ExecuteActivity(wait, do.Connect, step, b.Login).Get(wait, &b.Login.HostKey)
	if err != nil || b.Outline.PauseBeforeConnecting == 0 {
		return err
	}
	pause := b.Outline.PauseBeforeConnecting
	b.say(ctx, "pause", fmt.Sprintf("Pausing %s before connecting...", pause))
	return workflow.Sleep(ctx, pause)
}

// made notes down what the platform says that it has made, or that a request
// for something had no answer: what no is an answer to is not there.
func (b *build) made(err error, ids ...*string) error {
	if err == nil {
		for _, id := range ids {
			if *id != "" {
				b.Holding.Made = append(b.Holding.Made, *id)
			}
		}
		return nil
	}
	switch kind(err) {
	case bakehouse.Denied, bakehouse.Invalid, bakehouse.NotFound, bakehouse.Conflict:
	default:
		b.Holding.Asked = true
	}
	return err
}

// tidy takes from the machine what must not become part of the image.
func (b *build) tidy(ctx workflow.Context) error {
	b.endVisits(ctx, false)
	ctx, step := b.step(asks(ctx), "tidy")
	return workflow.ExecuteActivity(ctx, do.Tidy, step, b.Login, b.Outline.ClearKeys).Get(ctx, nil)
}

func (b *build) stop(ctx workflow.Context) error {
	ctx, step := b.step(waits(ctx), "stop")
	return workflow.ExecuteActivity(ctx, do.Stop, step, b.Resolved, b.Login.Machine).Get(ctx, nil)
}

// replaces tells whether a failure is the loss of the machine, and the build
// is to go on with another one by itself.
func (b *build) replaces(failed error) bool {
	gone := kind(failed) == bakehouse.Gone
	// A script that nobody knows the end of (the machine rebooted under it) may
	// not run again where it has run, but it may on a machine that is as before.
	lost := kind(failed) == bakehouse.Lost && b.Stage == provisioning
	switch {
	case !gone && !lost, !b.Outline.Replaces, b.Stage > capturing, b.machines >= maxMachines:
		return false
	case gone && b.Stage == launching:
		// A machine that never came up has cost no work: another try is what
		// anybody would do by hand.
		return true
	}
	return b.OnMachineLoss == "restart"
}

// replace goes back to Launch with another machine for the one that is gone. It
// begins as the last checkpoint, if there is one.
func (b *build) replace(ctx workflow.Context, gone error) error {
	// A checkpoint that is on its way outlives the machine. Waiting for it takes
	// minutes, doing the work again may take hours.
	if err := workflow.Await(ctx, func() bool { return b.pending == 0 }); err != nil {
		return err
	}
	from := "from the start"
	if b.saved.next > 0 {
		from = fmt.Sprintf("from the checkpoint after provisioner %d", b.saved.next)
	}
	b.say(ctx, "machine-loss", cause(gone), "Launching another machine, to go on "+from)
	b.endVisits(ctx, true)
	discard, step := b.step(asks(ctx), "discard")
	if err := workflow.ExecuteActivity(discard, do.Discard, step, b.Login.Machine).Get(discard, nil); err != nil {
		return err
	}
	b.Holding.Made = slices.DeleteFunc(b.Holding.Made, func(id string) bool { return id == b.Login.Machine.ID })
	if err := workflow.Sleep(ctx, time.Duration(b.machines)*5*time.Second); err != nil {
		return err
	}
	b.leaving = false
	b.machines++
	b.Attempt++
	b.Login = activities.Login{Key: b.Login.Key} // launch says how long it may live
	b.Resolved.Checkpoint = b.saved.image.ID
	b.Stage, b.Provisioner = launching, b.saved.next
	return nil
}
