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
	"google.golang.org/protobuf/proto"
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

func TestUnsendableMessagesAreDeadLettersWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLandWith(t, actors.RemoteConfig{MaxMessage: 64 << 10}, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		sys := l.of("alice")
		lost := events[*actors.Undeliverable](sys, 10)
		var size *messages.SizeError
		for name, test := range map[string]struct {
			peer, id string
			message  any
			want     func(error) bool
		}{
			"no codec":       {"bob", "greeter", struct{}{}, func(err error) bool { return strings.Contains(err.Error(), "no codec") }},
			"of the runtime": {"bob", "greeter", &actor.Terminated{}, func(err error) bool { return errors.Is(err, messages.ErrRefused) }},
			"too large":      {"bob", "greeter", make([]byte, 64<<10), func(err error) bool { return errors.As(err, &size) }},
			"too many headers": {"bob", "greeter", &actor.MessageEnvelope{
				Header: map[string]string{"a": strings.Repeat("x", 9<<10)}, Message: wrapperspb.String("hi"),
			}, func(err error) bool { return errors.Is(err, messages.ErrLimit) }},
			"unknown peer":  {"nobody", "greeter", wrapperspb.String("hi"), func(err error) bool { return errors.Is(err, messages.ErrNoSuchPeer) }},
			"unknown actor": {"bob", "nobody", wrapperspb.String("hi"), func(err error) bool { return errors.Is(err, messages.ErrNoSuchActor) }},
			"no such name":  {"no/name", "x", wrapperspb.String("hi"), nil},
		} {
			for time.Sleep(time.Second); len(lost) > 0; {
				<-lost // of the test before
			}
			err := sys.SendConfirmed(t.Context(), sys.PID(test.peer, test.id), test.message)
			if err == nil || test.want != nil && !test.want(err) {
				t.Errorf("%s: %v", name, err)
			}
			if test.want != nil {
				sys.Root.Send(sys.PID(test.peer, test.id), test.message)
				if event := <-lost; fmt.Sprint(errors.Unwrap(err)) != event.Err.Error() || event.InDoubt || event.Target.GetId() != test.id {
					t.Errorf("%s: published %+v for %v", name, event, err)
				}
			}
		}
		l.Cut("alice", "bob")
		begun := time.Now()
		if _, err := l.ask("alice", sys.PID("bob", "greeter"), "hi"); !errors.Is(err, actors.ErrPeerUnreachable) {
			t.Errorf("without a way to the peer: %v", err)
		}
		if waited := time.Since(begun); waited < 9*time.Second || waited > 12*time.Second {
			t.Errorf("it was tried for %v, want 10 s", waited)
		}
	})
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

// What was on its way when the peer was lost is in doubt, as long as it is not known to
// be handled; what waited is not, and goes to the process that has the name now.
func TestSenderIsToldWhatIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		release := make(chan struct{})
		l.spawn("bob", "slow", func(ctx actor.Context) {
			if _, ok := ctx.Message().([]byte); ok {
				<-release
			}
		})
		l.spawn("bob", "fast", echo)
		alice := l.of("alice")
		lost := events[*actors.Undeliverable](alice, 1000)
		for range 300 { // of which the credit of one target lets fewer pass
			alice.Root.Send(alice.PID("bob", "slow"), make([]byte, 1000))
		}
		time.Sleep(time.Second)
		passed := l.of("bob").RemoteStats().Received
		for range 5 { // they arrive, but alice is not told in time
			alice.Root.Send(alice.PID("bob", "fast"), wrapperspb.String("hi"))
		}
		synctest.Wait()
		bob := l.of("bob")
		time.AfterFunc(time.Millisecond, func() { close(release) }) // or the actor would not stop
		l.Kill("bob")
		l.Cut("alice", "bob") // until the new process is ready
		l.Start("bob")
		l.spawn("bob", "slow", echo)
		l.Heal("alice", "bob")
		time.Sleep(time.Minute)
		if bob.RemoteStats().Received != passed+5 || passed < 50 || passed > 150 {
			t.Errorf("received %d, %d of slow", bob.RemoteStats().Received, passed)
		}
		if stats := alice.RemoteStats(); stats.InDoubt != 5 || stats.Undelivered != 0 {
			t.Errorf("%+v, want 5 in doubt", stats)
		}
		for len(lost) > 0 {
			if event := <-lost; !errors.Is(event.Err, actors.ErrPeerGone) || !event.InDoubt || event.Target.GetId() != "fast" {
				t.Errorf("published for %v: %v, in doubt: %t", event.Target, event.Err, event.InDoubt)
			}
		}
		if got := l.of("bob").RemoteStats().Received; got != 300-passed {
			t.Errorf("the new process received %d of %d", got, 300-passed)
		}
	})
}

func TestConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		sys := l.of("alice")
		if err := sys.SendConfirmed(t.Context(), sys.PID("bob", "greeter"), wrapperspb.String("hi")); err != nil {
			t.Error(err)
		}
		if err := sys.SendConfirmed(t.Context(), sys.PID("bob", "nobody"), wrapperspb.String("hi")); !errors.Is(err, messages.ErrNoSuchActor) {
			t.Errorf("unknown actor: %v", err)
		}
		confirmed := make(chan *actors.Confirmation, 4)
		l.spawn("alice", "sender", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				sys.Confirm(ctx, sys.PID("bob", "greeter"), wrapperspb.String("hi"), "there")
				sys.Confirm(ctx, sys.PID("bob", "nobody"), wrapperspb.String("hi"), "not there")
				sys.Confirm(ctx, ctx.Self(), wrapperspb.String("hi"), "here")
				sys.Confirm(ctx, actor.NewPID(ctx.Self().Address, "nobody"), wrapperspb.String("hi"), "not here")
			case *actors.Confirmation:
				confirmed <- msg
			}
		})
		want := map[any]bool{"there": true, "not there": false, "here": true, "not here": false}
		for range 4 {
			if c := <-confirmed; (c.Err == nil) != want[c.Tag] {
				t.Errorf("%v: %v", c.Tag, c.Err)
			}
		}
	})
}

// A mailbox that is full holds its senders back, and costs nobody else a message.
func TestBackpressureReachesTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLandWith(t, actors.RemoteConfig{Limits: actors.RemoteLimits{TargetQueue: 256 << 10}}, "alice", "bob")
		hold := make(chan struct{})
		var got int
		l.spawn("bob", "slow", func(ctx actor.Context) {
			if _, ok := ctx.Message().([]byte); ok {
				<-hold
				got++
			}
		})
		l.spawn("bob", "greeter", echo)
		sys, target := l.of("alice"), l.of("alice").PID("bob", "slow")
		sent, ctx := 0, t.Context()
		for {
			wait, cancel := context.WithTimeout(ctx, time.Second)
			err := sys.SendWait(wait, target, make([]byte, 1000))
			cancel()
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
			sent++
		}
		if sent < 64 || sent > 180 {
			t.Errorf("%d messages of 1,000 bytes were taken", sent)
		}
		lost := events[*actors.Undeliverable](sys, 1)
		for ; len(lost) == 0; sent++ { // who does not wait may have more wait
			sys.Root.Send(target, make([]byte, 1000))
		}
		sent--
		if event := <-lost; !errors.Is(event.Err, actors.ErrOverflow) || sent < 200 || sent > 400 {
			t.Errorf("after %d: %v, want ErrOverflow", sent, event.Err)
		}
		if _, err := l.ask("alice", sys.PID("bob", "greeter"), "hi"); err != nil {
			t.Errorf("another actor: %v", err)
		}
		close(hold)
		for range 1000 {
			if err := sys.SendWait(ctx, target, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if err := sys.SendConfirmed(ctx, target, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got != sent+1 {
			t.Errorf("%d received of %d", got, sent+1)
		}
	})
}

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
