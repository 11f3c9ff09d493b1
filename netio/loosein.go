package netio

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Numbers that a receiver remembers.
const (
	// spanDatagrams is more than are sent between a message and its copy.
	spanDatagrams = 1 << 13
	// spanUnordered is more than may be ahead of one that has not come: no more is
	// granted while the oldest is further behind than aheadUnordered, and what was
	// granted allows no more than mostWindow/messageCost further.
	spanUnordered  = 1 << 18
	aheadUnordered = 1 << 16
	// maxNumber is more than anybody sends.
	maxNumber = 1 << 62
)

// looseIn is the receiving half of a loose stream, under its mu.
type looseIn struct {
	ring    []arrived
	first   int // in ring: those before were taken
	size    int // cost of what waits
	largest int // bytes that a message got
	partial int // bytes of messages that are coming
	readers int // that wait
	ready   chan struct{}
	numbers numbers
	givenUp uint64             // numbers that the sender gave up: they count as having come
	newest  uint64             // one more than the highest number, if sequenced
	held    map[uint64]arrived // if in order: those that wait for others, by number
	passed  uint64             // if in order: below, none is held

	clocked  bool          // the clock of the other side is asked for
	window   receiveWindow // of costs; of datagrams, for what waits
	unused   int           // cost of what was used up and the window does not know
	toldAt   time.Duration
	toldUpTo uint64 // numbers below which the sender knows that all have come

	ended    bool        // the sender has said so
	total    uint64      // how many it sent, then
	straggle *time.Timer // until no more is waited for
	over     bool        // nothing comes any more
	err      error       // what receiving ends with, once nothing waits
	done     chan struct{}
	stopped  bool // nobody wants more
}

// arrived is a message that waits to be received.
type arrived struct {
	message []byte
	expires time.Duration // 0: never, or not known yet

	unsure       bool // the other side's clock was not known: its age has to be found out
	sent, within time.Duration
}

func (i *looseIn) init(terms terms) {
	i.numbers.span = spanUnordered
	if terms.datagrams() {
		i.numbers.span = spanDatagrams
	}
	i.ready, i.done = make(chan struct{}, 1), make(chan struct{})
}

// arrive takes a message that was sent at sent, by the other side's clock, and is
// late when it is older than within. It returns an error if the other side broke the
// rules.
func (l *loose) arrive(number uint64, sent, within time.Duration, message []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in.over {
		return nil
	}
	i := &l.in
	if number >= maxNumber || !l.terms.datagrams() && number >= i.numbers.floor+spanUnordered {
		return fmt.Errorf("%w: message number %d", messages.ErrProtocol, number)
	}
	var now time.Duration
	if l.terms.deadline > 0 {
		now = l.carriers.now()
	}
	if !i.numbers.add(number) {
		l.again(number)
		return nil
	}
	l.touch()
	a := arrived{message: message}
	late := false
	if l.terms.deadline > 0 {
		a.sent, a.within, a.unsure = sent, within, true
		late = !a.judge(&l.carriers.clock, now)
	}
	if l.terms.mode == conecv1.DeliveryMode_DELIVERY_MODE_SEQUENCED {
		late = late || number < i.newest
		i.newest = max(i.newest, number+1)
	}
	if err := l.comeWhole(cost(message)); err != nil {
		return err
	}
	if late {
		l.stats.Late++
		l.use(cost(message))
		i.pass()
		return l.checkEnd()
	}
	if l.terms.inOrder() {
		i.hold(number, a)
	} else {
		l.keep(a)
	}
	l.tellSometimes(now)
	return l.checkEnd()
}

// hold keeps a message until all before it have come or were given up.
func (i *looseIn) hold(number uint64, a arrived) {
	if i.held == nil {
		i.held = map[uint64]arrived{}
	}
	i.held[number] = a
	i.pass()
}

// pass lets messages be received for which nothing is missing any more.
func (i *looseIn) pass() {
	for ; len(i.held) > 0 && i.passed < i.numbers.floor; i.passed++ {
		if a, ok := i.held[i.passed]; ok {
			delete(i.held, i.passed)
			i.put(a)
		}
	}
	if len(i.held) == 0 {
		i.passed = i.numbers.floor
	}
}

// again counts a message that comes once more. One that is too old to know whether
// it came before counts as lost, as does an unordered one that overtook the news
// that it was given up.
func (l *loose) again(number uint64) {
	if l.terms.datagrams() && number+l.in.numbers.span >= l.in.numbers.next {
		l.stats.Duplicates++
	}
}

// comeWhole counts an unordered message against the window.
func (l *loose) comeWhole(cost int) error {
	if l.terms.datagrams() {
		return nil
	}
	w := &l.in.window
	if err := w.allows(cost); err != nil {
		return err
	}
	w.come += uint64(cost)
	return nil
}

// judge finds out how old a message is, if the other side's clock is known. It
// returns false if it is too old.
func (a *arrived) judge(c *clock, now time.Duration) bool {
	if a.unsure {
		if old, known := c.age(a.sent, now); known {
			a.unsure, a.expires = false, now+a.within-old
		}
	}
	return a.unsure || now <= a.expires
}

// keep puts a message into the ring. One of datagrams holds what the window
// allows, which grows as long as there is memory: then the oldest are dropped.
func (l *loose) keep(a arrived) {
	i := &l.in
	if l.terms.datagrams() {
		limit := l.head.limits.ReceiveBuffer
		if i.window.holding != nil {
			limit = min(limit, i.window.atLeast(min(i.size+cost(a.message), limit)))
		}
		for i.size+cost(a.message) > limit && i.size > 0 {
			l.stats.Dropped++
			_ = i.take()
		}
	}
	i.put(a)
}

func (i *looseIn) put(a arrived) {
	if i.first > 0 && len(i.ring) == cap(i.ring) {
		n := copy(i.ring, i.ring[i.first:])
		clear(i.ring[n:])
		i.ring, i.first = i.ring[:n], 0
	}
	i.ring = append(i.ring, a)
	i.size += cost(a.message)
	if i.readers > 0 {
		signal(i.ready)
	}
}

// take takes the oldest message that waits. There must be one.
func (i *looseIn) take() arrived {
	a := i.ring[i.first]
	i.ring[i.first] = arrived{}
	i.first++
	i.size -= cost(a.message)
	if i.first == len(i.ring) {
		i.ring, i.first = i.ring[:0], 0
		if cap(i.ring) > smallBuffer {
			i.ring = nil
		}
	}
	return a
}

// receive returns the next message. It blocks until there is one or ctx ends.
func (l *loose) receive(ctx context.Context) ([]byte, error) {
	i := &l.in
	l.mu.Lock()
	for {
		for i.size > 0 && !i.mustWait(l.carriers) {
			a := i.take()
			l.use(cost(a.message))
			if a.within > 0 && (!a.judge(&l.carriers.clock, l.carriers.now()) || a.unsure) {
				l.stats.Late++
				continue
			}
			l.stats.Delivered++
			if i.readers > 0 && i.size > 0 {
				signal(i.ready)
			}
			l.mu.Unlock()
			return a.message, nil
		}
		if i.err != nil && i.size == 0 {
			err := i.err
			signal(i.ready) // the others end too
			l.mu.Unlock()
			return nil, err
		}
		var known <-chan struct{}
		if i.size > 0 {
			known = l.carriers.clock.known
		}
		i.readers++
		l.mu.Unlock()
		var ended error
		select {
		case <-i.ready:
		case <-known:
		case <-ctx.Done():
			ended = ctx.Err()
		}
		l.mu.Lock()
		i.readers--
		if ended != nil {
			if i.size > 0 { // the signal may have been for this one
				signal(i.ready)
			}
			l.mu.Unlock()
			return nil, ended
		}
	}
}

// mustWait reports whether the age of the oldest message can not be told yet, but
// will be. There must be one.
func (i *looseIn) mustWait(c *carriers) bool {
	return i.ring[i.first].unsure && i.err == nil && !c.clock.isKnown()
}

// use counts unordered messages of that cost as used up, and has the sender told
// what it may send. Called with mu held.
func (l *loose) use(cost int) {
	i := &l.in
	if l.terms.datagrams() {
		if i.over {
			i.window.use(cost)
		}
		return
	}
	if i.unused += cost; !i.over && i.numbers.next-i.numbers.floor > aheadUnordered {
		return // or the numbers would not be known any more
	}
	cost, i.unused = i.unused, 0
	if i.window.use(cost) {
		l.carriers.tell(l.head)
	}
}

// grant returns what the sender is to be told that it may send.
func (l *loose) grant() (grant, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return grant{limit: l.in.window.limit, come: l.in.window.come, messages: l.in.numbers.floor}, !l.terms.datagrams() && !l.in.over
}

// startLimit is what the sender may send from the beginning.
func (l *loose) startLimit() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terms.datagrams() {
		return 0
	}
	return l.in.window.start()
}

// wanted hears that the sender, which has sent messages of put, has one of that
// cost which it may not send yet.
func (l *loose) wanted(put uint64, cost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.terms.datagrams() && l.in.window.want(put, cost, l.in.size, l.claimed) {
		l.carriers.tell(l.head)
	}
}

// refuse ends the stream.
func (l *loose) refuse(why error) { l.head.Reset(why) }

// claimed hears that the window has grown.
func (l *loose) claimed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in.window.granted() {
		l.carriers.tell(l.head)
	}
}

// tellSometimes tells the sender what has come often enough that it does not
// reset after the deadline what came before it. It also counts what could not be
// counted while a message was far behind.
func (l *loose) tellSometimes(now time.Duration) {
	i := &l.in
	if l.terms.datagrams() {
		return
	}
	if i.unused > 0 {
		l.use(0)
	}
	if l.terms.deadline > 0 && now-i.toldAt >= l.terms.deadline/4 && i.numbers.floor > i.toldUpTo {
		i.toldAt, i.toldUpTo = now, i.numbers.floor
		l.say(&conecv1.DeliveryNews{Complete: i.numbers.floor})
	}
}

// heardGivenUp counts messages as having come that will not.
func (l *loose) heardGivenUp(message *conecv1.GivenUp) error {
	i := &l.in
	first, count := message.GetNumber(), message.GetCount()
	if l.terms.datagrams() || l.terms.deadline == 0 || count == 0 || count > mostGone ||
		first >= maxNumber || first+count > i.numbers.floor+spanUnordered || message.GetCredit() > maxNumber {
		return fmt.Errorf("%w: %d messages given up from %d on", messages.ErrProtocol, count, first)
	}
	before := i.numbers.count
	for number := first; number < first+count && !i.over; number++ {
		if i.numbers.add(number) {
			i.givenUp++
		}
	}
	if i.over || i.numbers.count == before {
		return nil // they were faster
	}
	if err := l.comeWhole(int(message.GetCredit())); err != nil {
		return err
	}
	l.use(int(message.GetCredit()))
	i.pass()
	return nil
}

// checkEnd ends receiving when everything has come. Called with mu held.
func (l *loose) checkEnd() error {
	i := &l.in
	if !i.ended || i.over {
		return nil
	}
	if i.numbers.next > i.total {
		return fmt.Errorf("%w: more messages than the end says", messages.ErrProtocol)
	}
	switch {
	case i.numbers.count == i.total:
		if l.terms.deadline > 0 && !l.terms.datagrams() {
			l.say(&conecv1.DeliveryNews{Complete: i.total}) // nothing is left to reset
		}
		l.endReceiving(io.EOF)
		l.endHead()
	case l.terms.datagrams() && i.straggle == nil:
		i.straggle = time.AfterFunc(straggling, l.noMore)
	}
	return nil
}

// straggling is how long after the end datagrams may come that others overtook.
const straggling = 50 * time.Millisecond

// noMore ends receiving although not all have come.
func (l *loose) noMore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in.over {
		return
	}
	l.endReceiving(io.EOF)
	l.endHead()
}

// endReceiving makes err what receiving ends with. Called with mu held.
func (l *loose) endReceiving(err error) {
	i := &l.in
	if i.err == nil {
		i.err = err
	}
	if !i.over {
		i.over = true
		if i.straggle != nil {
			i.straggle.Stop()
		}
		close(i.done)
		l.carriers.forget(l)
		if i.clocked {
			l.carriers.clock.end()
		}
		closeFor(l, &i.window, i.size)
	}
	signal(i.ready)
}

// discard drops what waits to be received. Called with mu held.
func (l *loose) discard(why error) {
	i := &l.in
	if i.size > 0 || i.err == nil {
		i.err = why
	}
	i.ring, i.first, i.size, i.held = nil, 0, 0, nil
	i.window.close(0)
	signal(i.ready)
}

// stopReceiving tells the other side that no more is wanted, and drops what waits.
func (l *loose) stopReceiving(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over == nil && !l.in.over && !l.in.stopped {
		code, _ := messages.ToCode(why)
		l.say(&conecv1.DeliveryNews{Stop: code})
	}
	l.in.stopped = true
	l.endReceiving(why)
	l.discard(why)
	if l.over == nil {
		l.endHead()
	}
}
