package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var sweepTopic = topic{
	name: "sweep", args: "", least: 0, most: 0,
	summary: "find and remove what no living build owns",
	text: `
Asks an agent of the pool, with the agent's own credentials, for everything in
its account that builds have made and that expires, and removes what no living
build owns: at once what a terminated build has left, as it never got to its
clean-up; after its time (the tag bakehouse:expires-at, a week after the build
began) what was left on purpose, could not be removed, or belongs to a farm that
has forgotten it. Images that builds were for are never touched.`,
	exits: `  0  done; nothing that is lost is left
  1  something could not be removed, or nobody could be asked
`,
	make: func() command { return new(sweep) },
}

type sweep struct {
	chore
	regions list
}

func (s *sweep) flags(f *flag.FlagSet) {
	s.tell(f, "whose account is swept", "remove nothing, only show what is there", "sweep")
	f.Var(&s.regions, "region", "only these `regions`, joined by commas (default all that the account may use)")
}

func (s *sweep) run(ctx context.Context, c *console, _ []string) error {
	request := farm.SweepRequest{Regions: s.regions, DryRun: s.dryRun}
	return s.tend(ctx, c, tending{
		repeat: func(ctx context.Context, f *farm.Farm, pool string) error {
			return f.SweepEvery(ctx, pool, s.every, request)
		},
		begun: "Pool %s is swept every %s from now on.",
		ended: "Pool %s is not swept by itself any more.",
		once: func(ctx context.Context, f *farm.Farm, pool string) error {
			found, err := f.Sweep(ctx, pool, request)
			if err != nil {
				return err
			}
			return s.report(c, found)
		},
	})
}

// report prints what was found; its error says that something of it stays that
// should not.
func (s *sweep) report(c *console, found []farm.Found) (err error) {
	if s.json {
		if found == nil {
			found = []farm.Found{}
		}
		err = printJSON(c.out, found)
	} else {
		writeSwept(c.out, found, time.Now())
	}
	for _, o := range found {
		if o.Error != "" {
			fmt.Fprintf(c.err, "%s %s in %s: %s\n", o.Kind, o.ID, o.Region, o.Error)
			err = failed
		}
	}
	return err
}

func writeSwept(w io.Writer, found []farm.Found, now time.Time) {
	if len(found) == 0 {
		fmt.Fprintln(w, "Nothing is there that a build has made and that expires.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BUILD\tREGION\tKIND\tID\tFATE\tEXPIRES\tSWEEP")
	for _, o := range found {
		expires := "expired"
		if left := o.Expires.Sub(now); left > 0 {
			expires = "in " + ui.Short(left)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Build, o.Region, o.Kind, o.ID, o.Fate, expires, outcome(o))
	}
	_ = t.Flush() // the reader may have gone
}

func outcome(o farm.Found) string {
	switch {
	case o.Error != "":
		return "could not be removed"
	case o.Removed:
		return "removed"
	case o.Lost:
		return "lost: to be removed"
	case o.Fate == "living":
		return "in use"
	}
	return "left until it expires"
}
