package coord

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of the coordinator that tells clients who is there.

// flushBudget is how many clients are looked at for watches until others have their turn.
const flushBudget = 4096

// Sent by the coordinator to itself, and by a timer.
type (
	flushMore struct{ actors.Life }
	flushDue  struct{ actors.Life }
)

// telling is when watches are told next.
type telling struct {
	more  bool        // a flushMore is on its way
	timer *time.Timer // of a flushDue; nil: none is on its way
}

// tell tells the watches what there is to tell now.
func (c *coordinator) tell(ctx actor.Context) {
	if c.telling.more || !c.presence.wants() {
		return
	}
	says, wait, more := c.presence.flush(time.Now(), flushBudget)
	c.say(ctx, says)
	if more {
		c.telling.more = true
		ctx.Send(ctx.Self(), flushMore{c.life})
	}
	if wait > 0 && c.telling.timer == nil {
		life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
		c.telling.timer = c.apart.AfterFunc(wait, func() { root.Send(self, flushDue{life}) })
	}
}

// toldOfPresence acts on what it tells itself about presence.
func (c *coordinator) toldOfPresence(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case flushMore:
		if msg.Of(c.life) {
			c.telling.more = false
		}
	case flushDue:
		if msg.Of(c.life) {
			c.telling.timer = nil
		}
	}
}

// saidOfPresence acts on what a client says about presence.
func (c *coordinator) saidOfPresence(ctx actor.Context, h *home, message *conecv1.Control) error {
	id := h.client.id
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_SetMetadata:
		if err := messages.CheckLabels(said.SetMetadata.GetMetadata()); err != nil {
			return err
		}
		c.presence.setMetadata(time.Now(), id, said.SetMetadata)
	case *conecv1.Control_WatchPeers:
		says, err := c.presence.watch(id, said.WatchPeers)
		if err != nil {
			return err
		}
		c.say(ctx, says)
	case *conecv1.Control_GrantPeers:
		c.presence.grant(id, said.GrantPeers)
	case *conecv1.Control_EndWatch:
		c.presence.endWatch(id, said.EndWatch)
	default:
		return fmt.Errorf("%w: %T from a client", messages.ErrProtocol, said)
	}
	return nil
}
