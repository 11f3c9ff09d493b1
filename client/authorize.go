package client

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// RequestKind says what a peer asks for.
type RequestKind int

// What a peer can ask for.
const (
	// ChannelRequest asks for a channel.
	ChannelRequest RequestKind = iota
	// StreamRequest asks for a stream, on whoever's channel.
	StreamRequest
	// ActorsRequest asks for a way to exported actors: which of them, Export says.
	ActorsRequest
)

// String returns "channel", "stream" or "actors".
func (k RequestKind) String() string {
	switch k {
	case ChannelRequest:
		return "channel"
	case StreamRequest:
		return "stream"
	case ActorsRequest:
		return "actors"
	}
	return "request " + strconv.Itoa(int(k))
}

// Request is what a peer asks of this client, for Config.Authorize.
type Request struct {
	// Kind is what it asks for.
	Kind RequestKind
	// Peer is its name. Of a channel, the coordinator vouches for it so far: the peer has to
	// prove it, and the certificate, before anything comes of it. Of the others both are proven.
	Peer string
	// Purpose is what the channel or the stream is for; of actors it is empty.
	Purpose string
	// Certificate is the peer's. It must not be changed.
	Certificate *x509.Certificate
	// Fingerprint and KeyFingerprint are those of the certificate and of its key.
	Fingerprint, KeyFingerprint string
}

// authorize asks the program. It blocks as long as that does.
func (cl *Client) authorize(ctx context.Context, kind RequestKind, peer, purpose string, certificate *x509.Certificate) error {
	if cl.config.Authorize == nil {
		return nil
	}
	err := cl.config.Authorize(ctx, Request{
		Kind: kind, Peer: peer, Purpose: purpose, Certificate: certificate,
		Fingerprint: netio.Fingerprint(certificate.Raw), KeyFingerprint: netio.KeyFingerprint(certificate),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", messages.ErrRefused, err)
	}
	return nil
}

// authorizeStream asks the program about a stream that a peer opens. Called by its pump.
func (cl *Client) authorizeStream(in actors.Incoming) error {
	ctx, conn := cl.life.Context(), in.Channel.Conn()
	if conn == nil {
		return messages.ErrClosed
	}
	if in.Purpose == actors.RemotePurpose {
		return cl.authorize(ctx, ActorsRequest, in.Peer, "", conn.Certificate())
	}
	return cl.authorize(ctx, StreamRequest, in.Peer, in.Purpose, conn.Certificate())
}
