package actors

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
)

// A Behavior is what an actor does with its messages at present: a function, and a name for it in logs. The zero value does
// nothing but log. Keep it in the actor's struct, so that a restart begins anew, and use it only from Receive.
type Behavior struct {
	name    string
	receive actor.ReceiveFunc
}

// Become makes f what [Behavior.Receive] calls from the next message on, and logs the change at debug level.
func (b *Behavior) Become(ctx actor.Context, name string, f func(actor.Context)) {
	if logger := ctx.Logger(); logger.Enabled(context.Background(), slog.LevelDebug) {
		logger.Debug("behavior changed", "actor", ctx.Self().GetId(), "from", b.name, "behavior", name)
	}
	b.name, b.receive = name, f
}

// Receive gives the current message to the current behavior.
func (b *Behavior) Receive(ctx actor.Context) {
	if b.receive == nil {
		b.Unexpected(ctx)
		return
	}
	b.receive(ctx)
}

// Name returns the name of the current behavior, "" at first.
func (b *Behavior) Name() string { return b.name }

// Unexpected logs, as a warning, that the current message has no place in the current behavior: its type, never its content.
// Messages of the runtime itself (Started, Terminated and so on) may be left unread and are not logged.
func (b *Behavior) Unexpected(ctx actor.Context) {
	switch ctx.Message().(type) {
	case actor.SystemMessage, actor.AutoReceiveMessage, *actor.ReceiveTimeout:
		return
	}
	ctx.Logger().Warn("unexpected message",
		"actor", ctx.Self().GetId(), "behavior", b.name, "message", fmt.Sprintf("%T", ctx.Message()))
}

// SentBy reports whether the current message was sent by the actor with this PID. Neither may be known.
func SentBy(ctx actor.Context, pid *actor.PID) bool {
	return same(ctx.Sender(), pid)
}

// same reports whether two PIDs name one actor. Either may be nil.
func same(a, b *actor.PID) bool {
	return a != nil && b != nil && a.Id == b.Id && a.Address == b.Address
}
