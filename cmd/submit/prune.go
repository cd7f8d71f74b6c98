package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
)

var pruneTopic = topic{
	name: "prune", args: "", least: 0, most: 0,
	summary: "remove from the store what nothing needs any more",
	text: `
Has an agent of the pool remove old files, plans and logs from the farm's blob
store. What stays is what is younger than -older-than, and what a submission or
a build needs that runs, waits, is kept, or has ended within that time. All
pools of a farm share its store: one of them is enough. What is pruned and
needed again is sent again by the next submission.`,
	exits: `  0  done
  1  the store could not be pruned; what cannot be read is not pruned
`,
	make: func() command { return &prune{older: age(90 * 24 * time.Hour)} },
}

type prune struct {
	chore
	older age
}

func (p *prune) flags(f *flag.FlagSet) {
	p.tell(f, "whose agents do it", "remove nothing, only count", "prune")
	f.Var(&p.older, "older-than", "keep all that is younger than this `age`: 90d, 36h; a day at least")
}

func (p *prune) run(ctx context.Context, c *console, _ []string) error {
	switch {
	case time.Duration(p.older) < bundle.Grace:
		return fmt.Errorf("-older-than=%s: what is younger than %s may be of a submission that has just begun", p.older.String(), bundle.Grace)
	case p.every >= 0 && p.dryRun:
		return errors.New("-dry-run and -every: nobody would see the count")
	}
	request := farm.PruneRequest{OlderThan: time.Duration(p.older), DryRun: p.dryRun}
	return p.tend(ctx, c, tending{
		repeat: func(ctx context.Context, f *farm.Farm, pool string) error {
			return f.PruneEvery(ctx, pool, p.every, request)
		},
		begun: "Pool %s prunes the store every %s from now on.",
		ended: "Pool %s does not prune the store by itself any more.",
		once: func(ctx context.Context, f *farm.Farm, pool string) error {
			done, err := f.Prune(ctx, pool, request)
			if err != nil {
				return err
			}
			if p.json {
				return printJSON(c.out, done)
			}
			p.write(c.out, done)
			return nil
		},
	})
}

func (p *prune) write(w io.Writer, done farm.Pruned) {
	verb := "Removed"
	if p.dryRun {
		verb = "Would remove"
	}
	fmt.Fprintf(w, "%s %d blobs (%d bytes) and the logs of %d builds (%d bytes); %d blobs and %d logs stay.\n",
		verb, done.Blobs.Blobs, done.Blobs.Bytes, done.Logs.Logs, done.Logs.Bytes, done.Blobs.Kept, done.Logs.Kept)
}

// An age is a duration that may be written in days.
type age time.Duration

func (a *age) String() string {
	if d := time.Duration(*a); d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return time.Duration(*a).String()
}

// Set implements flag.Value.
func (a *age) Set(s string) error {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no number of days", days)
		}
		*a = age(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(s)
	*a = age(d)
	return err
}
