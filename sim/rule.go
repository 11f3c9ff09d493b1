package sim

import (
	"net/netip"
	"slices"
	"time"
)

// Packet is one datagram, as a [Rule] sees it when it is sent.
type Packet struct {
	// Source and Destination are names of hosts. Destination is who would get it
	// now, looked up through the gateways on the way; empty if nobody would.
	Source, Destination string
	// From and To are what is in its headers at the source.
	From, To netip.AddrPort
	// TCP tells that it is a segment of TCP, and Payload begins with its header.
	TCP bool
	// Payload must not be kept or changed.
	Payload []byte
	// At is how long after the network's start it is sent.
	At time.Duration
}

// Rule says what happens to a packet. The first rule that decides is the one
// that counts, in the order in which they were added. A rule is called with the
// network locked: it must be quick and must not call the network or its hosts.
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

// Pass lets the lines and gateways on its way decide about a packet, whatever
// later rules say.
func Pass() Verdict { return Verdict{decision: pass} }

// Drop loses a packet.
func Drop() Verdict { return Verdict{decision: drop} }

// DeliverAfter delivers a packet that long after it was sent, past the lines on
// its way with their delay, loss, rate and MTU. Gateways translate and filter it.
func DeliverAfter(d time.Duration) Verdict { return Verdict{decision: deliver, after: d} }

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

// Isolate loses everything that a host sends or that is sent to it.
func Isolate(h *Host) Rule {
	return func(p Packet) Verdict {
		if p.Source == h.name || p.Destination == h.name {
			return Drop()
		}
		return Verdict{}
	}
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

// judge asks the rules about what a host sends by an interface, or to itself if
// that is nil. Called with mu held.
func (n *Network) judge(h *Host, a *attachment, d datagram) Verdict {
	if len(n.rules) == 0 {
		return Verdict{}
	}
	packet := Packet{Source: h.name, Destination: h.name, From: d.from, To: d.to, TCP: d.tcp, Payload: d.payload, At: n.elapsed()}
	if a != nil {
		packet.Destination = n.destination(a.segment, d)
	}
	for _, rule := range n.rules {
		if verdict := (*rule)(packet); verdict.decision != undecided {
			return verdict
		}
	}
	return Verdict{}
}

// destination follows a packet through the gateways without leaving a trace. It
// goes outwards first, and from a gateway that has the address only inwards.
func (n *Network) destination(s *segment, d datagram) string {
	now, from, to := n.elapsed(), d.from, d.to
	for s.find(to.Addr()) == nil {
		if s.gateway == nil {
			return ""
		}
		table := s.gateway.tableOf(d.tcp)
		from = table.source(now, from, to)
		if s.gateway.has(to.Addr()) {
			inside, ok := table.peek(now, from, to)
			if !ok {
				return ""
			}
			to = inside
			break
		}
		s = s.gateway.outside.segment
	}
	for {
		a := s.find(to.Addr())
		switch {
		case a == nil:
			return ""
		case a.host != nil:
			return a.host.name
		}
		inside, ok := a.gateway.tableOf(d.tcp).peek(now, from, to)
		if !ok {
			return ""
		}
		s, to = a.gateway.inside, inside
	}
}
