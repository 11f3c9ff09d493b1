package actors_test

import (
	"testing"
	"testing/synctest"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		hold := make(chan struct{})
		parent := l.spawn("bob", "parent", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				for range 2 {
					ctx.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
						if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
							panic("told to")
						}
					}))
				}
			case *wrapperspb.StringValue:
				ctx.Send(ctx.Children()[0], msg)
			case []byte:
				<-hold
			}
		})
		l.watcher("watcher", alice.PID("bob", "parent"))
		alice.Root.Send(alice.PID("bob", parent.Id), wrapperspb.String("crash your first child"))
		if _, err := l.ask("alice", alice.PID("bob", "nobody"), "hi"); err == nil {
			t.Error("nobody answered")
		}
		for range 3 {
			alice.Root.Send(alice.PID("bob", parent.Id), []byte("wait"))
		}
		synctest.Wait()

		got := l.of("bob").Snapshot()
		if len(got.Actors) != 1 || got.Actors[0].ID != "parent" || got.Actors[0].Mailbox.Depth != 2 || len(got.Actors[0].Children) != 2 {
			t.Fatalf("bob: %+v", got)
		}
		if child := got.Actors[0].Children[0]; !child.Failing && child.Restarts != 1 || child.ID != "parent/$1" && child.ID[:7] != "parent/" {
			t.Errorf("child: %+v", child)
		}
		if peer := got.Peers[0]; peer.Name != "alice" || peer.Watched != 1 || peer.Waiting != 2*(4+64) {
			t.Errorf("peer: %+v", peer)
		}
		if got.Remote.Received != 4 || got.Remote.Refused != 1 || got.Stats.Actors != 3 || got.Address != l.of("bob").Address() {
			t.Errorf("bob: %+v", got)
		}

		got = alice.Snapshot()
		peer := got.Peers[0]
		if peer.Name != "bob" || peer.Address != l.of("bob").Address() || peer.Watching != 1 || len(peer.Lanes) == 0 || !peer.Lanes[0].Open {
			t.Errorf("peer: %+v", peer)
		}
		close(hold)
	})
}
