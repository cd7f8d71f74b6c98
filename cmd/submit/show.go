package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/timeline"
)

var showTopic = topic{
	name: "show", args: "ID", least: 1, most: 1,
	summary: "show what a submission is and how its builds are",
	text: `
Shows a submission: what was submitted, and for each build what it does now or
how it ended, with its artifacts. ID is that of a submission or of a build; its
beginning is enough. With -store, what is missing at the end of a log is named.`,
	exits: `  0  done, however the builds ended
  1  the end of a log is missing, nothing has this ID, or the farm could not be
     asked
`,
	make: func() command { return new(show) },
}

type show struct {
	connection
	json bool
}

func (s *show) flags(f *flag.FlagSet) {
	s.connection.flags(f)
	f.BoolVar(&s.json, "json", false, "print JSON")
}

// A shown is all that show knows.
type shown struct {
	farm.Entry
	Submitted bakehouse.Submission `json:"submitted"`
	// Results are the builds that have ended.
	Results []bakehouse.Result `json:"results"`
	// Builds are all builds as the timeline has them.
	Builds []*timeline.Span `json:"builds"`
	// Failure is why there are no results, when the plan failed.
	Failure string `json:"failure,omitempty"`
	// Missing is what is missing at the ends of logs, by build.
	Missing map[bakehouse.BuildID][]string `json:"missing,omitempty"`
}

func (s *show) run(ctx context.Context, c *console, args []string) error {
	f, _, err := s.open(ctx, c, false, nil)
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
	out := shown{Entry: e}
	if out.Submitted, err = f.Submission(ctx, e.ID, e.Run); err != nil {
		return err
	}
	results, err := f.Results(ctx, e.ID, e.Run)
	if err != nil {
		return err
	}
	if out.Results, err = f.Retried(ctx, results); err != nil {
		return err
	}
	tl, err := f.Timeline(ctx, e.ID)
	if err != nil {
		return err
	}
	if out.Missing, err = missing(ctx, f, e); err != nil {
		return err
	}
	out.Failure = tl.Root.Reason
	for _, span := range tl.Root.Children {
		if span.Kind == timeline.Build {
			out.Builds = append(out.Builds, span)
		}
	}
	if s.json {
		err = printJSON(c.out, out)
	} else {
		out.write(ui.Plain(c.out), time.Now())
	}
	if err == nil && len(out.Missing) > 0 {
		err = failed
	}
	return err
}

// missing returns what is missing at the ends of logs, if a store was named.
func missing(ctx context.Context, f *farm.Farm, e farm.Entry) (map[bakehouse.BuildID][]string, error) {
	if !f.Stores() {
		return nil, nil
	}
	builds, err := f.Builds(ctx, e.ID, e.Run)
	if err != nil {
		return nil, err
	}
	out := map[bakehouse.BuildID][]string{}
	for _, b := range builds {
		errs, err := f.Missing(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("check the log of %s: %w", b.Name, err)
		}
		for _, e := range errs {
			out[b.ID] = append(out[b.ID], e.Error())
		}
	}
	return out, nil
}

func (s shown) write(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "Submission %s: %s\n", s.ID, s.Status)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-10s%s\n", name, value)
		}
	}
	line("template", s.Submitted.Template)
	line("folder", s.Submitted.Cwd)
	line("pool", s.Pool)
	line("by", s.Submitted.User)
	line("only", strings.Join(s.Submitted.Only, ","))
	line("except", strings.Join(s.Submitted.Except, ","))
	line("started", s.Started.Local().Format(time.DateTime)+", "+ui.Short(now.Sub(s.Started))+" ago")
	if !s.Ended.IsZero() {
		line("took", ui.Words(s.Ended.Sub(s.Started)))
	}
	if s.Failure != "" {
		line("failure", indent(s.Failure))
	}
	line("log", indent(strings.Join(s.Missing[bakehouse.BuildID(s.ID)], "\n"))) // of the plan
	results := map[bakehouse.BuildID]bakehouse.Result{}
	for _, r := range s.Results {
		results[r.Build.ID] = r
	}
	for _, b := range s.Builds {
		fmt.Fprintf(w, "\nBuild %s: %s\n", b.Name, state(b, now))
		line("id", string(b.Build))
		line("log", indent(strings.Join(s.Missing[b.Build], "\n")))
		r, ended := results[b.Build]
		if !ended {
			continue
		}
		if r.Error == "" && b.Outcome != timeline.Success {
			line("retried", "with success")
		}
		line("error", indent(r.Error))
		line("leftovers", indent(r.Leftovers))
		for _, a := range r.Artifacts {
			line("artifact", indent(cmp.Or(strings.TrimSpace(a.String), a.ID)))
		}
		for _, o := range r.Outputs {
			line("output", o.Path)
		}
	}
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n            ") }

// state says how a build is, in a few words.
func state(b *timeline.Span, now time.Time) string {
	switch b.Outcome {
	case timeline.Success:
		return "done after " + ui.Short(b.Took(now))
	case timeline.Cancelled:
		return "cancelled after " + ui.Short(b.Took(now))
	case timeline.Running:
	default:
		return "failed after " + ui.Short(b.Took(now))
	}
	var doing []string
	for _, s := range b.Children {
		if s.Ended.IsZero() {
			text := s.Name
			if s.Waiting || s.Started.IsZero() {
				text += " waits for an agent"
			}
			doing = append(doing, text+" ("+ui.Short(s.Took(now))+")")
		}
	}
	return strings.TrimSuffix("running for "+ui.Short(b.Took(now))+": "+strings.Join(doing, ", "), ": ")
}
