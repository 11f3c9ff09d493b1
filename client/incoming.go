package client

import (
	"cmp"
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
	mu       sync.Mutex
	rest     *streamQueue            // of AcceptStream
	queues   map[string]*streamQueue // of listeners, by purpose
	channels []*channelRef           // accepted, not yet taken
	changed  chan struct{}           // closed and replaced when something arrives
	err      error                   // why no more comes
}

// streamQueue is the streams that wait for one acceptor, under mu of incoming.
type streamQueue struct {
	backlog int
	admit   func(Offer) error // nil: all are admitted
	streams []arrival
	err     error // why it takes no more
}

// arrival is a stream that a peer opened.
type arrival struct {
	actors.Incoming
	resumable *resumable // that it carries, nil if none
}

func newIncoming(backlog int) *incoming {
	return &incoming{
		rest: &streamQueue{backlog: backlog}, queues: map[string]*streamQueue{}, changed: make(chan struct{}),
	}
}

// queue returns who gets streams with a purpose.
func (i *incoming) queue(purpose string) *streamQueue {
	i.mu.Lock()
	defer i.mu.Unlock()
	if q := i.queues[purpose]; q != nil {
		return q
	}
	return i.rest
}

// listen makes a queue of its own for a purpose.
func (i *incoming) listen(purpose string, q *streamQueue) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.err != nil:
		return i.err
	case i.queues[purpose] != nil:
		return fmt.Errorf("somebody listens for purpose %q already", purpose)
	}
	i.queues[purpose] = q
	return nil
}

// unlisten ends a queue. It returns the streams that nobody accepted.
func (i *incoming) unlisten(purpose string, q *streamQueue) (left []arrival) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.queues[purpose] == q {
		delete(i.queues, purpose)
	}
	left, q.streams, q.err = q.streams, nil, messages.ErrClosed
	i.wake()
	return left
}

// offer takes a stream that a peer opened into a queue, or says why not. r is the
// resumable stream that it is to carry, nil if none.
func (i *incoming) offer(stream actors.Incoming, r *resumable, q *streamQueue) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.err != nil:
		return i.err
	case q.err != nil:
		return fmt.Errorf("%w: nobody listens any more", messages.ErrRefused)
	}
	if len(q.streams) >= q.backlog {
		return fmt.Errorf("%w: %d streams wait to be accepted", messages.ErrBusy, len(q.streams))
	}
	accept := stream.Stream.Accept
	if r != nil {
		accept = func() error { return stream.Stream.AcceptFor(r.Resumable, stream.Resume) }
	}
	if err := accept(); err != nil {
		return err
	}
	q.streams = append(q.streams, arrival{stream, r})
	i.wake()
	return nil
}

// wake lets everybody who waits look again. Called with mu held.
func (i *incoming) wake() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// acceptStream returns the oldest stream of a queue, or the oldest of one channel. It
// blocks until there is one, ctx ends or the queue or the client is closed.
func (i *incoming) acceptStream(ctx context.Context, q *streamQueue, of *actors.Channel) (arrival, error) {
	for {
		i.mu.Lock()
		for at, stream := range q.streams {
			if of == nil || stream.Channel == of {
				q.streams = slices.Delete(q.streams, at, at+1)
				i.mu.Unlock()
				return stream, nil
			}
		}
		err, changed := cmp.Or(i.err, q.err), i.changed
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
