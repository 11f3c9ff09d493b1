package netio

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/conec-go/conec/messages"
)

// outbox is the sending half of a stream: frames wait in one buffer until the
// pump writes all of them at once. There is no timer: the pump starts with the
// first frame, and while it writes, the frames of the next write gather.
//
// Owned by any number of senders and one pump at a time, under mu.
type outbox struct {
	raw     rawSender
	buffers *bufferPool
	limit   int // bytes that may wait, not counting one oversized frame
	writer  writer

	mu       sync.Mutex
	credit   credit        // what may be written
	first    []byte        // frames that go before all others, and need no credit
	waiting  []byte        // frames that the pump has not taken yet
	spare    []byte        // buffer of the last write, kept while the pump runs
	pumping  bool          // a pump runs
	ending   bool          // no more frames; end the stream after the last
	err      error         // why sending is over, once it is
	space    turns         // senders that wait for it
	done     chan struct{} // closed when sending is over and the pump has ended
	finished bool          // done is closed
	total    uint64        // messages accepted
	feed     *follower     // sends more; nil: nothing does

	confirmed func(messages uint64) // told what has come; nil: nobody is
}

// rawSender is what the outbox needs of a QUIC stream.
type rawSender interface {
	io.Writer
	// TryWriteAll does not block: it writes all of p, or nothing and returns an error.
	TryWriteAll(p []byte) error
	Close() error
}

func newOutbox(raw rawSender, buffers *bufferPool, limit int) *outbox {
	return &outbox{raw: raw, buffers: buffers, limit: limit, writer: writer{raw: raw}, done: make(chan struct{})}
}

// send queues one message. It blocks while the buffer is full, until ctx ends: then
// nothing of it was or will be sent.
func (o *outbox) send(ctx context.Context, message []byte) error {
	size := frameSize(len(message))
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.space) > 0 || !o.fits(size) {
		fits, over := func() bool { return o.fits(size) }, func() bool { return o.over() != nil }
		if err := o.space.await(ctx, &o.mu, fits, over); err != nil {
			return err
		}
	}
	if err := o.over(); err != nil {
		return err
	}
	o.queue(fieldMessages, message, size)
	return nil
}

// begin queues a frame that goes before all others. It does not block.
func (o *outbox) begin(field int, body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.over(); err != nil {
		return err
	}
	o.first = appendFrame(o.first, field, body)
	o.startPump()
	return nil
}

// granted takes over what the other side lets this one send.
func (o *outbox) granted(g grant) {
	o.mu.Lock()
	g.messages = min(g.messages, o.total)
	o.credit.take(g)
	if o.confirmed != nil {
		o.confirmed(o.credit.grant.messages)
	}
	if len(o.waiting) > 0 || o.feed != nil {
		o.startPump()
	}
	o.mu.Unlock()
	o.writer.came(g.come)
}

// fits reports whether a frame of size bytes may be queued now.
func (o *outbox) fits(size int) bool {
	return len(o.waiting) == 0 || len(o.waiting)+size <= o.limit
}

// over returns why nothing can be sent any more, nil if it can.
func (o *outbox) over() error {
	if o.err == nil && o.ending {
		return fmt.Errorf("%w: sending side", messages.ErrClosed)
	}
	return o.err
}

// try queues one frame if there is space for it now, and otherwise returns an
// error that matches [messages.ErrLimit]. It does not block.
func (o *outbox) try(field int, body []byte) error {
	size := frameSize(len(body))
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.over(); err != nil {
		return err
	}
	if len(o.waiting)+size > o.limit {
		return fmt.Errorf("%w: %d bytes wait to be sent", messages.ErrLimit, len(o.waiting))
	}
	o.queue(field, body, size)
	return nil
}

// queue appends one frame. Called with mu held.
func (o *outbox) queue(field int, body []byte, size int) {
	o.waiting = appendFrame(o.room(size), field, body)
	o.total++
	o.startPump()
}

// room returns the waiting buffer with space for size more bytes.
func (o *outbox) room(size int) []byte {
	need := len(o.waiting) + size
	if need <= cap(o.waiting) {
		return o.waiting
	}
	buffer := append(o.buffers.get(need), o.waiting...)
	o.buffers.put(o.waiting)
	return buffer
}

// startPump starts the pump if it does not run.
func (o *outbox) startPump() {
	if !o.pumping {
		o.pumping = true
		go o.pump()
	}
}

// pump writes what waits until nothing does. It blocks on the QUIC stream on
// behalf of all senders.
func (o *outbox) pump() {
	o.mu.Lock()
	for o.err == nil {
		frames, kind := o.take()
		if frames == nil {
			break
		}
		o.mu.Unlock()
		err := o.writer.write(frames, kind != firstFrames)
		o.mu.Lock()
		if kind == queuedFrames {
			o.spare = frames
		}
		if err != nil {
			o.fail(fromQUIC(err))
		}
	}
	o.pumping = false
	o.rest()
	ending := o.ending && o.err == nil && len(o.waiting) == 0
	o.mu.Unlock()
	if ending {
		_ = o.raw.Close() // only says that the stream was reset before
		o.end(fmt.Errorf("%w: sending side", messages.ErrClosed))
	} else {
		o.settle()
	}
}

// taken is what kind of frames an outbox gives to its pump.
type taken int

const (
	firstFrames  taken = iota // they need no credit
	queuedFrames              // their memory can be used again
	feedFrames                // their memory is a feed's
)

// take returns what is to be written next; nil if nothing may be. Called with mu held.
func (o *outbox) take() (frames []byte, kind taken) {
	if frames, o.first = o.first, nil; len(frames) > 0 {
		return frames, firstFrames
	}
	if len(o.waiting) == 0 && o.feed != nil && !o.ending {
		if frames := o.follow(); frames != nil || len(o.waiting) == 0 {
			return frames, feedFrames
		}
	}
	n := o.credit.cut(o.waiting)
	if n == 0 {
		return nil, queuedFrames
	}
	frames, rest := o.waiting[:n], o.waiting[n:]
	if cap(o.spare) < len(rest) {
		o.buffers.put(o.spare)
		o.spare = o.buffers.get(len(rest))
	}
	o.waiting, o.spare = append(o.spare[:0], rest...), nil
	o.credit.put += uint64(n)
	o.space.wake()
	return frames, queuedFrames
}

// rest gives the buffers back, but for a small one: an idle stream costs little.
func (o *outbox) rest() {
	if len(o.waiting) == 0 && (cap(o.waiting) == 0 || cap(o.waiting) > smallBuffer && cap(o.spare) <= smallBuffer) {
		o.waiting, o.spare = o.spare[:0], o.waiting
	}
	o.buffers.put(o.spare)
	o.spare = nil
	if cap(o.waiting) > smallBuffer && len(o.waiting) == 0 {
		o.buffers.put(o.waiting)
		o.waiting = nil
	}
}

// closeSend ends the sending side once everything queued was written.
func (o *outbox) closeSend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending && o.err == nil {
		o.ending = true
		if o.feed != nil { // it ends where it is, and what stands for a gap is no use then
			o.waiting = o.waiting[:0]
		}
		o.space.wake()
		o.startPump()
	}
}

// end makes err the result of every later send, unless there is one already.
func (o *outbox) end(err error) {
	o.mu.Lock()
	o.fail(err)
	o.mu.Unlock()
	o.settle()
}

// fail records why sending is over. Called with mu held.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
		o.first, o.waiting = nil, nil
		o.writer.end()
		if o.feed != nil {
			o.feed.leave()
		}
	}
	o.space.wake()
}

// settle closes done when sending is over and no pump runs.
func (o *outbox) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil && !o.pumping && !o.finished {
		o.finished = true
		close(o.done)
	}
}
