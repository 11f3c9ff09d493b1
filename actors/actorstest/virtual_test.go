package actorstest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/actors/actorstest"
)

// A supervisor restarts its child after one minute, then two, then four, and then gives up.
// That takes seven minutes, and the test a moment.
func TestSupervisorGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actorstest.NewNet(t, "alice").System("alice")
		p := actorstest.NewProbeWith(t, sys, &actorstest.ProbeConfig{Patience: 5 * time.Minute})
		worker := func() actor.Actor { return teller(p) }
		backoff := &actors.Backoff{Min: time.Minute, Max: time.Hour, Jitter: -1, Window: time.Hour, MaxRestarts: 3}
		var child *actor.PID
		spawn(t, sys.System, "boss", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				child = ctx.Spawn(actor.PropsFromProducer(worker, actorstest.Faulty()))
			case *actors.ChildGaveUp:
				ctx.Send(p.PID(), msg)
			}
		}, actor.WithSupervisor(backoff))
		synctest.Wait()

		begun := time.Now()
		for _, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			failed := time.Now()
			actorstest.Crash(t, sys, child, errDisk)
			p.Send(child, "are you there?")
			wantNext(t, p, "restarting", "are you there?")
			if took := time.Since(failed); took != pause {
				t.Errorf("restarted after %v, want %v", took, pause)
			}
		}
		actorstest.Crash(t, sys, child, errDisk)
		if gaveUp := actorstest.Expect[*actors.ChildGaveUp](p); !errors.Is(gaveUp.Reason, errDisk) {
			t.Errorf("gave up because of %v", gaveUp.Reason)
		}
		p.Watch(child)
		p.ExpectTerminated(child)
		if took := time.Since(begun); took != 7*time.Minute {
			t.Errorf("gave up after %v, want 7 minutes", took)
		}
	})
}
