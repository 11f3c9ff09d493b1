package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

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
	about  about // for logs
	stream *netio.Control
	life   Life
}

// about is what a connection's actors say in logs of the channel that they serve.
type about struct {
	peer    string
	channel string // the start of its id in hex; empty for a home channel
}

// Sent by the pump, and controlLost on to the parent.
type (
	controlHeard struct {
		Life
		message *conecv1.Control
	}
	controlLost struct{ err error }
)

func controlProps(sys *System, about about, stream *netio.Control) *actor.Props {
	return sys.Props(func() actor.Actor { return &control{sys: sys, about: about, stream: stream} })
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
			if log := ctx.Logger(); log.Enabled(context.Background(), slog.LevelDebug) {
				log.LogAttrs(context.Background(), slog.LevelDebug, "control received", c.describe(ctx, msg.message)...)
			}
			ctx.Request(ctx.Parent(), msg.message)
		}
	case *conecv1.Control:
		if log := ctx.Logger(); log.Enabled(context.Background(), slog.LevelDebug) {
			log.LogAttrs(context.Background(), slog.LevelDebug, "control sent", c.describe(ctx, msg)...)
		}
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

// describe says for a log what kind of control message this is, and of what: a
// name, a code, a number of addresses; never an address, a certificate or a text.
func (c *control) describe(ctx actor.Context, message *conecv1.Control) []slog.Attr {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", message.GetSaid()), "*conecv1.Control_")
	attrs := []slog.Attr{
		slog.String("actor", ctx.Self().GetId()), slog.String("peer", c.about.peer), slog.String("message", kind),
	}
	if c.about.channel != "" {
		attrs = append(attrs, slog.String("channel", c.about.channel))
	}
	var of string
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_Attach:
		of = said.Attach.GetName()
	case *conecv1.Control_OpenChannel:
		of = said.OpenChannel.GetPeer()
	case *conecv1.Control_ChannelOffered:
		of = said.ChannelOffered.GetIntroduction().GetPeer()
	case *conecv1.Control_AnswerOffer:
		of = codeName(said.AnswerOffer.GetCode())
	case *conecv1.Control_OfferWithdrawn:
		of = codeName(said.OfferWithdrawn.GetCode())
	case *conecv1.Control_ChannelIntroduced:
		of = said.ChannelIntroduced.GetIntroduction().GetPeer()
	case *conecv1.Control_OpenRefused:
		of = codeName(said.OpenRefused.GetCode())
	case *conecv1.Control_RestoreChannel:
		of = said.RestoreChannel.GetPeer()
	case *conecv1.Control_OfferCandidates:
		of = strconv.Itoa(len(said.OfferCandidates.GetAddresses()))
	case *conecv1.Control_CloseChannel:
		of = codeName(said.CloseChannel.GetCode())
	}
	if of != "" {
		attrs = append(attrs, slog.String("of", messages.Clip(of, 100)))
	}
	return attrs
}

// codeName is what a log calls a code; nothing for the one that says nothing.
func codeName(code conecv1.Code) string {
	if code == conecv1.Code_CODE_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(code.String(), "CODE_"))
}
