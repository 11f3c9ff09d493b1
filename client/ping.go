package client

import (
	"context"
	"errors"
	"time"

	"github.com/conec-go/conec/actors"
)

// Pong is the answer of a peer's client to [Channel.Ping].
type Pong struct {
	// RTT is how long question and answer took, on the path that user data takes.
	RTT time.Duration
	// Relayed tells whether the answer took the relay: each side chooses for what it
	// sends.
	Relayed bool
}

// Ping measures the round trip to the peer's client, which answers by itself, before
// all data of streams. It blocks until the answer is there, the channel is lost, or
// ctx ends; a channel that is not connected may be meanwhile. What QUIC loses it sends
// again, so a lost packet makes a long round trip. At most 64 pings of a channel may
// wait: more fail with [messages.ErrLimit]. [messages.ErrVersion] says that the peer's
// client is too old to answer.
func (ch *Channel) Ping(ctx context.Context) (Pong, error) {
	id := ch.cl.request.Add(1)
	result, err := actors.Ask[*actors.PingResult](ctx, ch.cl.sys, ch.ref.pid, actors.Ping{ID: id})
	switch {
	case err != nil:
		if over := ch.ref.Over(); over != nil && errors.Is(err, actors.ErrDeadLetter) {
			err = asRemote(over.Err, over.Remote)
		}
		ch.cl.sys.Root.Send(ch.ref.pid, actors.CancelPing{ID: id})
	case result.Err != nil:
		err = asRemote(result.Err, result.Remote)
	default:
		return Pong{RTT: result.RTT, Relayed: result.Relayed}, nil
	}
	return Pong{}, ch.cl.opError(ctx, "ping", ch.ref.Peer, err)
}
