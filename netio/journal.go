package netio

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/conec-go/conec/messages"
)

// journal is the sending half of a resumable stream. What is sent is kept in a
// [ledger]; a pump writes it to the attachment, if there is one, together with
// what the other half, the [intake], wants to be acknowledged.
//
// Owned by any number of senders and one pump at a time, under mu, which is
// never held while the intake's is wanted.
type journal struct {
	keep   int // bytes that may be kept, not counting one oversized frame
	limit  int // bytes that may wait to be written while attached
	intake *intake
	failed func(to *Stream, err error) // told that writing failed; called without mu

	mu       sync.Mutex
	ledger   ledger
	memory   memory        // for what is kept
	to       *Stream       // the attachment; nil while there is none
	credit   credit        // what may be written to it
	opening  []byte        // frame that goes first
	pumping  bool          // a pump runs
	idle     func()        // to be called when it has nothing more to write; nil: nothing
	ends     bool          // the last frame of the ledger is the end
	stopped  bool          // the other side takes no more
	asks     bool          // the other side is to say what it has, once it has everything
	due      bool          // this side is to say what it has
	told     uint64        // what it said last
	toldStop bool          // it said, on this attachment, that it takes no more
	finished bool          // the QUIC stream was ended
	err      error         // why nothing can be sent any more
	confirms int           // calls that wait for changed
	changed  chan struct{} // closed and replaced when more is confirmed, if somebody waits
	space    turns
	doubted  *messages.DoubtError // what was not confirmed in the end
}

func newJournal(buffers *bufferPool, limit, keep int, in *intake) *journal {
	j := &journal{keep: keep, limit: limit, intake: in, ledger: newLedger(buffers, keep), changed: make(chan struct{})}
	j.memory.freed = j.freed
	return j
}

// send queues one message, which may be a gift. It blocks while too much is kept, until ctx
// ends: then nothing of it was or will be sent.
func (j *journal) send(ctx context.Context, message []byte, g gift) error {
	size := frameSize(len(message))
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.over(); err != nil {
		return err
	}
	if len(j.space) > 0 || !j.fits(size) {
		err := j.space.await(ctx, &j.mu, func() bool {
			if j.fits(size) {
				return true
			}
			j.ask()
			return false
		}, func() bool { return j.over() != nil })
		if err != nil {
			return err
		}
	}
	if err := j.over(); err != nil {
		return err
	}
	j.add(message, g)
	j.startPump()
	return nil
}

// add queues a message. Called with mu held.
func (j *journal) add(message []byte, g gift) {
	if g.used != nil {
		j.ledger.give(g, message)
	} else {
		j.ledger.add(fieldMessages, message)
	}
}

// fits reports whether a frame of size bytes may be queued now.
func (j *journal) fits(size int) bool {
	l := &j.ledger
	if l.acked == l.next {
		return true
	}
	return l.bytes+size <= j.keep && (j.to == nil || l.waiting == 0 || l.waiting+size <= j.limit) && j.memory.has(l.bytes+size)
}

// freed hears that there is memory again that was missing.
func (j *journal) freed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.memory.granted(j.err != nil)
	j.wake()
}

// over returns why nothing can be sent any more, nil if it can.
func (j *journal) over() error {
	if j.err == nil && j.ends {
		return fmt.Errorf("%w: sending side", messages.ErrClosed)
	}
	return j.err
}

// wake lets the first of the senders who wait look again, and gives memory back that
// is not needed. Called with mu held.
func (j *journal) wake() {
	j.memory.trim(j.ledger.bytes, j.err != nil || j.doneNow())
	j.space.wake()
}

// ask has the other side asked what it has. Called with mu held.
func (j *journal) ask() {
	if j.ledger.acked < j.ledger.next {
		j.asks = true
		j.startPump()
	}
}

// messages is how many messages were sent. Called with mu held.
func (j *journal) messages() uint64 {
	if j.ends {
		return j.ledger.next - 1
	}
	return j.ledger.next
}

// confirmed returns how many messages the other side has for sure.
func (j *journal) confirmed() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.confirmedNow()
}

func (j *journal) confirmedNow() uint64 {
	if j.doubted != nil {
		return j.doubted.Confirmed
	}
	return min(j.ledger.acked, j.messages())
}

// confirm blocks until everything sent so far is confirmed, it can not be any
// more, or ctx ends.
func (j *journal) confirm(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for target := j.messages(); j.confirmedNow() < target; {
		switch {
		case j.doubted != nil:
			return j.doubted
		case ctx.Err() != nil:
			return ctx.Err()
		}
		j.ask()
		changed := j.changed
		j.confirms++
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		j.mu.Lock()
		j.confirms--
	}
	return nil
}

// tell lets everybody look again who waits for confirmation. Called with mu held.
func (j *journal) tell() {
	if j.confirms > 0 {
		close(j.changed)
		j.changed = make(chan struct{})
	}
}

// closeSend ends the direction after everything queued.
func (j *journal) closeSend() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ends || j.err != nil {
		return
	}
	j.ledger.add(fieldEnd, appendUint(nil, 1, j.ledger.next))
	j.ends = true
	j.wake()
	j.startPump()
}

// attach has everything written to an attachment that comes after the first
// received frames. opening goes before it. due tells whether the other side
// has to be told anew what this side has; it knows of told.
func (j *journal) attach(to *Stream, received, told, limit uint64, opening []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.stopped && j.err == nil {
		if err := j.ledger.check(received); err != nil {
			return err
		}
		j.ledger.rewind(received)
	}
	j.to, j.opening = to, opening
	j.credit = credit{stream: to, limit: limit}
	j.told, j.toldStop, j.due, j.finished = told, false, false, false
	j.asks = j.confirms > 0 || len(j.space) > 0
	j.wake()
	j.tell()
	j.startPump()
	return nil
}

// detach leaves an attachment. What is written to it from now on is lost.
func (j *journal) detach() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.to, j.opening = nil, nil
	j.wake() // more may wait while nothing can be written
}

// granted takes over what the other side lets this one send on an attachment.
func (j *journal) granted(to *Stream, g grant) {
	j.mu.Lock()
	if j.to == to {
		j.credit.take(g)
		j.startPump()
	}
	j.mu.Unlock()
	to.out.writer.came(g.come)
}

// heard acts on what the other side says it has.
func (j *journal) heard(received uint64, asks, stopped bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && !j.stopped {
		if err := j.ledger.ack(received); err != nil {
			return err
		}
		if stopped && !j.doneNow() {
			j.fail(remoteError{fmt.Errorf("%w: the other side receives no more", messages.ErrClosed)})
			j.stopped = true
			if j.to != nil {
				j.to.out.writer.end()
			}
		}
		j.wake()
		j.tell()
	}
	j.due = j.due || asks
	j.startPump()
	return nil
}

// acknowledge has the other side told what this side has.
func (j *journal) acknowledge() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.due = true
	j.startPump()
}

// acknowledgeUntold does so unless the other side was told meanwhile.
func (j *journal) acknowledgeUntold() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if received, _ := j.intake.state(); received != j.told {
		j.due = true
		j.startPump()
	}
}

// everythingRead notes that the other side has read all that was sent, which the
// channel has learned.
func (j *journal) everythingRead() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ends && j.err == nil {
		j.ledger.handed = j.ledger.next
		_ = j.ledger.ack(j.ledger.next) // not more than was sent
		j.wake()
		j.tell()
	}
}

// done reports whether the direction is over in order.
func (j *journal) done() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.doneNow()
}

func (j *journal) doneNow() bool {
	return j.stopped || j.ends && j.ledger.acked == j.ledger.next
}

// end makes err the result of every later send and of unanswered confirmations.
func (j *journal) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fail(err)
	j.to, j.opening = nil, nil
}

// fail ends sending. Called with mu held.
func (j *journal) fail(err error) {
	if j.err == nil && !j.doneNow() {
		sent, confirmed := j.messages(), j.confirmedNow()
		j.doubted = &messages.DoubtError{Confirmed: confirmed, InDoubt: sent - confirmed, Err: err}
		j.err = j.doubted
		j.ledger.clear()
	}
	j.wake()
	j.tell()
}

func (j *journal) startPump() {
	if !j.pumping && j.to != nil {
		j.pumping = true
		go j.pump()
	}
}

// pump writes until there is nothing to write. It blocks on the QUIC stream on
// behalf of all senders and of the intake.
func (j *journal) pump() {
	var scratch [maxAckFrame]byte
	j.mu.Lock()
	for {
		to := j.to
		frames, counts := j.nextFrames(scratch[:0])
		if frames == nil && j.idle != nil {
			idle := j.idle
			j.idle = nil
			j.mu.Unlock()
			idle()
			j.mu.Lock()
			continue
		}
		if frames == nil {
			if to != nil && j.ledger.waiting == 0 && j.isFinal() {
				j.finished, j.to = true, nil
				j.mu.Unlock()
				_ = to.raw.Close() // only says that the stream was reset before
				j.mu.Lock()
				continue // somebody may have found it busy meanwhile
			}
			break
		}
		j.mu.Unlock()
		err := to.out.writer.write(frames, counts)
		j.mu.Lock()
		j.ledger.wrote()
		if err != nil && j.to == to {
			j.to = nil
			j.mu.Unlock()
			j.failed(to, err)
			j.mu.Lock()
		}
	}
	j.pumping = false
	j.mu.Unlock()
}

// nextFrames returns what is to be written next, and whether that counts against
// the credit; nil if nothing may be. Called with mu held.
func (j *journal) nextFrames(scratch []byte) (frames []byte, counts bool) {
	if j.to == nil {
		return nil, false
	}
	if frames := j.opening; frames != nil {
		j.opening = nil
		return frames, false
	}
	received, stopped := j.intake.state()
	if j.due && j.ledger.waiting == 0 && j.asks {
		j.due = false // one frame for both
	} else if j.due || stopped && !j.toldStop {
		j.due, j.told, j.toldStop = false, received, stopped
		return appendAck(scratch, received, false, stopped), false
	}
	if n := j.credit.cut(j.ledger.peek()); n > 0 {
		j.credit.put += uint64(n)
		frames = j.ledger.take(n)
		j.wake()
		return frames, true
	}
	if j.asks && j.ledger.waiting == 0 { // what has no credit would be asked for again and again
		j.asks, j.told, j.toldStop = false, received, stopped
		return appendAck(scratch, received, true, stopped), false
	}
	return nil, false
}

// isFinal reports whether both directions are done and the other side was told
// so. Called with mu held.
func (j *journal) isFinal() bool {
	received, stopped := j.intake.state()
	return !j.finished && j.doneNow() && j.intake.done() && received == j.told && (!stopped || j.toldStop)
}

// maxAckFrame is the size in bytes of the longest frame that acknowledges.
const maxAckFrame = 2 + 1 + 10 + 2 + 2

// appendAck appends a frame with the wire encoding of a StreamAck.
func appendAck(dst []byte, received uint64, asks, stopped bool) []byte {
	var body [maxAckFrame]byte
	ack := appendUint(body[:0], 1, received)
	if asks {
		ack = appendUint(ack, 2, 1)
	}
	if stopped {
		ack = appendUint(ack, 3, 1)
	}
	return appendFrame(dst, fieldAck, ack)
}

// appendUint appends a field of a protobuf message.
func appendUint(dst []byte, field protowire.Number, value uint64) []byte {
	if value == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), value)
}

// doubt returns what is in doubt if the stream is over because of err.
func (j *journal) doubt(err error) *messages.DoubtError {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.doubted != nil {
		return j.doubted
	}
	return &messages.DoubtError{Confirmed: j.confirmedNow(), Err: err}
}
