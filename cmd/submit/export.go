package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

// exportSpans sends the spans of a timeline where the standard OTEL_* variables
// say, and returns how many. Their identity follows from what they stand for,
// so whoever sends them again sends the same.
func exportSpans(ctx context.Context, c *console, tl *timeline.Timeline) (int, error) {
	if !exports(c) {
		return 0, errors.New("nowhere to send spans to: set OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER")
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return 0, fmt.Errorf("set up traces from OTEL_* variables: %w", err)
	}
	spans := timeline.Spans(tl)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err = exporter.ExportSpans(ctx, spans)
	if serr := exporter.Shutdown(ctx); err == nil {
		err = serr
	}
	if err != nil {
		return 0, fmt.Errorf("export spans: %w", err)
	}
	return len(spans), nil
}

// exports tells whether the environment asks for traces. Without it nobody is
// knocked upon.
func exports(c *console) bool {
	if c.getenv("OTEL_SDK_DISABLED") == "true" || c.getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	for _, v := range c.environ {
		if strings.HasPrefix(v, "OTEL_EXPORTER_OTLP") || strings.HasPrefix(v, "OTEL_TRACES_EXPORTER=") {
			return true
		}
	}
	return false
}

// export sends the trace of a submission that has ended, when the environment
// asks for it. A collector that is away spoils no build.
func (w *watch) export(ctx context.Context) {
	if !w.mine || !exports(w.console) {
		return
	}
	tl, err := w.farm.Timeline(ctx, w.id)
	if err == nil {
		_, err = exportSpans(ctx, w.console, tl)
	}
	if err != nil {
		w.ui.Error("The trace was not sent: " + err.Error())
	}
}
