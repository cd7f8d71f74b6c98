package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// capture makes the image, copies it to all regions at once, and finishes each
// as soon as it is there. Called again after a failure, it goes on with what is
// not there yet.
func (b *build) capture(ctx workflow.Context) error {
	if b.Image == nil {
		var got activities.Captured
		ask, step := b.step(waits(ctx), "capture")
		err := b.made(workflow.ExecuteActivity(ask, do.Capture, step, b.Resolved, b.Login.Machine).Get(ask, &got), &got.Image.ID)
		if err != nil || !got.Wanted {
			return err
		}
		wait, step := b.step(waits(ctx), "await-image")
		if err := workflow.ExecuteActivity(wait, do.AwaitImage, step, got.Image).Get(wait, &got.Image); err != nil {
			b.forgo(got.Image.ID, err)
			return err
		}
		b.Image = &got.Image
	}
	var failures []error
	wg := workflow.NewWaitGroup(ctx)
	each := func(region string, make func(workflow.Context) (builders.Image, error)) {
		if slices.ContainsFunc(b.Finished, func(i builders.Image) bool { return i.Region == region }) {
			return
		}
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			img, err := make(ctx)
			if err == nil {
				err = b.finish(ctx, img)
			}
			if err != nil {
				failures = append(failures, err)
				return
			}
			b.Finished = append(b.Finished, img)
		})
	}
	if !b.Resolved.Intermediate {
		each(b.Image.Region, func(workflow.Context) (builders.Image, error) { return *b.Image, nil })
	}
	for _, region := range b.Resolved.CopyRegions {
		each(region, func(ctx workflow.Context) (builders.Image, error) { return b.copy(ctx, *b.Image, region) })
	}
	wg.Wait(ctx)
	return first(failures...)
}

// copy brings the image into one region.
func (b *build) copy(ctx workflow.Context, image builders.Image, region string) (builders.Image, error) {
	var copied builders.Image
	ask, step := b.step(waits(ctx), "copy-"+region)
	if err := b.made(workflow.ExecuteActivity(ask, do.Copy, step, b.Resolved, image, region).Get(ask, &copied), &copied.ID); err != nil {
		return copied, err
	}
	wait, step := b.step(waits(ctx), "await-copy-"+region)
	err := workflow.ExecuteActivity(wait, do.AwaitImage, step, copied).Get(wait, &copied)
	b.forgo(copied.ID, err)
	return copied, err
}

// forgo stops looking out for an image that the platform says has failed: it
// was seen, and another try removes it.
func (b *build) forgo(image string, err error) {
	if kind(err) == bakehouse.Failed {
		b.Holding.Made = slices.DeleteFunc(b.Holding.Made, func(id string) bool { return id == image })
	}
}

// finish tags, shares and deprecates one image.
func (b *build) finish(ctx workflow.Context, image builders.Image) error {
	ctx, step := b.step(asks(ctx), "finish-"+image.Region)
	return workflow.ExecuteActivity(ctx, do.Finish, step, b.Resolved, image).Get(ctx, nil)
}

// describe asks the builder how to call what was made.
func (b *build) describe(ctx workflow.Context) error {
	if b.Outline.Captures && len(b.Finished) == 0 {
		return nil // the template asked for no image
	}
	ctx, step := b.step(asks(ctx), "artifact")
	var artifact bakehouse.Artifact
	if err := workflow.ExecuteActivity(ctx, do.Artifact, step, b.Finished).Get(ctx, &artifact); err != nil {
		return err
	}
	b.Artifacts = []bakehouse.Artifact{artifact}
	return nil
}

// leaves tells whether a failure is to leave everything as it is.
func (b *build) leaves() bool {
	return b.OnError == "abort" || b.OnError == "run-cleanup-provisioner"
}

// release gives back all that the build holds but its finished images. A
// cancelled build must clean up too, so it runs in a context that the
// cancellation does not reach. What it cannot release is for a sweep to find;
// it never hides the build's outcome.
func (b *build) release(ctx workflow.Context, outcome error) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if outcome != nil && b.leaves() {
		b.say(ctx, "abort", "Step failed, aborting: -on-error="+b.OnError+" leaves everything as it is", "Everything left behind carries the tag "+bakehouse.TagBuild+"="+string(b.Build.ID))
		return
	}
	h := b.Holding
	if outcome == nil {
		h.Keep = b.Finished // no image of a failed build is a result
	}
	ctx, step := b.step(givesBack(ctx), "release")
	if err := workflow.ExecuteActivity(ctx, do.Release, step, b.Resolved, h).Get(ctx, nil); err != nil {
		b.leftovers = cause(err)
		workflow.GetLogger(ctx).Error("build left something behind", "build", b.Build.ID, "error", err)
		return
	}
	b.Holding = builders.Holding{}
}
