// Package workflows says in which order things happen, and what must happen
// whatever happens. It is deterministic: what it does follows from its input
// and from what activities answered, so that any agent can go on with it.
package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// A BuildRequest is the input of workflow Build.
type BuildRequest struct {
	Build   bakehouse.Build         `json:"build"`
	Plan    activities.PlanRef      `json:"plan"`
	Outline activities.PlannedBuild `json:"outline"`
	bakehouse.Policy
	// Kept is what an earlier run of the build had done when it failed; this one
	// begins parked. Nil for a build that begins.
	Kept *Progress `json:"kept,omitempty"`
}

// Build makes one source into one image.
//
// Its result is a bakehouse.Result; when it fails, that is the detail of the
// error, so that nothing that was made is ever unknown.
func Build(ctx workflow.Context, r BuildRequest) (bakehouse.Result, error) {
	b := &build{BuildRequest: r, Progress: Progress{Started: workflow.Now(ctx)}}
	if r.Kept != nil {
		b.Progress = *r.Kept
		b.OnError, b.Lease = "ask", r.Keep
	}
	if err := b.listen(ctx); err != nil {
		return bakehouse.Result{}, err
	}
	ctx, done := b.limit(ctx)
	err := b.bake(ctx)
	if err == nil {
		err = b.postProcess(ctx)
	}
	done()
	return b.result(ctx, err)
}

// A build is what is known of it so far. All of it follows from history.
type build struct {
	BuildRequest
	Progress

	leaving  bool // no visitor is let in any more
	overdue  bool // the build's own time limit has passed
	machines int  // that were lost
	parking
	checkpointing
	visits

	leftovers string
	keptUntil time.Time
}

// Progress is what a build has done: all that another run of it must know to
// go on where this one failed.
type Progress struct {
	Started time.Time `json:"started"`
	// Stage is the stage, by its place in stages, that comes next; Provisioner
	// the provisioner within its stage.
	Stage       int `json:"stage"`
	Provisioner int `json:"provisioner"`
	// Steps counts the steps, which are named by it.
	Steps int `json:"steps"`
	// Attempt is that of bakehouse.Build.
	Attempt int `json:"attempt,omitempty"`

	Resolved builders.Resolved `json:"resolved"`
	Login    activities.Login  `json:"login"`
	// Holding is what the build has had made.
	Holding builders.Holding `json:"holding"`
	// Image is the captured one, once it is available; Finished are the results:
	// they are kept whatever else fails.
	Image    *builders.Image  `json:"image,omitempty"`
	Finished []builders.Image `json:"finished,omitempty"`
	// Sequences tells of each sequence of post-processors how far it has come.
	Sequences []Sequence           `json:"sequences,omitempty"`
	Artifacts []bakehouse.Artifact `json:"artifacts,omitempty"`
	Outputs   []bakehouse.Output   `json:"outputs,omitempty"`
	// Error is what failed.
	Error string         `json:"error,omitempty"`
	Kind  bakehouse.Kind `json:"kind,omitempty"`
}

// A stage is a part of the story of a build.
type stage struct {
	name string
	when func(*build) bool
	do   func(*build, workflow.Context) error
}

// The stages, by their place in the story.
const (
	resolving = iota
	launching
	connecting
	provisioning
	tidying
	stopping
	capturing
	describing
	baked // past the last stage: what is left are the post-processors
)

// stages are the story of a build: from nothing to finished images.
func stages() []stage {
	return []stage{
		resolving:    {"resolve", always, (*build).resolve},
		launching:    {"launch", (*build).launches, (*build).launch},
		connecting:   {"connect", (*build).connects, (*build).connect},
		provisioning: {"provision", always, (*build).provision},
		tidying:      {"tidy", (*build).connects, (*build).tidy},
		stopping:     {"stop", (*build).stops, (*build).stop},
		capturing:    {"capture", (*build).captures, (*build).capture},
		describing:   {"describe", always, (*build).describe},
	}
}

func always(*build) bool        { return true }
func (b *build) launches() bool { return b.Outline.Launches }
func (b *build) connects() bool { return b.Outline.Connects }
func (b *build) stops() bool    { return b.Outline.Launches && !b.Resolved.SkipStop }
func (b *build) captures() bool { return b.Outline.Captures }

// bake goes through the stages, and gives back what that took.
func (b *build) bake(ctx workflow.Context) (err error) {
	// Promised before anything is made: a launch that is cut off may have left
	// something behind, too.
	if b.Stage < baked {
		defer func() { b.giveBack(ctx, err) }()
	}
	if b.Kept != nil {
		if err := b.reconsider(ctx, temporal.NewApplicationError(b.Error, string(b.Kind))); err != nil {
			return err
		}
	}
	story := stages()
	for b.Stage < baked {
		s := story[b.Stage]
		if !s.when(b) {
			b.Stage++
			continue
		}
		if err := b.gate(ctx, s.name); err != nil {
			return err
		}
		if err := s.do(b, ctx); err != nil {
			if err = b.reconsider(ctx, err); err != nil {
				return err
			}
			continue // with the stage that reconsider chose
		}
		b.Stage++
	}
	return nil
}

// giveBack releases what the build holds, or keeps it for another try of what
// failed.
func (b *build) giveBack(ctx workflow.Context, err error) {
	b.endVisits(ctx, b.Outline.Launches && !b.leaves())
	b.endCheckpoints()
	if err == nil {
		b.release(ctx, nil)
		return
	}
	if b.Stage == provisioning {
		b.errorCleanup(ctx, err)
	}
	if b.keep(ctx, err) {
		return
	}
	b.release(ctx, err)
}

// limit ends the build when it takes longer than its policy allows. The
// returned function must be called when the build's work is done.
func (b *build) limit(ctx workflow.Context) (workflow.Context, func()) {
	if b.Timeout <= 0 {
		return ctx, func() {}
	}
	inner, end := workflow.WithCancel(ctx)
	watch, stop := workflow.WithCancel(ctx)
	workflow.Go(watch, func(watch workflow.Context) {
		if workflow.Sleep(watch, time.Duration(b.Timeout)) == nil {
			b.overdue = true
			end()
		}
	})
	return inner, stop
}

// result says how the build ended.
func (b *build) result(ctx workflow.Context, err error) (bakehouse.Result, error) {
	late, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	end := b.logEnd(late)
	// Who has asked something of the build gets an answer before it is gone.
	if werr := workflow.Await(late, func() bool { return workflow.AllHandlersFinished(late) }); werr != nil {
		return bakehouse.Result{}, werr
	}
	res := bakehouse.Result{
		Build: b.Build, Artifacts: b.Artifacts, Outputs: b.Outputs, Leftovers: b.leftovers,
		KeptUntil: b.keptUntil, Log: end, Started: b.Started, Ended: workflow.Now(ctx),
	}
	if err == nil {
		return res, nil
	}
	res.Error, res.Kind = cause(err), kind(err)
	switch {
	case b.overdue:
		res.Error, res.Kind = fmt.Sprintf("build did not end within %s", time.Duration(b.Timeout)), bakehouse.Timeout
	case b.ended:
		res.Cancelled = true
	case temporal.IsCanceledError(err) || ctx.Err() != nil:
		// Whatever else went wrong while it ended, this is why.
		res.Error, res.Kind = "build was cancelled", bakehouse.Trouble
		res.Cancelled = true
		return res, temporal.NewCanceledError(res)
	}
	return res, temporal.NewApplicationErrorWithOptions(res.Error, string(res.Kind),
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{res}})
}

// logEnd asks where the log of the build ends. History keeps the answer, so
// that a store which loses the last lines of a log does not go unnoticed. It is
// a local activity, which needs no other agent; a store that cannot be listed
// now makes no build fail that is done.
//
// What the store loses between the end of a step and the end of the build is
// not noticed: the steps themselves would have to tell, and most have an answer
// of another kind.
func (b *build) logEnd(ctx workflow.Context) *bakehouse.LogEnd {
	if workflow.GetVersion(ctx, "log-end", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ScheduleToCloseTimeout: 2 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
	})
	var end bakehouse.LogEnd
	if err := workflow.ExecuteLocalActivity(ctx, do.LogEnd, b.Build.ID).Get(ctx, &end); err != nil {
		workflow.GetLogger(ctx).Warn("where the log ends is not known", "build", b.Build.ID, "error", err)
		return nil
	}
	return &end
}

// step names the next step of the build.
func (b *build) step(ctx workflow.Context, name string) (workflow.Context, activities.Step) {
	b.Steps++
	step := activities.Step{Key: fmt.Sprintf("%02d-%s", b.Steps, name), Build: b.Build, Plan: b.Plan}
	step.Build.Attempt = b.Attempt
	o := workflow.GetActivityOptions(ctx)
	o.ActivityID = step.Key
	o.Summary = b.Build.Name + " " + name
	if limit := time.Duration(b.StepTimeout); limit > 0 && ctx.Err() == nil {
		// The agent ends a provisioner by itself when the time has passed; what is
		// more is for it to say so.
		o.ScheduleToCloseTimeout = min(o.ScheduleToCloseTimeout, limit+time.Minute)
	}
	return workflow.WithActivityOptions(ctx, o), step
}

// say puts lines into the build's log.
func (b *build) say(ctx workflow.Context, name string, lines ...string) {
	ctx, step := b.step(asks(ctx), name)
	if err := workflow.ExecuteActivity(ctx, do.Say, step, lines).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Error("line is missing from the log", "lines", lines, "error", err)
	}
}

// sayAll is say when the build has been told to end.
func (b *build) sayAll(ctx workflow.Context, name string, lines ...string) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	b.say(ctx, name, lines...)
}

// do is for the names of its methods.
var do *activities.Activities
