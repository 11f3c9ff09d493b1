package client

import (
	"context"
	"crypto/x509"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of the client actor that decides with whom it has channels.

// vetting is an offered channel that has to wait for the file of known peers, or the program.
type vetting struct {
	offer   *conecv1.ChannelOffered
	cancel  func()
	packets []*conecv1.PassPacket // the peer's first, which came behind the offer
}

// Sent by the pump that asks them.
type vetted struct {
	actors.Life
	channel    string
	err        error
	distrusted bool // it is about the certificate
}

// vets reports whether there is anybody to ask.
func (cl *Client) vets() bool { return cl.config.Authorize != nil || cl.trust.known != nil }

// vet asks about a channel that a peer opens.
func (c *clientActor) vet(ctx actor.Context, offer *conecv1.ChannelOffered, certificate *x509.Certificate) {
	intro := offer.GetIntroduction()
	channel, peer, purpose := string(intro.GetChannel()), intro.GetPeer(), intro.GetPurpose()
	if c.vetting[channel] != nil {
		return // the coordinator repeats itself
	}
	asking, cancel := context.WithCancel(c.life.Context())
	c.vetting[channel] = &vetting{offer: offer, cancel: cancel}
	cl, life, root, self := c.cl, c.life, ctx.ActorSystem().Root, ctx.Self()
	cl.sys.Pumps.Go(func() {
		defer cancel()
		err := cl.trust.remembered(peer, certificate)
		distrusted := err != nil
		if !distrusted {
			err = cl.authorize(asking, ChannelRequest, peer, purpose, certificate)
		}
		root.Send(self, vetted{life, channel, err, distrusted})
	})
}

// vetted does what was decided, if the offer still stands.
func (c *clientActor) vetted(ctx actor.Context, msg vetted) {
	v := c.vetting[msg.channel]
	if v == nil {
		return
	}
	delete(c.vetting, msg.channel)
	switch intro := v.offer.GetIntroduction(); {
	case msg.distrusted:
		c.distrust(ctx, intro, msg.err)
	case msg.err != nil && c.serves(intro) == nil: // else the program opens one to that peer itself
		c.refuse(ctx, intro, msg.err)
	default:
		c.take(ctx, v.offer)
		for _, packet := range v.packets {
			c.passIn(ctx, packet)
		}
	}
}

// unvetWithdrawn forgets an offer that was withdrawn. A request of this client that crossed with it
// had no other answer: it is made again.
func (c *clientActor) unvetWithdrawn(ctx actor.Context, channel string) {
	v := c.vetting[channel]
	if v == nil {
		return
	}
	c.unvet(channel)
	if e := c.serves(v.offer.GetIntroduction()); e != nil && e.request != 0 {
		c.release(ctx, e) // it may have come after the offer was taken back
		c.ask(ctx, e)
	}
}

// unvet forgets an offer that nobody decides about any more.
func (c *clientActor) unvet(channel string) {
	if v := c.vetting[channel]; v != nil {
		delete(c.vetting, channel)
		v.cancel()
	}
}

// unvetAll forgets all offers: the coordinator that made them is lost.
func (c *clientActor) unvetAll() {
	for channel := range c.vetting {
		c.unvet(channel)
	}
}

// distrust refuses a channel because of the peer's certificate. The peer hears no more than
// that; what this client knows and expects is its own business.
func (c *clientActor) distrust(ctx actor.Context, intro *conecv1.Introduction, err error) {
	c.noteDistrust(intro.GetPeer(), err)
	if e := c.serves(intro); e != nil { // its request has crossed with the offer, and gets no other answer
		c.release(ctx, e)
		e.asks = false
		code, reason := messages.ToCode(err)
		ctx.Send(e.ref.pid, &conecv1.OpenRefused{Code: code, Reason: reason})
	}
	c.refuse(ctx, intro, messages.ErrUntrusted)
}

// noteDistrust tells the program, which asked for nothing.
func (c *clientActor) noteDistrust(peer string, err error) {
	c.cl.config.Logger.Warn("peer not trusted", "peer", peer, "err", err)
	c.cl.events.put(PeerRefused{Peer: peer, Err: err})
}

// peerDistrusted is said by [Client.checkPeer].
type peerDistrusted struct {
	peer string
	err  error
}

// checkPeer is called by the pump of a channel whose peer has proven to own a certificate.
func (cl *Client) checkPeer(peer string, certificate *x509.Certificate) error {
	err := cl.trust.proven(peer, certificate)
	if pid := cl.shared.pid.Load(); err != nil && pid != nil {
		cl.sys.Root.Send(pid, peerDistrusted{peer, err})
	}
	return err
}
