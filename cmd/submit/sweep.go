package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"syscall"
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
	connection
	poolName string
	regions  list
	dryRun   bool
	every    time.Duration
	json     bool
}

func (s *sweep) flags(f *flag.FlagSet) {
	s.connection.flags(f)
	f.StringVar(&s.poolName, "pool", "", "`name` of the pool whose account is swept ($BAKEHOUSE_POOL, else default; with -local, local)")
	f.Var(&s.regions, "region", "only these `regions`, joined by commas (default all that the account may use)")
	f.BoolVar(&s.dryRun, "dry-run", false, "remove nothing, only show what is there")
	f.DurationVar(&s.every, "every", -1, "sweep again and again, this `duration` apart, from now on and without this program; 0 ends that")
	f.BoolVar(&s.json, "json", false, "print JSON")
}

func (s *sweep) run(ctx context.Context, c *console, _ []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if s.every > 0 && s.every < time.Minute {
		return fmt.Errorf("-every=%s: sweeps are at least a minute apart", s.every)
	}
	f, _, err := s.open(ctx, c, true, func(line string) { fmt.Fprintln(c.err, line) })
	if err != nil {
		return err
	}
	defer f.Close()
	pool := s.pool(c, s.poolName)
	request := farm.SweepRequest{Regions: s.regions, DryRun: s.dryRun}
	if s.every >= 0 {
		if err := f.SweepEvery(ctx, pool, s.every, request); err != nil {
			return err
		}
		if s.every == 0 {
			fmt.Fprintf(c.out, "Pool %s is not swept by itself any more.\n", pool)
		} else {
			fmt.Fprintf(c.out, "Pool %s is swept every %s from now on.\n", pool, s.every)
		}
		return nil
	}
	patience := 3 * time.Second // an agent may just have been started
	if s.local {
		patience = 10 * time.Second // we may have started it
	}
	if err := f.CheckPool(ctx, pool, patience); err != nil {
		return err
	}
	found, err := f.Sweep(ctx, pool, request)
	if err != nil {
		return err
	}
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
