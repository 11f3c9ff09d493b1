package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// Frames go to the stream together in one message when it has written what it has, without
// a timer: what comes alone goes alone and at once, what comes faster than it is written
// gathers.
const (
	batchBytes   = 16 << 10 // from which on a batch is sent
	batchedFrame = 4 << 10  // bytes of a message from which on it goes alone
)

// laneBatch is the frames of a lane that the stream has not taken yet. Guarded by mu of the
// peer.
type laneBatch struct {
	bytes   []byte    // of the frames
	frames  []batched // what they are
	lent    *outgoing // the message whose buffer bytes are; nil if they are the lane's own
	waiting bool      // a pump waits for the stream to take it
	early   bool      // the stream has it, but the peer has not accepted the stream yet
	gathers bool      // the stream is to say when it has written what it has
}

// batched is a frame in a batch.
type batched struct {
	typ        string // of a tell
	start, end uint32 // of the body, in the bytes of the batch
	kind       byte
}

// ready reports whether a frame can be written. Called with mu held.
func (l *lane) ready() bool { return l.stream != nil && !l.over && !l.batch.waiting && !l.batch.early }

// write writes a frame, and frees the message; the lane must be ready. It returns false if
// the frame has to wait. Called with mu held.
func (l *lane) write(out *outgoing) bool {
	alone := len(out.buffer) >= batchedFrame
	full := min(batchBytes, l.peer.remote.config.MaxMessage-maxHead-len(out.buffer))
	if len(l.batch.frames) > 0 && (alone || len(l.batch.bytes) >= full) {
		if l.send(); !l.ready() {
			return false
		}
	}
	out.frame.flush = out.confirm != nil
	l.scratch = l.frame(l.scratch[:0], out)
	b := batched{kind: out.frame.kind, typ: out.frame.typ}
	if head := len(l.scratch); alone && head <= headRoom {
		l.batch.bytes, l.batch.lent, b.start = out.buffer[headRoom-head:], out, uint32(head)
		copy(l.batch.bytes, l.scratch)
	} else {
		l.batch.bytes = append(l.batch.bytes, l.scratch...)
		b.start = uint32(len(l.batch.bytes))
		l.batch.bytes = append(l.batch.bytes, out.buffer[headRoom:]...)
	}
	b.end = uint32(len(l.batch.bytes))
	l.add(b, out.sent())
	if l.batch.lent == nil {
		out.free()
	}
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
func (l *lane) add(b batched, f sentFrame) {
	l.batch.frames = append(l.batch.frames, b)
	l.frames.push(&sentRooms, f)
	l.sent++
	l.peer.unsent = true
}

// flush asks the peer to say at once what it has handled, unless it was asked since the
// last frame. Called with mu held.
func (l *lane) flush() {
	if l.ready() && l.flushed < l.sent {
		l.batch.bytes = append(l.batch.bytes, 1, frameFlush)
		l.add(batched{kind: frameFlush}, sentFrame{})
		l.flushed = l.sent
	}
}

// sendIdle sends the batch if the stream has written all that it has, or else when it has.
// Called with mu held.
func (l *lane) sendIdle() {
	if len(l.batch.frames) == 0 || !l.ready() || l.batch.gathers {
		return
	}
	busy, err := l.stream.TrySendIdle(l.batch.bytes, l.peer.answers.Swap(false), l.idle)
	if l.batch.gathers = busy; !busy {
		l.tried(err)
	}
}

// idle hears that the stream has written all that it had.
func (l *lane) idle() {
	l.peer.mu.Lock()
	defer l.peer.unlock()
	l.batch.gathers = false
	l.send()
}

// send hands the batch to the stream, or to a pump if the stream has no room. Called with
// mu held.
func (l *lane) send() {
	if len(l.batch.frames) == 0 || !l.ready() {
		return
	}
	l.tried(l.stream.TrySend(l.batch.bytes))
}

// tried hears what the stream said of the batch. Called with mu held.
func (l *lane) tried(err error) {
	switch {
	case err == nil && !l.known:
		l.batch.early = true
	case err == nil:
		l.taken()
	case errors.Is(err, messages.ErrWouldBlock):
		l.batch.waiting = true
		stream, bytes := l.stream, l.batch.bytes
		l.peer.remote.sys.Pumps.Go(func() { l.push(stream, bytes) })
	default:
		l.fail()
	}
}

// push is a pump: it waits until the stream takes the batch.
func (l *lane) push(stream LaneStream, bytes []byte) {
	err := stream.Send(context.Background(), bytes) // ends with the stream
	l.peer.mu.Lock()
	defer l.peer.unlock()
	if !l.batch.waiting || l.stream != stream {
		return // the lane was given up, or the stream refused
	}
	l.batch.waiting = false
	if l.tried(err); l.ready() {
		l.peer.resume(l)
	}
}

// fail ends the lane, since its stream has refused the batch: the pump that listens says
// why, and then what is in the batch waits again. Called with mu held.
func (l *lane) fail() {
	l.over, l.batch.waiting = true, false
	l.peer.told = append(l.peer.told, l.stream.Reset)
}

// taken empties the batch. Called with mu held.
func (l *lane) taken() {
	bytes := l.batch.bytes[:0]
	if l.batch.lent != nil {
		l.batch.lent.free()
		bytes = nil
	}
	if cap(bytes) > keepBuffer {
		bytes = nil
	}
	l.batch = laneBatch{bytes: bytes, frames: l.batch.frames[:0], gathers: l.batch.gathers}
}

// untaken ends the lane, since its stream is over, and has the messages of the batch wait
// again, before all others. Called with mu held.
func (l *lane) untaken() {
	l.over = true
	n := min(len(l.batch.frames), l.frames.len()) // as many, unless the peer says that it has handled some
	for _, b := range slices.Backward(l.batch.frames[len(l.batch.frames)-n:]) {
		sent := l.frames.popLast(&sentRooms)
		l.sent--
		if b.kind == frameFlush {
			continue
		}
		out := l.peer.remake(sent, b, l.batch.bytes[b.start:b.end])
		f := l.peer.flow(out.frame.target)
		f.queue.pushFirst(&outgoingRooms, out)
		f.queued += out.cost
		l.peer.queued += out.cost
		f.lane = l // so that it is found when the lane is dropped
	}
	l.batch = laneBatch{}
}

// remake makes a message anew that was written.
func (p *peer) remake(sent sentFrame, b batched, body []byte) *outgoing {
	out := newOutgoing(sent.pid)
	out.message, out.confirm = sent.message, sent.confirm
	if b.kind != frameTell {
		out.about(b.kind, string(body))
		return out
	}
	header, _, sender := actor.UnwrapEnvelope(sent.message)
	out.buffer = append(out.buffer, body...)
	_ = p.head(out, b.typ, header, sender) // there was no error before
	return out
}
