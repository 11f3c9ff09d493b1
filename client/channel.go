package client

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Channel connects this client with a peer: one QUIC connection, encrypted from
// end to end, whatever carries its packets. All methods may be called from any
// goroutine.
type Channel struct {
	cl  *Client
	ref *channelRef
}

// Peer returns the name of the other side, which its certificate proved.
func (ch *Channel) Peer() string { return ch.ref.Peer }

// Purpose returns what the channel is for.
func (ch *Channel) Purpose() string { return ch.ref.Purpose }

// Path is the way that a channel's packets take.
type Path struct {
	// Relayed tells whether they go over the coordinator's relay.
	Relayed bool
	// Local is the address of this client's socket.
	Local netip.AddrPort
	// Remote is where packets go to: the peer, or the coordinator if relayed. It
	// is not valid if there is no path now.
	Remote netip.AddrPort
	// Link is the one of Config.Links that packets take; empty if it is none of these.
	Link string
	// Reason says why it is that one; [ReasonUnknown] while the channel is not
	// connected. [Channel.Paths] tells more.
	Reason PathReason
	// RTT is the smoothed round-trip time; zero before the first measurement, and
	// while the channel is not connected.
	RTT time.Duration
}

// String reads like: direct 127.0.0.1:4000 → 127.0.0.1:4001 (0.2ms).
func (p Path) String() string {
	kind := "direct"
	switch {
	case !p.Remote.IsValid():
		return "no path"
	case p.Relayed:
		kind = "relayed"
	}
	if p.Link != "" {
		kind += " on " + p.Link
	}
	return kind + " " + p.Local.String() + " → " + p.Remote.String() + " (" + p.RTT.Round(10*time.Microsecond).String() + ")"
}

// Path returns the path in use now. It does not block.
func (ch *Channel) Path() Path {
	path := Path{Local: ch.cl.link.LocalAddr()}
	if conn := ch.ref.Conn(); conn != nil {
		now := conn.Port().Path()
		path.Relayed, path.Remote, path.RTT = now.Relayed, now.To, conn.RTT()
		path.Reason = PathReason(ch.ref.Reason())
		if path.Link = ch.cl.linkName(now.Link); path.Link != "" {
			path.Local = now.Link.LocalAddr()
		}
	}
	return path
}

// Done returns what is closed when the connection that the channel has now has ended, and with it the streams that
// are not resumable: at once if it has none. A channel that is connected again has another one then.
func (ch *Channel) Done() <-chan struct{} {
	if conn := ch.ref.Conn(); conn != nil {
		return conn.Done()
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}

// OpenStream opens a stream on this channel. It blocks like [Client.OpenStream];
// the Mode of the options does not count. If this channel ends for good, a resumable
// stream goes on: another one, which streams to the peer share, carries it.
func (ch *Channel) OpenStream(ctx context.Context, options *StreamOptions) (*Stream, error) {
	if options == nil {
		options = &StreamOptions{}
	}
	terms, err := options.terms()
	if err != nil {
		return nil, ch.cl.opError(ctx, "open stream", ch.ref.Peer, err)
	}
	var r *resumable
	if options.Resumable {
		if r, err = ch.cl.resumptions.open(ch.ref.Peer, terms, Mode(ch.ref.Mode)); err != nil {
			return nil, ch.cl.opError(ctx, "open stream", ch.ref.Peer, err)
		}
	}
	stream, err := ch.cl.openOn(ctx, ch.ref, terms, r, options.Early)
	if err != nil {
		r.giveUp()
		return nil, ch.cl.opError(ctx, "open stream", ch.ref.Peer, err)
	}
	return stream, nil
}

// openRaw has a channel open a stream. If ctx ends, it calls canceled before the
// attempt is.
func (cl *Client) openRaw(ctx context.Context, ref *channelRef, open actors.OpenStream, canceled func()) (*netio.Stream, error) {
	open.ID = cl.request.Add(1)
	result, err := actors.Ask[*actors.StreamResult](ctx, cl.sys, ref.pid, open)
	if over := ref.Over(); over != nil && errors.Is(err, actors.ErrDeadLetter) {
		return nil, asRemote(over.Err, over.Remote)
	}
	if err != nil {
		if ctx.Err() != nil {
			canceled()
		}
		cl.sys.Root.Send(ref.pid, actors.CancelStream{ID: open.ID})
		return nil, err
	}
	if result.Err != nil {
		return nil, asRemote(result.Err, result.Remote)
	}
	return result.Stream, nil
}

// AcceptStream returns the next stream that the peer opened on this channel. A
// stream comes either from here or from [Client.AcceptStream]. It blocks until
// there is one, ctx ends or the channel has ended.
func (ch *Channel) AcceptStream(ctx context.Context) (*Stream, error) {
	return ch.cl.acceptStream(ctx, ch.cl.incoming.rest, ch.ref)
}

// Close ends the channel in order: the sending side of its streams ends, and
// Close blocks until the peer has read everything, or ctx ends: then the rest is
// cut off. A closed channel may be closed again.
func (ch *Channel) Close(ctx context.Context) error {
	result, err := actors.Ask[*actors.ChannelResult](ctx, ch.cl.sys, ch.ref.pid, actors.DrainChannel{})
	if err != nil {
		if ctx.Err() == nil {
			return nil // it has ended already
		}
		ch.Abort()
		return ch.cl.opError(ctx, "close channel", ch.ref.Peer, err)
	}
	if result.Err != nil {
		return ch.cl.opError(ctx, "close channel", ch.ref.Peer, asRemote(result.Err, result.Remote))
	}
	return nil
}

// Abort ends the channel at once: what was sent and has not arrived is lost.
func (ch *Channel) Abort() {
	code, reason := messages.ToCode(messages.ErrReset)
	ch.cl.sys.Root.Send(ch.ref.pid, &conecv1.AbortChannel{Code: code, Reason: reason})
}

// Certificate returns the certificate that the peer has proven to own, nil while the channel
// is not connected. It must not be changed.
func (ch *Channel) Certificate() *x509.Certificate {
	conn := ch.ref.Conn()
	if conn == nil {
		return nil
	}
	return conn.Certificate()
}

// Words returns six words that are the same at both ends of the connection that the channel
// has now, and differ if somebody, be it the coordinator, sits in the middle: two people who
// read them to each other know. They say 66 bits ([netio.Conn.Words]). They are others after
// the channel was connected again. It fails with [messages.ErrClosed] while it is not connected.
func (ch *Channel) Words() (string, error) {
	conn := ch.ref.Conn()
	if conn == nil {
		return "", &messages.OpError{Op: "words", Peer: ch.ref.Peer, Err: messages.ErrClosed}
	}
	return conn.Words()
}
