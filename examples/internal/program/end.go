package program

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// End is the end of what an actor does. Its program waits for it with [Over]; the actor tells it to those who wait. It is a
// field of the actor, and of no use after a restart unless the actor keeps it.
type End struct {
	waits   []*actor.PID
	reached *ended
}

// AwaitEnd is the question to an actor when it is at its end.
type AwaitEnd struct{}

// ended is the answer.
type ended struct{ err error }

// Await is what an actor does when it receives [AwaitEnd].
func (e *End) Await(ctx actor.Context) {
	e.waits = append(e.waits, ctx.Sender())
	e.tell(ctx)
}

// Reach tells those who wait that the end has come, and why. What comes later than the first end is of no interest.
func (e *End) Reach(ctx actor.Context, err error) {
	if e.reached == nil {
		e.reached = &ended{err}
	}
	e.tell(ctx)
}

func (e *End) tell(ctx actor.Context) {
	if e.reached == nil {
		return
	}
	for _, who := range e.waits {
		ctx.Send(who, *e.reached)
	}
	e.waits = nil
}

// Over blocks until an actor is at its end, and returns why, or until ctx ends.
func Over(ctx context.Context, sys actors.Asker, pid *actor.PID) error {
	end, err := actors.Ask[ended](ctx, sys, pid, AwaitEnd{})
	if err != nil {
		return err
	}
	return end.err
}
