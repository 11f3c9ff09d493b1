package sim

import (
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// overhead is the size in bytes of the IPv4 and UDP headers of a datagram.
const overhead = 20 + 8

// Network carries datagrams between hosts. It owns one goroutine, which makes
// happen what is due; all state is under mu, which nobody holds while waiting.
type Network struct {
	seed  uint64
	start time.Time

	mu     sync.Mutex
	hosts  map[string]*Host
	at     map[netip.AddrPort]*link // who receives what is sent to an address
	rules  []*Rule
	events events
	taken  map[time.Duration]bool // instants of the events that wait
	stats  Stats
	closed bool

	wake chan struct{} // an event was added before all others
	stop chan struct{}
	done chan struct{}
}

// Stats counts datagrams since the start of a network.
type Stats struct {
	// Sent is what programs wrote and [Network.Inject] put in, Delivered what
	// reached a link. The others tell why the rest did not.
	Sent, Delivered int
	// Ruled were dropped by a rule.
	Ruled int
	// Lost were lost on a line.
	Lost int
	// Overrun found the queue of a line or of a link full.
	Overrun int
	// TooLarge did not fit through a line.
	TooLarge int
	// Unreachable were sent to an address that nobody has.
	Unreachable int
}

// Packet is one datagram, as a [Rule] sees it when it is sent.
type Packet struct {
	// Source and Destination are names of hosts, empty if no host has the address.
	Source, Destination string
	// From and To are what is in its headers.
	From, To netip.AddrPort
	// Payload must not be kept or changed.
	Payload []byte
	// At is how long after the network's start it is sent.
	At time.Duration
}

// Rule says what happens to a packet. The first rule that decides is the one
// that counts, in the order in which they were added.
type Rule func(Packet) Verdict

// Verdict is a rule's decision. The zero Verdict leaves it to the next rule.
type Verdict struct {
	decision decision
	after    time.Duration
}

type decision uint8

const (
	undecided decision = iota
	pass
	drop
	deliver
)

// Pass lets the lines of its hosts decide about a packet, whatever later rules say.
func Pass() Verdict { return Verdict{decision: pass} }

// Drop loses a packet.
func Drop() Verdict { return Verdict{decision: drop} }

// DeliverAfter delivers a packet that long after it was sent, past the lines of
// its hosts with their delay, loss, rate and MTU.
func DeliverAfter(d time.Duration) Verdict { return Verdict{decision: deliver, after: d} }

// datagram is on its way.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
	ecn      uint8
}

// event is something that happens to a datagram.
type event struct {
	at      time.Duration
	deliver bool // to the link; else it reaches the receiver's line
	datagram
}

// events is a heap, the earliest first.
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }

func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

// NewNetwork starts a network without hosts.
func NewNetwork(seed uint64) *Network {
	n := &Network{
		seed: seed, start: time.Now(),
		hosts: map[string]*Host{}, at: map[netip.AddrPort]*link{}, taken: map[time.Duration]bool{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go n.run()
	return n
}

// Close closes all links and ends the network. It blocks until its goroutine has
// ended, and may be called again.
func (n *Network) Close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		for _, host := range n.hosts {
			host.link.shut()
		}
		close(n.stop)
	}
	n.mu.Unlock()
	<-n.done
}

// Seed returns the seed that the network was made with.
func (n *Network) Seed() uint64 { return n.seed }

// Stats returns the counters of now.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Add puts a rule behind those that are there. remove takes it back, once.
func (n *Network) Add(rule Rule) (remove func()) {
	entry := &rule
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = append(n.rules, entry)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.rules = slices.DeleteFunc(n.rules, func(other *Rule) bool { return other == entry })
	}
}

// Inject puts a datagram with any source address into the network's core: an
// attacker's. Rules do not see it; the receiver's line applies.
func (n *Network) Inject(from, to netip.AddrPort, payload []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	n.schedule(n.elapsed(), event{datagram: datagram{from: from, to: to, payload: slices.Clone(payload)}})
}

// elapsed is the time since the network's start.
func (n *Network) elapsed() time.Duration { return time.Since(n.start) }

// schedule adds an event at the first free instant that is not before at, and
// not now: a packet takes at least a nanosecond. Called with mu held.
func (n *Network) schedule(at time.Duration, e event) {
	at = max(at, n.elapsed()+1)
	for n.taken[at] {
		at++
	}
	n.taken[at] = true
	e.at = at
	heap.Push(&n.events, e)
	if n.events[0].at == at {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// run makes events happen.
func (n *Network) run() {
	defer close(n.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait, any := n.happen(); any {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.stop:
			return
		}
	}
}

// happen does what is due and returns how long it is until the next event.
func (n *Network) happen() (wait time.Duration, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.elapsed()
	for len(n.events) > 0 && n.events[0].at <= now {
		e := heap.Pop(&n.events).(event)
		delete(n.taken, e.at)
		if e.deliver {
			n.deliver(e.datagram)
		} else {
			n.arrive(e)
		}
	}
	if len(n.events) == 0 {
		return 0, false
	}
	return n.events[0].at - now, true
}

// send takes a datagram from a link. Called with mu held.
func (n *Network) send(l *link, d datagram) {
	n.stats.Sent++
	verdict := n.judge(l, d)
	switch verdict.decision {
	case drop:
		n.stats.Ruled++
	case deliver:
		n.schedule(n.elapsed()+verdict.after, event{deliver: true, datagram: d})
	default:
		if delay, ok := l.host.up.carry(l.host.line, n.elapsed(), len(d.payload), &n.stats); ok {
			n.schedule(n.elapsed()+delay, event{datagram: d})
		}
	}
}

// judge asks the rules.
func (n *Network) judge(l *link, d datagram) Verdict {
	packet := Packet{Source: l.host.name, From: d.from, To: d.to, Payload: d.payload, At: n.elapsed()}
	if receiver := n.at[d.to]; receiver != nil {
		packet.Destination = receiver.host.name
	}
	for _, rule := range n.rules {
		if verdict := (*rule)(packet); verdict.decision != undecided {
			return verdict
		}
	}
	return Verdict{}
}

// arrive takes a datagram down the receiver's line.
func (n *Network) arrive(e event) {
	receiver := n.at[e.to]
	if receiver == nil {
		n.stats.Unreachable++
		return
	}
	delay, ok := receiver.host.down.carry(receiver.host.line, e.at, len(e.payload), &n.stats)
	switch {
	case !ok:
	case delay == 0:
		n.deliver(e.datagram)
	default:
		n.schedule(e.at+delay, event{deliver: true, datagram: e.datagram})
	}
}

// deliver gives a datagram to the link that has the address.
func (n *Network) deliver(d datagram) {
	receiver := n.at[d.to]
	if receiver == nil {
		n.stats.Unreachable++
		return
	}
	select {
	case receiver.inbox <- d:
		n.stats.Delivered++
	default:
		n.stats.Overrun++
	}
}

// Cut loses what one host sends to another, in this direction only.
func Cut(from, to *Host) Rule {
	return func(p Packet) Verdict {
		if p.Source == from.name && p.Destination == to.name {
			return Drop()
		}
		return Verdict{}
	}
}

// Block loses everything between two hosts.
func Block(a, b *Host) Rule { return Partition([]*Host{a}, []*Host{b}) }

// Partition loses everything between hosts of different groups. Hosts in no
// group reach everybody.
func Partition(groups ...[]*Host) Rule {
	group := map[string]int{}
	for i, hosts := range groups {
		for _, host := range hosts {
			group[host.name] = i + 1
		}
	}
	return func(p Packet) Verdict {
		from, to := group[p.Source], group[p.Destination]
		if from != 0 && to != 0 && from != to {
			return Drop()
		}
		return Verdict{}
	}
}

// String describes the counters in one line.
func (s Stats) String() string {
	return fmt.Sprintf("%d sent, %d delivered, dropped: %d by rule, %d lost, %d overrun, %d too large, %d unreachable",
		s.Sent, s.Delivered, s.Ruled, s.Lost, s.Overrun, s.TooLarge, s.Unreachable)
}
