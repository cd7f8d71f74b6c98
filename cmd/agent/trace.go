package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/bakehouse-farm/bakehouse/timeline/export"
)

// trace sends spans where the standard OTEL_* variables say. Without any of
// them nothing is sent: an agent must not knock on a collector that nobody set up.
func trace(ctx context.Context) (flush func(), err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	if !export.Asked(os.Environ()) {
		return func() {}, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("set up traces from OTEL_* variables: %w", err)
	}
	res, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("bakehouse-agent")), resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithHost())
	if err != nil {
		return nil, fmt.Errorf("describe this agent for traces: %w", err)
	}
	// What belongs to no step of a build (blobs that are looked for, and the like)
	// would be a trace of its own, thousands of them.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = provider.Shutdown(ctx) // the builds are done; a collector that is away must not keep the agent
	}, nil
}
