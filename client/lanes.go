package client

import (
	"context"

	"github.com/conec-go/conec/actors"
)

// laneStream is a stream that carries actor messages.
type laneStream struct{ *Stream }

// Address returns the address of the peer's actors.
func (s laneStream) Address() string { return actors.Address(s.peer, s.resumable.Peer()) }

// Answered implements actors.LaneStream.
func (s laneStream) Answered(ctx context.Context) (refused bool, err error) {
	return s.resumable.Answered(ctx)
}

// TrySendIdle implements actors.LaneStream.
func (s laneStream) TrySendIdle(message []byte, prompt bool, idle func()) (busy bool, err error) {
	return s.resumable.TrySendIdle(message, prompt, idle)
}

// Give implements actors.LaneStream.
func (s laneStream) Give(ctx context.Context, buffer []byte, at int, used func()) error {
	return s.resumable.Give(ctx, buffer, at, used)
}

// TryGive implements actors.LaneStream.
func (s laneStream) TryGive(buffer []byte, at int, used func()) error {
	return s.resumable.TryGive(buffer, at, used)
}

// ReceiveAll implements actors.LaneStream: what comes on a bulk stream can be kept.
func (s laneStream) ReceiveAll(ctx context.Context, use func(message []byte, keep bool) error) error {
	keep := Urgency(s.resumable.terms.GetUrgency()) == Bulk
	return s.resumable.ReceiveAll(ctx, keep, func(message []byte) error { return use(message, keep) })
}

// openLane opens a stream for actor messages to a peer.
func (cl *Client) openLane(ctx context.Context, peer string, bulk, early bool) (actors.LaneStream, error) {
	options := &StreamOptions{Purpose: actors.RemotePurpose, Resumable: true, Early: early}
	if bulk {
		options.Urgency = Bulk
	}
	stream, err := cl.OpenStream(ctx, peer, options)
	if err != nil {
		return nil, err
	}
	return laneStream{stream}, nil
}

// acceptLanes takes the streams of peers with actor messages, until the client ends.
func (cl *Client) acceptLanes() error {
	l, err := cl.Listen(actors.RemotePurpose, nil)
	if err != nil {
		return err
	}
	ctx := cl.life.Context()
	cl.sys.Pumps.Go(func() {
		for {
			stream, err := l.Accept(ctx)
			if err != nil {
				return
			}
			cl.sys.Pumps.Go(func() { cl.remote.Serve(ctx, stream.Peer(), laneStream{stream}) })
		}
	})
	return nil
}
