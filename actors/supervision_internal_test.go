package actors

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

func TestBackoffState(t *testing.T) {
	const second = time.Second
	fixed := Backoff{Min: second, Max: 10 * second, Jitter: -1, Window: time.Minute, MaxRestarts: 5}
	type step struct {
		after  time.Duration // since the step before
		delay  time.Duration
		giveUp bool
	}
	for _, test := range []struct {
		name   string
		policy Backoff
		steps  []step
	}{
		{"doubles up to the maximum, then gives up", fixed, []step{
			{0, second, false},
			{second, 2 * second, false},
			{2 * second, 4 * second, false},
			{4 * second, 8 * second, false},
			{8 * second, 10 * second, false},
			{10 * second, 0, true},
		}},
		{"forgets after the window, counted from the restart", fixed, []step{
			{0, second, false}, {61*second - 1, 2 * second, false}, {62 * second, second, false},
		}},
		{"a window shorter than the delay is no pass", Backoff{Min: 10 * second, Jitter: -1, Window: 5 * second, MaxRestarts: 1}, []step{
			{0, 10 * second, false}, {10 * second, 0, true},
		}},
		{"never forgets", Backoff{Min: second, Jitter: -1, Window: -1, MaxRestarts: 1}, []step{
			{0, second, false}, {1000 * time.Hour, 0, true},
		}},
		{"never gives up", Backoff{Min: second, Max: 2 * second, Jitter: -1, MaxRestarts: -1}, []step{
			{0, second, false}, {0, 2 * second, false}, {0, 2 * second, false}, {0, 2 * second, false},
		}},
		{"immediate", Backoff{Min: -1, MaxRestarts: 2}, []step{{0, 0, false}, {0, 0, false}, {0, 0, true}}},
		{"minimum beyond maximum", Backoff{Min: time.Hour, Max: second, Jitter: -1}, []step{{0, second, false}, {0, second, false}}},
		{"jitter shortens", Backoff{Min: second, Jitter: 0.5, Rand: func() float64 { return 0.5 }}, []step{
			{0, 750 * time.Millisecond, false}, {0, 1500 * time.Millisecond, false},
		}},
		{"jitter is at most all", Backoff{Min: second, Jitter: 7, Rand: func() float64 { return 0.999 }}, []step{
			{0, time.Millisecond, false},
		}},
		{"defaults", Backoff{Rand: func() float64 { return 0.5 }}, []step{
			{0, 90 * time.Millisecond, false},
			{0, 180 * time.Millisecond, false},
			{0, 360 * time.Millisecond, false},
			{0, 720 * time.Millisecond, false},
			{0, 1440 * time.Millisecond, false},
			{0, 2880 * time.Millisecond, false},
			{0, 5760 * time.Millisecond, false},
			{0, 11520 * time.Millisecond, false},
			{0, 23040 * time.Millisecond, false},
			{0, 27 * second, false},
			{0, 0, true},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var state backoffState
			now := time.Now()
			for i, step := range test.steps {
				now = now.Add(step.after)
				delay, giveUp := state.fail(test.policy.withDefaults(), now)
				if (delay-step.delay).Abs() > time.Microsecond || giveUp != step.giveUp {
					t.Errorf("failure %d: %v %v, want %v %v", i+1, delay, giveUp, step.delay, step.giveUp)
				}
			}
		})
	}
}

func TestBackoffDelayNeverLeavesItsRange(t *testing.T) {
	policy := (&Backoff{MaxRestarts: -1, Window: -1}).withDefaults()
	var state backoffState
	for range 10_000 {
		delay, giveUp := state.fail(policy, time.Now())
		if giveUp || delay < 80*time.Millisecond || delay > 30*time.Second {
			t.Fatalf("failure %d: %v %v", state.failures, delay, giveUp)
		}
	}
}

// An actor that is stopped while it waits for its restart leaves no timer behind, which would hold it in memory.
func TestNoTimerAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := NewSystem(&SystemConfig{Supervisor: &Backoff{Min: time.Hour}})
		pid, err := sys.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			if ctx.Message() == "fail" {
				Fail(errors.New("told to"))
			}
		}), "a")
		if err != nil {
			t.Fatal(err)
		}
		sys.Root.Send(pid, "fail")
		synctest.Wait()
		m := mailboxOf(sys.as, pid)
		if err := sys.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if m.retries.timer.Stop() {
			t.Error("the timer still ran")
		}
	})
}
