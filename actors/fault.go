package actors

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// What a caller decides on. Errors returned by this package wrap them.
var (
	// ErrDeadLetter means that a message reached nobody: the actor does not exist, or it stopped before it came to the message.
	ErrDeadLetter = errors.New("no such actor")
	// ErrOverflow means that a limit on outstanding work was reached. Try again later, or raise the limit.
	ErrOverflow = errors.New("too many outstanding")
	// ErrClosed means that the system is closed or closing. It matches [net.ErrClosed].
	ErrClosed error = closedError{}
)

var (
	errNoReason = errors.New("no reason given")
	errGoexit   = errors.New("the goroutine of Receive was ended by runtime.Goexit (testing's FailNow does that)")
)

type closedError struct{}

func (closedError) Error() string        { return "actor system closed" }
func (closedError) Is(target error) bool { return target == net.ErrClosed }

// A Fault is why an actor failed. It is the reason that a [actor.SupervisorStrategy] is given, whatever the actor panicked
// with.
type Fault struct { //nolint:errname // a word of the domain: what a supervisor is told
	// Err is what was given to [Fail], or describes what the actor panicked with. It is never nil.
	Err error
	// Stack is the stack of the panic. It is nil after [Fail], which is an expected way to fail.
	Stack []byte
}

func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// Fail ends the current incarnation of an actor because of err: it is the one panic of our actors, and means "restart me".
// Whether and when the actor starts again is for its supervisor to say. The message in hand is lost and the queue is kept.
// Fail does not return, and may be called only from Receive. Tell the parent why before, if it must know.
func Fail(err error) {
	if err == nil {
		err = errNoReason
	}
	panic(&Fault{Err: err})
}

// faultOf makes a [Fault] of a recovered value. Called while panicking, so that the stack is that of the panic.
func faultOf(reason any) *Fault {
	switch reason := reason.(type) {
	case *Fault:
		return reason
	case error:
		return &Fault{Err: fmt.Errorf("panic: %w", reason), Stack: debug.Stack()}
	default:
		return &Fault{Err: fmt.Errorf("panic: %v", reason), Stack: debug.Stack()}
	}
}

// errorOf is the error in a supervisor's reason, which is any value in foreign code.
func errorOf(reason any) error {
	switch reason := reason.(type) {
	case nil:
		return errNoReason
	case error:
		return reason
	default:
		return fmt.Errorf("%v", reason)
	}
}

// publish tells the subscribers of events. If one panics, those behind it do not hear of this event, and that is all: it is
// called from actors and pumps that have done nothing wrong.
func publish(as *actor.ActorSystem, event any) {
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		suppressed, yes := 0, true
		if s := Of(as); s != nil {
			suppressed, yes = s.subscriberLog.allow(time.Now())
		}
		if yes {
			as.Logger().Error("a subscriber panicked", "event", fmt.Sprintf("%T", event), "err", errorOf(reason),
				"stack", string(debug.Stack()), "suppressed", suppressed)
		}
	}()
	as.EventStream.Publish(event)
}

// failed is called when a message ended in a panic, with its reason, or in runtime.Goexit, with nil.
func (m *Mailbox) failed(reason any) {
	m.busy = false
	var fault *Fault
	if reason == nil {
		fault = &Fault{Err: errGoexit, Stack: debug.Stack()}
		defer m.dispatcher.Schedule(m.loop) // this goroutine is at its end
	} else {
		fault = faultOf(reason)
	}
	switch {
	case m.stopping:
		m.endAnyway(fault)
	default:
		m.invoker.EscalateFailure(fault, m.current)
	}
	m.current = nil
}

// endAnyway goes on with a stop that a panic interrupted, which proto.actor by itself does not: it would make a restart of a
// panic in Stopping, and never tell anybody after a panic in Stopped.
func (m *Mailbox) endAnyway(fault *Fault) {
	if m.self == nil || m.stopped {
		return
	}
	as, self := m.self.ActorSystem(), m.self.Self()
	m.self.Logger().Error("actor failed while stopping", "actor", self.Id, "err", fault, "stack", string(fault.Stack))
	if m.registered() {
		children := m.self.Children()
		for _, child := range children {
			stopActor(as, child)
		}
		if len(children) > 0 {
			return // when the last has terminated, the stop goes on
		}
		m.self.CancelReceiveTimeout()
		as.ProcessRegistry.Remove(self)
		m.quietly(func() { m.invoker.InvokeUserMessage(&actor.Stopped{}) })
	}
	terminated := &actor.Terminated{Who: self}
	if m.watchers != nil {
		m.watchers.ForEach(func(_ int, watcher *actor.PID) { m.tell(watcher, terminated) })
	}
	m.tell(m.self.Parent(), terminated)
	m.end()
}

// quietly runs f, and logs its panic.
func (m *Mailbox) quietly(f func()) {
	defer func() {
		if r := recover(); r != nil {
			fault := faultOf(r)
			m.self.Logger().Error("actor failed while stopping",
				"actor", m.self.Self().GetId(), "err", fault, "stack", string(fault.Stack))
		}
	}()
	f()
}
