package sim_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// TestGroupActors has an actor join a group: it receives messages and changes of members, sends, hears of what is no message,
// and leaves by stopping.
func TestGroupActors(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, nil)
		alice, err := h.clients[0].Current().Join(h.soon(), "room", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		typed := client.Typed[proto.Message](alice)
		heard := make(chan string, 10)
		bob := h.clients[1].Current().Actors()
		pid, err := bob.Spawn(bob.Props(func() actor.Actor {
			return actor.ReceiveFunc(func(ctx actor.Context) {
				d, ok := ctx.Message().(client.GroupDelivery)
				if !ok {
					return
				}
				switch {
				case d.Err != nil:
					heard <- fmt.Sprint(errors.Is(d.Err, messages.ErrProtocol), d.From.Name)
				case d.Event != nil:
					heard <- fmt.Sprintf("%T", d.Event)
				default:
					heard <- fmt.Sprint(d.From.Name, d.Message)
				}
			})
		}), "")
		if err != nil {
			w.T.Fatal(err)
		}
		group, err := bob.Join(h.soon(), pid, "room", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		if err := typed.Send(h.soon(), wrapperspb.String("hello")); err != nil {
			w.T.Fatal(err)
		}
		h.send(alice, "this is no message")
		h.join(0, &client.JoinOptions{ReceiveOnly: true})
		for _, want := range []string{`c0value:"hello"`, "truec0", "client.MemberJoined"} {
			select {
			case got := <-heard:
				if got != want {
					w.T.Errorf("the actor heard %q, want %q", got, want)
				}
			case <-time.After(10 * time.Second):
				w.T.Fatalf("the actor has not heard %q", want)
			}
		}
		if err := group.Send(h.soon(), wrapperspb.UInt64(7)); err != nil {
			w.T.Fatal(err)
		}
		h.next(alice) // c1 joined
		h.next(alice) // c0 joined once more
		if got, err := typed.Receive(h.soon()); err != nil || got.From.Name != "c1" || !proto.Equal(got.Message, wrapperspb.UInt64(7)) {
			w.T.Errorf("received %v, %v", got, err)
		}
		bob.Root.Stop(pid)
		h.want(alice, "c1 left: closed")
	})
}

// TestTypedGroup sends messages of one type; what is none is an error that names who sent it, and the next one is received.
func TestTypedGroup(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, nil)
		alice, bob := h.join(0, nil), client.Typed[*wrapperspb.UInt64Value](h.join(1, nil))
		h.send(alice, "\xff")
		if err := client.Typed[*wrapperspb.UInt64Value](alice).Send(h.soon(), wrapperspb.UInt64(7)); err != nil {
			w.T.Fatal(err)
		}
		_, err := bob.Receive(h.soon())
		if op, ok := errors.AsType[*messages.OpError](err); !ok || op.Peer != "c0" || !op.Remote || !errors.Is(err, messages.ErrProtocol) {
			w.T.Errorf("received what is no number: %v", err)
		}
		if got, err := bob.Receive(h.soon()); err != nil || got.Message.GetValue() != 7 || got.From.Name != "c0" {
			w.T.Errorf("received %v, %v", got, err)
		}
	})
}
