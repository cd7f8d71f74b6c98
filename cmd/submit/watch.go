package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// A watch shows a submission until it has ended or the user leaves.
type watch struct {
	console    *console
	ui         *ui.UI
	farm       *farm.Farm
	submission bakehouse.Submission
	id, run    string
	at         time.Time // when the submission began
	back       string    // the command that comes back to it
	again      string    // the flags by which other commands reach the same farm
	outputs    bool      // put what the builds made for this computer where it belongs
	timeline   bool      // show it at the end
	mine       bool      // an interrupt cancels; otherwise it leaves
	// keep is run meanwhile, until its context ends; may be nil.
	keep func(context.Context)

	live  *live
	asker *asker // nil when nobody is there to ask
}

// errLeft ends following because the user does not want to wait.
var errLeft = errors.New("left")

// follow shows the submission. before is a context that has ended when the user
// interrupted already.
func (w *watch) follow(ctx, before context.Context) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if before.Err() != nil {
		signals <- syscall.SIGINT
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if w.keep != nil {
		go w.keep(ctx)
	}
	w.live = newLive(w.ui, w.farm)
	if w.console != nil {
		if _, terminal := w.console.terminal(); terminal && !w.console.machine {
			go w.live.run(ctx)
			if in, ok := w.console.in.(*os.File); ok && w.mine && term.IsTerminal(int(in.Fd())) {
				w.asker = &asker{
					ui: w.ui, farm: w.farm, in: in, by: userName(w.console), poll: 2 * time.Second,
					builds: map[bakehouse.BuildID]string{},
				}
				go w.asker.run(ctx)
			}
		}
	}
	interrupted := make(chan struct{})
	go w.interrupts(ctx, leave, signals, interrupted)

	results, err := w.farm.Follow(ctx, w.id, w.run, w)
	w.live.stop()
	select {
	case <-interrupted:
		return w.end(ctx, results, err, true)
	default:
		return w.end(ctx, results, err, false)
	}
}

// interrupts cancels the submission at the first signal and leaves at the
// second; a watch that only looks leaves at the first.
func (w *watch) interrupts(ctx context.Context, leave context.CancelCauseFunc, signals <-chan os.Signal, interrupted chan<- struct{}) {
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if !w.mine || !first {
				leave(errLeft)
				return
			}
			first = false
			what := "interrupt"
			if s == syscall.SIGTERM {
				what = "terminated"
			}
			w.ui.Say("Cancelling build after receiving " + what)
			close(interrupted)
			go w.cancel(ctx)
		}
	}
}

// cancel asks until the farm has heard.
func (w *watch) cancel(ctx context.Context) {
	for {
		try, done := context.WithTimeout(ctx, 10*time.Second)
		err := w.farm.Cancel(try, w.id, w.run)
		done()
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// end prints how the submission ended.
func (w *watch) end(ctx context.Context, results bakehouse.Results, err error, interrupted bool) error {
	var plan *farm.PlanError
	switch {
	case errors.Is(err, errLeft) && interrupted:
		w.ui.Say("Leaving; the builds are being cancelled and cleaned up on the farm. Come back with: " + w.back)
		return failed
	case errors.Is(err, errLeft):
		w.ui.Say("Leaving; the builds go on. Come back with: " + w.back)
		return nil
	case errors.As(err, &plan):
		w.ui.Error(plan.Text)
		w.ui.Error("\nThe template could not be planned; nothing was built.")
		return failed
	case err != nil && !errors.Is(err, farm.ErrBuilds) && !errors.Is(err, farm.ErrCancelled):
		return err
	}
	// What ends now has to be finished, whatever else the user presses.
	outputErr := w.apply(context.WithoutCancel(ctx), results)
	w.ui.Summary(results, w.took(results), interrupted && errors.Is(err, farm.ErrCancelled))
	if line := keptLine(results, w.again); line != "" {
		w.ui.Say("\n" + line)
	}
	if errors.Is(err, farm.ErrCancelled) && !interrupted {
		w.ui.Error("Submission was cancelled.")
	}
	if w.timeline {
		w.showTimeline(context.WithoutCancel(ctx))
	}
	w.export(context.WithoutCancel(ctx))
	if outputErr != nil {
		return outputErr
	}
	if err != nil {
		return failed
	}
	return nil
}

// took is how long the submission took, also when it ended long ago.
func (w *watch) took(results bakehouse.Results) time.Duration {
	var end time.Time
	for _, r := range results.Builds {
		if r.Ended.After(end) {
			end = r.Ended
		}
	}
	if end.IsZero() {
		end = time.Now()
	}
	return end.Sub(w.at)
}

// Began implements farm.Viewer.
func (w *watch) Began(b bakehouse.Build) {
	w.live.began(b)
	if w.asker != nil {
		w.asker.began(b)
	}
}

// Line implements farm.Viewer.
func (w *watch) Line(b bakehouse.Build, l buildlog.Line) {
	w.ui.Line(b.Name, l.Time, l.Text, l.Kind == buildlog.Error)
}

// Ended implements farm.Viewer.
func (w *watch) Ended(r bakehouse.Result) {
	w.live.ended(r.Build)
	if w.asker != nil {
		w.asker.ended(r.Build)
	}
	w.ui.Ended(r)
}

// Away implements farm.Viewer.
func (w *watch) Away(why string) {
	w.ui.Error(fmt.Sprintf("Temporal at %s cannot be reached (%s). The builds go on; this waits until it answers again.", w.farm.Address, why))
}

// Back implements farm.Viewer.
func (w *watch) Back() { w.ui.Say("Temporal at " + w.farm.Address + " answers again.") }
