package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var logsTopic = topic{
	name: "logs", args: "ID", least: 1, most: 1,
	summary: "print the log of a build or of all builds of a submission",
	text: `
Prints what the builds of a submission have said so far, each build whole, or
with -follow as it comes until they have ended. ID is that of a submission or
of one build; its beginning is enough. What is missing or damaged is named, and
what is there is printed all the same.`,
	exits: `  0  done, however the builds ended
  1  part of a log is missing or damaged, nothing has this ID, or the farm could
     not be asked
`,
	make: func() command { return new(logs) },
}

type logs struct {
	connection
	look
	follow bool
}

func (l *logs) flags(f *flag.FlagSet) {
	l.connection.flags(f)
	l.look.flags(f)
	f.BoolVar(&l.follow, "follow", false, "go on until the builds have ended")
}

func (l *logs) run(ctx context.Context, c *console, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	u := l.look.ui(c)
	f, _, err := l.open(ctx, c, false, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := find(ctx, f, args[0])
	if err != nil {
		return err
	}
	only := bakehouse.BuildID("")
	if e.IsBuild {
		only = bakehouse.BuildID(e.ID)
		if e, err = f.Find(ctx, e.Submission); err != nil {
			return fmt.Errorf("submission of build %s: %w", args[0], err)
		}
	}
	if !l.follow {
		whole, err := l.print(ctx, f, u, c.err, e, only)
		if err != nil || ctx.Err() != nil {
			return err
		}
		return l.ends(ctx, f, c.err, e, only, whole)
	}
	_, err = f.Follow(ctx, e.ID, e.Run, &logViewer{ui: u, only: only})
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil, errors.Is(err, farm.ErrBuilds), errors.Is(err, farm.ErrCancelled):
		return l.ends(ctx, f, c.err, e, only, true)
	}
	var plan *farm.PlanError
	if errors.As(err, &plan) {
		u.Error(plan.Text)
		return nil
	}
	return err
}

// ends says on stderr what is missing at the ends of logs.
func (l *logs) ends(ctx context.Context, f *farm.Farm, stderr io.Writer, e farm.Entry, only bakehouse.BuildID, whole bool) error {
	builds, err := f.Builds(ctx, e.ID, e.Run)
	if err != nil {
		return err
	}
	unknown := 0
	for _, b := range builds {
		if only != "" && b.ID != only {
			continue
		}
		if b.Ended && b.Log == nil {
			unknown++
		}
		missing, err := f.Missing(ctx, b)
		if err != nil {
			return fmt.Errorf("check the log of %s: %w", b.Name, err)
		}
		for _, m := range missing {
			whole = false
			fmt.Fprintf(ui.Plain(stderr), "Error: log of %s: %v\n", b.Name, m)
		}
	}
	if unknown > 0 {
		fmt.Fprintf(stderr, "Nobody noted where %d of the logs ended (an older agent, or an end without a last word): lines that are missing there would not be noticed.\n", unknown)
	}
	if !whole {
		return failed
	}
	return nil
}

// print prints what there is now, and tells whether all of it could be read.
func (l *logs) print(ctx context.Context, f *farm.Farm, u *ui.UI, stderr io.Writer, e farm.Entry, only bakehouse.BuildID) (whole bool, err error) {
	store, err := f.Logs(ctx)
	if err != nil {
		return false, err
	}
	builds, err := f.Builds(ctx, e.ID, e.Run)
	if err != nil {
		return false, err
	}
	whole = true
	for _, b := range builds {
		if only != "" && b.ID != only {
			continue
		}
		for line, err := range store.Read(ctx, b.ID) {
			if ctx.Err() != nil {
				return whole, nil
			}
			if err != nil {
				whole = false
				fmt.Fprintf(ui.Plain(stderr), "Error: log of %s: %v\n", b.Name, err)
				continue
			}
			u.Line(b.Name, line.Time, line.Text, line.Kind == buildlog.Error)
		}
	}
	return whole, nil
}

// A logViewer prints lines, and nothing around them.
type logViewer struct {
	ui   *ui.UI
	only bakehouse.BuildID
}

// Began implements farm.Viewer.
func (*logViewer) Began(bakehouse.Build) {}

// Line implements farm.Viewer.
func (v *logViewer) Line(b bakehouse.Build, l buildlog.Line) {
	if v.only == "" || v.only == b.ID {
		v.ui.Line(b.Name, l.Time, l.Text, l.Kind == buildlog.Error)
	}
}

// Ended implements farm.Viewer.
func (*logViewer) Ended(bakehouse.Result) {}

// Away implements farm.Viewer.
func (v *logViewer) Away(why string) {
	v.ui.Error("Temporal cannot be reached: " + why + ". Waiting until it answers again.")
}

// Back implements farm.Viewer.
func (v *logViewer) Back() {}
