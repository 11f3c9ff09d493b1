package actors

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Backoff is a [actor.SupervisorStrategy] that restarts a failed child after a while, longer each time. It applies to each child
// alone; the zero value is ready, and one value may supervise any number of children. While a child waits for its restart its
// queue waits with it; stopping it works as ever.
//
// A child that fails too often is stopped for good, and its parent receives a [ChildGaveUp] just before.
//
// Backoff is for actors of a [System]. In a foreign actor system it stops what fails.
type Backoff struct {
	// Min is the time before the first restart. It doubles with each failure after that. If zero, 100 milliseconds; if
	// negative, restarts are immediate.
	Min time.Duration
	// Max is the longest time before a restart. If zero, 30 seconds.
	Max time.Duration
	// Jitter is how much of the time is chosen at random, so that what failed together does not return together: the time is
	// shortened by up to this fraction. If zero, 0.2; if negative, none; at most 1.
	Jitter float64
	// Window is how long a child must go without failing, counted from its restart, for its failures to be forgotten. If zero,
	// 1 minute; if negative, they never are.
	Window time.Duration
	// MaxRestarts is how many restarts a child is granted until its failures are forgotten. If zero, 10; if negative, any number.
	MaxRestarts int
	// Rand returns a number in [0, 1), for Jitter. If nil, it comes from crypto/rand, which a simulation can seed.
	Rand func() float64
}

// ChildGaveUp is received by a parent just before a child that it supervises with [Backoff] or [Never] is stopped because it
// failed. Terminated follows.
type ChildGaveUp struct {
	// Who is the child.
	Who *actor.PID
	// Reason is its last failure, a [Fault].
	Reason error
}

// Permanent returns a strategy that restarts a failed child for ever, with the default times of [Backoff].
func Permanent() actor.SupervisorStrategy { return &Backoff{MaxRestarts: -1} }

// Never returns a strategy that stops a failed child. Its parent receives a [ChildGaveUp] just before.
func Never() actor.SupervisorStrategy { return never{} }

func (b *Backoff) withDefaults() Backoff {
	policy := Backoff{}
	if b != nil {
		policy = *b
	}
	if policy.Min == 0 {
		policy.Min = 100 * time.Millisecond
	}
	if policy.Max <= 0 {
		policy.Max = 30 * time.Second
	}
	if policy.Jitter == 0 {
		policy.Jitter = 0.2
	}
	policy.Jitter = min(max(policy.Jitter, 0), 1)
	if policy.Window == 0 {
		policy.Window = time.Minute
	}
	if policy.MaxRestarts == 0 {
		policy.MaxRestarts = 10
	}
	if policy.Rand == nil {
		policy.Rand = random
	}
	return policy
}

// backoffState is what Backoff knows of one child.
type backoffState struct {
	failures int
	up       time.Time // when it was last restarted, or will be
}

// fail counts a failure at now, under a policy that has its defaults. It returns how long to wait before the restart, or that
// there is none.
func (s *backoffState) fail(policy Backoff, now time.Time) (delay time.Duration, giveUp bool) {
	if policy.Window > 0 && now.Sub(s.up) >= policy.Window {
		s.failures = 0
	}
	if policy.MaxRestarts >= 0 && s.failures >= policy.MaxRestarts {
		return 0, true
	}
	delay = min(max(policy.Min, 0), policy.Max)
	for range s.failures {
		if delay == 0 || delay >= policy.Max {
			break
		}
		delay = min(2*delay, policy.Max)
	}
	s.failures++
	delay -= time.Duration(policy.Jitter * policy.Rand() * float64(delay))
	s.up = now.Add(delay)
	return delay, false
}

// HandleFailure is called by the runtime on the goroutine of the parent.
func (b *Backoff) HandleFailure(
	as *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any,
) {
	var delay time.Duration
	mailbox := mailboxOf(as, child)
	over := mailbox == nil
	if !over {
		delay, over = mailbox.fail(b.withDefaults(), time.Now())
	}
	if over {
		giveUp(as, parent, child, reason)
		return
	}
	as.Logger().Warn("actor failed", "actor", child.Id, "err", errorOf(reason), "restart_in", delay, "stack", stackOf(reason))
	publish(as, &actor.SupervisorEvent{Child: child, Reason: reason, Directive: actor.RestartDirective})
}

type never struct{}

func (never) HandleFailure(
	as *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any,
) {
	giveUp(as, parent, child, reason)
}

// giveUp stops a child, after the parent has received why: not through its mailbox, where the Terminated would overtake it.
func giveUp(as *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, reason any) {
	if _, ok := as.ProcessRegistry.GetLocal(child.Id); !ok {
		return // it has stopped since it failed
	}
	as.Logger().Error("actor gave up", "actor", child.Id, "err", errorOf(reason), "stack", stackOf(reason))
	publish(as, &actor.SupervisorEvent{Child: child, Reason: reason, Directive: actor.StopDirective})
	if invoker, ok := parent.(actor.MessageInvoker); ok {
		invoker.InvokeUserMessage(&ChildGaveUp{Who: child, Reason: errorOf(reason)})
	}
	parent.StopChildren(child)
}

// stackOf is where a panic came from; "" if it is an expected failure.
func stackOf(reason any) string {
	if fault, ok := reason.(*Fault); ok {
		return string(fault.Stack)
	}
	return ""
}

// String describes the policy, with its defaults.
func (b *Backoff) String() string {
	p := b.withDefaults()
	return fmt.Sprintf("restart after %v up to %v, jitter %g, at most %d within %v", p.Min, p.Max, p.Jitter, p.MaxRestarts, p.Window)
}
