package actors_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// A parent that has no mailbox of ours, such as the actor of proto.actor's pool routers, is not taken for stopping.
func TestChildOfAForeignMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		routee := sys.Props(func() actor.Actor {
			return actor.ReceiveFunc(func(ctx actor.Context) { log.add("%s", lifecycle(ctx.Message())) })
		})
		pool := func(as *actor.ActorSystem, id string, _ *actor.Props, parent actor.SpawnerContext) (*actor.PID, error) { // as package router does
			return actor.DefaultSpawner(as, id, actor.PropsFromFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().(*actor.Started); ok {
					ctx.Spawn(routee)
				}
			}), parent)
		}
		spawn(t, sys, "parent", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				ctx.Spawn(actor.PropsFromFunc(func(actor.Context) {}, actor.WithSpawnFunc(pool)))
			}
		})
		synctest.Wait()
		log.want(t, "started")
		closeIn(t, sys, time.Second)
	})
}

// A parent that watches its own child is told once, and keeps the child that it spawns in its place.
func TestWatchOfAnOwnChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		nothing, starts := actor.PropsFromFunc(func(actor.Context) {}), 0
		spawn(t, sys, "parent", func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started, *actor.Terminated:
				pid, err := ctx.SpawnNamed(nothing, "child")
				log.add("%v, %d children", err, len(ctx.Children()))
				if starts++; starts == 1 {
					ctx.Watch(pid)
					ctx.Stop(pid)
				}
			}
		})
		synctest.Wait()
		log.want(t, "<nil>, 1 children", "<nil>, 1 children")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := sys.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// StopFuture and PoisonFuture of an actor of a peer end when it has ended.
func TestStopFutureOfAPeersActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		if err := l.of("bob").ExportKind("worker", actors.KindConfig{Props: func(string, any) (*actor.Props, error) {
			return actor.PropsFromFunc(func(actor.Context) {}), nil
		}}); err != nil {
			t.Fatal(err)
		}
		for name, stop := range map[string]func(*actor.PID) actor.Future{"stop": alice.Root.StopFuture, "poison": alice.Root.PoisonFuture} {
			pid, err := alice.SpawnAt(t.Context(), "bob", "worker", nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := stop(pid).Result()
			if _, ok := got.(*actor.Terminated); !ok || err != nil {
				t.Errorf("%s: got %T, %v, want Terminated", name, got, err)
			}
		}
	})
}

// A subscriber that panics each time is logged now and then.
func TestSubscriberPanicsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		sys := actors.NewSystem(&actors.SystemConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		sys.ActorSystem().EventStream.Subscribe(func(event any) {
			if _, ok := event.(*actors.MailboxOverflow); ok {
				panic("subscriber")
			}
		})
		hold := make(chan struct{})
		pid := spawn(t, sys, "slow", func(ctx actor.Context) {
			if ctx.Message() == "hi" {
				<-hold
			}
		}, actor.WithMailbox(actors.NewMailbox(1)))
		sys.Root.Send(pid, "hi")
		synctest.Wait()
		overflow := func() {
			for range 12 { // of which one waits
				sys.Root.Send(pid, "hi")
			}
			time.Sleep(2 * time.Second)
		}
		overflow()
		overflow()
		close(hold)
		closeIn(t, sys, time.Second)
		entries := regexp.MustCompile(`subscriber panicked.*suppressed=(\d+)`).FindAllStringSubmatch(log.String(), -1)
		if len(entries) != 2 || entries[0][1] != "0" || entries[1][1] != "10" {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}
