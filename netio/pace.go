package netio

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What bulk streams keep in flight beside interactive ones.
const (
	paceUnit  = 16 << 10 // bytes; the receiver tells of each that has come
	leastPace = 2        // units
	mostPace  = 512      // units
	paceSlack = 300 * time.Microsecond
	paceFor   = 2 * time.Second // after the last interactive message
	pacePast  = 10 * time.Second
)

// pace keeps the bulk streams of a connection from filling the queues that
// interactive messages have to pass: QUIC's own, the socket's, the path's. While
// something interactive was sent or came in the last two seconds, bulk streams
// together have only so many units on their way that these come with little delay;
// else QUIC alone limits them. The number follows the delay, as in LEDBAT (RFC
// 6817): it is halved by and by when units take longer than the fastest of the last
// ten to twenty seconds and a little more, and grows when they do not.
//
// A unit counts from when its last byte is about to be handed to QUIC until the receiver
// has told that it came. Shared by the pumps of the streams, under mu.
type pace struct {
	now    func() time.Duration
	prompt atomic.Int64 // when something interactive was sent or came, on the clock now; 0: never

	mu     sync.Mutex
	flying int             // units
	most   int             // units that may be
	turns  []chan struct{} // of the pumps that wait, in order
	probe  paceProbe
	least  [2]time.Duration // the fastest unit, of the present period and of the one before; 0: none
	since  time.Duration    // when the present period began
}

// paceProbe measures how long a unit takes: one at a time.
type paceProbe struct {
	taken, came uint64 // units, since the beginning
	until       uint64 // came when the unit that is measured has come; 0: none is
	at          time.Duration
	full        bool // as many were flying as may
	careful     bool // units were late once: growing is slow
}

// touch notes that something interactive was sent or came.
func (p *pace) touch() { p.prompt.Store(max(int64(p.now()), 1)) }

// yields reports whether there is something interactive.
func (p *pace) yields(now time.Duration) bool {
	last := p.prompt.Load()
	return last != 0 && now-time.Duration(last) < paceFor
}

// take waits until one more unit may be handed to QUIC, or done is closed. Pumps
// take turns.
func (p *pace) take(done <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.most = max(p.most, leastPace)
	if p.yields(now) && (len(p.turns) > 0 || p.flying >= p.most) {
		turn := make(chan struct{}, 1)
		p.turns = append(p.turns, turn)
		for p.yields(now) && (p.turns[0] != turn || p.flying >= p.most) {
			timer := time.NewTimer(paceFor - (now - time.Duration(p.prompt.Load())))
			p.mu.Unlock()
			var over bool
			select {
			case <-turn:
			case <-timer.C: // there may be nothing interactive any more
			case <-done:
				over = true
			}
			timer.Stop()
			p.mu.Lock()
			if now = p.now(); over {
				break
			}
		}
		at := slices.Index(p.turns, turn)
		p.turns = slices.Delete(p.turns, at, at+1)
	}
	p.fly(1, now)
	p.wake()
}

// count counts units that are handed to QUIC without asking, since there is nothing
// interactive.
func (p *pace) count(units int) {
	if units == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, leastPace)
	p.fly(units, p.now())
}

// fly counts units, which are handed to QUIC now. Called with mu held.
func (p *pace) fly(units int, now time.Duration) {
	p.flying += units
	p.probe.taken += uint64(units)
	if p.probe.until == 0 {
		p.probe.until, p.probe.at, p.probe.full = p.probe.taken, now, p.flying >= p.most
	}
}

// wake lets the first pump that waits look again. Called with mu held.
func (p *pace) wake() {
	if len(p.turns) > 0 {
		signal(p.turns[0])
	}
}

// forget counts units of which nothing will be heard.
func (p *pace) forget(units int) {
	if units == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying -= units
	p.probe.came += uint64(units)
	p.probe.until = 0 // it may have been one of them
	p.wake()
}

// arrived counts units that have come.
func (p *pace) arrived(units int) {
	if units == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying -= units
	p.probe.came += uint64(units)
	if p.probe.until != 0 && p.probe.came >= p.probe.until {
		p.adapt(p.now())
	}
	p.wake()
}

// adapt changes how many units may fly by how long the last one took.
func (p *pace) adapt(now time.Duration) {
	took := max(now-p.probe.at, 1)
	p.probe.until = 0
	if now-p.since > pacePast {
		p.least[1], p.least[0], p.since = p.least[0], 0, now
	}
	if p.least[0] == 0 || took < p.least[0] {
		p.least[0] = took
	}
	least := p.least[0]
	if p.least[1] != 0 {
		least = min(least, p.least[1])
	}
	switch {
	case took > least+max(least/4, paceSlack):
		p.probe.careful = true
		p.most = max(leastPace, p.most*3/4)
	case !p.probe.full:
	case p.probe.careful:
		p.most = min(p.most+1, mostPace)
	default:
		p.most = min(2*p.most, mostPace)
	}
}
