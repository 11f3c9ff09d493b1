package actors_test

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/actors/actorstest"
)

// land is a set of systems that reach each other by streams.
type land struct {
	*actorstest.Net
	t *testing.T
}

// newLand makes systems of these names.
func newLand(t *testing.T, names ...string) *land {
	t.Helper()
	return newLandWith(t, actors.RemoteConfig{}, names...)
}

func newLandWith(t *testing.T, conf actors.RemoteConfig, names ...string) *land {
	t.Helper()
	return &land{actorstest.NewNetWith(t, &actorstest.NetConfig{Remote: conf}, names...), t}
}

// of returns a system.
func (l *land) of(name string) *actorstest.Actors { return l.System(name) }

// spawn spawns an actor, and exports it under its id.
func (l *land) spawn(name, id string, receive actor.ReceiveFunc) *actor.PID {
	l.t.Helper()
	sys := l.of(name)
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive }), id)
	if err != nil {
		l.t.Fatal(err)
	}
	sys.Export(id, pid)
	return pid
}

// ask asks an actor of a peer, and returns what it says.
func (l *land) ask(from string, pid *actor.PID, text string) (string, error) {
	got, err := actors.Ask[*wrapperspb.StringValue](l.t.Context(), l.of(from), pid, wrapperspb.String(text))
	return got.GetValue(), err
}

// echo answers each text.
func echo(ctx actor.Context) {
	if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
		ctx.Respond(wrapperspb.String("re: " + text.GetValue()))
	}
}

// collect returns an actor that puts the messages that are a T into a channel.
func collect[T any](room int) (<-chan T, actor.ReceiveFunc) {
	got := make(chan T, room)
	return got, func(ctx actor.Context) {
		if msg, ok := ctx.Message().(T); ok {
			got <- msg
		}
	}
}

// events returns what is published on a system's EventStream and is a T.
func events[T any](sys *actorstest.Actors, room int) <-chan T {
	got := make(chan T, room)
	sys.ActorSystem().EventStream.Subscribe(func(event any) {
		if event, ok := event.(T); ok && len(got) < cap(got) {
			got <- event
		}
	})
	return got
}
