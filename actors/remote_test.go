package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

func TestAskAnExportedActorOfAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		if got, err := l.ask("alice", l.of("alice").PID("bob", "greeter"), "hi"); err != nil || got != "re: hi" {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := l.ask("bob", l.of("bob").PID("bob", "greeter"), "hi"); err != nil || got != "re: hi" {
			t.Errorf("by its own name: %q, %v", got, err)
		}
	})
}

func TestWhatIsNotExportedCanNotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob", "carol")
		sys := l.of("bob")
		secret := func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				t.Error("a peer reached an actor that is not exported for it")
			}
		}
		l.spawn("bob", "secret", secret)
		sys.Unexport("secret")
		sys.Export("carols", l.spawn("bob", "own", secret), actors.Match("car*", "dave"))
		sys.Unexport("own")
		ids := []string{"secret", "carols", "root", "eventstream", "deadletter", "asks", "nobody", "secret#AAAAAAAAAAAAAA", "#", "@", strings.Repeat("x", 2000), ""}
		for _, id := range ids {
			_, err := l.ask("alice", l.of("alice").PID("bob", id), "hi")
			if !errors.Is(err, messages.ErrNoSuchActor) && !errors.Is(err, messages.ErrRefused) {
				t.Errorf("%.20s: %v, want that it is refused", id, err)
			}
		}
		got, receive := collect[*wrapperspb.StringValue](1)
		sys.Export("carols", l.spawn("bob", "carols", receive), actors.Match("car*", "dave"))
		l.of("carol").Root.Send(l.of("carol").PID("bob", "carols"), wrapperspb.String("hi"))
		<-got
	})
}

func TestMessagesOfOneSenderStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20_000
		l := newLand(t, "alice", "bob")
		var got []int
		done := make(chan struct{})
		l.spawn("bob", "counter", func(ctx actor.Context) {
			if body, ok := ctx.Message().([]byte); ok {
				number, _ := strconv.Atoi(string(body[:6]))
				if got = append(got, number); len(got) == n {
					close(done)
				}
			}
		})
		sys, target := l.of("alice"), l.of("alice").PID("bob", "counter")
		for i := range n {
			size := 6
			if i%37 == 0 { // it takes another lane
				size = 40_000
			}
			if err := sys.SendWait(t.Context(), target, append(fmt.Appendf(nil, "%06d", i), make([]byte, size-6)...)); err != nil {
				t.Fatal(err)
			}
		}
		<-done
		for i, number := range got {
			if number != i {
				t.Fatalf("message %d is %d", i, number)
			}
		}
	})
}

func TestAnActorOfAPeerAnswersAnActorAndHeadersTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.Respond(wrapperspb.String(ctx.MessageHeader().Get("trace")))
			}
		})
		answer, receive := collect[*wrapperspb.StringValue](1)
		asker := l.spawn("alice", "asker", receive)
		l.of("alice").Unexport("asker") // the answer comes all the same
		l.of("alice").Root.Send(l.of("alice").PID("bob", "greeter"), &actor.MessageEnvelope{
			Header: map[string]string{"trace": "42"}, Message: wrapperspb.String("hi"), Sender: asker,
		})
		if got := <-answer; got.GetValue() != "42" {
			t.Errorf("answer is %q", got)
		}
	})
}

// The PID that was given to Export is the program's.
func TestExportedPIDIsNotWritten(t *testing.T) {
	l := newLand(t, "alice", "bob")
	pid := l.spawn("bob", "log", echo)
	l.of("bob").Root.Stop(pid)
	asked := make(chan error, 1)
	go func() {
		for range 100 {
			if _, err := l.ask("alice", l.of("alice").PID("bob", "log"), "hi"); !errors.Is(err, actors.ErrDeadLetter) {
				asked <- fmt.Errorf("asked an actor that has stopped: %w", err)
				return
			}
		}
		asked <- nil
	}()
	for {
		select {
		case err := <-asked:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if pid.Id != "log" { // the race detector sees more
				t.Fatalf("it is %v", pid)
			}
		}
	}
}

func TestLaneOpensAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		target := l.of("alice").PID("bob", "greeter")
		if _, err := l.ask("alice", target, "hi"); err != nil {
			t.Fatal(err)
		}
		l.Cut("alice", "bob")
		synctest.Wait()
		time.AfterFunc(3*time.Second, func() { l.Heal("alice", "bob") })
		if _, err := l.ask("alice", target, "hi"); err != nil {
			t.Errorf("after the failure: %v", err)
		}
	})
}

type move struct{ X, Y int }

func TestCodecs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := actors.JSON(move{}, map[string]int(nil), names{}); err == nil {
			t.Error("a type without a name was taken")
		}
		codec, err := actors.JSON(&move{}, names{})
		if err != nil {
			t.Fatal(err)
		}
		l := newLandWith(t, actors.RemoteConfig{Codecs: []actors.Codec{codec}}, "alice", "bob")
		l.spawn("bob", "mirror", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *move, names, []byte, *anypb.Any:
				ctx.Respond(msg)
			}
		})
		packed, err := anypb.New(wrapperspb.String("hi"))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []any{move{1, 2}, &move{3, 4}, names{"a", "b"}, []byte("raw"), packed} {
			got, err := actors.Ask[any](t.Context(), l.of("alice"), l.of("alice").PID("bob", "mirror"), message)
			want := fmt.Sprint(message)
			if plain, ok := message.(move); ok {
				want = fmt.Sprint(&plain)
			}
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("sent %v, got %v, %v", message, got, err)
			}
		}
	})
}

type names []string

// What actors sent before they were stopped arrives, the last words too.
func TestCloseInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		got, receive := collect[*wrapperspb.StringValue](1000)
		l.spawn("bob", "log", receive)
		alice := l.of("alice")
		l.spawn("alice", "worker", func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				for range 500 {
					ctx.Send(alice.PID("bob", "log"), wrapperspb.String("work"))
				}
			case *actor.Stopped:
				ctx.Send(alice.PID("bob", "log"), wrapperspb.String("bye"))
			}
		})
		if err := alice.Remote.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 501 {
			if text := (<-got).GetValue(); (text == "bye") != (i == 500) {
				t.Fatalf("message %d is %q", i, text)
			}
		}
		if _, err := alice.Spawn(alice.Props(func() actor.Actor { return actor.ReceiveFunc(echo) }), ""); !errors.Is(err, actors.ErrClosed) {
			t.Errorf("spawn: %v", err)
		}
		if err := alice.SendWait(t.Context(), alice.PID("bob", "log"), wrapperspb.String("late")); !errors.Is(err, actors.ErrClosed) {
			t.Errorf("send: %v", err)
		}
	})
}

// A peer that says nothing any more does not keep a system from closing.
func TestCloseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice")
		alice := l.of("alice")
		lost := events[*actors.Undeliverable](alice, 1)
		alice.Root.Send(alice.PID("bob", "log"), wrapperspb.String("work"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := alice.Remote.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if err := alice.System.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if event := <-lost; !errors.Is(event.Err, actors.ErrClosed) {
			t.Errorf("published %+v", event)
		}
	})
}

// The runtime's own messages do not cross the network, and only who had an actor spawned
// stops it.
func TestRuntimeMessagesDoNotCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		greeter := l.spawn("bob", "greeter", echo)
		alice, target := l.of("alice"), l.of("alice").PID("bob", "greeter")
		lost := events[*actors.Undeliverable](alice, 10)
		alice.Root.Send(target, &actor.Terminated{Who: greeter})
		alice.Root.Poison(target)
		alice.Root.Stop(target)
		alice.Root.Send(target, &conecv1.SpawnActor{Kind: "x"}) // is for another actor: refused there, or of no effect
		for range 3 {
			if event := <-lost; !errors.Is(event.Err, messages.ErrRefused) {
				t.Errorf("published %+v", event)
			}
		}
		if _, err := l.ask("alice", target, "hi"); err != nil {
			t.Errorf("the actor does not live any more: %v", err)
		}
	})
}
