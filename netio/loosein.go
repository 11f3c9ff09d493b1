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
	// spanUnordered is more than may be ahead of one that has not come: what is
	// used is not told while the oldest is further behind than half of it, and
	// what was told allows no more than looseWindow/messageCost further.
	spanUnordered = 1 << 17
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
	givenUp uint64 // numbers that the sender gave up: they count as having come
	newest  uint64 // one more than the highest number, if sequenced

	age         age
	roundTrip   time.Duration
	roundTripAt time.Duration

	used, told uint64 // cost of the messages used up, and what the sender knows of it
	toldAt     time.Duration
	toldUpTo   uint64 // numbers below which the sender knows that all have come

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
	expires time.Duration // 0: never
}

func (i *looseIn) init(terms terms) {
	i.numbers.span = spanUnordered
	if terms.datagrams() {
		i.numbers.span = spanDatagrams
	}
	i.ready, i.done = make(chan struct{}, 1), make(chan struct{})
}

// arrive takes a message. It returns an error if the other side broke the rules.
func (l *loose) arrive(number uint64, sent time.Duration, message []byte) error {
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
	a := arrived{message: message}
	late := false
	if l.terms.deadline > 0 {
		old := i.age.of(sent, now, l.minRoundTrip(now))
		late = old > l.terms.deadline
		a.expires = now + l.terms.deadline - old
	}
	if l.terms.mode == conecv1.DeliveryMode_DELIVERY_MODE_SEQUENCED {
		late = late || number < i.newest
		i.newest = max(i.newest, number+1)
	}
	if late {
		l.stats.Late++
		l.use(message, now)
		return l.checkEnd()
	}
	if err := l.keep(a); err != nil {
		return err
	}
	l.tellSometimes(now)
	return l.checkEnd()
}

// again counts a message that comes once more. One that is too old to know whether
// it came before counts as lost, as does an unordered one that overtook the news
// that it was given up.
func (l *loose) again(number uint64) {
	if l.terms.datagrams() && number+l.in.numbers.span >= l.in.numbers.next {
		l.stats.Duplicates++
	}
}

// keep puts a message into the ring.
func (l *loose) keep(a arrived) error {
	i := &l.in
	if l.terms.datagrams() {
		for i.size+cost(a.message) > l.head.limits.ReceiveBuffer && i.size > 0 {
			l.stats.Dropped++
			_ = i.take()
		}
	} else if i.size >= looseWindow+l.head.limits.MaxMessage {
		return fmt.Errorf("%w: more unordered messages than allowed", messages.ErrProtocol)
	}
	i.put(a)
	return nil
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

// minRoundTrip is the smallest round trip of the connection.
func (l *loose) minRoundTrip(now time.Duration) time.Duration {
	i := &l.in
	if i.roundTrip == 0 || now-i.roundTripAt > roundTripEvery {
		i.roundTrip, i.roundTripAt = l.carriers.raw.ConnectionStats().MinRTT, now
	}
	return i.roundTrip
}

// receive returns the next message. It blocks until there is one or ctx ends.
func (l *loose) receive(ctx context.Context) ([]byte, error) {
	i := &l.in
	l.mu.Lock()
	for {
		for i.size > 0 {
			a := i.take()
			var now time.Duration
			if a.expires > 0 {
				now = l.carriers.now()
			}
			l.use(a.message, now)
			if a.expires > 0 && now > a.expires {
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
		if i.err != nil {
			err := i.err
			signal(i.ready) // the others end too
			l.mu.Unlock()
			return nil, err
		}
		i.readers++
		l.mu.Unlock()
		var ended error
		select {
		case <-i.ready:
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

// use counts a message as used up, and tells the sender when that is a good part
// of what it may send. Called with mu held.
func (l *loose) use(message []byte, now time.Duration) {
	if l.terms.datagrams() {
		return
	}
	l.in.used += uint64(cost(message))
	if l.in.used-l.in.told >= looseWindow/4 {
		l.tell(now)
	}
}

// tell tells the sender what was used up and has come.
func (l *loose) tell(now time.Duration) {
	i := &l.in
	if i.over || i.numbers.next-i.numbers.floor > spanUnordered/2 { // or the numbers would not be known any more
		return
	}
	i.told, i.toldAt, i.toldUpTo = i.used, now, i.numbers.floor
	l.say(&conecv1.DeliveryNews{Used: i.used, Complete: i.numbers.floor})
}

// tellSometimes tells the sender what has come often enough that it does not
// reset after the deadline what came before it. It also tells what could not be
// told while a message was far behind.
func (l *loose) tellSometimes(now time.Duration) {
	i := &l.in
	switch {
	case l.terms.datagrams():
	case l.terms.deadline > 0 && now-i.toldAt >= l.terms.deadline/4 && i.numbers.floor > i.toldUpTo,
		i.used-i.told >= looseWindow/4:
		l.tell(now)
	}
}

// heardGivenUp counts a message as having come that will not, or no longer matters.
func (l *loose) heardGivenUp(message *conecv1.GivenUp) error {
	i := &l.in
	number := message.GetNumber()
	if l.terms.mode != conecv1.DeliveryMode_DELIVERY_MODE_UNORDERED || l.terms.deadline == 0 ||
		number >= i.numbers.floor+spanUnordered || message.GetSize() > uint64(l.head.limits.MaxMessage) {
		return fmt.Errorf("%w: message %d given up", messages.ErrProtocol, number)
	}
	if i.over || !i.numbers.add(number) {
		return nil
	}
	i.givenUp++
	i.used += message.GetSize() + messageCost
	if i.used-i.told >= looseWindow/4 {
		l.tell(l.carriers.now())
	}
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
			l.say(&conecv1.DeliveryNews{Used: i.used, Complete: i.total}) // nothing is left to reset
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
	}
	signal(i.ready)
}

// discard drops what waits to be received. Called with mu held.
func (l *loose) discard(why error) {
	i := &l.in
	if i.size > 0 || i.err == nil {
		i.err = why
	}
	i.ring, i.first, i.size = nil, 0, 0
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
