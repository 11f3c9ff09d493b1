package actorstest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/actors/actorstest"
)

var errDisk = errors.New("disk full")

// teller is an actor that tells a probe what it receives, and when it is restarted.
func teller(p *actorstest.Probe) actor.ReceiveFunc {
	return func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.Restarting:
			ctx.Send(p.PID(), "restarting")
		case string:
			ctx.Send(p.PID(), msg)
		}
	}
}

func wantNext(t *testing.T, p *actorstest.Probe, want ...string) {
	t.Helper()
	for _, want := range want {
		if got := actorstest.Expect[string](p); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		pid := spawn(t, sys, "worker", teller(p), actorstest.Faulty())
		events := actorstest.NewProbe(t, sys)
		sys.ActorSystem().EventStream.Subscribe(func(event any) {
			if event, ok := event.(*actor.SupervisorEvent); ok {
				events.Send(events.PID(), event)
			}
		})
		p.Send(pid, "before")
		actorstest.Crash(t, sys, pid, errDisk)
		p.Send(pid, "after")
		wantNext(t, p, "before")
		event := actorstest.Expect[*actor.SupervisorEvent](events)
		fault, _ := event.Reason.(*actors.Fault)
		if !errors.Is(fault, errDisk) || fault.Stack == nil || event.Child.Id != "worker" {
			t.Errorf("the supervisor was told %+v", event)
		}
		wantNext(t, p, "restarting", "after")
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newSystem(t)
		p := actorstest.NewProbe(t, sys)
		pid := spawn(t, sys, "worker", teller(p), actorstest.Faulty())
		p.Send(pid, "before")
		resume := actorstest.Stall(t, sys, pid)
		for _, text := range []string{"a", "b", "c"} {
			p.Send(pid, text)
		}
		wantNext(t, p, "before")
		p.ExpectNone(time.Hour)
		if stats, ok := sys.Mailbox(pid); !ok || stats.Depth != 3 {
			t.Errorf("the mailbox has %+v", stats)
		}
		resume()
		resume()
		wantNext(t, p, "a", "b", "c")
		actorstest.Stall(t, sys, pid) // until the end of the test, which can close the system
		synctest.Wait()
	})
}

func TestFaultsNeedFaulty(t *testing.T) {
	for name, fault := range map[string]func(t actorstest.TB, sys *actors.System, pid *actor.PID){
		"crash": func(t actorstest.TB, sys *actors.System, pid *actor.PID) {
			t.Helper()
			actorstest.Crash(t, sys, pid, errDisk)
		},
		"stall": func(t actorstest.TB, sys *actors.System, pid *actor.PID) { t.Helper(); actorstest.Stall(t, sys, pid) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := newSystem(t)
				pid := spawn(t, sys, "plain", echo)
				got := failure(func(fake actorstest.TB) {
					fault(fake, sys, pid)
					synctest.Wait()
				})
				if !strings.Contains(got, `actor "plain" can not be made to fail or stall: spawn it with`) {
					t.Errorf("failed with %q", got)
				}
				got = failure(func(fake actorstest.TB) { fault(fake, sys, actor.NewPID(sys.Address(), "nobody")) })
				if !strings.Contains(got, "there is no actor") {
					t.Errorf("failed with %q", got)
				}
			})
		})
	}
}
