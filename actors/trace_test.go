package actors_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/actor/middleware/opentelemetry"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
)

// A trace goes from a program's context through actors of two processes and back.
func TestTraceAcrossProcesses(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		spawn := func(name, id string, receive actor.ReceiveFunc) {
			sys := l.of(name)
			pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive },
				actor.WithReceiverMiddleware(opentelemetry.ReceiverMiddleware()), actor.WithSenderMiddleware(opentelemetry.SenderMiddleware())), id)
			if err != nil {
				t.Fatal(err)
			}
			sys.Export(id, pid)
		}
		spawn("bob", "back", echo)
		spawn("alice", "front", func(ctx actor.Context) {
			if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.RequestWithCustomSender(l.of("alice").PID("bob", "back"), text, ctx.Sender())
			}
		})
		ctx, span := otel.Tracer("test").Start(t.Context(), "program")
		if _, err := actors.Ask[*wrapperspb.StringValue](ctx, l.of("alice"), l.of("alice").PID("alice", "front"), wrapperspb.String("hi")); err != nil {
			t.Fatal(err)
		}
		if err := l.of("alice").SendConfirmed(ctx, l.of("alice").PID("bob", "back"), wrapperspb.String("hi")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		span.End()
		var depths []int // of the spans in the program's trace
		parents := map[string]string{}
		for _, s := range recorder.Ended() {
			parents[s.SpanContext().SpanID().String()] = s.Parent().SpanID().String()
		}
		for _, s := range recorder.Ended() {
			if s.SpanContext().TraceID() != span.SpanContext().TraceID() {
				continue
			}
			depth := 0
			for id := s.SpanContext().SpanID().String(); parents[id] != ""; id = parents[id] {
				depth++
			}
			depths = append(depths, depth)
		}
		slices.Sort(depths)
		if !slices.Equal(depths, []int{1, 2, 2, 3}) { // the program, front and back of its first message, back of the second
			t.Errorf("spans at depths %v of the trace", depths)
		}
	})
}
