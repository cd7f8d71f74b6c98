// Package workflows says in which order things happen, and what must happen
// whatever happens. It is deterministic: what it does follows from its input
// and from what activities answered, so that any agent can go on with it.
package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/template"
)

// A BuildRequest is the input of workflow Build.
type BuildRequest struct {
	Build   bakehouse.Build         `json:"build"`
	Plan    activities.PlanRef      `json:"plan"`
	Outline activities.PlannedBuild `json:"outline"`
	// OnError is "abort" to leave everything as it is when a step fails.
	OnError string `json:"on_error,omitempty"`
}

// Build makes one source into one image.
//
// Its result is a bakehouse.Result; when it fails, that is the detail of the
// error, so that nothing that was made is ever unknown.
func Build(ctx workflow.Context, r BuildRequest) (bakehouse.Result, error) {
	b := &build{BuildRequest: r, started: workflow.Now(ctx)}
	err := b.bake(ctx)
	if err == nil {
		err = b.postProcess(ctx)
	}
	return b.result(ctx, err)
}

// A build is what is known of it so far. All of it follows from history.
type build struct {
	BuildRequest
	started time.Time
	steps   int

	resolved builders.Resolved
	login    activities.Login
	made     []builders.Image // asked for, finished or not
	finished []builders.Image // the results: kept whatever else fails

	artifacts []bakehouse.Artifact
	outputs   []bakehouse.Output
	leftovers string
}

// bake goes from nothing to finished images, and gives back what it took.
func (b *build) bake(ctx workflow.Context) (err error) {
	// Promised before anything is made: a launch that is cut off may have left
	// something behind, too.
	defer func() { b.release(ctx, err) }()

	if err = b.resolve(ctx); err != nil {
		return err
	}
	if b.Outline.Launches {
		if err = b.launch(ctx); err != nil {
			return err
		}
	}
	if b.Outline.Connects {
		if err = b.connect(ctx); err != nil {
			return err
		}
	}
	if err = b.provision(ctx); err != nil {
		return err
	}
	if b.Outline.Connects {
		if err = b.tidy(ctx); err != nil {
			return err
		}
	}
	if b.Outline.Launches && !b.resolved.SkipStop {
		if err = b.stop(ctx); err != nil {
			return err
		}
	}
	if b.Outline.Captures {
		if err = b.capture(ctx); err != nil {
			return err
		}
	}
	return b.describe(ctx)
}

// resolve fixes every choice: source image, network, names.
func (b *build) resolve(ctx workflow.Context) error {
	ctx, step := b.step(asks(ctx), "resolve")
	return workflow.ExecuteActivity(ctx, do.Resolve, step).Get(ctx, &b.resolved)
}

// launch starts the machine, with a key and a way in of its own.
func (b *build) launch(ctx workflow.Context) error {
	if b.resolved.KeyPair != "" {
		local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
		if err := workflow.ExecuteLocalActivity(local, do.MakeKey, b.resolved.KeyType).Get(local, &b.login.Key); err != nil {
			return err
		}
	}
	var groups []string
	keyCtx, keyStep := b.step(asks(ctx), "keypair")
	groupCtx, groupStep := b.step(asks(ctx), "securitygroup")
	key := workflow.ExecuteActivity(keyCtx, do.KeyPair, keyStep, b.resolved, b.login.Key.Public)
	group := workflow.ExecuteActivity(groupCtx, do.SecurityGroup, groupStep, b.resolved)
	// Both are waited for, also when the first fails: what they make must be
	// there before release looks for it.
	keyErr, groupErr := key.Get(keyCtx, nil), group.Get(groupCtx, &groups)
	if err := first(keyErr, groupErr); err != nil {
		return err
	}
	ask, step := b.step(waits(ctx), "launch")
	if err := workflow.ExecuteActivity(ask, do.Launch, step, b.resolved, groups).Get(ask, &b.login.Machine); err != nil {
		return err
	}
	wait, step := b.step(waits(ctx), "await-machine")
	return workflow.ExecuteActivity(wait, do.AwaitMachine, step, b.login.Machine).Get(wait, &b.login.Machine)
}

// connect waits until one can log in, and pins the machine's host key.
func (b *build) connect(ctx workflow.Context) error {
	wait, step := b.step(waits(ctx), "connect")
	err := workflow.ExecuteActivity(wait, do.Connect, step, b.login).Get(wait, &b.login.HostKey)
	if err != nil || b.Outline.PauseBeforeConnecting == 0 {
		return err
	}
	pause := b.Outline.PauseBeforeConnecting
	b.say(ctx, "pause", fmt.Sprintf("Pausing %s before connecting...", pause))
	return workflow.Sleep(ctx, pause)
}

// provision changes the machine, one provisioner after the other.
func (b *build) provision(ctx workflow.Context) error {
	for i, p := range b.Outline.Provisioners {
		err := b.apply(ctx, fmt.Sprintf("provision-%d-%s", i+1, p.Type), p)
		if err != nil && p.ContinueOnError && !temporal.IsCanceledError(err) {
			b.say(ctx, "continue", fmt.Sprintf("Provisioner failed with %q, continuing as continue_on_error is set", cause(err)))
			err = nil
		}
		if err != nil {
			b.onProvisionError(ctx, err)
			return err
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
	var failed error
	for try := 0; ; try++ {
		as := name
		if try > 0 {
			as = fmt.Sprintf("%s.try%d", name, try+1)
		}
		work, step := b.step(works(ctx), as)
		var outputs []bakehouse.Output
		err := workflow.ExecuteActivity(work, do.Provision, activities.Provisioning{
			Step: step, Resolved: b.resolved, Login: b.login, Provisioner: p,
		}).Get(work, &outputs)
		if err == nil {
			b.outputs = append(b.outputs, outputs...)
			return nil
		}
		if failed == nil {
			failed = err // Packer reports the first failure
		}
		if temporal.IsCanceledError(err) || ctx.Err() != nil {
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

// onProvisionError runs the error-cleanup-provisioner, which the template asks
// for so that it can save what the machine knows. It hides nothing.
func (b *build) onProvisionError(ctx workflow.Context, failed error) {
	if b.Outline.ErrorCleanup == nil {
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

// tidy takes from the machine what must not become part of the image.
func (b *build) tidy(ctx workflow.Context) error {
	ctx, step := b.step(asks(ctx), "tidy")
	return workflow.ExecuteActivity(ctx, do.Tidy, step, b.login, b.Outline.ClearKeys).Get(ctx, nil)
}

func (b *build) stop(ctx workflow.Context) error {
	ctx, step := b.step(waits(ctx), "stop")
	return workflow.ExecuteActivity(ctx, do.Stop, step, b.resolved, b.login.Machine).Get(ctx, nil)
}

// capture makes the image, copies it to all regions at once, and finishes each
// as soon as it is there.
func (b *build) capture(ctx workflow.Context) error {
	var got activities.Captured
	ask, step := b.step(waits(ctx), "capture")
	if err := workflow.ExecuteActivity(ask, do.Capture, step, b.resolved, b.login.Machine).Get(ask, &got); err != nil || !got.Wanted {
		return err
	}
	image := got.Image
	b.made = append(b.made, image)
	wait, step := b.step(waits(ctx), "await-image")
	if err := workflow.ExecuteActivity(wait, do.AwaitImage, step, image).Get(wait, &image); err != nil {
		return err
	}

	results := make([]builders.Image, 0, len(b.resolved.CopyRegions)+1)
	var failures []error
	wg := workflow.NewWaitGroup(ctx)
	each := func(make func(workflow.Context) (builders.Image, error)) {
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
			results = append(results, img)
		})
	}
	if !b.resolved.Intermediate {
		each(func(workflow.Context) (builders.Image, error) { return image, nil })
	}
	for _, region := range b.resolved.CopyRegions {
		each(func(ctx workflow.Context) (builders.Image, error) { return b.copy(ctx, image, region) })
	}
	wg.Wait(ctx)
	if err := first(failures...); err != nil {
		return err
	}
	b.finished = results
	return nil
}

// copy brings the image into one region.
func (b *build) copy(ctx workflow.Context, image builders.Image, region string) (builders.Image, error) {
	var copied builders.Image
	ask, step := b.step(waits(ctx), "copy-"+region)
	if err := workflow.ExecuteActivity(ask, do.Copy, step, b.resolved, image, region).Get(ask, &copied); err != nil {
		return copied, err
	}
	b.made = append(b.made, copied)
	wait, step := b.step(waits(ctx), "await-copy-"+region)
	err := workflow.ExecuteActivity(wait, do.AwaitImage, step, copied).Get(wait, &copied)
	return copied, err
}

// finish tags, shares and deprecates one image.
func (b *build) finish(ctx workflow.Context, image builders.Image) error {
	ctx, step := b.step(asks(ctx), "finish-"+image.Region)
	return workflow.ExecuteActivity(ctx, do.Finish, step, b.resolved, image).Get(ctx, nil)
}

// describe asks the builder how to call what was made.
func (b *build) describe(ctx workflow.Context) error {
	if b.Outline.Captures && len(b.finished) == 0 {
		return nil // the template asked for no image
	}
	ctx, step := b.step(asks(ctx), "artifact")
	var artifact bakehouse.Artifact
	if err := workflow.ExecuteActivity(ctx, do.Artifact, step, b.finished).Get(ctx, &artifact); err != nil {
		return err
	}
	b.artifacts = []bakehouse.Artifact{artifact}
	return nil
}

// release gives back all that the build holds but its finished images. A
// cancelled build must clean up too, so it runs in a context that the
// cancellation does not reach. What it cannot release is for a sweep to find;
// it never hides the build's outcome.
func (b *build) release(ctx workflow.Context, outcome error) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if outcome != nil && b.OnError == "abort" {
		b.say(ctx, "abort", "Step failed, aborting: -on-error=abort leaves everything as it is", "Everything left behind carries the tag "+bakehouse.TagBuild+"="+string(b.Build.ID))
		return
	}
	keep := b.finished
	if outcome != nil {
		keep = nil // no image of a failed build is a result
	}
	ctx, step := b.step(givesBack(ctx), "release")
	if err := workflow.ExecuteActivity(ctx, do.Release, step, b.resolved, keep).Get(ctx, nil); err != nil {
		b.leftovers = cause(err)
		workflow.GetLogger(ctx).Error("build left something behind", "build", b.Build.ID, "error", err)
	}
}

// result says how the build ended.
func (b *build) result(ctx workflow.Context, err error) (bakehouse.Result, error) {
	res := bakehouse.Result{
		Build: b.Build, Artifacts: b.artifacts, Outputs: b.outputs, Leftovers: b.leftovers,
		Started: b.started, Ended: workflow.Now(ctx),
	}
	if err == nil {
		return res, nil
	}
	res.Error, res.Kind = cause(err), kind(err)
	if temporal.IsCanceledError(err) || ctx.Err() != nil {
		res.Cancelled = true
		return res, temporal.NewCanceledError(res)
	}
	return res, temporal.NewApplicationErrorWithOptions(res.Error, string(res.Kind),
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{res}})
}

// step names the next step of the build.
func (b *build) step(ctx workflow.Context, name string) (workflow.Context, activities.Step) {
	b.steps++
	step := activities.Step{Key: fmt.Sprintf("%02d-%s", b.steps, name), Build: b.Build, Plan: b.Plan}
	o := workflow.GetActivityOptions(ctx)
	o.ActivityID = step.Key
	o.Summary = b.Build.Name + " " + name
	return workflow.WithActivityOptions(ctx, o), step
}

// say puts lines into the build's log.
func (b *build) say(ctx workflow.Context, name string, lines ...string) {
	ctx, step := b.step(asks(ctx), name)
	if err := workflow.ExecuteActivity(ctx, do.Say, step, lines).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Error("line is missing from the log", "lines", lines, "error", err)
	}
}

// do is for the names of its methods.
var do *activities.Activities

// first returns the first error that is one, preferring what went wrong over
// what was cancelled because of it.
func first(errs ...error) error {
	var cancelled error
	for _, err := range errs {
		switch {
		case err == nil:
		case temporal.IsCanceledError(err):
			cancelled = err
		default:
			return err
		}
	}
	return cancelled
}

// cause is the text of a failure without Temporal's wrapping.
func cause(err error) string {
	var app *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	switch {
	case temporal.IsCanceledError(err):
		return "build was cancelled"
	case errors.As(err, &app):
		return app.Message()
	case errors.As(err, &timeout):
		text := "step did not end in time (" + strings.ToLower(timeout.TimeoutType().String()) + ")"
		if last := timeout.Unwrap(); last != nil {
			text += ": " + cause(last)
		}
		return text
	}
	return err.Error()
}

// kind is the kind of a failure.
func kind(err error) bakehouse.Kind {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return bakehouse.Kind(app.Type())
	}
	return bakehouse.Trouble
}
