package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

var retryTopic = topic{
	name: "retry", args: "BUILD", least: 1, most: 1,
	summary: "do again what failed after the machine of a build was finished",
	text: `
Goes on with a build that failed and was kept: its machine was finished, and its
image, a copy, or a post-processor failed. Only that is done again. It follows
the build to its end, as submit build does; Ctrl-C leaves, and the build goes on.
It does the same for a build that is parked because a step failed.`,
	exits: `  0  the build has succeeded
  1  it failed again, was not kept, or its time is over
`,
	make: func() command { return new(retry) },
}

type retry struct {
	connection
	look
	outputs bool
}

func (r *retry) flags(f *flag.FlagSet) {
	r.connection.flags(f)
	r.look.flags(f)
	f.BoolVar(&r.outputs, "outputs", true, "write the files that the template writes on the submitter's computer")
}

func (r *retry) run(ctx context.Context, c *console, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	u := r.look.ui(c)
	f, id, err := r.living(ctx, c, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := f.BuildOf(ctx, id)
	if err != nil {
		return err
	}
	sub, err := f.Submission(ctx, b.Submission, "")
	if err != nil {
		return err
	}
	since := time.Now()
	if err := f.Resolve(ctx, id, bakehouse.Decision{Action: bakehouse.Retry, By: userName(c)}); err != nil {
		return err
	}
	u.Say(fmt.Sprintf("Retrying build %s", b.ID))
	w := &watch{console: c, ui: u, farm: f, submission: sub, id: id, at: since, outputs: r.outputs}
	w.live = newLive(u, f)
	res, parked, err := f.FollowBuild(ctx, b, id, since, w)
	switch {
	case ctx.Err() != nil:
		u.Say("Leaving; the build goes on. See it with: submit logs -follow" + r.again() + " " + string(b.ID))
		return nil
	case err != nil:
		return err
	case parked != nil:
		u.Error(fmt.Sprintf("Build %s failed again, at %s: %s", b.ID, parked.Step, parked.Error))
		u.Error("It waits until " + parked.Until.Format(time.RFC3339) + ": submit retry" + r.again() + " " + string(b.ID))
		return failed
	}
	results := bakehouse.Results{Builds: []bakehouse.Result{res}}
	outputErr := w.apply(context.WithoutCancel(ctx), results)
	u.Ended(res)
	u.Summary(results, res.Ended.Sub(since), false)
	if res.Error != "" {
		return errors.Join(outputErr, failed)
	}
	return outputErr
}

// keptLine says that builds can be retried.
func keptLine(results bakehouse.Results, again string) string {
	var lines []string
	for _, r := range results.Builds {
		if !r.KeptUntil.IsZero() {
			lines = append(lines, fmt.Sprintf("What %s had made is kept until %s. Do again only what failed: submit retry%s %s",
				r.Build.Name, r.KeptUntil.Format(time.RFC3339), again, r.Build.ID))
		}
	}
	return strings.Join(lines, "\n")
}
