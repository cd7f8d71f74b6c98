package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/local"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var attachTopic = topic{
	name: "attach", args: "ID", least: 1, most: 1,
	summary: "follow a submission again, from its beginning to its end",
	text: `
Shows a submission from its first line until it has ended, also when that was
long ago, and puts what its builds made for this computer (a manifest, files
that were downloaded) where the template says; doing so again changes nothing.
ID is that of a submission or of one of its builds; its beginning is enough.
Ctrl-C leaves, and the builds go on: "submit cancel" ends them.`,
	exits: `  0  all builds succeeded, or you left while they were running
  1  a build failed or was cancelled, or nothing has this ID
`,
	make: func() command { return new(attach) },
}

type attach struct {
	connection
	look
	outputs  bool
	timeline bool
}

func (a *attach) flags(f *flag.FlagSet) {
	a.connection.flags(f)
	a.look.flags(f)
	f.BoolVar(&a.outputs, "outputs", true, "write the files that the template writes on the submitter's computer")
	f.BoolVar(&a.timeline, "timeline", false, "at the end, show where the time went")
}

func (a *attach) run(ctx context.Context, c *console, args []string) error {
	u := a.look.ui(c)
	f, _, err := a.open(ctx, c, true, u.Say)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := find(ctx, f, args[0])
	if err != nil {
		return err
	}
	if e.IsBuild {
		if e, err = f.Find(ctx, e.Submission); err != nil {
			return fmt.Errorf("submission of build %s: %w", args[0], err)
		}
	}
	sub, err := f.Submission(ctx, e.ID, e.Run)
	if err != nil {
		return err
	}
	u.Record("", "submission", e.ID)
	u.Say(fmt.Sprintf("Submission %s in pool %s, %s, started %s ago", e.ID, e.Pool, e.Status, ui.Short(time.Since(e.Started))))
	u.Say("")
	w := &watch{
		console: c, ui: u, farm: f, submission: sub, id: e.ID, run: e.Run, at: e.Started,
		back: "submit attach" + a.again() + " " + e.ID, again: a.again(), outputs: a.outputs, timeline: a.timeline,
	}
	if _, err := os.Stat(sub.Cwd); w.outputs && err != nil {
		u.Error(fmt.Sprintf("It was submitted from %s, which is not on this computer: no files are written.", sub.Cwd))
		w.outputs = false
	}
	if a.local && e.Running() {
		config, err := localConfig(a.state, u.Say)
		if err != nil {
			return err
		}
		w.keep = func(ctx context.Context) { local.Keep(ctx, config) }
	}
	return w.follow(ctx, ctx)
}

// find looks up an ID that a user wrote.
func find(ctx context.Context, f *farm.Farm, id string) (farm.Entry, error) {
	e, err := f.Find(ctx, id)
	if errors.Is(err, farm.ErrUnknown) {
		return e, fmt.Errorf("%w on %s (submit list shows what there is)", err, f.Address)
	}
	return e, err
}
