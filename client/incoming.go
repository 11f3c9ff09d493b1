package client

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// incoming holds the streams and channels that peers opened until the program
// accepts them. Safe for concurrent use; nothing blocks with mu held.
type incoming struct {
	backlog int

	mu       sync.Mutex
	streams  []arrival
	channels []*channelRef // accepted, not yet taken
	changed  chan struct{} // closed and replaced when something arrives
	err      error         // why no more comes
}

// arrival is a stream that a peer opened.
type arrival struct {
	actors.Incoming
	resumable *resumable // that it carries, nil if none
}

func newIncoming(backlog int) *incoming {
	return &incoming{backlog: backlog, changed: make(chan struct{})}
}

// offer takes a stream that a peer opened, or says why not. r is the resumable
// stream that it is to carry, nil if none.
func (i *incoming) offer(stream actors.Incoming, r *resumable) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		return i.err
	}
	if len(i.streams) >= i.backlog {
		return fmt.Errorf("%w: %d streams wait to be accepted", messages.ErrBusy, len(i.streams))
	}
	accept := stream.Stream.Accept
	if r != nil {
		accept = func() error { return stream.Stream.AcceptFor(r.Resumable, stream.Resume) }
	}
	if err := accept(); err != nil {
		return err
	}
	i.streams = append(i.streams, arrival{stream, r})
	i.wake()
	return nil
}

// wake lets everybody who waits look again. Called with mu held.
func (i *incoming) wake() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// acceptStream returns the oldest stream, or the oldest of one channel. It blocks
// until there is one, ctx ends or the client is closed.
func (i *incoming) acceptStream(ctx context.Context, of *actors.Channel) (arrival, error) {
	for {
		i.mu.Lock()
		for at, stream := range i.streams {
			if of == nil || stream.Channel == of {
				i.streams = slices.Delete(i.streams, at, at+1)
				i.mu.Unlock()
				return stream, nil
			}
		}
		err, changed := i.err, i.changed
		if err == nil && of != nil && of.Draining() && of.Conn() == nil {
			err = messages.ErrClosed
		}
		i.mu.Unlock()
		if err != nil {
			return arrival{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return arrival{}, ctx.Err()
		}
	}
}

// acceptChannel returns the oldest channel that a peer opened and that is still
// there. It blocks like acceptStream.
func (i *incoming) acceptChannel(ctx context.Context) (*channelRef, error) {
	for {
		i.mu.Lock()
		if len(i.channels) > 0 {
			channel := i.channels[0]
			i.channels = i.channels[1:]
			i.mu.Unlock()
			return channel, nil
		}
		err, changed := i.err, i.changed
		i.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// addChannel takes a channel that a peer opened.
func (i *incoming) addChannel(channel *channelRef) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.channels = append(i.channels, channel)
	i.wake()
}

// dropChannel forgets a channel that has ended before it was accepted, so that
// the list is never longer than the list of channels.
func (i *incoming) dropChannel(channel *channelRef) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.channels = slices.DeleteFunc(i.channels, func(other *channelRef) bool { return other == channel })
	i.wake()
}

// end makes err the result of accepting once nothing waits.
func (i *incoming) end(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
		i.wake()
	}
}
