package actorstest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/conec-go/conec/messages"
)

// laneRoom is how many messages one direction of a lane holds until its sender waits.
const laneRoom = 64

// end is one end of a lane: an [actors.LaneStream]. Its fields have no owner but mu of the
// net, under which all of them are, those of the other end too.
type end struct {
	mu      *sync.Mutex
	link    *link
	other   *end
	owner   *process
	address string // of the other end's actors

	queue   []parcel      // on its way to this end, in order
	there   int           // how many of them have arrived
	over    error         // why this end is over, if it was ended from here
	changed chan struct{} // closed when there is something new to look at; nil if nobody waits
}

// parcel is a message on its way, or the end of the lane, which is always the last one.
type parcel struct {
	body []byte
	end  error
	at   time.Time // when it arrives, if nothing before it does later and the link is not held
}

// newLane returns both ends of a lane.
func newLane(l *link, opener, accepter *process) *end {
	a := &end{mu: l.mu, link: l, owner: opener, address: accepter.Address()}
	b := &end{mu: l.mu, link: l, owner: accepter, address: opener.Address()}
	a.other, b.other = b, a
	return a
}

// Send implements actors.LaneStream.
func (e *end) Send(ctx context.Context, message []byte) error {
	for {
		e.mu.Lock()
		err := e.post(message)
		if !errors.Is(err, messages.ErrWouldBlock) {
			e.mu.Unlock()
			return err
		}
		changed := e.await()
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TrySend implements actors.LaneStream.
func (e *end) TrySend(message []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.post(message)
}

// Give implements actors.LaneStream. Who uses the memory all the same finds it overwritten.
func (e *end) Give(ctx context.Context, buffer []byte, at int, used func()) error {
	return taken(e.Send(ctx, buffer[at:]), buffer, used)
}

// TryGive implements actors.LaneStream.
func (e *end) TryGive(buffer []byte, at int, used func()) error {
	return taken(e.TrySend(buffer[at:]), buffer, used)
}

// taken gives the memory of a message back, if there was no error, and returns the error.
func taken(err error, buffer []byte, used func()) error {
	if err == nil {
		overwrite(buffer)
		used()
	}
	return err
}

// overwrite makes memory useless for who should not use it any more.
func overwrite(memory []byte) {
	for i := range memory {
		memory[i] = 0xdb
	}
}

// TrySendIdle implements actors.LaneStream: nothing is ever being written.
func (e *end) TrySendIdle(message []byte, _ bool, _ func()) (busy bool, err error) {
	return false, e.TrySend(message)
}

// Receive returns the next message.
func (e *end) Receive(ctx context.Context) ([]byte, error) {
	for {
		e.mu.Lock()
		next, wait := e.next(time.Now())
		if wait == 0 {
			e.mu.Unlock()
			return next.body, next.end
		}
		changed := e.await()
		e.mu.Unlock()
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ReceiveAll implements actors.LaneStream. Who keeps a message all the same finds it overwritten.
func (e *end) ReceiveAll(ctx context.Context, use func(message []byte, keep bool) error) error {
	for {
		message, err := e.Receive(ctx)
		if err == nil {
			err = use(message, false)
		}
		if err != nil {
			return err
		}
		overwrite(message)
	}
}

// Close implements actors.LaneStream.
func (e *end) Close() { e.finish(io.EOF, false) }

// Reset implements actors.LaneStream.
func (e *end) Reset() { e.finish(messages.ErrReset, true) }

// Answered implements actors.LaneStream: who opens a lane knows already.
func (e *end) Answered(context.Context) (refused bool, err error) { return false, nil }

// Address implements actors.LaneStream.
func (e *end) Address() string { return e.address }

func (e *end) finish(why error, atOnce bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leave(why, atOnce)
}

// leave ends the lane from this end. The other one learns of it as of a message: after what
// is on its way to it, which is lost if it is to be at once. Called with mu held, like all
// that follows.
func (e *end) leave(why error, atOnce bool) {
	if e.owner.gone || e.over != nil {
		return
	}
	e.over, e.queue, e.there = why, nil, 0
	e.notify()
	if atOnce {
		e.other.lose(time.Now())
	}
	e.other.push(parcel{end: why})
}

// post sends a message, whatever becomes of it. What a process that is gone says reaches
// nobody.
func (e *end) post(message []byte) error {
	if e.owner.gone {
		return nil
	}
	if err := e.ended(time.Now()); err != nil {
		return err
	}
	if len(e.other.queue) >= laneRoom {
		return messages.ErrWouldBlock
	}
	e.other.push(parcel{body: append([]byte{}, message...)})
	return nil
}

// push puts something on its way to this end.
func (e *end) push(p parcel) {
	if e.over != nil || e.closing() != nil {
		return // nobody will hear it
	}
	p.at = time.Now().Add(e.link.delay)
	e.queue = append(e.queue, p)
	e.notify()
}

// next takes what has arrived. Otherwise it returns how long that takes: negative if it is
// not known. A process that is gone hears nothing, not even that it is.
func (e *end) next(now time.Time) (next parcel, wait time.Duration) {
	e.settle(now)
	switch {
	case e.owner.gone:
	case e.over != nil:
		return parcel{end: e.over}, 0
	case e.there > 0:
		next = e.queue[0]
		if next.end == nil {
			e.queue, e.there = e.queue[1:], e.there-1
			e.other.notify() // there is room
		} else {
			e.notify() // who sends has to know, too
		}
		return next, 0
	case len(e.queue) > 0 && !e.link.held:
		return parcel{}, e.queue[0].at.Sub(now)
	}
	return parcel{}, -1
}

// settle notes what has arrived. Nothing overtakes.
func (e *end) settle(now time.Time) {
	for !e.link.held && e.there < len(e.queue) && !e.queue[e.there].at.After(now) {
		e.there++
	}
}

// lose loses what has not arrived.
func (e *end) lose(now time.Time) {
	e.settle(now)
	e.queue = e.queue[:e.there]
}

// cut ends the lane for this end, which learns of it at once.
func (e *end) cut(now time.Time) {
	e.lose(now)
	if e.over == nil && e.closing() == nil {
		e.queue = append(e.queue, parcel{end: messages.ErrUnreachable, at: now})
		e.there++
	}
	e.notify()
}

// closing returns why the lane will end for this end, nil if it is not known to.
func (e *end) closing() error {
	if n := len(e.queue); n > 0 {
		return e.queue[n-1].end
	}
	return nil
}

// ended returns why the lane has ended for this end, nil if it has not.
func (e *end) ended(now time.Time) error {
	if e.over != nil {
		return e.over
	}
	if e.settle(now); e.there == len(e.queue) {
		return e.closing()
	}
	return nil
}

// isOver reports whether there is no use any more in remembering the lane.
func (e *end) isOver() bool {
	knows := func(e *end) bool {
		return e.owner.gone || e.over != nil || e.closing() != nil && e.there == len(e.queue)
	}
	return knows(e) && knows(e.other)
}

// await returns what is closed when there is something new to look at.
func (e *end) await() <-chan struct{} {
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

func (e *end) notify() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}
