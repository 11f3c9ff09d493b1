package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/conec-go/conec/messages"
)

// Frames that are written while the lock of the peer is held go to the stream in one
// message, when it is given back: what comes alone goes alone and at once, what has
// waited goes together.
const (
	batchBytes   = 16 << 10 // from which on a batch is sent
	batchedFrame = 4 << 10  // bytes of a message from which on it goes alone
)

// laneBatch is the frames of a lane that the stream has not taken yet. Guarded by mu of the
// peer.
type laneBatch struct {
	bytes   []byte      // of the frames
	outs    []*outgoing // what the frames are of; nil for a flush
	lent    bool        // bytes are those of a message
	waiting bool        // a pump waits for the stream to take it
}

// ready reports whether a frame can be written. Called with mu held.
func (l *lane) ready() bool { return l.stream != nil && !l.over && !l.batch.waiting }

// write writes a frame; the lane must be ready. It returns false if the frame has to
// wait, else the message is the lane's. Called with mu held.
func (l *lane) write(out *outgoing) bool {
	alone := len(out.buffer) >= batchedFrame
	full := min(batchBytes, l.peer.remote.config.MaxMessage-maxHead-len(out.buffer))
	if len(l.batch.outs) > 0 && (alone || len(l.batch.bytes) >= full) {
		if l.send(); !l.ready() {
			return false
		}
	}
	out.frame.flush = out.confirm != nil
	l.scratch = l.frame(l.scratch[:0], out)
	if head := len(l.scratch); alone && head <= headRoom {
		l.batch.bytes, l.batch.lent = out.buffer[headRoom-head:], true
		copy(l.batch.bytes, l.scratch)
	} else {
		l.batch.bytes = append(append(l.batch.bytes, l.scratch...), out.buffer[headRoom:]...)
	}
	l.add(out, out.sent())
	if alone {
		l.send()
	}
	return true
}

// frame appends a frame but for its body, after its length. Called with mu held.
func (l *lane) frame(b []byte, out *outgoing) []byte {
	_, known := l.tables.targets.find(out.frame.target)
	if targets := &l.tables.targets; !known && len(targets.list) == targets.limit {
		l.forget(targets.list[targets.next])
	}
	l.head = l.tables.appendFrame(l.head[:0], &out.frame)
	number := l.tables.targets.last
	for int(number) >= len(l.credits) {
		l.credits = append(l.credits, credit{})
	}
	if !known {
		l.credits[number] = credit{limit: firstCredit}
	}
	if out.frame.kind == frameTell {
		l.credits[number].used += uint64(out.cost)
	}
	b = binary.AppendUvarint(b, uint64(len(l.head)+len(out.buffer)-headRoom))
	return append(b, l.head...)
}

// forget has a flow look again that waits for credit, since its target loses its number,
// and there will be no more grants for that. Called with mu held.
func (l *lane) forget(target string) {
	if f := l.peer.flows[target]; f != nil && f.lane == l && f.listed == nil && f.queue.len() > 0 {
		f.listed = l
		l.waiting = append(l.waiting, f)
	}
}

// add notes a frame in the batch. Called with mu held.
func (l *lane) add(out *outgoing, f sentFrame) {
	l.batch.outs = append(l.batch.outs, out)
	l.frames = append(l.frames, f)
	l.sent++
}

// flush asks the peer to say at once what it has handled, unless it was asked since the
// last frame. Called with mu held.
func (l *lane) flush() {
	if l.ready() && l.flushed < l.sent {
		l.batch.bytes = append(l.batch.bytes, 1, frameFlush)
		l.add(nil, sentFrame{})
		l.flushed = l.sent
	}
}

// send hands the batch to the stream, or to a pump if the stream has no room. Called with
// mu held.
func (l *lane) send() {
	if len(l.batch.outs) == 0 || !l.ready() {
		return
	}
	switch err := l.stream.TrySend(l.batch.bytes); {
	case err == nil:
		l.taken()
	case errors.Is(err, messages.ErrWouldBlock):
		l.batch.waiting = true
		bytes := l.batch.bytes
		l.peer.remote.sys.Pumps.Go(func() { l.push(bytes) })
	default:
		l.fail()
	}
}

// push is a pump: it waits until the stream takes the batch.
func (l *lane) push(bytes []byte) {
	err := l.stream.Send(context.Background(), bytes) // ends with the stream
	l.peer.mu.Lock()
	defer l.peer.unlock()
	if !l.batch.waiting {
		return // the lane was given up
	}
	if err != nil {
		l.fail()
		return
	}
	l.taken()
	l.peer.resume(l)
}

// fail ends the lane, since its stream has refused the batch: the pump that listens says
// why. Called with mu held.
func (l *lane) fail() {
	l.untaken()
	l.peer.told = append(l.peer.told, l.stream.Reset)
}

// taken empties the batch. Called with mu held.
func (l *lane) taken() {
	for _, out := range l.batch.outs {
		if out != nil {
			out.free()
		}
	}
	clear(l.batch.outs)
	bytes := l.batch.bytes[:0]
	if l.batch.lent {
		bytes = nil
	}
	l.batch = laneBatch{bytes: bytes, outs: l.batch.outs[:0]}
}

// untaken ends the lane, since its stream is over, and has the messages of the batch wait
// again, before all others. Called with mu held.
func (l *lane) untaken() {
	l.over = true
	n := min(len(l.batch.outs), len(l.frames)-l.first) // as many, unless the peer says that it has handled some
	clear(l.frames[len(l.frames)-n:])
	l.frames = l.frames[:len(l.frames)-n]
	l.sent -= uint64(n)
	for _, out := range slices.Backward(l.batch.outs[len(l.batch.outs)-n:]) {
		if out != nil {
			f := l.peer.flow(out.frame.target)
			f.queue.pushFirst(out)
			f.queued += out.cost
			l.peer.queued += out.cost
			f.lane = l // so that it is found when the lane is dropped
		}
	}
	l.batch = laneBatch{}
}
