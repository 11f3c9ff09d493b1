package actorstest_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/actors/actorstest"
)

// newSystem returns a system that is closed at the end of the test.
func newSystem(t *testing.T) *actors.System {
	t.Helper()
	sys := actors.NewSystem(nil)
	t.Cleanup(func() {
		if err := sys.Close(context.Background()); err != nil { // that of t has ended
			t.Error(err)
		}
	})
	return sys
}

// spawn spawns an actor.
func spawn(t actorstest.TB, sys *actors.System, id string, receive actor.ReceiveFunc, options ...actor.PropsOption) *actor.PID {
	t.Helper()
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive }, options...), id)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return pid
}

// echo answers each text.
func echo(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case string:
		ctx.Request(ctx.Sender(), "re: "+msg)
	case *wrapperspb.StringValue:
		ctx.Request(ctx.Sender(), wrapperspb.String("re: "+msg.GetValue()))
	}
}

func TestProbeExpects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		echo := spawn(t, sys, "echo", echo)

		p.Request(echo, "hi")
		if got := actorstest.Expect[string](p); got != "re: hi" || p.Sender().GetId() != "echo" {
			t.Errorf("got %q from %v", got, p.Sender())
		}
		other := actorstest.NewProbe(t, sys)
		other.Request(p.PID(), "you?")
		actorstest.Expect[string](p)
		p.Reply("me")
		if got := actorstest.Expect[string](other); got != "me" || other.Sender() != nil {
			t.Errorf("got %q from %v", got, other.Sender())
		}
		p.Send(p.PID(), 42)
		if got := actorstest.Expect[any](p); got != 42 || p.Sender() != nil {
			t.Errorf("got %v from %v", got, p.Sender())
		}

		time.AfterFunc(2999*time.Millisecond, func() { sys.Root.Send(p.PID(), "just in time") })
		actorstest.Expect[string](p)
		p.ExpectNone(time.Hour)
	})
}

func TestProbeAnswersAnAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		answer := make(chan int, 1)
		go func() {
			got, err := actors.Ask[int](t.Context(), sys, p.PID(), "how many?")
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		actorstest.Expect[string](p)
		p.Reply(7)
		if got := <-answer; got != 7 {
			t.Errorf("answer is %d", got)
		}
	})
}

func TestProbeWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		echo := spawn(t, sys, "echo", echo)
		p.Watch(echo)
		p.ExpectNone(time.Second)
		sys.Root.Stop(echo)
		if why := p.ExpectTerminated(echo).GetWhy(); why != actor.TerminatedReason_Stopped {
			t.Errorf("stopped: why is %v", why)
		}
		p.Watch(echo)
		if why := p.ExpectTerminated(echo).GetWhy(); why != actor.TerminatedReason_NotFound {
			t.Errorf("nobody there: why is %v", why)
		}
	})
}

func TestProbeIgnores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		for _, message := range []any{1, "one", 2} {
			p.Send(p.PID(), message)
		}
		synctest.Wait()
		actorstest.Ignore[int](p)
		p.Send(p.PID(), 3)
		p.Send(p.PID(), "two")
		if one, two := actorstest.Expect[string](p), actorstest.Expect[string](p); one != "one" || two != "two" {
			t.Errorf("got %q and %q", one, two)
		}
		p.ExpectNone(time.Second)
	})
}

// Each of these tests fails, and says why.
func TestProbeFails(t *testing.T) {
	for name, test := range map[string]struct {
		test func(p *actorstest.Probe)
		want []string // in the text
	}{
		"none came": {func(p *actorstest.Probe) {
			actorstest.Expect[string](p)
		}, []string{`probe "p": waited 3s for a string, and nothing came; it has received nothing so far`}},
		"another came": {func(p *actorstest.Probe) {
			p.Send(p.PID(), "first")
			p.Request(p.PID(), 2)
			p.Send(p.PID(), "third")
			synctest.Wait()
			actorstest.Expect[string](p)
			actorstest.Expect[int8](p)
		}, []string{"waited for a int8, and what came is a int 2 from conec/p;", "\n\t1. string first\n\t2. int 2 from conec/p\n\t3. string third (not expected yet)"}},
		"one came": {func(p *actorstest.Probe) {
			p.Send(p.PID(), "hi")
			p.ExpectNone(time.Second)
		}, []string{"wanted nothing for 1s, and what came is a string hi"}},
		"another ended": {func(p *actorstest.Probe) {
			p.Watch(actor.NewPID("conec", "nobody"))
			p.ExpectTerminated(actor.NewPID("conec", "somebody"))
		}, []string{"somebody", `Id:"nobody"`}},
		"not an end": {func(p *actorstest.Probe) {
			p.Send(p.PID(), "hi")
			p.ExpectTerminated(p.PID())
		}, []string{"waited for a *actor.Terminated, and what came is a string hi"}},
		"nobody to reply to": {func(p *actorstest.Probe) {
			p.Send(p.PID(), "hi")
			actorstest.Expect[string](p)
			p.Reply("what?")
		}, []string{"nobody to reply to"}},
		"stopped": {func(p *actorstest.Probe) {
			p.Send(p.PID(), &actor.PoisonPill{})
			actorstest.Expect[string](p)
		}, []string{"nothing came; its actor has stopped"}},
		"too many, expected": {func(p *actorstest.Probe) {
			for i := range 8 {
				p.Send(p.PID(), i)
			}
			synctest.Wait()
			actorstest.Expect[int](p)
		}, []string{"more than 5 messages waited to be expected (ProbeConfig.Limit), and 3 were dropped"}},
		"too many, in the end": {func(p *actorstest.Probe) {
			for i := range 6 {
				p.Send(p.PID(), i)
			}
			synctest.Wait()
		}, []string{"more than 5 messages waited to be expected (ProbeConfig.Limit), and 1 were dropped"}},
		"long history": {func(p *actorstest.Probe) {
			for i := range 200 {
				p.Send(p.PID(), strings.Repeat("x", 1000))
				p.Send(p.PID(), i)
				actorstest.Expect[string](p)
				actorstest.Expect[int](p)
			}
			actorstest.Expect[string](p)
		}, []string{"(300 messages before these)\n\t301. string xxx", "\n\t400. int 199"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				begun := time.Now()
				got := failure(func(fake actorstest.TB) {
					test.test(actorstest.NewProbeWith(fake, sys, &actorstest.ProbeConfig{Name: "p", Limit: 5}))
				})
				for _, want := range test.want {
					if !strings.Contains(got, want) {
						t.Errorf("it failed with\n%s\nwant %q in it", got, want)
					}
				}
				if took := time.Since(begun); name == "stopped" && took > 0 {
					t.Errorf("it failed after %v, though nothing could come", took)
				}
				if len(got) > 40_000 {
					t.Errorf("it failed with %d bytes", len(got))
				}
			})
		})
	}
}

func TestProbeNeedsItsName(t *testing.T) {
	sys := newSystem(t)
	spawn(t, sys, "taken", echo)
	got := failure(func(fake actorstest.TB) {
		actorstest.NewProbeWith(fake, sys, &actorstest.ProbeConfig{Name: "taken"})
	})
	if !strings.Contains(got, `probe: spawn "taken"`) {
		t.Errorf("it failed with %q", got)
	}
	foreign := failure(func(fake actorstest.TB) { actorstest.NewProbe(fake, bare{}) })
	if !strings.Contains(foreign, "no system of package actors") {
		t.Errorf("it failed with %q", foreign)
	}
}

// bare is a system of proto.actor's own.
type bare struct{}

func (bare) ActorSystem() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}

// In real time, too, it waits no longer than it takes.
func TestProbeInRealTime(t *testing.T) {
	sys := newSystem(t)
	p := actorstest.NewProbeWith(t, sys, &actorstest.ProbeConfig{Patience: time.Minute})
	p.Request(spawn(t, sys, "echo", echo), "hi")
	actorstest.Expect[string](p)
	p.ExpectNone(time.Millisecond)
}
