package actors_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
)

// A PID in a message, of whomever, works at the receiver, and at whom it gives it to;
// and what is forwarded is answered.
func TestPIDsAreGivenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob", "carol")
		for _, name := range []string{"bob", "carol"} { // sends what it is told to whom it is told
			l.spawn(name, "teller", func(ctx actor.Context) {
				if pid, ok := ctx.Message().(*actor.PID); ok {
					ctx.Request(pid, wrapperspb.String("from "+name))
				}
			})
		}
		l.spawn("bob", "forwarder", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.Forward(l.of("bob").PID("carol", "greeter"))
			}
		})
		l.spawn("carol", "greeter", echo)
		got, receive := collect[*wrapperspb.StringValue](3)
		own := l.spawn("alice", "own", receive)
		l.of("alice").Unexport("own")
		alice, bob := l.of("alice"), l.of("bob")
		alice.Root.Send(alice.PID("bob", "teller"), own)
		if text := <-got; text.GetValue() != "from bob" {
			t.Errorf("got %v", text)
		}
		relay := l.spawn("bob", "relay", func(ctx actor.Context) { // gives it away
			if pid, ok := ctx.Message().(*actor.PID); ok {
				ctx.Send(bob.PID("carol", "teller"), pid)
			}
		})
		alice.Root.Send(alice.PID("bob", relay.Id), own)
		if text := <-got; text.GetValue() != "from carol" {
			t.Errorf("got %v", text)
		}
		if text, err := l.ask("alice", alice.PID("bob", "forwarder"), "hi"); err != nil || text != "re: hi" {
			t.Errorf("forwarded: %q, %v", text, err)
		}
		if !proto.Equal(own, actor.NewPID(alice.Address(), "own")) {
			t.Errorf("the sender's own PID has become %v", own)
		}
	})
}

// The PID of a question's sender in a message is good for its answer, and no other.
func TestSenderOfAQuestionIsGivenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		l.spawn("alice", "front", func(ctx actor.Context) { // has bob answer
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.Send(alice.PID("bob", "back"), ctx.Sender())
			}
		})
		l.spawn("bob", "back", func(ctx actor.Context) {
			if pid, ok := ctx.Message().(*actor.PID); ok {
				other := proto.Clone(pid).(*actor.PID) //nolint:forcetypeassert // it is one
				other.RequestId++
				ctx.Send(other, wrapperspb.String("forged"))
				ctx.Send(pid, wrapperspb.String("true"))
			}
		})
		if got, err := l.ask("alice", alice.PID("alice", "front"), "hi"); err != nil || got != "true" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestPIDsInTheirMessagesComeHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "mirror", func(ctx actor.Context) {
			if pid, ok := ctx.Message().(*actor.PID); ok {
				ctx.Respond(pid)
			}
		})
		own := l.spawn("alice", "own", echo)
		got, err := actors.Ask[*actor.PID](t.Context(), l.of("alice"), l.of("alice").PID("bob", "mirror"), own)
		if err != nil || !proto.Equal(got, own) {
			t.Errorf("got %v, %v; want %v", got, err, own)
		}
		touched, err := actors.Ask[*actor.Touched](t.Context(), l.of("alice"), l.of("alice").PID("bob", "mirror"), &actor.Touch{})
		if err != nil || touched.GetWho().GetAddress() != l.of("bob").Address() {
			t.Errorf("touched %v, %v", touched, err)
		}
	})
}

func TestOtherProcessOfTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		alice := l.of("alice")
		sender := make(chan *actor.PID, 1)
		l.spawn("alice", "note", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				sender <- ctx.Sender()
			}
		})
		bob := l.of("bob")
		first := l.spawn("bob", "first", echo)
		bob.Root.Send(bob.PID("alice", "note"), &actor.MessageEnvelope{Message: wrapperspb.String("hi"), Sender: first})
		former := <-sender
		if got, err := l.ask("alice", former, "hi"); err != nil || got != "re: hi" {
			t.Errorf("got %q, %v", got, err)
		}
		l.Restart("bob")
		l.spawn("bob", "greeter", echo)
		l.spawn("bob", "first", echo)
		if _, err := l.ask("alice", alice.PID("bob", "greeter"), "hi"); err != nil {
			t.Errorf("by name: %v", err)
		}
		if _, err := l.ask("alice", former, "hi"); !errors.Is(err, actors.ErrPeerGone) {
			t.Errorf("of the former process: %v, want ErrPeerGone", err)
		}
	})
}
