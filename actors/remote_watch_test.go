package actors_test

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// watcher spawns an actor of alice's that watches one and sends what it hears to the channel.
func (l *land) watcher(id string, target *actor.PID) <-chan *actor.Terminated {
	got := make(chan *actor.Terminated, 8)
	l.spawn("alice", id, func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.Started:
			ctx.Watch(target)
		case *wrapperspb.StringValue:
			ctx.Unwatch(target)
		case *actor.Terminated:
			got <- msg
		}
	})
	return got
}

func TestWatchAcrossTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		lost := events[*actors.PeerLost](alice, 8)
		var targets []*actor.PID
		var heard []<-chan *actor.Terminated
		for i := range 4 {
			id := "target" + strconv.Itoa(i)
			targets = append(targets, l.spawn("bob", id, echo))
			heard = append(heard, l.watcher("watcher"+strconv.Itoa(i), alice.PID("bob", id)))
		}
		again := l.watcher("again", alice.PID("bob", "target0"))
		nobody := l.watcher("nobody", alice.PID("bob", "nobody"))
		synctest.Wait()
		expect := func(what string, from <-chan *actor.Terminated, id string, why actor.TerminatedReason) {
			t.Helper()
			synctest.Wait()
			if len(from) != 1 {
				t.Fatalf("%s: told %d times", what, len(from))
			}
			if msg := <-from; msg.GetWho().GetId() != id || msg.GetWho().GetAddress() != "conec/bob" || msg.GetWhy() != why {
				t.Errorf("%s: told %v", what, msg)
			}
		}
		expect("nobody", nobody, "nobody", actor.TerminatedReason_NotFound)
		bob.Root.Stop(targets[0])
		expect("stopped", heard[0], "target0", actor.TerminatedReason_Stopped)
		expect("stopped, by another", again, "target0", actor.TerminatedReason_Stopped)

		alice.Root.Send(actor.NewPID(alice.Address(), "watcher1"), wrapperspb.String("unwatch"))
		synctest.Wait()
		bob.Root.Stop(targets[1])
		alice.Root.Stop(actor.NewPID(alice.Address(), "watcher2")) // which takes back what it watches
		synctest.Wait()
		if mailbox := bob.WatchedBy("alice"); mailbox != 1 {
			t.Errorf("alice watches %d actors of bob's, want 1", mailbox)
		}
		l.Kill("bob")
		expect("process gone", heard[3], "target3", actor.TerminatedReason_AddressTerminated)
		synctest.Wait()
		if len(heard[1])+len(heard[2]) > 0 {
			t.Error("told of the end of what is not watched any more")
		}
		if len(lost) != 1 {
			t.Fatalf("%d PeerLost, want 1", len(lost))
		}
		if event := <-lost; event.Peer != "bob" || !errors.Is(event.Err, actors.ErrPeerGone) {
			t.Errorf("published %+v", event)
		}
	})
}

func TestWatchOfAnUnreachablePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice")
		got := l.watcher("watcher", l.of("alice").PID("bob", "greeter"))
		begun := time.Now()
		if msg := <-got; msg.GetWho().GetId() != "greeter" || msg.GetWhy() != actor.TerminatedReason_AddressTerminated {
			t.Errorf("got %v", msg)
		}
		if waited := time.Since(begun); waited < 9*time.Second || waited > 11*time.Second {
			t.Errorf("told after %v, want 10 s", waited)
		}
	})
}

func TestWatchLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLandWith(t, actors.RemoteConfig{Limits: actors.RemoteLimits{PeerWatches: 2}}, "alice", "bob")
		told := 0
		for i := range 4 {
			id := "target" + strconv.Itoa(i)
			l.spawn("bob", id, echo)
			heard := l.watcher("watcher"+strconv.Itoa(i), l.of("alice").PID("bob", id))
			synctest.Wait()
			told += len(heard)
		}
		if told != 2 || l.of("bob").WatchedBy("alice") != 2 {
			t.Errorf("%d watches refused, %d open; want 2 and 2", told, l.of("bob").WatchedBy("alice"))
		}
	})
}

// child answers, and dies of "die".
func child(ctx actor.Context) {
	text, ok := ctx.Message().(*wrapperspb.StringValue)
	switch {
	case !ok:
	case text.GetValue() == "die":
		ctx.Stop(ctx.Self())
	default:
		ctx.Respond(text)
	}
}

// kindOf returns a kind whose actors count themselves.
func kindOf(receive actor.ReceiveFunc, count *atomic.Int32) actors.KindConfig {
	return actors.KindConfig{
		Props: func(peer string, args any) (*actor.Props, error) {
			switch args := args.(type) {
			case nil:
			case *wrapperspb.StringValue:
				if args.GetValue() == "panic" {
					panic("props")
				}
				return nil, errors.New("no " + args.GetValue() + " for " + peer)
			}
			return actor.PropsFromFunc(func(ctx actor.Context) {
				switch ctx.Message().(type) {
				case *actor.Started:
					count.Add(1)
				case *actor.Stopped:
					count.Add(-1)
				}
				receive(ctx)
			}), nil
		},
		Limit: 2,
	}
}

func TestSpawnAtAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob", "carol")
		alice, bob := l.of("alice"), l.of("bob")
		kind := kindOf(child, &atomic.Int32{})
		kind.Who = actors.Match("alice", "bob")
		if err := bob.ExportKind("worker", kind); err != nil {
			t.Fatal(err)
		}
		for args, want := range map[any]error{
			"unknown": messages.ErrNoSuchActor, wrapperspb.String("tea"): messages.ErrRefused, wrapperspb.String("panic"): messages.ErrRefused,
		} {
			name := "worker"
			if args == "unknown" {
				name, args = "unknown", nil
			}
			if _, err := alice.SpawnAt(t.Context(), "bob", name, args); !errors.Is(err, want) {
				t.Errorf("spawn %v: %v, want %v", args, err, want)
			}
		}
		if _, err := l.of("carol").SpawnAt(t.Context(), "bob", "worker", nil); !errors.Is(err, messages.ErrNoSuchActor) {
			t.Errorf("carol: %v", err)
		}
		var pids []*actor.PID
		for range 2 {
			pid, err := alice.SpawnAt(t.Context(), "bob", "worker", nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := l.ask("alice", pid, "hi"); err != nil || got != "hi" {
				t.Errorf("got %q, %v", got, err)
			}
			pids = append(pids, pid)
		}
		if _, err := alice.SpawnAt(t.Context(), "bob", "worker", nil); !errors.Is(err, messages.ErrLimit) {
			t.Errorf("third: %v, want ErrLimit", err)
		}
		if _, err := bob.SpawnAt(t.Context(), "bob", "worker", nil); err != nil {
			t.Errorf("of its own: %v", err)
		}
		heard := l.watcher("watcher", pids[0])
		synctest.Wait()
		l.of("carol").Root.Stop(pids[0]) // is not hers
		alice.Root.Send(pids[0], wrapperspb.String("one more"))
		alice.Root.Poison(pids[0])
		if msg := <-heard; msg.GetWhy() != actor.TerminatedReason_Stopped {
			t.Errorf("told %v", msg)
		}
		if _, err := alice.SpawnAt(t.Context(), "bob", "worker", nil); err != nil {
			t.Errorf("after one was stopped: %v", err)
		}
	})
}

// What a peer has spawned ends with the peer's process, unless it is to be kept.
func TestSpawnedActorsEndWithTheirPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		bob := l.of("bob")
		count, keptCount := &atomic.Int32{}, &atomic.Int32{}
		kept := kindOf(child, keptCount)
		kept.Keep = true
		if err := errors.Join(bob.ExportKind("worker", kindOf(child, count)), bob.ExportKind("kept", kept)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, kind := range []string{"worker", "kept"} {
				if _, err := l.of("alice").SpawnAt(t.Context(), "bob", kind, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if count.Load() != 2 || keptCount.Load() != 2 {
			t.Errorf("%d and %d actors spawned, want 2 and 2", count.Load(), keptCount.Load())
		}
		l.Kill("alice")
		synctest.Wait()
		if count.Load() != 0 || keptCount.Load() != 2 {
			t.Errorf("%d and %d actors are left, want 0 and 2", count.Load(), keptCount.Load())
		}
	})
}
