package main

import (
	"context"
	"errors"
	"time"

	"github.com/bakehouse-farm/bakehouse/timeline"
	"github.com/bakehouse-farm/bakehouse/timeline/export"
)

// exportSpans sends the spans of a timeline where the standard OTEL_* variables
// say, and returns how many.
func exportSpans(ctx context.Context, c *console, tl *timeline.Timeline) (int, error) {
	if !export.Asked(c.environ) {
		return 0, errors.New("nowhere to send spans to: set OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return export.Send(ctx, tl)
}

// export sends the trace of a submission that has ended, when the environment
// asks for it and the caller's trace is one that is kept. The agents do so too,
// if they were told where to; a collector that is away spoils no build.
func (w *watch) export(ctx context.Context) {
	if !w.mine || !export.Asked(w.console.environ) {
		return
	}
	tl, err := w.farm.Timeline(ctx, w.id)
	if err == nil && tl.Sampled() {
		_, err = exportSpans(ctx, w.console, tl)
	}
	if err != nil {
		w.ui.Error("The trace was not sent: " + err.Error())
	}
}
