package netio

import (
	"context"
	"fmt"

	"github.com/conec-go/conec/messages"
)

// receive returns the next message, or io.EOF after the last. It blocks until
// there is one or ctx ends; a message that is there is returned even if ctx
// ended. The slice is the caller's; small messages share an allocation.
func (i *inbox) receive(ctx context.Context) ([]byte, error) {
	message, _, err := i.next(ctx, false)
	return message, err
}

// receiveInto does the same, but copies the message into buffer, which grows if
// it is too small. The memory of large messages is used again.
func (i *inbox) receiveInto(ctx context.Context, buffer []byte) ([]byte, error) {
	message, whole, err := i.next(ctx, true)
	if err != nil {
		return nil, err
	}
	buffer = append(buffer[:0], message...)
	i.buffers.put(whole)
	return buffer, nil
}

// taker takes all messages of an inbox. Under its mutex.
type taker struct {
	use   func(message []byte) error
	keeps bool // use may keep messages
	busy  bool // somebody gives it messages
	err   error
	over  chan struct{} // closed when err is set, and use has returned
}

// receiveAll has all messages used, one after the other, by the pump that reads them: so nobody
// has to wake up first. It blocks until use returns an error, there are no more, or ctx ends,
// and returns why. The memory of messages is used again unless use keeps them.
func (i *inbox) receiveAll(ctx context.Context, keeps bool, use func(message []byte) error) error {
	t := &taker{use: use, keeps: keeps, over: make(chan struct{})}
	i.mu.Lock()
	if i.taker != nil {
		i.mu.Unlock()
		return fmt.Errorf("%w: somebody receives all messages", messages.ErrBusy)
	}
	i.taker = t
	i.hand()
	i.mu.Unlock()
	select {
	case <-t.over:
	case <-ctx.Done():
		i.mu.Lock()
		if t.err == nil {
			t.err = ctx.Err()
		}
		i.hand()
		i.mu.Unlock()
		<-t.over
	}
	return t.err
}

// hand gives what is there to who takes all messages, if somebody does. Called with mu held,
// which is given back meanwhile.
func (i *inbox) hand() {
	t := i.taker
	if t == nil || t.busy {
		return
	}
	t.busy = true
	for t.err == nil {
		if i.bytes == 0 {
			t.err = i.err
			break
		}
		message, whole := i.cut(!t.keeps)
		i.mu.Unlock()
		err := t.use(message)
		i.buffers.put(whole)
		i.mu.Lock()
		if t.err == nil {
			t.err = err
		}
	}
	t.busy = false
	if t.err != nil {
		i.taker = nil
		close(t.over)
	}
}

// next returns the next message. If its memory is to be used again, the caller gives whole back.
func (i *inbox) next(ctx context.Context, reuse bool) (message, whole []byte, err error) {
	i.mu.Lock()
	for {
		if i.bytes > 0 {
			message, whole = i.cut(reuse)
			if i.readers > 0 && i.bytes > 0 {
				signal(i.ready)
			}
			i.mu.Unlock()
			return message, whole, nil
		}
		if err = i.err; err != nil {
			signal(i.ready) // the others end too
			i.mu.Unlock()
			return nil, nil, err
		}
		i.readers++
		i.mu.Unlock()
		var ended error
		select {
		case <-i.ready:
		case <-ctx.Done():
			ended = ctx.Err()
		}
		i.mu.Lock()
		i.readers--
		if ended != nil {
			i.mu.Unlock()
			return nil, nil, ended
		}
	}
}

// cut takes the first message; there is one. The pump has checked all frames.
// Called with mu held.
func (i *inbox) cut(reuse bool) (message, whole []byte) {
	if len(i.current.frames) == 0 {
		i.current, i.runs[0] = i.runs[0], run{}
		i.runs = i.runs[1:]
	}
	if reuse {
		i.reuse.Store(true)
		whole, i.current.whole = i.current.whole, nil
	}
	header, _, _ := parseFrameHeader(i.current.frames)
	size := header.size + header.body
	message = i.current.frames[header.size:size:size]
	i.current.frames = i.current.frames[size:]
	i.bytes -= size
	i.total++
	if i.window.use(size) {
		i.tell()
	}
	return message, whole
}
