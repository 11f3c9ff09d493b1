package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// Frames go to the stream together in one message when it has written what it has, without
// a timer: what comes alone goes alone and at once, what comes faster than it is written
// gathers.
const (
	batchBytes   = 16 << 10 // from which on a batch is sent
	batchedFrame = 4 << 10  // bytes of a message from which on it goes alone
	keepBatch    = 64 << 10 // bytes of a batch whose memory is used again
)

// laneBatch is frames of a lane that the stream has not taken. Guarded by mu of the peer.
type laneBatch struct {
	bytes  []byte    // of the frames
	frames []batched // what they are
	lent   *outgoing // the message whose buffer ends with bytes; nil if they are the lane's own
	given  bool      // the stream may have that buffer, and frees the message
}

// batched is a frame in a batch.
type batched struct {
	typ        string // of a tell
	start, end uint32 // of the body, in the bytes of the batch
	kind       byte
}

// isFull reports whether no more is to be added.
func (b *laneBatch) isFull() bool { return b.lent != nil || len(b.bytes) >= batchBytes }

// empty makes it ready for other frames.
func (b *laneBatch) empty() {
	bytes := b.bytes[:0]
	if b.lent != nil && !b.given {
		b.lent.free()
	}
	if b.lent != nil || cap(bytes) > keepBatch {
		bytes = nil
	}
	*b = laneBatch{bytes: bytes, frames: b.frames[:0]}
}

// ready reports whether a frame can be written. While the stream has no room, frames gather in
// another batch: so the memory of what waits is next to each other, and who sends it need not
// queue. Called with mu held.
func (l *lane) ready() bool {
	return l.stream != nil && !l.over && !l.early && (!l.pushing || l.known && !l.batch.isFull())
}

// write writes a frame, and frees the message; the lane must be ready. It returns false if
// the frame has to wait. Called with mu held.
func (l *lane) write(out *outgoing) bool {
	alone := out.isAlone()
	full := min(batchBytes, l.peer.remote.config.MaxMessage-maxHead-len(out.buffer))
	if len(l.batch.frames) > 0 && (alone || len(l.batch.bytes) >= full) {
		if l.send(); len(l.batch.frames) > 0 || !l.ready() {
			return false
		}
	}
	out.frame.flush = out.confirm != nil
	l.scratch = l.frame(l.scratch[:0], out)
	b := batched{kind: out.frame.kind, typ: out.frame.typ}
	if head := len(l.scratch); alone && head+netio.GiveRoom <= headRoom {
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
	if !l.gathers && !l.pushing { // else it is sent when the stream says so
		l.peer.unsent = true
	}
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
	if !l.sends() || l.gathers {
		return
	}
	busy, err := l.stream.TrySendIdle(l.batch.bytes, l.peer.answers.Swap(false), l.idle)
	if l.gathers = busy; !busy {
		l.tried(err)
	}
}

// sends reports whether there is a batch that may be sent. Called with mu held.
func (l *lane) sends() bool {
	return len(l.batch.frames) > 0 && l.stream != nil && !l.over && !l.early && !l.pushing
}

// idle hears that the stream has written all that it had.
func (l *lane) idle() {
	l.peer.mu.Lock()
	defer l.peer.unlock()
	l.gathers = false
	l.send()
}

// send hands the batch to the stream, or to a pump if the stream has no room. Called with
// mu held.
func (l *lane) send() {
	if !l.sends() {
		return
	}
	b := &l.batch
	if b.given = l.gives(b); b.given {
		l.tried(l.stream.TryGive(b.lent.buffer, b.at(), b.lent.free))
	} else {
		l.tried(l.stream.TrySend(b.bytes))
	}
}

// gives reports whether the stream may have the memory of a batch: it is not worth it if little
// of that is used, and a peer that has not accepted the stream may refuse what it got. Called
// with mu held.
func (l *lane) gives(b *laneBatch) bool {
	return b.lent != nil && l.known && b.lent.isLarge()
}

// at is where in the buffer of the message that is lent the batch begins.
func (b *laneBatch) at() int { return len(b.lent.buffer) - len(b.bytes) }

// tried hears what the stream said of the batch. Called with mu held.
func (l *lane) tried(err error) {
	switch {
	case err == nil && !l.known:
		l.early = true
	case err == nil:
		l.batch.empty()
	case errors.Is(err, messages.ErrWouldBlock):
		stream, batch := l.stream, l.toPush()
		l.peer.remote.sys.Pumps.Go(func() { l.push(stream, batch) })
	default:
		l.fail()
	}
}

// toPush makes the batch the one that a pump has the stream take. Called with mu held.
func (l *lane) toPush() laneBatch {
	l.batch, l.pushed, l.pushing = l.pushed, l.batch, true
	l.pushed.given = l.gives(&l.pushed)
	return l.pushed
}

// push is a pump: it waits until the stream takes a batch, and those that gathered meanwhile.
func (l *lane) push(stream LaneStream, batch laneBatch) {
	for more := true; more; {
		ctx := context.Background() // it ends with the stream
		var err error
		if batch.given {
			err = stream.Give(ctx, batch.lent.buffer, batch.at(), batch.lent.free)
		} else {
			err = stream.Send(ctx, batch.bytes)
		}
		batch, more = l.pushedTo(stream, err)
	}
}

// pushedTo hears what the stream said of the batch that a pump handed to it, and returns the
// next one if there is one.
func (l *lane) pushedTo(stream LaneStream, err error) (next laneBatch, more bool) {
	l.peer.mu.Lock()
	defer l.peer.unlock()
	if !l.pushing || l.stream != stream {
		return next, false // the lane was given up, or the stream refused
	}
	l.pushing = false
	switch {
	case err != nil:
		l.fail()
		return next, false
	case !l.known: // nothing has gathered
		l.batch, l.pushed, l.early = l.pushed, l.batch, true
		return next, false
	}
	l.pushed.empty()
	if more = len(l.batch.frames) > 0; more {
		next = l.toPush()
	}
	l.peer.resume(l)
	return next, more
}

// fail ends the lane, since its stream has refused the batch: the pump that listens says
// why, and then what is in the batch waits again. Called with mu held.
func (l *lane) fail() {
	l.over, l.pushing = true, false
	l.peer.told = append(l.peer.told, l.stream.Reset)
}

// untaken ends the lane, since its stream is over, and has the messages of a batch wait
// again, before all others. Called with mu held.
func (l *lane) untaken(batch *laneBatch) {
	l.over = true
	n := min(len(batch.frames), l.frames.len()) // as many, unless the peer says that it has handled some
	for _, b := range slices.Backward(batch.frames[len(batch.frames)-n:]) {
		sent := l.frames.popLast(&sentRooms)
		l.sent--
		if b.kind == frameFlush {
			continue
		}
		out := l.peer.remake(sent, b, batch.bytes[b.start:b.end])
		f := l.peer.flow(out.frame.target)
		f.queue.pushFirst(&outgoingRooms, out)
		f.queued += out.cost
		l.peer.queued += out.cost
		f.lane = l // so that it is found when the lane is dropped
	}
	*batch = laneBatch{}
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
