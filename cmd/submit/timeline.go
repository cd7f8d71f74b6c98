package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

var timelineTopic = topic{
	name: "timeline", args: "ID", least: 1, most: 1,
	summary: "draw where the time of a submission or a build went",
	text: `
Draws the steps of a submission or of one build as they happened: how long each
waited for an agent, how often it was begun, how long it took. It is read from
durable history, so it can be drawn while the build runs, after a crash, and
with no agent alive. ID is that of a submission or of a build; its beginning is
enough.`,
	exits: `  0  done, however the builds ended
  1  nothing has this ID, or the farm could not be asked
`,
	make: func() command { return new(drawing) },
}

type drawing struct {
	connection
	json, export bool
	width        int
}

func (d *drawing) flags(f *flag.FlagSet) {
	d.connection.flags(f)
	f.BoolVar(&d.json, "json", false, "print JSON")
	f.BoolVar(&d.export, "export", false, "send the spans that have ended where the OTEL_* variables say; doing so again changes nothing")
	f.IntVar(&d.width, "width", 0, "draw `n` columns wide; 0 means as wide as the terminal, or 100")
}

func (d *drawing) run(ctx context.Context, c *console, args []string) error {
	f, _, err := d.open(ctx, c, false, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := find(ctx, f, args[0])
	if err != nil {
		return err
	}
	tl, err := f.Timeline(ctx, e.ID)
	if err != nil {
		return err
	}
	if d.export {
		n, err := exportSpans(ctx, c, tl)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.err, "Exported %d spans of trace %s.\n", n, tl.TraceID())
	}
	if d.json {
		return printJSON(c.out, tl)
	}
	timeline.Draw(c.out, tl, width(c, d.width))
	return nil
}

// width returns how wide to draw.
func width(c *console, wanted int) int {
	if wanted > 0 {
		return wanted
	}
	if size, ok := c.terminal(); ok {
		if columns, _ := size(); columns > 0 {
			return columns
		}
	}
	return 100
}

// showTimeline draws the timeline at the end of a build.
func (w *watch) showTimeline(ctx context.Context) {
	tl, err := w.farm.Timeline(ctx, w.id)
	if err != nil {
		w.ui.Error("The timeline cannot be read: " + err.Error())
		return
	}
	var text strings.Builder
	timeline.Draw(&text, tl, width(w.console, 0))
	w.ui.Say("\n" + strings.TrimRight(text.String(), "\n"))
}
