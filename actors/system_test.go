package actors_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// start returns a system that is closed at the end of the test.
func start(tb testing.TB, cfg *actors.SystemConfig) *actors.System {
	tb.Helper()
	sys := actors.NewSystem(cfg)
	tb.Cleanup(func() { closeIn(tb, sys, 10*time.Second) })
	return sys
}

func closeIn(tb testing.TB, sys *actors.System, d time.Duration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := sys.Close(ctx); err != nil {
		tb.Error(err)
	}
}

// spawn starts an actor under the system's root.
func spawn(tb testing.TB, sys *actors.System, name string, receive actor.ReceiveFunc, opts ...actor.PropsOption) *actor.PID {
	tb.Helper()
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive }, opts...), name)
	if err != nil {
		tb.Fatal(err)
	}
	return pid
}

// journal collects what happened, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
}

func (j *journal) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

func (j *journal) want(tb testing.TB, want ...string) {
	tb.Helper()
	if got := j.list(); !slices.Equal(got, want) {
		tb.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// lifecycle names the runtime's messages, "" for others.
func lifecycle(msg any) string {
	switch msg.(type) {
	case *actor.Started:
		return "started"
	case *actor.Restarting:
		return "restarting"
	case *actor.Stopping:
		return "stopping"
	case *actor.Stopped:
		return "stopped"
	}
	return ""
}

// deadLetters collects the system's dead letters, without the runtime's own messages.
func deadLetters(sys *actors.System) *journal {
	j := &journal{}
	sys.ActorSystem().EventStream.Subscribe(func(event any) {
		if dead, ok := event.(*actor.DeadLetterEvent); ok {
			j.add("%v to %s", dead.Message, dead.PID.GetId())
		}
	})
	return j
}

func TestClosedMatchesNetErrClosed(t *testing.T) {
	if !errors.Is(actors.ErrClosed, net.ErrClosed) {
		t.Error("ErrClosed does not match net.ErrClosed")
	}
}

func TestCloseStopsChildrenBeforeParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		log := &journal{}
		var tree func(name string, depth int) actor.ReceiveFunc
		tree = func(name string, depth int) actor.ReceiveFunc {
			return func(ctx actor.Context) {
				switch ctx.Message().(type) {
				case *actor.Started:
					if depth > 0 { // plain Props: a proto.actor actor as it is
						_, _ = ctx.SpawnNamed(actor.PropsFromFunc(tree(name+"/c", depth-1)), "c")
					}
				case *actor.Stopping, *actor.Stopped:
					log.add("%s %s", ctx.Self().Id, lifecycle(ctx.Message()))
				}
			}
		}
		spawn(t, sys, "a", tree("a", 2))
		synctest.Wait()
		if got := sys.Stats().Actors; got != 3 {
			t.Errorf("%d actors, want 3", got)
		}
		closeIn(t, sys, time.Second)
		closeIn(t, sys, time.Second)
		log.want(t, "a stopping", "a/c stopping", "a/c/c stopping", "a/c/c stopped", "a/c stopped", "a stopped")
		if got := sys.Stats().Actors; got != 0 {
			t.Errorf("%d actors after Close", got)
		}
		if _, err := sys.Spawn(actor.PropsFromFunc(func(actor.Context) {}), "late"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("spawn after Close: %v", err)
		}
	})
}

func TestCloseJoinsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	sys := actors.NewSystem(nil)
	props := sys.Props(func() actor.Actor { return &pumping{} })
	for range 100 {
		pid := sys.Root.Spawn(props)
		if _, err := actors.Ask[*actor.Touched](t.Context(), sys, pid, &actor.Touch{}); err != nil {
			t.Error(err)
		}
		sys.Root.Send(actor.NewPID(sys.Address(), "nobody"), "lost")
	}
	if got := sys.Pumps.Len(); got != 100 {
		t.Errorf("%d pumps run, want 100", got)
	}
	closeIn(t, sys, 10*time.Second)
	if got := sys.Pumps.Len(); got != 0 {
		t.Errorf("%d pumps run after Close", got)
	}
	for begin := time.Now(); time.Since(begin) < 5*time.Second; { // who has said the last word needs a moment to be gone
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}

// pumping is an actor with a pump that ends with its life.
type pumping struct{ life actors.Life }

func (p *pumping) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		p.life = actors.Begin()
		life := p.life
		actors.Of(ctx.ActorSystem()).Pumps.Go(func() { <-life.Context().Done() })
	case *actor.Restarting, *actor.Stopping:
		p.life.End()
	}
}

// A bubble fails if a goroutine of it is left, and time must not have to pass for that.
func TestCloseJoinsEverythingInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		sys := actors.NewSystem(nil)
		for range 100 {
			pid := sys.Root.Spawn(sys.Props(func() actor.Actor { return &pumping{} }))
			sys.Root.Send(pid, "hello")
			sys.Root.Send(actor.NewPID(sys.Address(), "nobody"), "lost")
		}
		closeIn(t, sys, 10*time.Second)
		sys.Root.Send(actor.NewPID(sys.Address(), "nobody"), "lost")
		if d := time.Since(begin); d != 0 {
			t.Errorf("took %v of virtual time", d)
		}
	})
}

// Spawns that race with Close are refused or stopped, and Close has waited for them when it returns.
func TestSpawnRacesClose(t *testing.T) {
	for range 50 {
		sys := actors.NewSystem(nil)
		props := sys.Props(func() actor.Actor { return &pumping{} })
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if _, err := sys.Spawn(props, ""); err != nil {
						if !errors.Is(err, actors.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() { closeIn(t, sys, 10*time.Second) })
		}
		closeIn(t, sys, 10*time.Second)
		if got := sys.Stats(); got.Actors != 0 || got.Pumps != 0 {
			t.Errorf("after Close: %+v", got)
		}
		wg.Wait()
	}
}

func TestCloseNamesLeftovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		stuck := make(chan struct{})
		pid := spawn(t, sys, "stuck", func(ctx actor.Context) {
			if ctx.Message() == "block" {
				<-stuck
			}
		})
		sys.Root.Send(pid, "block")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := sys.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("close: %v", err)
		}
		close(stuck)
		closeIn(t, sys, time.Second)
	})
}

func TestCloseWaitsForPumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		sys.Pumps.Go(func() { time.Sleep(5 * time.Second) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := sys.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 pumps") {
			t.Errorf("close: %v", err)
		}
		begin := time.Now()
		closeIn(t, sys, time.Minute)
		if d := time.Since(begin); d != 4*time.Second {
			t.Errorf("waited %v, want 4s", d)
		}
	})
}

// An actor that is stopping spawns nothing: its parent and Close would wait for ever.
func TestSpawnWhileStopping(t *testing.T) {
	for _, when := range []string{"stopping", "stopped", "terminated"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := actors.NewSystem(nil)
				log := &journal{}
				nothing := actor.PropsFromFunc(func(actor.Context) {})
				late := func(ctx actor.Context) {
					_, err := ctx.SpawnNamed(nothing, "late")
					log.add("%v", err)
				}
				parent := spawn(t, sys, "parent", func(ctx actor.Context) {
					switch msg := ctx.Message().(type) {
					case *actor.Started:
						ctx.Spawn(nothing)
					case *actor.Terminated:
						if when == "terminated" {
							late(ctx)
						}
					default:
						if lifecycle(msg) == when {
							late(ctx)
						}
					}
				})
				sys.Root.Stop(parent)
				synctest.Wait()
				log.want(t, actors.ErrClosed.Error())
				if got := sys.Stats().Actors; got != 0 {
					t.Errorf("%d actors are left", got)
				}
				closeIn(t, sys, time.Second)
			})
		})
	}
}

func TestSpawnErrors(t *testing.T) {
	sys := start(t, &actors.SystemConfig{Name: "conec/alice"})
	pid := spawn(t, sys, "a", func(actor.Context) {})
	if pid.Address != "conec/alice" || pid.Id != "a" {
		t.Errorf("PID %v", pid)
	}
	nothing := actor.PropsFromFunc(func(actor.Context) {})
	own := actor.PropsFromFunc(func(actor.Context) {}, actor.WithSpawnFunc(
		func(*actor.ActorSystem, string, *actor.Props, actor.SpawnerContext) (*actor.PID, error) {
			return nil, nil
		}))
	for _, test := range []struct {
		name, as string
		props    *actor.Props
		want     string
	}{
		{"taken", "a", nothing, `spawn "a": spawn: name exists`},
		{"system's name", "asks", nothing, `spawn "asks": spawn: name exists`},
		{"producer panics", "b", actor.PropsFromProducer(func() actor.Actor { panic("no") }), `spawn "b": panic: no`},
		{"no props", "c", nil, `spawn "c": nil Props`},
		{"spawn function", "d", own, "can be spawned by actors only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := sys.Spawn(test.props, test.as); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := sys.Spawn(nothing, "a"); !errors.Is(err, actor.ErrNameExists) {
		t.Error("a taken name does not match ErrNameExists")
	}
	if _, err := sys.Root.SpawnNamed(nothing, "b"); err != nil {
		t.Errorf("a name whose producer panicked is not free: %v", err)
	}
}

func TestOf(t *testing.T) {
	sys := start(t, nil)
	if actors.Of(sys.ActorSystem()) != sys {
		t.Error("Of does not return the system")
	}
	if actors.Of(foreign()) != nil {
		t.Error("Of returns a system for a foreign one")
	}
}

func TestWatchOfNobody(t *testing.T) {
	sys := start(t, nil)
	told := make(chan *actor.Terminated, 1)
	spawn(t, sys, "watcher", func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.Started:
			ctx.Watch(actor.NewPID(sys.Address(), "nobody"))
		case *actor.Terminated:
			told <- msg
		}
	})
	if msg := <-told; msg.Who.Id != "nobody" || msg.Why != actor.TerminatedReason_NotFound {
		t.Errorf("got %v", msg)
	}
}

func BenchmarkSpawn(b *testing.B) {
	nothing := func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) }
	run := func(b *testing.B, root *actor.RootContext, props *actor.Props) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			root.Stop(root.Spawn(props))
		}
	}
	b.Run("props of ours", func(b *testing.B) {
		sys := start(b, nil)
		run(b, sys.Root, sys.Props(nothing))
	})
	b.Run("plain props", func(b *testing.B) {
		run(b, start(b, nil).Root, actor.PropsFromProducer(nothing))
	})
	b.Run("protoactor alone", func(b *testing.B) {
		run(b, foreign().Root, actor.PropsFromProducer(nothing))
	})
}

// retained returns how many bytes of heap each of n things keeps.
func retained(n int, make func()) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		make()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
}

// BenchmarkIdleActor reports what an actor keeps that has received one message.
func BenchmarkIdleActor(b *testing.B) {
	nothing := func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) }
	run := func(b *testing.B, root *actor.RootContext, props *actor.Props) {
		b.Helper()
		for b.Loop() {
			b.ReportMetric(retained(10_000, func() { root.Send(root.Spawn(props), "hi") }), "B/actor")
		}
	}
	b.Run("props of ours", func(b *testing.B) {
		sys := start(b, nil)
		run(b, sys.Root, sys.Props(nothing))
	})
	b.Run("plain props", func(b *testing.B) {
		run(b, start(b, nil).Root, actor.PropsFromProducer(nothing))
	})
	b.Run("protoactor alone", func(b *testing.B) {
		run(b, foreign().Root, actor.PropsFromProducer(nothing))
	})
}

// BenchmarkNewSystem makes and closes systems, and reports what an open one keeps.
func BenchmarkNewSystem(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := actors.NewSystem(nil).Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	var open []*actors.System
	b.ReportMetric(retained(1000, func() { open = append(open, actors.NewSystem(nil)) }), "B/system")
	for _, sys := range open {
		if err := sys.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
