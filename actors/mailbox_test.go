package actors_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// gate is an actor that waits at each user message until it is let on, and then notes it.
func gate(log *journal, open <-chan struct{}) actor.ReceiveFunc {
	return func(ctx actor.Context) {
		if msg, ok := ctx.Message().(string); ok {
			<-open
			log.add("%s", msg)
		}
	}
}

func TestNilMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		dead, log := deadLetters(sys), &journal{}
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			if lifecycle(ctx.Message()) == "" {
				log.add("%v", ctx.Message())
			}
		})
		sys.Root.Send(pid, nil)
		sys.Root.Send(pid, &actor.MessageEnvelope{})
		sys.Root.Send(pid, "after")
		synctest.Wait()
		log.want(t, "after")
		dead.want(t, "<nil> to a", "<nil> to a")
		closeIn(t, sys, time.Second)
	})
}

func TestUnreadMessagesAreDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		dead, log, open := deadLetters(sys), &journal{}, make(chan struct{})
		pid := spawn(t, sys, "a", gate(log, open))
		for _, msg := range []string{"1", "2", "3", "4"} {
			sys.Root.Send(pid, msg)
			synctest.Wait() // 1 is in hand when the others come
		}
		var askErr error
		go func() { _, askErr = actors.Ask[string](t.Context(), sys, pid, "5") }()
		synctest.Wait()
		sys.Root.Poison(pid)
		sys.Root.Stop(pid)
		close(open)
		synctest.Wait()
		sys.Root.Send(pid, "6")
		log.want(t, "1")
		dead.want(t, "2 to a", "3 to a", "4 to a", "5 to a", "6 to a")
		if !errors.Is(askErr, actors.ErrDeadLetter) {
			t.Errorf("ask: %v", askErr)
		}
		closeIn(t, sys, time.Second)
	})
}

func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		dead, log, open := deadLetters(sys), &journal{}, make(chan struct{})
		var overflows []*actors.MailboxOverflow
		sys.ActorSystem().EventStream.Subscribe(func(event any) {
			if overflow, ok := event.(*actors.MailboxOverflow); ok {
				overflows = append(overflows, overflow)
			}
		})
		pid := spawn(t, sys, "a", gate(log, open), actor.WithMailbox(actors.NewMailbox(3)))
		sys.Root.Send(pid, "1")
		synctest.Wait()
		for _, msg := range []string{"2", "3", "4", "5", "6"} {
			sys.Root.Send(pid, msg)
		}
		stats, ok := sys.Mailbox(pid)
		if want := (actors.MailboxStats{Depth: 3, Limit: 3, Drops: 2}); !ok || stats != want {
			t.Errorf("stats %+v, want %+v", stats, want)
		}
		if len(overflows) != 2 || overflows[0].PID.Id != "a" || overflows[0].Message != "5" || overflows[0].Limit != 3 {
			t.Errorf("overflows %+v", overflows)
		}
		sys.Root.Poison(pid) // must not be lost
		sys.Root.Poison(pid)
		open <- struct{}{}
		open <- struct{}{}
		synctest.Wait()
		sys.Root.Send(pid, "7") // there is room again, but the poison is before it
		close(open)
		synctest.Wait()
		log.want(t, "1", "2", "3", "4")
		dead.want(t, "5 to a", "6 to a", "7 to a")
		if got := sys.Stats(); got.Actors != 0 || got.Overflows != 2 || got.DeadLetters != 3 {
			t.Errorf("stats %+v", got)
		}
		closeIn(t, sys, time.Second)
	})
}

// An actor that fills its own mailbox goes on, and so does a subscriber that cannot keep up with dead letters.
func TestOverflowOfOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{MailboxLimit: 4})
		stuck := make(chan struct{})
		monitor := spawn(t, sys, "monitor", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.DeadLetterEvent); ok {
				<-stuck
			}
		})
		sub := sys.ActorSystem().EventStream.Subscribe(func(event any) {
			switch event.(type) {
			case *actor.DeadLetterEvent, *actors.MailboxOverflow:
				sys.Root.Send(monitor, event)
			}
		})
		received := 0
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			switch ctx.Message() {
			case "go":
				for range 1000 {
					ctx.Send(ctx.Self(), "more")
				}
			case "more":
				received++
			}
		})
		sys.Root.Send(pid, "go")
		synctest.Wait()
		if received != 4 {
			t.Errorf("received %d, want 4", received)
		}
		sys.Root.Stop(monitor)
		synctest.Wait()
		close(stuck) // what it has not read goes nowhere, but not in circles
		synctest.Wait()
		sys.ActorSystem().EventStream.Unsubscribe(sub)
		closeIn(t, sys, time.Second)
	})
}

func TestOrderPerSender(t *testing.T) {
	const senders, each = 8, 2_000
	sys := start(t, nil)
	type numbered struct{ sender, n int }
	var next [senders]int
	left := senders * each
	done := make(chan struct{})
	pid := spawn(t, sys, "a", func(ctx actor.Context) {
		msg, ok := ctx.Message().(numbered)
		if !ok {
			return
		}
		if msg.n != next[msg.sender] {
			t.Errorf("sender %d: got %d, want %d", msg.sender, msg.n, next[msg.sender])
		}
		next[msg.sender] = msg.n + 1
		if left--; left == 0 {
			close(done)
		}
	})
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for n := range each {
				sys.Root.Send(pid, numbered{sender, n})
			}
		})
	}
	wg.Wait()
	<-done
}

// While an actor is failing its user messages wait, and the restarted actor has them in order.
func TestQueueSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{Supervisor: &actors.Backoff{Min: time.Second, Jitter: -1}})
		begin, log := time.Now(), &journal{}
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case string:
				log.add("%v %s", time.Since(begin), msg)
				if msg == "fail" {
					actors.Fail(errors.New("told to"))
				}
			default:
				log.add("%v %s", time.Since(begin), lifecycle(msg))
			}
		})
		for _, msg := range []string{"1", "fail", "2", "3"} {
			sys.Root.Send(pid, msg)
		}
		time.Sleep(500 * time.Millisecond)
		sys.Root.Send(pid, "4")
		time.Sleep(time.Minute)
		log.want(t, "0s started", "0s 1", "0s fail", "1s restarting", "1s started", "1s 2", "1s 3", "1s 4")
		closeIn(t, sys, time.Second)
	})
}

func TestGoexitIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		log := &journal{}
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case string:
				log.add("%s", msg)
				if msg == "exit" {
					runtime.Goexit()
				}
			default:
				log.add("%s", lifecycle(msg))
			}
		})
		sys.Root.Send(pid, "exit")
		sys.Root.Send(pid, "after")
		time.Sleep(time.Minute)
		log.want(t, "started", "exit", "restarting", "started", "after")
		closeIn(t, sys, time.Second)
	})
}

// A watcher is told once, also when Watch races with Stop.
func TestWatchRacesStop(t *testing.T) {
	sys := start(t, nil)
	const rounds = 500
	told := make(chan string, 2*rounds)
	watcher := spawn(t, sys, "watcher", func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.PID:
			ctx.Watch(msg)
		case *actor.Terminated:
			told <- msg.Who.Id
		}
	})
	for range rounds {
		pid := spawn(t, sys, "", func(actor.Context) {})
		sys.Root.Send(watcher, pid)
		sys.Root.Stop(pid)
	}
	seen := make(map[string]bool)
	for range rounds {
		who := <-told
		if seen[who] {
			t.Fatalf("told twice of %s", who)
		}
		seen[who] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := actors.Ask[*actor.Touched](ctx, sys, watcher, &actor.Touch{}); err != nil {
		t.Error(err)
	}
	if len(told) != 0 {
		t.Errorf("told %d times too often", len(told))
	}
}

// BenchmarkTell is one sender and one receiver, both busy: our mailbox and proto.actor's unbounded one.
func BenchmarkTell(b *testing.B) {
	for _, test := range []struct {
		name  string
		spawn func(b *testing.B, props *actor.Props) (*actor.RootContext, *actor.PID)
	}{
		{"conec", func(b *testing.B, props *actor.Props) (*actor.RootContext, *actor.PID) {
			b.Helper()
			sys := start(b, &actors.SystemConfig{MailboxLimit: 1 << 30})
			return sys.Root, sys.Root.Spawn(props)
		}},
		{"unbounded", func(b *testing.B, props *actor.Props) (*actor.RootContext, *actor.PID) {
			b.Helper()
			root := foreign().Root
			return root, root.Spawn(props)
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			n, done := 0, make(chan struct{})
			root, pid := test.spawn(b, actor.PropsFromFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().(string); ok {
					if n++; n == b.N {
						close(done)
					}
				}
			}))
			var msg any = "hi"
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N { // the receiver must know how many there will be
				root.Send(pid, msg)
			}
			<-done
		})
	}
}

// foreign returns a silent actor system without ours around it.
func foreign() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}
