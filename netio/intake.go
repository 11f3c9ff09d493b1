package netio

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// When an [intake] says what it has without being asked.
const (
	ackBytes = 64 << 10              // after so many bytes
	ackDelay = 20 * time.Millisecond // after the first message that it said nothing of
)

// errLeft ends the pump of an attachment that counts no more.
var errLeft = fmt.Errorf("%w: attached elsewhere", messages.ErrCanceled)

// intake is the receiving half of a resumable stream: the queue of an [inbox]
// that the pumps of one attachment after the other fill. Only what the present
// one delivers counts.
//
// Under the mutex of queue, but for what is atomic.
type intake struct {
	queue   *inbox
	journal *journal // says what has arrived
	unsaid  int      // bytes that came since the last acknowledgment was wanted
	timer   *time.Timer
	waits   bool          // timer runs
	taken   atomic.Uint64 // frames that have arrived, with the end
	ended   atomic.Bool   // the end has come
	stopped atomic.Bool   // the program wants no more
}

func newIntake(maxBody int) *intake {
	queue := newInbox(nil, maxBody, nil)
	queue.lasting = true
	return &intake{queue: queue}
}

// attach lets an attachment deliver, and no other. It returns how many frames
// there are, which stays so until this attachment delivers.
func (k *intake) attach(from *inbox) (taken uint64) {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	k.attachNow(from)
	if from != nil {
		k.queue.tell() // the limit may have moved since the sender was told with the opening
	}
	return k.taken.Load()
}

func (k *intake) attachNow(from *inbox) {
	k.queue.from = from
	if from != nil {
		k.queue.tell, k.queue.pace, k.queue.bulk = from.tell, from.pace, from.bulk
	} else {
		k.queue.tell = func() {}
	}
}

// again begins to count what comes anew, for a QUIC stream that is to be attached. It
// returns the limit that its sender is to be told.
func (k *intake) again(*inbox) uint64 {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	return k.anew()
}

func (k *intake) anew() uint64 {
	k.queue.part, k.queue.units = 0, 0
	return k.queue.window.again(k.queue.bytes)
}

// accept lets an attachment deliver that the other side opened. It returns how many
// frames there are, and the limit that their sender is to be told.
func (k *intake) accept(from *inbox) (taken, limit uint64) {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	k.attachNow(from)
	return k.taken.Load(), k.anew()
}

// wanted is [inbox.wanted] for an attachment.
func (k *intake) wanted(from *inbox, put uint64, n int) {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	if k.queue.from == from && k.queue.window.want(put, n, k.queue.bytes, k.queue.claimed) {
		k.queue.tell()
	}
}

// grant returns what the sender of an attachment is to be told, and whether it is
// the present one.
func (k *intake) grant(from *inbox) (grant, bool) {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	return grant{limit: k.queue.window.limit, come: k.queue.window.come + k.queue.part}, k.queue.from == from
}

// deliver takes n whole messages of an attachment.
func (k *intake) deliver(from *inbox, run run, n uint64) error {
	k.queue.mu.Lock()
	err := k.take(from, run, n)
	k.queue.hand() // gives the mutex back while messages are used
	k.queue.mu.Unlock()
	return err
}

// take does so but for handing them to who takes all messages. Called with the mutex held.
func (k *intake) take(from *inbox, run run, n uint64) error {
	q := k.queue
	switch {
	case q.from != from:
		return errLeft
	case k.ended.Load():
		return fmt.Errorf("%w: message after the end", messages.ErrProtocol)
	case k.stopped.Load() || q.err != nil:
		if !run.counted {
			q.count(len(run.frames)) // a bulk sender waits to hear of it
		}
		return nil
	}
	if err := q.put(run, n); err != nil {
		return err
	}
	k.taken.Add(n)
	if k.unsaid += len(run.frames); k.unsaid >= ackBytes {
		k.unsaid = 0
		k.journal.acknowledge()
	} else if !k.waits {
		k.later()
	}
	return nil
}

// later has what came acknowledged soon. Called with the mutex held.
func (k *intake) later() {
	k.waits = true
	if k.timer != nil {
		k.timer.Reset(ackDelay)
		return
	}
	k.timer = time.AfterFunc(ackDelay, func() {
		k.queue.mu.Lock()
		k.waits, k.unsaid = false, 0
		k.queue.mu.Unlock()
		k.journal.acknowledgeUntold()
	})
}

// control acts on a frame that is no message.
func (k *intake) control(from *inbox, field int, body []byte) error {
	if field == fieldEnd {
		return k.takeEnd(from, body)
	}
	var ack conecv1.StreamAck
	if err := proto.Unmarshal(body, &ack); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	k.queue.mu.Lock()
	left := k.queue.from != from
	k.queue.mu.Unlock()
	if left {
		return errLeft
	}
	return k.journal.heard(ack.GetReceived(), ack.GetAsks(), ack.GetStopped())
}

// takeEnd takes the end of the direction.
func (k *intake) takeEnd(from *inbox, body []byte) error {
	var end conecv1.StreamEnd
	if err := proto.Unmarshal(body, &end); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	k.queue.mu.Lock()
	switch taken := k.taken.Load(); {
	case k.queue.from != from:
		k.queue.mu.Unlock()
		return errLeft
	case k.stopped.Load():
		k.queue.mu.Unlock()
		return nil
	case k.ended.Load() || end.GetMessages() != taken:
		k.queue.mu.Unlock()
		return fmt.Errorf("%w: end after %d messages, %d arrived", messages.ErrProtocol, end.GetMessages(), taken)
	}
	k.ended.Store(true)
	k.taken.Add(1)
	k.queue.count(frameSize(len(body)))
	k.queue.mu.Unlock()
	_ = k.queue.finish(io.EOF) // before anybody else knows of it
	_ = from.finish(io.EOF)
	k.journal.acknowledge()
	return nil
}

// stop drops what waits and takes no more.
func (k *intake) stop(why error) {
	k.stopped.Store(true)
	k.queue.discard(why)
	k.stopTimer()
	k.journal.acknowledge()
}

// end lets the program receive what has arrived, and then err.
func (k *intake) end(err error) {
	_ = k.queue.finish(err)
	k.stopTimer()
}

func (k *intake) stopTimer() {
	k.queue.mu.Lock()
	defer k.queue.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
	}
	k.waits = true // it is not started again
}

// state returns how many frames have arrived, and whether no more are taken.
func (k *intake) state() (received uint64, stopped bool) {
	return k.taken.Load(), k.stopped.Load()
}

// done reports whether the direction is over in order.
func (k *intake) done() bool { return k.stopped.Load() || k.ended.Load() }
