package actors_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

var errTold = errors.New("told to")

// failsAt notes its life and fails at the messages that ask for it, and in Started if always is set.
func failsAt(log *journal, begin time.Time, always bool) actor.ReceiveFunc {
	return func(ctx actor.Context) {
		if at := lifecycle(ctx.Message()); at != "" {
			log.add("%v %s", time.Since(begin), at)
			if always && at == "started" {
				actors.Fail(errTold)
			}
		}
		if ctx.Message() == "fail" {
			actors.Fail(errTold)
		}
	}
}

// under spawns a parent whose child is supervised by the given strategy, and notes what the parent is told.
func under(t *testing.T, sys *actors.System, log *journal, by actor.SupervisorStrategy, child actor.ReceiveFunc) *actor.PID {
	t.Helper()
	var pid *actor.PID
	begin := time.Now()
	spawn(t, sys, "parent", func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.Started:
			pid, _ = ctx.SpawnNamed(actor.PropsFromFunc(child), "child")
		case *actors.ChildGaveUp:
			if !errors.Is(msg.Reason, errTold) || msg.Who != pid {
				t.Errorf("gave up: %v %v", msg.Who, msg.Reason)
			}
			log.add("%v parent: gave up", time.Since(begin))
		case *actor.Terminated:
			log.add("%v parent: terminated", time.Since(begin))
		case string: // keeps the parent's queue long
		}
	}, actor.WithSupervisor(by))
	synctest.Wait()
	return pid
}

func TestBackoffGivesUpOnActorThatFailsInStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		by := &actors.Backoff{Min: time.Second, Max: 3 * time.Second, Jitter: -1, MaxRestarts: 3}
		under(t, sys, log, by, failsAt(log, time.Now(), true))
		time.Sleep(time.Hour)
		log.want(t, "0s started", "1s restarting", "1s started", "3s restarting", "3s started", "6s restarting", "6s started",
			"6s parent: gave up", "6s stopping", "6s stopped", "6s parent: terminated")
		closeIn(t, sys, time.Second)
	})
}

func TestBackoffForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		by := &actors.Backoff{Min: time.Second, Jitter: -1, MaxRestarts: 1, Window: time.Minute}
		pid := under(t, sys, log, by, failsAt(log, time.Now(), false))
		sys.Root.Send(pid, "fail")
		time.Sleep(61 * time.Second)
		sys.Root.Send(pid, "fail")
		time.Sleep(2 * time.Second)
		log.want(t, "0s started", "1s restarting", "1s started", "1m2s restarting", "1m2s started")
		closeIn(t, sys, time.Second)
	})
}

func TestStopWhileWaitingForRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		dead := deadLetters(sys)
		by := &actors.Backoff{Min: time.Minute, Jitter: -1}
		pid := under(t, sys, log, by, failsAt(log, time.Now(), false))
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Second)
		sys.Root.Send(pid, "unread")
		sys.Root.Stop(pid)
		time.Sleep(time.Hour)
		log.want(t, "0s started", "1s stopping", "1s stopped", "1s parent: terminated")
		dead.want(t, "unread to parent/child")
		closeIn(t, sys, time.Second)
	})
}

// A restart that comes due while an actor waits for its children to stop must not bring it back.
func TestRestartDoesNotUndoStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log, slow := actors.NewSystem(nil), &journal{}, make(chan struct{})
		begin := time.Now()
		inner := failsAt(log, begin, false)
		pid := under(t, sys, log, &actors.Backoff{Min: 2 * time.Second, Jitter: -1}, func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				ctx.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
					if _, ok := ctx.Message().(*actor.Stopping); ok {
						<-slow
					}
				}))
			}
			inner(ctx)
		})
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Second)
		sys.Root.Stop(pid)
		time.Sleep(9 * time.Second)
		close(slow)
		time.Sleep(time.Hour)
		log.want(t, "0s started", "1s stopping", "10s stopped", "10s parent: terminated")
		closeIn(t, sys, time.Second)
	})
}

func TestNeverAndPermanent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		pid := under(t, sys, log, actors.Never(), failsAt(log, time.Now(), false))
		sys.Root.Send(pid, "fail")
		synctest.Wait()
		log.want(t, "0s started", "0s parent: gave up", "0s stopping", "0s stopped", "0s parent: terminated")
		starts := 0
		if _, err := sys.SpawnSupervised(actor.PropsFromFunc(func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				starts++
				panic("again")
			}
		}), "permanent", actors.Permanent()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if starts < 120 || starts > 170 { // 24 to 30 seconds apart
			t.Errorf("%d starts in an hour", starts)
		}
		closeIn(t, sys, time.Second)
	})
}

// A strategy that panics or escalates where nobody is above costs its child, not the process and not the root.
func TestCrashingStrategy(t *testing.T) {
	crash := func(any) actor.Directive { panic("decider") }
	escalate := func(any) actor.Directive { return actor.EscalateDirective }
	for name, by := range map[string]actor.SupervisorStrategy{
		"one for one":  actor.NewOneForOneStrategy(1, time.Second, crash),
		"all for one":  actor.NewAllForOneStrategy(1, time.Second, crash),
		"escalate":     actor.NewOneForOneStrategy(1, time.Second, escalate),
		"escalate all": actor.NewAllForOneStrategy(1, time.Second, escalate),
		"uncomparable": strategy(func(actor.Supervisor, *actor.PID, any) { panic("strategy") }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys, log := actors.NewSystem(nil), &journal{}
				receive := failsAt(log, time.Now(), false)
				for range 20 { // more often than anything restarts by default
					pid, err := sys.SpawnSupervised(actor.PropsFromFunc(receive), "a", by)
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					sys.Root.Send(pid, "fail")
					synctest.Wait()
				}
				if got := log.list(); len(got) != 60 || got[59] != "0s stopped" {
					t.Errorf("%d entries: %v", len(got), got)
				}
				closeIn(t, sys, time.Second)
			})
		})
		t.Run(name+" of a parent", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys, log := actors.NewSystem(&actors.SystemConfig{Supervisor: actors.Never()}), &journal{}
				pid := under(t, sys, log, by, failsAt(log, time.Now(), false))
				sys.Root.Send(pid, "fail")
				time.Sleep(time.Minute)
				log.want(t, "0s started", "0s stopping", "0s stopped", "0s parent: terminated")
				if got := sys.Stats().Actors; got != 0 {
					t.Errorf("%d actors", got)
				}
				closeIn(t, sys, time.Second)
			})
		})
	}
}

// What failed is told to the parent before the child has terminated, however long the parent's queue is.
func TestParentIsToldWhyFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		pid := under(t, sys, log, actors.Never(), failsAt(log, time.Now(), false))
		parent := actor.NewPID(sys.Address(), "parent")
		for range 10_000 {
			sys.Root.Send(parent, "noise")
		}
		sys.Root.Send(pid, "fail")
		for range 10_000 {
			sys.Root.Send(parent, "noise")
		}
		synctest.Wait()
		log.want(t, "0s started", "0s parent: gave up", "0s stopping", "0s stopped", "0s parent: terminated")
		closeIn(t, sys, time.Second)
	})
}

// A failure that reaches the parent when the child was stopped already is no news.
func TestFailureOfStoppedChild(t *testing.T) {
	for name, by := range map[string]actor.SupervisorStrategy{"never": actors.Never(), "backoff": &actors.Backoff{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys, log, busy := actors.NewSystem(nil), &journal{}, make(chan struct{})
				dead := deadLetters(sys)
				var child *actor.PID
				parent := spawn(t, sys, "parent", func(ctx actor.Context) {
					switch ctx.Message().(type) {
					case *actor.Started:
						child, _ = ctx.SpawnNamed(actor.PropsFromFunc(failsAt(log, time.Now(), false)), "child")
					case string:
						<-busy
					case *actors.ChildGaveUp, *actor.Terminated:
						log.add("%T", ctx.Message())
					}
				}, actor.WithSupervisor(by))
				synctest.Wait()
				sys.Root.Send(parent, "block")
				synctest.Wait()
				sys.Root.Send(child, "fail")
				synctest.Wait()
				sys.Root.Stop(child)
				synctest.Wait()
				close(busy)
				time.Sleep(time.Hour)
				synctest.Wait()
				log.want(t, "0s started", "0s stopping", "0s stopped", "*actor.Terminated")
				dead.want(t)
				closeIn(t, sys, time.Second)
			})
		})
	}
}
