package actors

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// control owns the control stream of a connection.
//
//	behavior  message       does
//	any       Started       starts the pump, which receives
//	any       Control       sends it
//	any       controlHeard  gives it to the parent
//	any       Stopping      ends its life; the pump ends with the connection
//
// Parent: channel, which hears Control and controlLost.
type control struct {
	sys    *System
	stream *netio.Control
	life   Life
}

// Sent by the pump, and controlLost on to the parent.
type (
	controlHeard struct {
		Life
		message *conecv1.Control
	}
	controlLost struct{ err error }
)

func controlProps(sys *System, stream *netio.Control) *actor.Props {
	return sys.Props(func() actor.Actor { return &control{sys: sys, stream: stream} })
}

// Receive implements actor.Actor.
func (c *control) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.life = Begin()
		life, root, self, parent := c.life, ctx.ActorSystem().Root, ctx.Self(), ctx.Parent()
		c.sys.Pumps.Go(func() { c.pump(life, root, self, parent) })
	case *actor.Stopping, *actor.Restarting:
		c.life.End()
	case controlHeard:
		if msg.Of(c.life) {
			ctx.Request(ctx.Parent(), msg.message)
		}
	case *conecv1.Control:
		if err := c.stream.Send(msg); err != nil {
			ctx.Request(ctx.Parent(), controlLost{err})
		}
	}
}

// pump receives until the stream or its connection ends.
func (c *control) pump(life Life, root *actor.RootContext, self, parent *actor.PID) {
	for {
		message, err := c.stream.Receive()
		if err == nil {
			root.Send(self, controlHeard{life, message})
			continue
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: control stream ended", messages.ErrProtocol)
		}
		if !errors.Is(err, context.Canceled) {
			root.RequestWithCustomSender(parent, controlLost{err}, self)
		}
		return
	}
}
