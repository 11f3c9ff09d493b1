package netio

import (
	"context"
	"errors"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TrySend is Send if there is space for the message at once; else it returns an
// error that matches [messages.ErrWouldBlock], and nothing is sent.
func (s *Stream) TrySend(message []byte) error {
	if loose := s.loose.Load(); loose != nil {
		return loose.trySend(message)
	}
	if err := s.limits.check(message); err != nil {
		return err
	}
	return s.out.trySend(message)
}

// trySend queues a message if no sender waits and it fits.
func (o *outbox) trySend(message []byte) error {
	size := frameSize(len(message))
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.over(); err != nil {
		return err
	}
	if len(o.space) > 0 || !o.fits(size) {
		return messages.ErrWouldBlock
	}
	o.queue(fieldMessages, message, size)
	return nil
}

// overContext is a context that has ended: what is there is received, nothing is waited for.
var overContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// TryReceive is Receive if there is a message or an end at once; else it returns
// an error that matches [messages.ErrWouldBlock].
func (s *Stream) TryReceive() ([]byte, error) {
	message, err := s.Receive(overContext)
	return message, wouldBlock(err)
}

// Terms returns what was agreed when the stream opened: its purpose, delivery,
// direction and urgency. For the side that accepts, after AwaitOpen.
func (s *Stream) Terms() *conecv1.OpenStream { return s.opened }

// Stats returns how many messages the stream has carried so far. They stay after
// its end.
func (s *Stream) Stats() DeliveryStats {
	if loose := s.loose.Load(); loose != nil {
		return loose.deliveryStats()
	}
	s.out.mu.Lock()
	stats := DeliveryStats{Sent: s.out.total, Confirmed: s.out.credit.grant.messages}
	s.out.mu.Unlock()
	s.in.mu.Lock()
	stats.Delivered = s.in.total
	s.in.mu.Unlock()
	return stats
}

// TrySend is like [Stream.TrySend]; space also ends where too much is kept.
func (r *Resumable) TrySend(message []byte) error { return r.trySend(message, gift{}) }

// TryGive is [Resumable.Give] as TrySend is Send.
func (r *Resumable) TryGive(buffer []byte, at int, used func()) error {
	return r.trySend(buffer[at:], gift{buffer, used})
}

func (r *Resumable) trySend(message []byte, g gift) error {
	if err := r.limits.check(message); err != nil {
		return err
	}
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.trySend(message, g, false)
}

// trySend queues a message if no sender waits and it fits. If prompt is set, it is written here if
// it can be. Called with mu held.
func (j *journal) trySend(message []byte, g gift, prompt bool) error {
	if err := j.over(); err != nil {
		return err
	}
	if len(j.space) > 0 || !j.fits(frameSize(len(message))) {
		j.ask()
		return messages.ErrWouldBlock
	}
	j.add(message, g)
	if !prompt || !j.writeNow() {
		j.startPump()
	}
	return nil
}

// promptBytes is the most that who sends writes itself: about a packet.
const promptBytes = 1 << 10

// writeNow writes what waits, if there is little of it and nothing else to write, and QUIC takes
// it at once. Called with mu held.
func (j *journal) writeNow() bool {
	if j.pumping || j.to == nil || j.opening != nil || j.due || j.asks {
		return false
	}
	frames := j.ledger.peek()
	if n := len(frames); n > promptBytes || n < j.ledger.waiting || j.credit.cut(frames) < n || !j.to.out.writer.tryWrite(frames) {
		return false
	}
	j.credit.put += uint64(len(frames))
	j.ledger.take(len(frames))
	j.ledger.wrote()
	return true
}

// TrySendIdle is TrySend, unless something is being written: then it is busy, and idle is
// called, once for all calls since, when that is over. It may send what has gathered, and
// must not block. If prompt is set, a small message is written by the caller and not by a
// goroutine that first has to wake up: it arrives sooner, but is in a packet of its own.
func (r *Resumable) TrySendIdle(message []byte, prompt bool, idle func()) (busy bool, err error) {
	if err := r.limits.check(message); err != nil {
		return false, err
	}
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pumping {
		j.idle = idle
		return true, nil
	}
	return false, j.trySend(message, gift{}, prompt)
}

// TryReceive is like [Stream.TryReceive].
func (r *Resumable) TryReceive() ([]byte, error) {
	message, err := r.Receive(overContext)
	return message, wouldBlock(err)
}

// Stats is like [Stream.Stats].
func (r *Resumable) Stats() DeliveryStats {
	r.journal.mu.Lock()
	stats := DeliveryStats{Sent: r.journal.messages(), Confirmed: r.journal.confirmedNow()}
	r.journal.mu.Unlock()
	q := r.intake.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	stats.Delivered = q.total
	return stats
}

// wouldBlock says that nothing was there, instead of that the context has ended.
func wouldBlock(err error) error {
	if errors.Is(err, context.Canceled) && !errors.Is(err, messages.ErrCanceled) {
		return messages.ErrWouldBlock
	}
	return err
}
