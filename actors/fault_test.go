package actors_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// An actor that panics when it stops is stopped all the same: its children are, its watcher and its parent are told once, its
// name is free, what it did not read is a dead letter, and Close ends.
func TestPanicWhileStopping(t *testing.T) {
	for _, test := range []struct {
		name     string
		when     []string // messages to panic at
		children int
		want     []string
	}{
		{"stopping", []string{"stopping"}, 0, []string{"stopping", "stopped"}},
		{"stopping with children", []string{"stopping"}, 2, []string{"stopping", "child stopped", "child stopped", "stopped"}},
		{"stopped", []string{"stopped"}, 0, []string{"stopping", "stopped"}},
		{"stopped with children", []string{"stopped"}, 2, []string{"stopping", "child stopped", "child stopped", "stopped"}},
		{"both", []string{"stopping", "stopped"}, 1, []string{"stopping", "child stopped", "stopped"}},
		{"terminated", []string{"terminated"}, 1, []string{"stopping", "child stopped", "stopped"}},
		{"all", []string{"stopping", "terminated", "stopped"}, 2, []string{"stopping", "child stopped", "child stopped", "stopped"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := actors.NewSystem(nil)
				log, told, dead := &journal{}, &journal{}, deadLetters(sys)
				child := actor.PropsFromFunc(func(ctx actor.Context) {
					if _, ok := ctx.Message().(*actor.Stopped); ok {
						log.add("child stopped")
					}
				})
				failing := actor.PropsFromFunc(func(ctx actor.Context) {
					at := lifecycle(ctx.Message())
					switch ctx.Message().(type) {
					case *actor.Started:
						for range test.children {
							ctx.Spawn(child)
						}
						return
					case *actor.Terminated:
						at = "terminated"
					default:
						log.add("%s", at)
					}
					for _, when := range test.when {
						if at == when {
							panic("at " + at)
						}
					}
				})
				var pid *actor.PID
				spawn(t, sys, "parent", func(ctx actor.Context) {
					switch msg := ctx.Message().(type) {
					case *actor.Started:
						pid, _ = ctx.SpawnNamed(failing, "a")
					case *actor.Terminated:
						told.add("parent of %s", msg.Who.Id)
						if len(ctx.Children()) > 0 {
							t.Error("the parent still has a child")
						}
					}
				})
				synctest.Wait()
				spawn(t, sys, "watcher", func(ctx actor.Context) {
					switch msg := ctx.Message().(type) {
					case *actor.Started:
						ctx.Watch(pid)
					case *actor.Terminated:
						told.add("watcher of %s", msg.Who.Id)
					}
				})
				synctest.Wait()
				sys.Root.Stop(pid)
				time.Sleep(time.Hour) // whatever a supervisor may do
				log.want(t, test.want...)
				if got := told.list(); len(got) != 2 || got[0] == got[1] {
					t.Errorf("told %v", got)
				}
				sys.Root.Send(pid, "late")
				dead.want(t, "late to parent/a")
				if got := sys.Stats().Actors; got != 2 {
					t.Errorf("%d actors, want 2", got)
				}
				closeIn(t, sys, time.Second)
			})
		})
	}
}

func TestFaultHasErrorAndStack(t *testing.T) {
	expected := errors.New("expected")
	for _, test := range []struct {
		name  string
		fail  func()
		err   error // matched by the fault
		text  string
		stack bool
	}{
		{"fail", func() { actors.Fail(expected) }, expected, "expected", false},
		{"fail without reason", func() { actors.Fail(nil) }, nil, "no reason given", false},
		{"panic with an error", func() { panic(expected) }, expected, "panic: expected", true},
		{"panic with a value", func() { panic(7) }, nil, "panic: 7", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			reasons := make(chan any, 1)
			sys := start(t, &actors.SystemConfig{Supervisor: strategy(func(parent actor.Supervisor, child *actor.PID, reason any) {
				reasons <- reason
				parent.StopChildren(child)
			})})
			pid := spawn(t, sys, "a", func(ctx actor.Context) {
				if ctx.Message() == "fail" {
					test.fail()
				}
			})
			sys.Root.Send(pid, "fail")
			fault, ok := (<-reasons).(*actors.Fault)
			if !ok {
				t.Fatalf("the reason is a %T", fault)
			}
			if fault.Error() != test.text || test.err != nil && !errors.Is(fault, test.err) {
				t.Errorf("fault %v", fault)
			}
			if got := strings.Contains(string(fault.Stack), "TestFaultHasErrorAndStack"); got != test.stack {
				t.Errorf("stack of the panic: %v, want %v", got, test.stack)
			}
		})
	}
}

// strategy is a supervisor strategy as a function. Two of them cannot be compared, which must not matter.
type strategy func(parent actor.Supervisor, child *actor.PID, reason any)

func (f strategy) HandleFailure(
	_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any,
) {
	f(parent, child, reason)
}
