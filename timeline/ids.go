package timeline

import (
	"context"
	"crypto/sha256"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/bakehouse-farm/bakehouse"
)

// The identity of a span follows from what it stands for, never from who draws
// it or when: an agent that exports its AWS calls live, another that takes the
// step over, and whoever draws the build from history years later all agree.

// TraceContext returns the W3C traceparent under which a step runs: what
// happens within the step, exported with it as its parent, appears below the
// step's span as Spans draws it.
//
// run is the first run ID of the submission; parent is the traceparent that
// came with the submission and may be empty or malformed, which is the same.
// An empty step means the build itself; an empty build the submission.
func TraceContext(run, parent string, build bakehouse.BuildID, step string) string {
	return traceparent(spanContext(run, parent, build, step))
}

// WithStep returns a context in which spans that are started belong to a step;
// see TraceContext.
func WithStep(ctx context.Context, run, parent string, build bakehouse.BuildID, step string) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, spanContext(run, parent, build, step))
}

// spanContext identifies what a build or one of its steps is in a trace.
func spanContext(run, parent string, build bakehouse.BuildID, step string) trace.SpanContext {
	incoming := parseTraceparent(parent)
	c := trace.SpanContextConfig{
		TraceID:    incoming.TraceID(),
		TraceFlags: incoming.TraceFlags(),
		SpanID:     spanID(run, string(build), step),
		Remote:     true,
	}
	if !incoming.IsValid() {
		c.TraceID = traceID(run)
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(c)
}

func traceID(run string) (id trace.TraceID) {
	sum := sha256.Sum256([]byte("bakehouse trace\x00" + run))
	copy(id[:], sum[:])
	return id
}

func spanID(parts ...string) (id trace.SpanID) {
	sum := sha256.Sum256([]byte("bakehouse span\x00" + strings.Join(parts, "\x00")))
	copy(id[:], sum[:])
	return id
}

// parseTraceparent returns an invalid span context when s is no traceparent.
func parseTraceparent(s string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s})
	return trace.SpanContextFromContext(ctx)
}

func traceparent(c trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), c), carrier)
	return carrier["traceparent"]
}
