package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var listTopic = topic{
	name: "list", args: "", least: 0, most: 0,
	summary: "list submissions, those that run and those that ran",
	text:    `Lists submissions, the newest first, and then the builds that wait for somebody.`,
	exits: `  0  done, also when there are none
  1  the farm could not be asked
`,
	make: func() command { return new(listing) },
}

type listing struct {
	connection
	pool    string
	running bool
	limit   int
	json    bool
}

func (l *listing) flags(f *flag.FlagSet) {
	l.connection.flags(f)
	f.StringVar(&l.pool, "pool", "", "only those of the pool with this `name`")
	f.BoolVar(&l.running, "running", false, "only those that have not ended")
	f.IntVar(&l.limit, "n", 30, "at most `n` of them")
	f.BoolVar(&l.json, "json", false, "print JSON")
}

func (l *listing) run(ctx context.Context, c *console, _ []string) error {
	if l.limit < 1 {
		return fmt.Errorf("-n=%d: it must be at least 1", l.limit)
	}
	f, _, err := l.open(ctx, c, false, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := f.List(ctx, l.pool, l.running, l.limit)
	if err != nil {
		return err
	}
	waiting, err := f.Waiting(ctx, l.pool, l.limit)
	if err != nil {
		return err
	}
	if l.json {
		return printJSON(c.out, append(append([]farm.Entry{}, entries...), waiting...))
	}
	writeList(ui.Plain(c.out), entries, time.Now())
	writeWaiting(ui.Plain(c.out), waiting, time.Now())
	return nil
}

// writeWaiting lists builds that wait for a decision.
func writeWaiting(w io.Writer, entries []farm.Entry, now time.Time) {
	if len(entries) == 0 {
		return
	}
	fmt.Fprintln(w, "\nBuilds that wait (submit resolve, submit retry, submit show):")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BUILD\tSUBMISSION\tSOURCE\tSTARTED")
	for _, e := range entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s ago\n", e.ID, e.Submission, e.Source, ui.Short(now.Sub(e.Started)))
	}
	_ = t.Flush() // the reader may have gone
}

func writeList(w io.Writer, entries []farm.Entry, now time.Time) {
	if len(entries) == 0 {
		fmt.Fprintln(w, "No submissions.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBMISSION\tPOOL\tSTATUS\tSTARTED\tTOOK")
	for _, e := range entries {
		end := e.Ended
		if end.IsZero() {
			end = now
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s ago\t%s\n", e.ID, e.Pool, e.Status, ui.Short(now.Sub(e.Started)), ui.Short(end.Sub(e.Started)))
	}
	_ = t.Flush() // the reader may have gone
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
