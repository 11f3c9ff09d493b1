package coord

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// drains is how far the coordinator is with sending its clients away.
type drains struct {
	pause   time.Duration // between two clients
	timer   *time.Timer   // nil before it began
	waiting []*actor.PID  // to be told when nobody is attached
}

// Said by the program, and by a timer.
type (
	drain     struct{ over time.Duration }
	drainNext struct{ actors.Life }
	drained   struct{}
)

// Drain sends all clients away, one after the other in the given time, and takes no new
// ones from now on; they are told that the coordinator is shutting down ([messages.ErrShutdown]), and
// try again: at another coordinator, if one has the name that they dial, or at this one when
// it was started again. Direct channels between clients go on, relayed ones wait for that.
// Drain blocks until nobody is attached, or ctx ends; there is no way back.
func (c *Coordinator) Drain(ctx context.Context, over time.Duration) error {
	if _, err := actors.Ask[*drained](ctx, c.sys, c.pid, drain{max(over, 0)}); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// drain begins to send clients away.
func (c *coordinator) drain(ctx actor.Context, msg drain) {
	c.drains.waiting = append(c.drains.waiting, ctx.Sender())
	c.counters.draining.Store(true)
	c.drains.pause = msg.over / time.Duration(max(len(c.attached), 1))
	c.drains.stop() // if it drains already, it does so faster or slower from now on
	c.config.Logger.Info("draining", "attached", len(c.attached), "over", msg.over)
	c.drainNext(ctx)
}

// stop ends the wait for the next client.
func (d *drains) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

// drainNext sends one client away, the next in order of name, and sets the timer for another.
func (c *coordinator) drainNext(ctx actor.Context) {
	var next *home
	for _, h := range c.attached {
		if next == nil || h.client.name < next.client.name {
			next = h
		}
	}
	if next == nil {
		for _, asker := range c.drains.waiting {
			ctx.Send(asker, &drained{})
		}
		c.drains.waiting = nil
		return
	}
	c.detach(ctx, next, errDraining)
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.drains.timer = c.apart.AfterFunc(c.drains.pause, func() { root.Send(self, drainNext{life}) })
}

// errDraining is what clients are told.
var errDraining = fmt.Errorf("%w: the coordinator sends its clients elsewhere", messages.ErrShutdown)
