package sim

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/netio"
)

// Network carries datagrams between hosts. It owns one goroutine, which makes
// happen what is due; all state is under mu, which nobody holds while waiting.
type Network struct {
	seed  uint64
	start time.Time
	quiet func() // called before an event when all programs wait; set before the first host, may be nil

	mu       sync.Mutex
	internet *Internet
	names    map[string]bool // of hosts and gateways
	hosts    []*Host
	gateways int
	rules    []*Rule
	watchers []*func(Sight)
	events   events
	order    uint64        // how many events there were
	last     time.Duration // when the last event happened
	free     [][]byte      // payloads to use again
	stats    Stats
	closed   bool
	hear     func() // to be called without mu; may be nil

	wake chan struct{} // an event was added before all others
	stop chan struct{}
	done chan struct{}
}

// datagram is on its way.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
	ecn      uint8
	express  bool // past all lines
	tcp      bool // it is a segment of TCP, whose header is in payload
}

// size is that of the packet, headers counted.
func (d *datagram) size() int {
	size := len(d.payload) + overhead6
	if d.to.Addr().Is4() {
		size = len(d.payload) + overhead4
	}
	if d.tcp {
		size -= overheadUDP
	}
	return size
}

// step is what happens to a datagram next.
type step uint8

const (
	stepUp    step = iota // it comes out of a line at the place
	stepDown              // it comes out of a line at the host or gateway
	stepLocal             // it reaches the host that sent it
	stepPlace             // it enters the internet from nowhere
	stepHint              // no datagram: programs on the host hear that its network has changed
	stepRun               // no datagram: a timer
)

// event is something that happens to a datagram.
type event struct {
	at    time.Duration
	order uint64
	step  step
	line  *attachment // of stepUp and stepDown
	host  *Host       // of stepLocal and stepHint
	hint  netio.Hint  // of stepHint
	run   func()      // of stepRun, called with mu held
	datagram
}

// NewNetwork starts a network without hosts.
func NewNetwork(seed uint64) *Network { return newNetwork(seed, nil) }

func newNetwork(seed uint64, quiet func()) *Network {
	n := &Network{
		seed: seed, start: time.Now(), quiet: quiet, names: map[string]bool{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	n.internet = &Internet{newSegment(n, nil, internet4, internet6)}
	go n.run()
	return n
}

// Close closes all sockets and ends the network. It blocks until its goroutine
// has ended, and may be called again.
func (n *Network) Close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		for _, host := range n.hosts {
			host.shut()
		}
		close(n.stop)
	}
	n.mu.Unlock()
	<-n.done
}

// Seed returns the seed that the network was made with.
func (n *Network) Seed() uint64 { return n.seed }

// Internet returns the place that has no gateway.
func (n *Network) Internet() *Internet { return n.internet }

// Elapsed returns how long ago the network was started.
func (n *Network) Elapsed() time.Duration { return n.elapsed() }

func (n *Network) elapsed() time.Duration { return time.Since(n.start) }

// Stats returns the counters of now.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Watch has see told of every packet on every line, until stop is called. It is
// called with the network locked: it must be quick and must not call the network
// or its hosts.
func (n *Network) Watch(see func(Sight)) (stop func()) {
	entry := &see
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watchers = append(n.watchers, entry)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.watchers = slices.DeleteFunc(n.watchers, func(other *func(Sight)) bool { return other == entry })
	}
}

// Inject puts a datagram with any source address into the internet: an
// attacker's. Rules do not see it; the receiver's line and gateways apply.
func (n *Network) Inject(from, to netip.AddrPort, payload []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	n.schedule(event{at: n.elapsed(), step: stepPlace, datagram: datagram{from: from, to: to, payload: slices.Clone(payload)}})
}

// schedule adds an event. Called with mu held.
func (n *Network) schedule(e event) {
	if n.closed {
		return
	}
	n.order++
	e.order = n.order
	if n.events.push(e) {
		raise(n.wake)
	}
}

// raise wakes who waits for a signal.
func raise(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// run makes events happen, each at an instant of its own and never at the instant
// in which it was scheduled: on virtual time, everybody has dealt with one
// before the next. That does not depend on which channel was ready first.
func (n *Network) run() {
	defer close(n.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var woken bool
		select {
		case <-timer.C:
			woken = len(n.wake) > 0
		case <-n.wake:
			woken = true
		case <-n.stop:
			return
		}
		if n.quiet != nil && !woken {
			n.quiet()
		}
		n.mu.Lock()
		wait := n.happen()
		hear := n.hear
		n.hear = nil
		n.mu.Unlock()
		if hear != nil {
			hear()
		}
		timer.Reset(wait)
	}
}

// happen lets the next event happen if it is due, and returns how long it is
// until one is. Called with mu held.
func (n *Network) happen() time.Duration {
	now := n.elapsed()
	if len(n.events) > 0 && n.events[0].at <= now && n.last < now {
		e := n.events.pop()
		n.last = now
		switch e.step {
		case stepUp:
			n.route(e.line.segment, e.datagram)
		case stepDown:
			n.arrive(e.line, e.datagram)
		case stepLocal:
			e.host.take(nil, e.datagram)
		case stepPlace:
			n.route(n.internet.seg, e.datagram)
		case stepRun:
			e.run()
		case stepHint:
			n.hear = func() { e.host.hear(e.hint) }
		}
	}
	if len(n.events) == 0 {
		return time.Hour
	}
	return max(n.events[0].at, n.last+1) - now
}

// ascend sends a datagram up a line.
func (n *Network) ascend(a *attachment, d datagram) {
	if !a.on {
		n.see(a.name, true, &d, Silent)
		return
	}
	n.pass(a, a.up, stepUp, d)
}

// descend sends a datagram down a line.
func (n *Network) descend(a *attachment, d datagram) {
	if !a.on {
		n.see(a.name, false, &d, Silent)
		return
	}
	n.pass(a, a.down, stepDown, d)
}

// pass sends a datagram through one direction of a line.
func (n *Network) pass(a *attachment, p *pipe, next step, d datagram) {
	now := n.elapsed()
	way := passage{}
	if !d.express {
		way = p.carry(now, d.size())
	}
	if next == stepUp || way.fate != Passed {
		n.see(a.name, next == stepUp, &d, way.fate)
	}
	if way.fate != Passed {
		n.recycle(d.payload)
		return
	}
	if way.again > 0 {
		n.stats.Duplicated++
		second := d
		second.payload = append(n.payload(), d.payload...)
		n.schedule(event{at: now + way.again, step: next, line: a, datagram: second})
	}
	if way.corrupt {
		n.stats.Corrupted++
		p.damage(d.payload)
	}
	if next == stepDown && way.delay == 0 {
		n.arrive(a, d)
		return
	}
	n.schedule(event{at: now + way.delay, step: next, line: a, datagram: d})
}

// route forwards a datagram that is at a place.
func (n *Network) route(s *segment, d datagram) {
	switch a := s.find(d.to.Addr()); {
	case a != nil:
		n.descend(a, d)
	case s.gateway != nil:
		s.gateway.outward(d)
	default:
		n.see("internet", true, &d, Unreachable)
	}
}

// arrive hands a datagram to whom a line leads to.
func (n *Network) arrive(a *attachment, d datagram) {
	if !a.on {
		n.see(a.name, false, &d, Silent)
		n.recycle(d.payload)
		return
	}
	if a.gateway != nil {
		n.see(a.name, false, &d, Passed)
		a.gateway.inward(d)
		return
	}
	a.host.take(a, d)
}

// see counts what ends and tells the watchers. Called with mu held.
func (n *Network) see(line string, up bool, d *datagram, fate Fate) {
	if fate != Passed {
		n.stats.Ended[fate]++
	}
	for _, watcher := range n.watchers {
		(*watcher)(Sight{Line: line, Up: up, At: n.elapsed(), From: d.from, To: d.to, TCP: d.tcp, Payload: d.payload, Fate: fate})
	}
}

// maxFree is how many payloads are kept to be used again.
const maxFree = 1024

// payload returns an empty buffer.
func (n *Network) payload() []byte {
	last := len(n.free) - 1
	if last < 0 {
		return make([]byte, 0, 1500)
	}
	b := n.free[last]
	n.free = n.free[:last]
	return b[:0]
}

func (n *Network) recycle(b []byte) {
	if len(n.free) < maxFree && cap(b) > 0 {
		n.free = append(n.free, b)
	}
}
