package client

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Sent by the program.
type (
	setIdentity   struct{ identity *netio.Identity }
	distrustNow   struct{}
	renewalResult struct{ err error }
	distrustDone  struct{}
)

// renewal is a new identity that the coordinator has not taken yet.
type renewal struct {
	identity *netio.Identity
	asker    *actor.PID
	said     bool // in this attachment
}

// SetIdentity gives the client another certificate for its name, and another key if wanted,
// while it stays attached; its channels go on. It blocks until the coordinator has taken it,
// or refuses, or ctx ends. While the client is not attached, it waits for that. From then on
// it is what peers are introduced to, and what the client attaches again with. Peers that
// have pinned the former key, or know it, do not take another. If ctx ends early, the
// coordinator may have heard of it already, and the identity counts all the same.
//
// Errors: [messages.ErrNameMismatch], [messages.ErrUntrusted], [messages.ErrLimit] if the
// client did so less than a second ago, [messages.ErrBusy] while another call waits.
func (cl *Client) SetIdentity(ctx context.Context, identity *netio.Identity) error {
	err := checkIdentity(identity, cl.config.Name)
	if err == nil {
		var result *renewalResult
		if result, err = actors.Ask[*renewalResult](ctx, cl.sys, cl.pid, setIdentity{identity}); err == nil {
			err = result.err
		}
	}
	if err != nil {
		return cl.opError(ctx, "set identity", "", err)
	}
	return nil
}

// checkIdentity reports whether an identity is one for a name.
func checkIdentity(identity *netio.Identity, name string) error {
	issued, err := netio.CertificateName(identity.Certificate())
	if err == nil && issued != name {
		err = fmt.Errorf("%w: it is for %q, Name is %q", messages.ErrNameMismatch, issued, name)
	}
	return err
}

// ExpectPeer has the client take a peer only with the certificate or the key of that
// fingerprint from now on, as Config.Peers does. Channels to it that have another one end. It
// blocks until the client has seen to that, or ctx ends.
func (cl *Client) ExpectPeer(ctx context.Context, peer, fingerprint string) error {
	err := messages.CheckName(peer)
	if err == nil {
		err = netio.CheckFingerprint(fingerprint)
	}
	if err != nil {
		return cl.opError(ctx, "expect", peer, err)
	}
	cl.trust.expect(peer, fingerprint)
	return cl.distrustNow(ctx, "expect", peer)
}

// SetRevoked replaces Config.Revoked. Channels to peers with a revoked certificate end, and
// the coordinator is given up if it has one. It blocks until the client has seen to that, or
// ctx ends.
func (cl *Client) SetRevoked(ctx context.Context, fingerprints []string) error {
	revoked, err := netio.NewRevoked(fingerprints)
	if err != nil {
		return cl.opError(ctx, "set revoked", "", err)
	}
	cl.trust.setRevoked(revoked)
	return cl.distrustNow(ctx, "set revoked", "")
}

func (cl *Client) distrustNow(ctx context.Context, op, peer string) error {
	if _, err := actors.Ask[*distrustDone](ctx, cl.sys, cl.pid, distrustNow{}); err != nil {
		return cl.opError(ctx, op, peer, err)
	}
	return nil
}

// setIdentity begins a renewal.
func (c *clientActor) setIdentity(ctx actor.Context, identity *netio.Identity) {
	switch {
	case c.final != nil:
		ctx.Respond(&renewalResult{c.final})
	case c.renewal != nil:
		ctx.Respond(&renewalResult{fmt.Errorf("%w: another identity waits for the coordinator", messages.ErrBusy)})
	default:
		c.renewal = &renewal{identity: identity, asker: ctx.Sender()}
		c.sayRenewal(ctx)
	}
}

// sayRenewal tells the coordinator, as soon as it has this client.
func (c *clientActor) sayRenewal(ctx actor.Context) {
	conn := c.homeInfo.Conn()
	if c.renewal == nil || c.renewal.said || !c.bound || conn == nil {
		return
	}
	proof, err := conn.Prove(c.renewal.identity)
	if err != nil {
		c.endRenewal(ctx, err)
		return
	}
	c.renewal.said = true
	ctx.Send(c.home, &conecv1.Control{Said: &conecv1.Control_RenewIdentity{RenewIdentity: &conecv1.RenewIdentity{
		Chain: c.renewal.identity.Chain(), Proof: proof,
	}}})
}

// renewed takes the coordinator's answer. Introductions that follow name the new certificate.
func (c *clientActor) renewed(ctx actor.Context, msg *conecv1.IdentityRenewed) {
	if c.renewal == nil || !c.renewal.said {
		return
	}
	if msg.GetCode() != conecv1.Code_CODE_UNSPECIFIED {
		c.endRenewal(ctx, asRemote(messages.FromCode(msg.GetCode(), msg.GetReason()), true))
		return
	}
	c.cl.transport.SetIdentity(c.renewal.identity)
	c.cl.config.Logger.Info("certificate renewed", "fingerprint", c.cl.Fingerprint())
	c.endRenewal(ctx, nil)
}

func (c *clientActor) endRenewal(ctx actor.Context, err error) {
	if c.renewal != nil {
		ctx.Send(c.renewal.asker, &renewalResult{err})
		c.renewal = nil
	}
}

// distrustNow ends what is there and not trusted any more.
func (c *clientActor) distrustNow(ctx actor.Context) {
	revoked := c.cl.trust.revocations()
	if conn := c.homeInfo.Conn(); conn != nil {
		if err := revoked.Check(conn.Chain()...); err != nil {
			abort(ctx, c.home, err)
		}
	}
	for _, e := range c.inOrder() {
		conn := e.ref.Conn()
		if conn == nil {
			continue // it is checked once it is connected
		}
		err := revoked.Check(conn.Chain()...)
		if err == nil {
			err = c.cl.trust.pin(e.ref.Peer, conn.Certificate())
		}
		if err != nil {
			c.noteDistrust(e.ref.Peer, err)
			abort(ctx, e.ref.pid, messages.ErrUntrusted) // the peer is told no more
		}
	}
}

func abort(ctx actor.Context, channel *actor.PID, why error) {
	code, reason := messages.ToCode(why)
	ctx.Send(channel, &conecv1.AbortChannel{Code: code, Reason: reason})
}
