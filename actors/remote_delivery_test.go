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
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

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

// Who waits for a confirmation is told when it is in doubt.
func TestConfirmationInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "greeter", echo)
		alice, target := l.of("alice"), l.of("alice").PID("bob", "greeter")
		if _, err := l.ask("alice", target, "hi"); err != nil {
			t.Fatal(err)
		}
		l.Delay("alice", "bob", 2*time.Second)
		time.AfterFunc(time.Second, func() { l.Cut("alice", "bob") })
		err := alice.SendConfirmed(t.Context(), target, wrapperspb.String("hi"))
		if !errors.Is(err, actors.ErrInDoubt) || !errors.Is(err, actors.ErrPeerUnreachable) {
			t.Errorf("on its way: %v", err)
		}
		err = alice.SendConfirmed(t.Context(), target, wrapperspb.String("hi"))
		if errors.Is(err, actors.ErrInDoubt) || !errors.Is(err, actors.ErrPeerUnreachable) {
			t.Errorf("not sent: %v", err)
		}
		if name := actors.PeerOf(target); name != "bob" {
			t.Errorf("it is an actor of %q", name)
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
		if sent != 63 { // 62 use up the first credit, and one waits for more
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

// Of messages that come together, those are refused for which there is no room, and no others.
func TestFullMailboxRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		got, receive := collect[*wrapperspb.StringValue](10)
		hold := make(chan struct{})
		slow := func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.BoolValue); ok {
				<-hold
			}
			receive(ctx)
		}
		bob.Export("slow", spawn(t, bob.System, "slow", slow, actor.WithMailbox(actors.NewMailbox(3))))
		bob.Export("other", spawn(t, bob.System, "other", receive))
		lost := events[*actors.Undeliverable](alice, 16)
		alice.Root.Send(alice.PID("bob", "slow"), wrapperspb.Bool(true)) // which it is busy with
		synctest.Wait()
		for i := range 8 { // they wait for the lane, and go in one message
			alice.Root.Send(alice.PID("bob", "slow"), wrapperspb.String(strconv.Itoa(i)))
		}
		alice.Root.Send(alice.PID("bob", "nobody"), wrapperspb.String("8"))
		alice.Root.Send(alice.PID("bob", "other"), wrapperspb.String("9"))
		time.Sleep(time.Second)
		close(hold)
		synctest.Wait()
		texts := map[string]bool{}
		for range len(got) {
			texts[(<-got).GetValue()] = true
		}
		for range len(lost) {
			text := (<-lost).Message.(*wrapperspb.StringValue).GetValue()
			if texts[text] {
				t.Errorf("%s was delivered, and is undeliverable", text)
			}
			texts[text] = false
		}
		for i := range 10 {
			delivered, told := texts[strconv.Itoa(i)]
			if want := i < 3 || i == 9; !told || delivered != want {
				t.Errorf("message %d: delivered %v, told %v; want %v", i, delivered, told, want)
			}
		}
		if of := bob.RemoteStats(); of.Received != 5 || of.Refused != 6 {
			t.Errorf("bob counts %+v", of)
		}
	})
}
