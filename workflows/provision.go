package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/template"
)

// provision changes the machine, one provisioner after the other. It begins
// with the one that is next: not always the first.
func (b *build) provision(ctx workflow.Context) error {
	for list := b.Outline.Provisioners; b.Provisioner < len(list); b.Provisioner++ {
		p := list[b.Provisioner]
		name := fmt.Sprintf("provision-%d-%s", b.Provisioner+1, p.Type)
		if err := b.gate(ctx, name); err != nil {
			return err
		}
		err := b.apply(ctx, name, p)
		if kind(err) == bakehouse.Breakpoint {
			err = b.wait(ctx, "breakpoint", name)
		}
		if err != nil && p.ContinueOnError && !temporal.IsCanceledError(err) && kind(err) != bakehouse.Gone {
			b.say(ctx, "continue", fmt.Sprintf("Provisioner failed with %q, continuing as continue_on_error is set", cause(err)))
			err = nil
		}
		if err != nil {
			return err
		}
		if b.Outline.Checkpoints && b.Provisioner+1 < len(list) && b.ChecksAfter(b.Provisioner+1, p.Name, p.Type) {
			if err := b.checkpoint(ctx, b.Provisioner+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply runs one provisioner, as often as the template allows.
func (b *build) apply(ctx workflow.Context, name string, p template.PlannedProvisioner) error {
	if p.PauseBefore != 0 {
		b.say(ctx, "pause", fmt.Sprintf("Pausing %s before the next provisioner...", time.Duration(p.PauseBefore)))
		if err := workflow.Sleep(ctx, time.Duration(p.PauseBefore)); err != nil {
			return err
		}
	}
	if b.StepTimeout > 0 && (p.Timeout == 0 || p.Timeout > b.StepTimeout) {
		p.Timeout = b.StepTimeout // the agent stops what runs when it has passed
	}
	var failed error
	for try := 0; ; try++ {
		as := name
		if try > 0 {
			as = fmt.Sprintf("%s.try%d", name, try+1)
		}
		work, step := b.step(works(ctx), as)
		var outputs []bakehouse.Output
		err := workflow.ExecuteActivity(work, do.Provision, activities.Provisioning{
			Step: step, Resolved: b.Resolved, Login: b.Login, Provisioner: p,
		}).Get(work, &outputs)
		if err == nil {
			b.Outputs = append(b.Outputs, outputs...)
			return nil
		}
		if failed == nil {
			failed = err // Packer reports the first failure
		}
		switch {
		case temporal.IsCanceledError(err), ctx.Err() != nil, kind(err) == bakehouse.Gone, kind(err) == bakehouse.Breakpoint:
			return err
		}
		left := p.MaxRetries - try
		if left <= 0 {
			if p.MaxRetries > 0 {
				b.say(ctx, "retry", "retry limit reached.")
			}
			return failed
		}
		b.say(ctx, "retry", fmt.Sprintf("Provisioner failed with %q, retrying with %d trie(s) left", cause(err), left))
	}
}

// errorCleanup runs the error-cleanup-provisioner, which the template asks for
// so that it can save what the machine knows. It hides nothing.
func (b *build) errorCleanup(ctx workflow.Context, failed error) {
	if b.Outline.ErrorCleanup == nil || b.OnError == "abort" || kind(failed) == bakehouse.Gone {
		return
	}
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	b.say(ctx, "error-cleanup", "Running error-cleanup-provisioner...")
	p := *b.Outline.ErrorCleanup
	if err := b.apply(ctx, "error-cleanup-"+p.Type, p); err != nil {
		workflow.GetLogger(ctx).Error("error-cleanup-provisioner failed", "build", b.Build.ID, "error", err, "after", failed)
	}
}

// checkpointing is what a build knows of its checkpoints.
type checkpointing struct {
	// saved is the last checkpoint that can be used: the image, and the
	// provisioner that comes next on a machine that is launched from it. The zero
	// value is the start.
	saved struct {
		image builders.Image
		next  int
	}
	// pending is how many checkpoints are not available yet.
	pending         int
	stopCheckpoints []workflow.CancelFunc
}

// checkpoint asks for an image of the machine before the provisioner next. The
// build does not wait until it is available, which may take minutes; until
// then the one before is the last. A checkpoint that fails costs nothing but
// itself.
func (b *build) checkpoint(ctx workflow.Context, next int) error {
	name := fmt.Sprintf("checkpoint-%d.%d", b.Attempt, next)
	ask, step := b.step(asks(ctx), "checkpoint")
	var image builders.Image
	err := b.made(workflow.ExecuteActivity(ask, do.Checkpoint, step, b.Resolved, b.Login, name).Get(ask, &image))
	switch {
	case temporal.IsCanceledError(err), kind(err) == bakehouse.Gone:
		return err
	case err != nil:
		b.say(ctx, "checkpoint-failed", "No checkpoint was made: "+cause(err))
		return nil
	}
	ctx, stop := workflow.WithCancel(ctx)
	b.stopCheckpoints = append(b.stopCheckpoints, stop)
	b.pending++
	workflow.Go(ctx, func(ctx workflow.Context) {
		wait, step := b.step(waits(ctx), "await-checkpoint")
		err := workflow.ExecuteActivity(wait, do.AwaitImage, step, image).Get(wait, &image)
		b.pending--
		if err != nil {
			return // release removes it
		}
		old := image
		if next > b.saved.next {
			old, b.saved.image, b.saved.next = b.saved.image, image, next
		}
		if old.ID == "" || old.ID == b.Resolved.Checkpoint {
			return // none, or the one that the machine was launched from
		}
		forget, step := b.step(asks(ctx), "forget-checkpoint")
		if err := workflow.ExecuteActivity(forget, do.Forget, step, old).Get(forget, nil); err != nil {
			workflow.GetLogger(ctx).Warn("checkpoint stays until the build ends", "image", old.ID, "error", err)
		}
	})
	return nil
}

// endCheckpoints ends the waiting for checkpoints that nobody needs any more.
func (b *build) endCheckpoints() {
	for _, stop := range b.stopCheckpoints {
		stop()
	}
	b.stopCheckpoints = nil
}
