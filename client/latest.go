package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/conec-go/conec/messages"
)

// Latest reads a stream for somebody who wants only the newest messages: it never
// holds up the sender, and says how many messages were skipped. It works with every
// delivery. All methods may be called from any goroutine.
type Latest struct {
	stream *Stream
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine that reads has ended

	mu      sync.Mutex
	ring    [][]byte
	first   int    // the oldest in ring
	count   int    // in ring
	skipped uint64 // since the last message that was returned
	err     error  // what the stream ended with
	changed chan struct{}
}

// NewLatest reads a stream until it ends, and keeps the newest n messages; n must
// be more than 0. From then on, nobody else may receive from the stream. Who no
// longer wants it calls Close.
func NewLatest(s *Stream, n int) *Latest {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Latest{
		stream: s, cancel: cancel, done: make(chan struct{}),
		ring: make([][]byte, max(n, 1)), changed: make(chan struct{}, 1),
	}
	go l.read(ctx)
	return l
}

// read takes messages until the stream ends.
func (l *Latest) read(ctx context.Context) {
	defer close(l.done)
	for {
		message, err := l.stream.Receive(ctx)
		l.mu.Lock()
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: reader of the newest messages", messages.ErrClosed)
			}
			l.err = err
			l.wake()
			l.mu.Unlock()
			return
		}
		if l.count == len(l.ring) {
			l.take()
			l.skipped++
		}
		l.ring[(l.first+l.count)%len(l.ring)] = message
		l.count++
		l.wake()
		l.mu.Unlock()
	}
}

// take takes the oldest message. There must be one. Called with mu held.
func (l *Latest) take() []byte {
	message := l.ring[l.first]
	l.ring[l.first] = nil
	l.first = (l.first + 1) % len(l.ring)
	l.count--
	return message
}

// wake lets one who waits look again. Called with mu held.
func (l *Latest) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Next returns the oldest of the newest messages, and how many were skipped since
// the last one that was returned. It blocks until there is one or ctx ends. Once
// the stream has ended and nothing is left, it returns what that ended with,
// io.EOF or an error: at once, and in every further call.
func (l *Latest) Next(ctx context.Context) (message []byte, skipped uint64, err error) {
	for {
		message, skipped, ok, err := l.try()
		if ok {
			return message, skipped, err
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// TryNext is Next if that would not block; else it returns
// [messages.ErrWouldBlock].
func (l *Latest) TryNext() (message []byte, skipped uint64, err error) {
	message, skipped, ok, err := l.try()
	if !ok {
		return nil, 0, messages.ErrWouldBlock
	}
	return message, skipped, err
}

func (l *Latest) try() (message []byte, skipped uint64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.count > 0:
		message, skipped = l.take(), l.skipped
		l.skipped = 0
	case l.err != nil:
		err = l.err
	default:
		return nil, 0, false, nil
	}
	if l.count > 0 || l.err != nil {
		l.wake() // for the others
	}
	return message, skipped, true, err
}

// Close ends the reading, and waits until it has; the stream stays open. Messages
// that were not returned are lost.
func (l *Latest) Close() {
	l.cancel()
	<-l.done
}
