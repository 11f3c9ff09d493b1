package actorstest

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// Faulty is an option of props whose actors can be made to fail ([Crash]) and to stall
// ([Stall]). It changes nothing else.
func Faulty() actor.PropsOption {
	return actor.WithReceiverMiddleware(func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(ctx actor.ReceiverContext, envelope *actor.MessageEnvelope) {
			switch fault := envelope.Message.(type) {
			case *crash:
				panic(fault.reason) //nolint:forbidigo // it is what the test wants of the actor
			case *stall:
				<-fault.over
			default:
				next(ctx, envelope)
			}
		}
	})
}

// What an actor is sent to that end.
type (
	crash struct {
		unknown
		reason error
	}
	stall struct {
		unknown
		over <-chan struct{}
	}
)

// unknown notices that an actor does not know its message.
type unknown struct{ t TB }

// GetAutoResponse implements [actor.AutoRespond]: the runtime calls it when the actor itself
// has received the message.
func (u unknown) GetAutoResponse(ctx actor.Context) any {
	u.t.Errorf("actor %q can not be made to fail or stall: spawn it with the option actorstest.Faulty()", ctx.Self().GetId())
	return u
}

// Crash sends an actor of this system, which must be [Faulty], a message on which it fails
// as if Receive had panicked with reason: its supervisor decides what then happens. What the
// actor was sent before, it receives before, and what it was sent later waits until it was
// restarted. Crash does not wait for any of it. It fails the test if there is no such actor.
func Crash(t TB, sys SystemOf, pid *actor.PID, reason error) {
	t.Helper()
	post(t, sys, pid, &crash{unknown{t}, reason})
}

// Stall sends an actor of this system, which must be [Faulty], a message on which it stays,
// as if Receive blocked, until resume is called, or at the end of the test. Meanwhile what
// it is sent waits in its mailbox, and it can not be stopped. Stall does not wait for the
// actor to come to the message. It fails the test if there is no such actor.
func Stall(t TB, sys SystemOf, pid *actor.PID) (resume func()) {
	t.Helper()
	over := make(chan struct{})
	resume = sync.OnceFunc(func() { close(over) })
	t.Cleanup(resume)
	post(t, sys, pid, &stall{unknown{t}, over})
	return resume
}

func post(t TB, sys SystemOf, pid *actor.PID, fault any) {
	t.Helper()
	as := sys.ActorSystem()
	if _, here := actors.Of(as).Mailbox(pid); !here {
		t.Fatalf("there is no actor %v in the system %q", pid, as.Address())
		return
	}
	as.Root.Send(pid, fault)
}
