// Package export sends timelines as traces where the standard OTEL_* variables
// say.
package export

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/contrib/exporters/autoexport"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

// Asked tells whether an environment asks for traces. Without it nobody is
// knocked upon: the variables' own default is a collector on this machine.
func Asked(environ []string) bool {
	asked := false
	for _, v := range environ {
		switch name, value, _ := strings.Cut(v, "="); {
		case name == "OTEL_SDK_DISABLED" && strings.EqualFold(value, "true"),
			name == "OTEL_TRACES_EXPORTER" && value == "none":
			return false
		case value == "": // the same as not set
		case strings.HasPrefix(name, "OTEL_EXPORTER_OTLP"), name == "OTEL_TRACES_EXPORTER":
			asked = true
		}
	}
	return asked
}

// Send sends what has ended of a timeline, and returns how many spans that are.
// Their identity follows from what they stand for, so whoever sends them again
// sends the same.
func Send(ctx context.Context, t *timeline.Timeline) (int, error) {
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return 0, fmt.Errorf("set up traces from OTEL_* variables: %w", err)
	}
	spans := timeline.Spans(t)
	err = exporter.ExportSpans(ctx, spans)
	if serr := exporter.Shutdown(ctx); err == nil {
		err = serr
	}
	if err != nil {
		return 0, fmt.Errorf("export spans: %w", err)
	}
	return len(spans), nil
}
