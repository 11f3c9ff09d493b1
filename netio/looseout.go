package netio

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Sizes in bytes.
const (
	packetSize  = 1100      // what surely fits into one packet, beside what is around it
	writeInLine = 128 << 10 // larger messages are written by goroutines of their own
	maxItemHead = 4 * binary.MaxVarintLen64
)

// looseOut is the sending half of a loose stream, under its mu.
type looseOut struct {
	waiting []item
	size    int // cost of what waits
	space   turns
	number  uint64 // of the next message
	copies  []item // that are sent when they are due
	held    int    // cost of copies
	timer   *time.Timer
	timerAt time.Duration // when it fires, 0 if it does not

	pumping bool   // a pump is at work, or the connection's pump has the stream on its list
	sent    uint64 // cost of the unordered messages that were sent
	limit   uint64 // of sent, as the receiver has told
	wanted  uint64 // sent and the cost of the next message when the receiver was asked for more
	flights []*flight
	gone    []goneRun // given up, and to be told
	telling bool      // a pump tells it

	complete uint64             // numbers below which all have come, as the receiver has told
	writing  int                // messages that are being written by goroutines of their own
	cancel   context.CancelFunc // ends the pump's wait for a QUIC stream

	ending  bool // no more will be sent
	endSaid bool
	err     error // why sending is over
}

// item is a message that waits to be sent, as it is put on a carrier: the time
// stamp if there is a deadline, for unordered messages the size, the message.
type item struct {
	number uint64
	at     time.Duration // when Send took it; of a copy, when it is due
	within time.Duration // its deadline, after at; 0: none
	bytes  []byte
	size   int  // of the message
	copied bool // this is the copy
}

func (i item) cost() int { return i.size + messageCost }

// late reports whether it is too late to send it.
func (i item) late(now time.Duration) bool { return i.within > 0 && now >= i.at+i.within }

// send queues a message. It blocks while too much waits, until ctx ends.
func (l *loose) send(ctx context.Context, message []byte, within time.Duration) error {
	if err := l.checkSize(len(message)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.out
	if len(o.space) > 0 || !l.fits(message) {
		fits, over := func() bool { return l.fits(message) }, func() bool { return o.over() != nil }
		if err := o.space.await(ctx, &l.mu, fits, over); err != nil {
			return err
		}
	}
	if err := o.over(); err != nil {
		return err
	}
	l.queue(message, within)
	return nil
}

// trySend queues a message if there is space for it.
func (l *loose) trySend(message []byte) error {
	if err := l.checkSize(len(message)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.over(); err != nil {
		return err
	}
	if len(l.out.space) > 0 || !l.fits(message) {
		return messages.ErrWouldBlock
	}
	l.queue(message, l.terms.deadline)
	return nil
}

func (l *loose) checkSize(size int) error {
	limit := l.head.limits.MaxMessage
	if l.terms.datagrams() && size > packetSize {
		limit = min(limit, l.carriers.maxDatagram()-maxItemHead)
	}
	if size > limit {
		return &messages.SizeError{Size: size, Limit: limit}
	}
	return nil
}

func (l *loose) fits(message []byte) bool {
	return l.out.size == 0 || l.out.size+cost(message) <= l.head.limits.SendBuffer
}

func (o *looseOut) over() error {
	if o.err == nil && o.ending {
		return fmt.Errorf("%w: sending side", messages.ErrClosed)
	}
	return o.err
}

// queue numbers a message and puts it on the list of its pump. Called with mu held.
func (l *loose) queue(message []byte, within time.Duration) {
	o := &l.out
	var now time.Duration
	if l.terms.deadline > 0 || l.terms.copyAfter > 0 {
		now = l.carriers.now()
	}
	it := item{number: o.number, at: now, within: within, size: len(message)}
	o.number++
	head := make([]byte, 0, maxItemHead+len(message))
	if l.terms.datagrams() {
		head = binary.AppendUvarint(head, l.head.ID())
		head = binary.AppendUvarint(head, it.number)
	}
	if l.terms.deadline > 0 {
		head = appendStamp(head, now, within, l.terms.deadline)
	}
	if !l.terms.datagrams() {
		head = binary.AppendUvarint(head, uint64(len(message)))
	}
	it.bytes = append(head, message...)
	o.waiting = append(o.waiting, it)
	o.size += it.cost()
	if l.terms.copyAfter > 0 {
		l.keepCopy(it)
	}
	if within > 0 {
		l.timerAt(it.at + within)
	}
	l.startPump()
}

// appendStamp appends when a message was sent, and its deadline if it has one of
// its own.
func appendStamp(b []byte, at, within, deadline time.Duration) []byte {
	stamp := uint64(at/time.Microsecond) << 1
	if within == deadline {
		return binary.AppendUvarint(b, stamp)
	}
	return appendUvarints(b, stamp|1, uint64(within/time.Microsecond))
}

// cutStamp takes that off the front of b.
func cutStamp(b []byte, deadline time.Duration) (at, within time.Duration, rest []byte, ok bool) {
	stamp, b, ok := cutVarint(b)
	own := uint64(deadline / time.Microsecond)
	if ok && stamp&1 != 0 {
		own, b, ok = cutVarint(b)
	}
	if !ok || stamp>>1 > maxSent || own > uint64(deadline/time.Microsecond) {
		return 0, 0, nil, false
	}
	return time.Duration(stamp>>1) * time.Microsecond, time.Duration(own) * time.Microsecond, b, true
}

// keepCopy keeps a message to send it again. If too many wait, the oldest is due.
func (l *loose) keepCopy(it item) {
	o := &l.out
	it.at += l.terms.copyAfter
	it.copied = true
	o.copies = append(o.copies, it)
	for o.held += it.cost(); o.held > l.head.limits.SendBuffer; {
		l.takeCopy()
	}
	l.setTimer()
}

// takeCopy moves the oldest copy to what waits.
func (l *loose) takeCopy() {
	o := &l.out
	it := o.copies[0]
	o.copies[0] = item{}
	o.copies = o.copies[1:]
	o.held -= it.cost()
	it.at -= l.terms.copyAfter
	o.waiting = append(o.waiting, it)
	o.size += it.cost()
}

// setTimer has the oldest copy sent when it is due, and the oldest flight reset.
func (l *loose) setTimer() {
	o := &l.out
	if len(o.copies) > 0 {
		l.timerAt(o.copies[0].at)
	}
	if len(o.flights) > 0 && o.flights[0].expires > 0 {
		l.timerAt(o.flights[0].expires)
	}
}

// timerAt has something done at a time, if nothing is before.
func (l *loose) timerAt(at time.Duration) {
	o := &l.out
	if o.timerAt != 0 && o.timerAt <= at {
		return
	}
	o.timerAt = at
	wait := at - l.carriers.now()
	if o.timer == nil {
		o.timer = time.AfterFunc(wait, l.timeout)
	} else {
		o.timer.Reset(wait)
	}
}

// timeout sends what is due and resets what is too late.
func (l *loose) timeout() {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.out
	if o.err != nil {
		return
	}
	o.timerAt = 0
	now := l.carriers.now()
	for len(o.copies) > 0 && o.copies[0].at <= now {
		l.takeCopy()
	}
	for len(o.flights) > 0 && o.flights[0].expires > 0 && o.flights[0].expires <= now {
		l.giveUpFlight(o.flights[0])
		o.flights = o.flights[1:]
	}
	if next := l.dropLate(now); next > 0 {
		l.timerAt(next)
	}
	l.setTimer()
	l.startPump()
	l.endHead()
}

// startPump has what waits sent. Called with mu held.
func (l *loose) startPump() {
	o := &l.out
	switch {
	case o.pumping || o.err != nil && o.endSaid:
	case len(o.waiting) == 0:
		l.sayEnd()
	case l.terms.datagrams():
		o.pumping = true
		l.carriers.enlist(l)
	case l.mayFly(o.waiting[0]):
		o.pumping = true
		ctx, cancel := context.WithCancel(context.Background())
		o.cancel = cancel
		go l.pump(ctx)
	}
}

// mayFly reports whether an unordered message may be sent now. If not, the
// receiver hears of it, once. Called with mu held.
func (l *loose) mayFly(it item) bool {
	o := &l.out
	if o.sent+uint64(it.cost()) <= o.limit {
		return true
	}
	if wanted := o.sent + uint64(it.cost()); o.wanted < wanted && l.head.isAnswered() {
		o.wanted = wanted
		l.carriers.want(l.head, o.sent, it.cost())
	}
	return false
}

// granted takes over what the receiver lets this side send.
func (l *loose) granted(g grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.limit = max(l.out.limit, g.limit)
	l.out.complete = max(l.out.complete, min(g.messages, l.out.number))
	if !l.terms.datagrams() {
		l.startPump()
	}
}

// heardComplete takes up to where all messages have come.
func (l *loose) heardComplete(complete uint64) error {
	o := &l.out
	if complete > o.number {
		return fmt.Errorf("%w: more came than was sent", messages.ErrProtocol)
	}
	o.complete = max(o.complete, complete)
	o.flights = slices.DeleteFunc(o.flights, func(f *flight) bool {
		return f.expires > 0 && f.items[len(f.items)-1].number < complete
	})
	l.endHead()
	return nil
}

// takeDatagrams takes a few messages for the connection's pump. Called by it.
func (l *loose) takeDatagrams(batch []item) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.out
	var now time.Duration
	if l.terms.deadline > 0 {
		now = l.carriers.now()
	}
	var gone []item
	for len(o.waiting) > 0 && len(batch) < cap(batch) && o.err == nil {
		it := o.waiting[0]
		o.waiting[0] = item{}
		o.waiting = o.waiting[1:]
		o.size -= it.cost()
		if !it.late(now) {
			batch = append(batch, it)
		} else if !it.copied {
			gone = append(gone, it)
		}
	}
	if len(o.waiting) == 0 {
		o.waiting = nil
	}
	l.giveUp(gone)
	o.space.wake()
	l.touch()
	return batch
}

// sentDatagrams reports whether more wait, after those that were taken were sent.
func (l *loose) sentDatagrams() (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out.waiting) > 0 && l.out.err == nil {
		return true
	}
	l.out.pumping = false
	l.sayEnd()
	return false
}

// closeSend ends sending after what waits.
func (l *loose) closeSend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.out.ending {
		l.out.ending = true
		l.out.space.wake()
		l.startPump()
	}
}

// sayEnd says that sending is over, once everything was sent. Called with mu held.
func (l *loose) sayEnd() {
	o := &l.out
	if !o.ending || o.endSaid || l.over != nil || len(o.waiting)+len(o.copies)+o.writing > 0 || o.pumping {
		return
	}
	o.endSaid = true
	l.say(&conecv1.DeliveryNews{End: &conecv1.DeliveryEnd{Messages: o.number}})
	if o.err == nil {
		o.err = fmt.Errorf("%w: sending side", messages.ErrClosed)
	}
	l.endHead()
}

// stopSending ends sending because the other side wants no more. Called with mu held.
func (l *loose) stopSending(why error) {
	if l.out.endSaid {
		return
	}
	l.abandonSending(why)
	l.out.ending = true
	l.sayEnd()
}

// abandonSending drops what waits and resets what is on its way. Called with mu held.
func (l *loose) abandonSending(why error) {
	o := &l.out
	if o.err == nil {
		o.err = why
	}
	for _, f := range o.flights {
		f.raw.CancelWrite(resetCode)
	}
	o.waiting, o.copies, o.flights, o.size, o.held = nil, nil, nil, 0, 0
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.cancel != nil {
		o.cancel()
	}
	o.space.wake()
}
