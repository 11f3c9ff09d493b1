package actors_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
)

// A flow that waits for credit goes on when its target's number was given to another one.
func TestWaitsForCreditAndLosesItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		hold := make(chan struct{})
		var n atomic.Int64
		l.spawn("bob", "log", func(ctx actor.Context) {
			if _, ok := ctx.Message().([]byte); ok {
				<-hold
				n.Add(1)
			}
		})
		pid := alice.PID("bob", "log")
		for range 200 {
			alice.Root.Send(pid, make([]byte, 1000))
		}
		synctest.Wait()
		for i := range 80_000 { // refused, each a new name
			alice.Root.Send(alice.PID("bob", fmt.Sprintf("x%d", i)), []byte("x"))
			if i%1000 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		close(hold)
		time.Sleep(time.Hour)
		if n.Load() != 200 {
			t.Errorf("arrived %d of 200", n.Load())
		}
	})
}

// An actor that is watched by several names is counted for each, and not for ever.
func TestWatchByManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		pid := l.spawn("bob", "a", echo)
		for _, n := range []string{"b", "c", "d", "e", "f", "g"} {
			bob.Export(n, pid)
		}
		names := []string{"a", "b", "c", "d", "e", "f", "g"}
		do := make(chan func(ctx actor.Context), 1)
		w := l.spawn("alice", "w", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				(<-do)(ctx)
			}
		})
		run := func(f func(ctx actor.Context)) {
			do <- f
			alice.Root.Send(w, wrapperspb.String("do"))
			time.Sleep(time.Second)
		}
		for range 5 {
			run(func(ctx actor.Context) {
				for _, n := range names {
					ctx.Watch(alice.PID("bob", n))
				}
			})
			run(func(ctx actor.Context) {
				for _, n := range names {
					ctx.Unwatch(alice.PID("bob", n))
				}
			})
		}
		if got := bob.Snapshot().Peers[0].Watched; got != 0 {
			t.Errorf("watched %d, want 0", got)
		}
	})
}

// A PID of an actor here that was not given away does not come in a message.
func TestForgedPIDInAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		l.spawn("bob", "secret", func(ctx actor.Context) {
			if m, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				t.Errorf("secret got %v", m)
			}
		})
		bob.Unexport("secret")
		l.spawn("bob", "svc", func(ctx actor.Context) {
			if pid, ok := ctx.Message().(*actor.PID); ok {
				ctx.Send(pid, wrapperspb.String("answer to "+pid.String()))
			}
		})
		for _, addr := range []string{bob.Address(), "nonhost"} {
			alice.Root.Send(alice.PID("bob", "svc"), actor.NewPID(addr, "secret"))
		}
		time.Sleep(time.Second)
	})
}

// What a client exports is reached by its own name, too.
func TestSendToOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice")
		alice := l.of("alice")
		got, receive := collect[*wrapperspb.StringValue](4)
		alice.Export("log", l.spawn("alice", "other", receive))
		err := alice.SendConfirmed(t.Context(), alice.PID("alice", "log"), wrapperspb.String("x"))
		synctest.Wait()
		if err != nil {
			t.Errorf("err %v, yet delivered %d", err, len(got))
		}
	})
}

// All who wait for room in a near mailbox get some.
func TestManyWaitForANearMailbox(t *testing.T) {
	l := newLand(t, "alice")
	alice := l.of("alice")
	slow := actor.ReceiveFunc(func(actor.Context) { runtime.Gosched() })
	pid, err := alice.Spawn(alice.Props(func() actor.Actor { return slow }, actor.WithMailbox(actors.NewMailbox(2))), "slow")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var bad atomic.Int64
	for range 50 {
		wg.Go(func() {
			for range 100 {
				if err := alice.SendWait(t.Context(), pid, wrapperspb.String("x")); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of 5000 SendWait overflowed", bad.Load())
	}
}

// Who hears of a dead letter of what was noticed may use the system.
func TestSubscribersMayAskWhenSomethingIsNoticed(t *testing.T) {
	l := newLand(t, "alice")
	alice := l.of("alice")
	if err := alice.OnPeer(actors.PeerConfig{Props: func(string) *actor.Props { return nil }}); err != nil {
		t.Fatal(err)
	}
	alice.ActorSystem().EventStream.Subscribe(func(e any) {
		if _, ok := e.(*actor.DeadLetterEvent); ok {
			alice.Snapshot()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := alice.Remote.Close(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		alice.Notice(actors.Noticed{Peer: "bob", Down: true})
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		t.Fatal("Notice hangs")
	}
}

// Close does not wait for a moment of rest: it stops those who send.
func TestCloseWhileActorsSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		l.Delay("alice", "bob", 50*time.Millisecond)
		l.spawn("bob", "log", func(actor.Context) {})
		pid := alice.PID("bob", "log")
		l.spawn("alice", "ticker", func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started, *wrapperspb.StringValue:
				ctx.Send(pid, wrapperspb.String("tick"))
				self := ctx.Self()
				time.AfterFunc(10*time.Millisecond, func() { alice.Root.Send(self, wrapperspb.String("go")) })
			}
		})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := alice.Remote.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// Actors may end while they are being watched.
func TestWatchWhileActorsEnd(t *testing.T) {
	l := newLand(t, "alice", "bob")
	alice, bob := l.of("alice"), l.of("bob")
	const n = 3000
	var pids []*actor.PID
	for i := range n {
		pids = append(pids, l.spawn("bob", fmt.Sprintf("a%d", i), func(actor.Context) {}))
	}
	var ended atomic.Int64
	all := make(chan struct{})
	l.spawn("alice", "w", func(ctx actor.Context) {
		switch ctx.Message().(type) {
		case *wrapperspb.StringValue:
			for i := range n {
				ctx.Watch(alice.PID("bob", fmt.Sprintf("a%d", i)))
			}
		case *actor.Terminated:
			if ended.Add(1) == n {
				close(all)
			}
		}
	})
	alice.Root.Send(actor.NewPID(alice.Address(), "w"), wrapperspb.String("go"))
	for _, pid := range pids {
		bob.Root.Stop(pid)
	}
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Errorf("told of the end of %d actors of %d", ended.Load(), n)
	}
}

// A snapshot may meet an actor that is being spawned.
func TestSnapshotWhileActorsAreSpawned(t *testing.T) {
	l := newLand(t, "alice")
	alice := l.of("alice")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3000 {
			pid, _ := alice.Spawn(alice.Props(func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) }), "")
			alice.Root.Stop(pid)
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			alice.Snapshot()
		}
	}
}
