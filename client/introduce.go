package client

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of the client actor that brings channels and introductions together.

// open asks the coordinator to introduce a channel's peer.
func (c *clientActor) open(ctx actor.Context, _ *conecv1.OpenChannel) {
	e := c.channels[ctx.Sender().GetId()]
	if e == nil {
		return
	}
	if e.served {
		e.served = false
		return
	}
	if c.final != nil {
		code, reason := messages.ToCode(c.final)
		ctx.Send(e.ref.pid, &conecv1.OpenRefused{Code: code, Reason: reason})
		return
	}
	c.ask(ctx, e)
}

func (c *clientActor) ask(ctx actor.Context, e *entry) {
	c.request++
	e.request, e.asks = c.request, true
	c.requests[c.request] = e.ref.pid
	c.say(ctx, &conecv1.Control{Said: &conecv1.Control_OpenChannel{OpenChannel: &conecv1.OpenChannel{
		Request: c.request, Peer: e.ref.Peer, Purpose: e.ref.Purpose, Mode: e.ref.Mode, Shared: e.ref.Shared,
	}}})
}

// answered returns the channel whose request was answered.
func (c *clientActor) answered(request uint64) *actor.PID {
	pid := c.requests[request]
	delete(c.requests, request)
	if pid != nil {
		e := c.channels[pid.GetId()]
		e.request, e.asks = 0, false
	}
	return pid
}

// introduced passes an introduction to the channel that asked for it. The request stays
// open until that is up, for the peer may still refuse. If nobody asks any more, the
// route is given back.
func (c *clientActor) introduced(ctx actor.Context, msg *conecv1.ChannelIntroduced) {
	id := msg.GetIntroduction().GetChannel()
	pid := c.requests[msg.GetRequest()]
	if pid == nil {
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: id}}})
		return
	}
	e, peer := c.channels[pid.GetId()], msg.GetIntroduction().GetPeer()
	e.id, e.asks = string(id), false
	_, err := c.cl.trust.introduced(msg.GetIntroduction())
	if err == nil && peer != e.ref.Peer {
		err = untrusted("the coordinator introduces %q, who was not asked for", peer)
	}
	if err != nil {
		c.noteDistrust(e.ref.Peer, err)
		code, reason := messages.ToCode(err)
		ctx.Send(pid, &conecv1.OpenRefused{Code: code, Reason: reason})
		return
	}
	ctx.Send(pid, msg)
}

// refused tells a channel that there is none.
func (c *clientActor) refused(ctx actor.Context, msg *conecv1.OpenRefused) {
	if pid := c.answered(msg.GetRequest()); pid != nil {
		c.channels[pid.GetId()].id = ""
		ctx.Send(pid, msg)
	}
}

// accepted ends the request of a channel whose peer has accepted, unless it was made
// anew meanwhile.
func (c *clientActor) accepted(ctx actor.Context) {
	if e := c.channels[ctx.Sender().GetId()]; e != nil && e.id != "" {
		c.answered(e.request)
	}
}

// passOn has one of a channel's first packets travel behind its request.
func (c *clientActor) passOn(ctx actor.Context, msg *conecv1.PassPacket) {
	if e := c.channels[ctx.Sender().GetId()]; e != nil && e.request != 0 {
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_PassPacket{PassPacket: &conecv1.PassPacket{
			Request: e.request, Packet: msg.GetPacket(),
		}}})
	}
}

// passIn gives a packet to the channel that was offered. Of a client's channel to itself
// both ends get it; one that is still to be decided about gets it then.
func (c *clientActor) passIn(ctx actor.Context, msg *conecv1.PassPacket) {
	if v := c.vetting[string(msg.GetChannel())]; v != nil {
		if len(v.packets) < netio.MaxPassed {
			v.packets = append(v.packets, msg)
		}
		return
	}
	for _, e := range c.inOrder() {
		if e.id == string(msg.GetChannel()) && e.id != "" {
			ctx.Send(e.ref.pid, msg)
		}
	}
}

// offered decides about a channel that a peer opens.
func (c *clientActor) offered(ctx actor.Context, msg *conecv1.ChannelOffered) {
	intro := msg.GetIntroduction()
	certificate, err := c.cl.trust.introduced(intro)
	switch {
	case err != nil:
		c.distrust(ctx, intro, err)
	case !c.cl.vets() || c.serves(intro) != nil || c.refusal(intro) != nil:
		c.take(ctx, msg)
	default:
		c.vet(ctx, msg, certificate)
	}
}

// refuse tells the coordinator, and that the peer, why an offered channel is not wanted.
func (c *clientActor) refuse(ctx actor.Context, intro *conecv1.Introduction, why error) {
	code, reason := messages.ToCode(why)
	c.say(ctx, &conecv1.Control{Said: &conecv1.Control_AnswerOffer{AnswerOffer: &conecv1.AnswerOffer{
		Channel: intro.GetChannel(), Code: code, Reason: reason,
	}}})
}

// take accepts an offered channel, unless there is a reason not to. If this client is
// opening one to the same peer, one is enough.
func (c *clientActor) take(ctx actor.Context, msg *conecv1.ChannelOffered) {
	intro := msg.GetIntroduction()
	if c.serve(ctx, msg) {
		return
	}
	if err := c.refusal(intro); err != nil {
		c.refuse(ctx, intro, err)
		return
	}
	e := c.spawn(ctx, &actors.Channel{
		Peer: intro.GetPeer(), Purpose: intro.GetPurpose(), Mode: intro.GetMode(), Shared: intro.GetShared(), Accepted: true,
	}, intro)
	e.id = string(intro.GetChannel())
}

// serve gives an offered channel to one that asks for the same.
func (c *clientActor) serve(ctx actor.Context, msg *conecv1.ChannelOffered) bool {
	intro := msg.GetIntroduction()
	e := c.serves(intro)
	if e == nil {
		return false
	}
	delete(c.requests, e.request)
	e.asks, e.served = false, e.request == 0
	e.request, e.id = 0, string(intro.GetChannel())
	ctx.Send(e.ref.pid, msg)
	return true
}

// serves returns the channel that asks for what is offered, nil if none does.
func (c *clientActor) serves(intro *conecv1.Introduction) *entry {
	if !intro.GetShared() || intro.GetPeer() == c.cl.config.Name || len(intro.GetChannel()) == 0 {
		return nil
	}
	for _, e := range c.inOrder() {
		if e.asks && !e.ref.Draining() && e.ref.Peer == intro.GetPeer() && e.ref.Shared && e.ref.Mode == intro.GetMode() {
			return e
		}
	}
	return nil
}

// refusal says why an offered channel is not wanted.
func (c *clientActor) refusal(intro *conecv1.Introduction) error {
	switch {
	case c.cl.config.NotAccepting:
		return messages.ErrNotAccepting
	case c.cl.cutting.Load():
		return messages.ErrShutdown
	case c.cl.config.RelayOnly && (intro.GetMode() == conecv1.Mode_MODE_DIRECT || intro.GetDirectOnly()):
		return fmt.Errorf("%w: this client uses the relay only", messages.ErrRefused)
	case len(c.channels)+len(c.vetting) >= c.cl.config.MaxChannels:
		return fmt.Errorf("%w: %d channels", messages.ErrLimit, len(c.channels))
	case len(intro.GetChannel()) == 0 || messages.CheckName(intro.GetPeer()) != nil:
		return fmt.Errorf("%w: introduction", messages.ErrProtocol)
	}
	return nil
}
