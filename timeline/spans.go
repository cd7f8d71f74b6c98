package timeline

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Our own attributes, where the conventions have none.
const (
	attributeAttempts = attribute.Key("bakehouse.attempts")
	attributeBuild    = attribute.Key("bakehouse.build")
	attributePool     = attribute.Key("bakehouse.pool")
)

// TraceID returns the trace that the timeline's spans belong to.
func (t *Timeline) TraceID() trace.TraceID {
	return spanContext(t.Run, t.TraceParent, "", "").TraceID()
}

// Sampled tells whether whoever submitted wants the trace to be kept.
func (t *Timeline) Sampled() bool {
	return spanContext(t.Run, t.TraceParent, "", "").IsSampled()
}

// Spans returns what has ended as spans for any OpenTelemetry exporter, parents
// first, after the conventions for CI/CD. Their identity follows from what they
// stand for: exporting them again, also from another computer, sends the same
// spans. What goes on is left out, as a span is sent once, when it has ended.
//
// Waiting for an agent, and attempts before the last, are spans of their own
// below their step.
func Spans(t *Timeline) []sdktrace.ReadOnlySpan {
	x := exporter{t: t, resource: resource.NewSchemaless(
		semconv.ServiceName("bakehouse"),
		semconv.CICDPipelineName(t.Title),
		semconv.CICDPipelineRunID(t.Submission),
		attributePool.String(t.Pool),
	)}
	x.add(t.Root, x.above(t.Root))
	return x.spans.Snapshots()
}

type exporter struct {
	t        *Timeline
	resource *resource.Resource
	spans    tracetest.SpanStubs
}

// above returns the parent of the root: what came with the submission, or the
// submission of a build that is drawn by itself.
func (x *exporter) above(root *Span) trace.SpanContext {
	if root.Kind == Submission {
		return parseTraceparent(x.t.TraceParent)
	}
	return spanContext(x.t.Run, x.t.TraceParent, "", "")
}

// context returns the identity of s. Pauses have no key: their beginning tells
// them apart.
func (x *exporter) context(s *Span) trace.SpanContext {
	switch s.Kind {
	case Submission:
		return spanContext(x.t.Run, x.t.TraceParent, "", "")
	case Pause:
		return x.part(s, "pause "+s.Scheduled.UTC().Format(time.RFC3339Nano))
	}
	return spanContext(x.t.Run, x.t.TraceParent, s.Build, s.Step)
}

// part returns the identity of a part of s that has no key of its own.
func (x *exporter) part(s *Span, what string) trace.SpanContext {
	return spanContext(x.t.Run, x.t.TraceParent, s.Build, s.Step+"\x00"+what)
}

func (x *exporter) add(s *Span, parent trace.SpanContext) {
	id := x.context(s)
	if !s.Ended.IsZero() {
		x.spans = append(x.spans, x.stub(s, id, parent))
		x.gaps(s, id)
	}
	for _, c := range s.Children {
		x.add(c, id)
	}
}

func (x *exporter) stub(s *Span, id, parent trace.SpanContext) tracetest.SpanStub {
	stub := tracetest.SpanStub{
		Name: s.Name, SpanContext: local(id), Parent: parent, SpanKind: trace.SpanKindInternal,
		StartTime: s.Scheduled, EndTime: s.Ended,
		Resource: x.resource, InstrumentationScope: scope,
	}
	if s.Outcome != Success {
		stub.Status = sdktrace.Status{Code: codes.Error, Description: s.Reason}
		stub.Attributes = append(stub.Attributes, semconv.ErrorTypeKey.String(string(s.Outcome)))
	}
	switch s.Kind {
	case Submission, Build:
		stub.Name = "BUILD " + s.Name
		stub.Attributes = append(stub.Attributes,
			semconv.CICDPipelineActionNameBuild, semconv.CICDPipelineResultKey.String(string(s.Outcome)))
		if s.Kind == Submission {
			stub.SpanKind = trace.SpanKindServer
		} else {
			stub.Attributes = append(stub.Attributes, attributeBuild.String(string(s.Build)))
		}
	default:
		stub.Attributes = append(stub.Attributes,
			semconv.CICDPipelineTaskName(s.Name),
			semconv.CICDPipelineTaskRunID(string(s.Build)+"/"+s.Step),
			semconv.CICDPipelineTaskRunResultKey.String(string(s.Outcome)),
			semconv.CICDPipelineTaskTypeBuild,
			attributeBuild.String(string(s.Build)))
		if s.Worker != "" {
			stub.Attributes = append(stub.Attributes, semconv.CICDWorkerID(s.Worker))
		}
		if s.Attempts > 0 {
			stub.Attributes = append(stub.Attributes, attributeAttempts.Int(s.Attempts))
		}
	}
	return stub
}

// gaps adds what a step did before its last attempt.
func (x *exporter) gaps(s *Span, id trace.SpanContext) {
	if s.Kind != Step {
		return
	}
	gap := func(name string, d time.Duration) {
		x.spans = append(x.spans, tracetest.SpanStub{
			Name: name, SpanContext: local(x.part(s, name)), Parent: id, SpanKind: trace.SpanKindInternal,
			StartTime: s.Scheduled, EndTime: s.Scheduled.Add(d),
			Attributes: []attribute.KeyValue{attributeBuild.String(string(s.Build))},
			Resource:   x.resource, InstrumentationScope: scope,
		})
	}
	if d := s.Earlier(); d > 0 {
		gap("earlier attempts", d)
	} else if d := s.Wait(s.Ended); d > 0 {
		gap("wait for an agent", d)
	}
}

var scope = instrumentation.Scope{Name: "github.com/bakehouse-farm/bakehouse/timeline"}

// local is the identity of a span where it is made.
func local(c trace.SpanContext) trace.SpanContext { return c.WithRemote(false) }
