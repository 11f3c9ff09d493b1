package actors

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// unwrapTraced splits a message that comes with a context, for [Ask] and the like: what
// OpenTelemetry knows of the context goes into the headers, as its TextMapPropagator has
// it, and so to the actor, near or far.
func unwrapTraced(ctx context.Context, message any) (headers map[string]string, bare any, sender *actor.PID) {
	header, bare, sender := actor.UnwrapEnvelope(message)
	if header != nil && header.Length() > 0 {
		headers = header.ToMap()
	}
	if isTraced(ctx) {
		if headers == nil {
			headers = map[string]string{}
		}
		otel.GetTextMapPropagator().Inject(ctx, propagation.MapCarrier(headers))
	}
	return headers, bare, sender
}

// noSpan is what a context without a span has.
var noSpan = trace.SpanFromContext(context.Background())

// isTraced reports whether OpenTelemetry knows something of a context.
func isTraced(ctx context.Context) bool {
	span := trace.SpanFromContext(ctx)
	return span != noSpan && span.SpanContext().IsValid() // nearly always the first, which is quick
}

// traced returns a message with what OpenTelemetry knows of its context.
func traced(ctx context.Context, message any) any {
	if !isTraced(ctx) {
		return message
	}
	headers, bare, sender := unwrapTraced(ctx, message)
	return &actor.MessageEnvelope{Header: headers, Message: bare, Sender: sender}
}
