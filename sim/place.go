package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// Place is where hosts and gateways are plugged in: the [Internet], or the inside
// of a [Gateway]. Two places may use the same addresses.
type Place interface {
	// IPv4 and IPv6 return an address of the place that nobody has, each time
	// another as long as there are any; the zero Addr if all are taken.
	IPv4() netip.Addr
	IPv6() netip.Addr

	segment() *segment
}

// Internet is where everybody with a public address is.
type Internet struct{ seg *segment }

// IPv4 returns a public address that nobody has.
func (i *Internet) IPv4() netip.Addr { return i.seg.nextFree(true) }

// IPv6 returns a public address that nobody has.
func (i *Internet) IPv6() netip.Addr { return i.seg.nextFree(false) }

func (i *Internet) segment() *segment { return i.seg }

// Addresses that the internet gives away: those for benchmarks (RFC 2544) and for
// documentation (RFC 3849). Hosts may have any others.
var (
	internet4 = netip.MustParsePrefix("198.18.0.0/15")
	internet6 = netip.MustParsePrefix("2001:db8:ffff::/48")
)

// segment is what is at one place. Its fields are under the network's mu.
type segment struct {
	network *Network
	gateway *Gateway // that leads out; nil for the internet
	four    netip.Prefix
	six     netip.Prefix
	next4   netip.Addr
	next6   netip.Addr
	at      map[netip.Addr]*attachment
	below   []*Gateway
}

func newSegment(n *Network, g *Gateway, four, six netip.Prefix) *segment {
	s := &segment{network: n, gateway: g, four: four.Masked(), six: six.Masked(), at: map[netip.Addr]*attachment{}}
	s.next4, s.next6 = s.four.Addr().Next(), s.six.Addr().Next()
	if g != nil { // the first ones are the gateway's
		s.next4, s.next6 = s.next4.Next(), s.next6.Next()
	}
	return s
}

func (s *segment) nextFree(four bool) netip.Addr {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	return s.unused(four)
}

// unused returns an address that nobody has: the next one, and after the last the
// first that is free again.
func (s *segment) unused(four bool) netip.Addr {
	prefix, next := s.six, &s.next6
	if four {
		prefix, next = s.four, &s.next4
	}
	for range 2 {
		for prefix.Contains(*next) {
			addr := *next
			*next = addr.Next()
			if s.at[addr] == nil && s.mayHave(addr) == nil {
				return addr
			}
		}
		*next = prefix.Addr().Next()
	}
	return netip.Addr{}
}

// mayHave tells why nobody at a place can have an address; nil if somebody can.
func (s *segment) mayHave(addr netip.Addr) error {
	switch {
	case !addr.IsValid():
		return errors.New("no address is free")
	case addr.IsUnspecified() || addr.IsLoopback() || addr.Is4In6() || addr.IsMulticast():
		return errors.New("want an address of one host")
	case s.gateway == nil:
		return nil
	case !s.four.Contains(addr) && !s.six.Contains(addr):
		return fmt.Errorf("want one of %s or %s", s.four, s.six)
	case addr == s.four.Addr().Next() || addr == s.six.Addr().Next():
		return fmt.Errorf("is that of gateway %s: %w", s.gateway.name, syscall.EADDRINUSE)
	case addr == s.four.Addr() || addr.Is4() && !s.four.Contains(addr.Next()):
		return fmt.Errorf("is that of the network or its broadcast address: want another of %s", s.four)
	}
	return nil
}

// find returns whose line leads to an address, nil if it is not below this place.
func (s *segment) find(addr netip.Addr) *attachment {
	if a := s.at[addr]; a != nil {
		return a
	}
	for _, g := range s.below {
		if g.covers(addr) {
			return g.outside
		}
	}
	return nil
}

// covers tells whether packets to an address are routed to a gateway, not translated.
func (g *Gateway) covers(addr netip.Addr) bool {
	if addr.Is4() && !g.nat.Routed {
		return false
	}
	if g.inside.four.Contains(addr) || g.inside.six.Contains(addr) {
		return true
	}
	for _, further := range g.inside.below {
		if further.covers(addr) {
			return true
		}
	}
	return false
}

// attachment is a line with who is at its lower end: a host's interface, or the
// outside of a gateway. Its fields are under the network's mu.
type attachment struct {
	name     string // of the line
	segment  *segment
	addrs    []netip.Addr
	on       bool
	up, down *pipe
	host     *Host    // or
	gateway  *Gateway // one of them
}

// plug attaches a line to a place. Called with mu held.
func (s *segment) plug(name, pipes string, line Line, addrs []netip.Addr) (*attachment, error) {
	if err := line.Validate(); err != nil {
		return nil, fmt.Errorf("line of %s: %w", name, err)
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{s.unused(true)}
	}
	for _, addr := range addrs {
		if err := s.mayHave(addr); err != nil {
			return nil, fmt.Errorf("address %s of %s: %w", addr, name, err)
		}
		if other := s.at[addr]; other != nil {
			return nil, fmt.Errorf("address %s of %s: is that of %s: %w", addr, name, other.name, syscall.EADDRINUSE)
		}
	}
	n := s.network
	a := &attachment{
		name: name, segment: s, addrs: addrs, on: true,
		up: newPipe(n.seed, pipes+" up"), down: newPipe(n.seed, pipes+" down"),
	}
	a.setLine(line)
	a.claim()
	return a, nil
}

// claim has the addresses lead here.
func (a *attachment) claim() {
	for _, addr := range a.addrs {
		a.segment.at[addr] = a
	}
}

// unplug takes the line away. What comes down on it is lost.
func (a *attachment) unplug() {
	a.on = false
	a.forget()
}

// forget gives the addresses back.
func (a *attachment) forget() {
	for _, addr := range a.addrs {
		if a.segment.at[addr] == a {
			delete(a.segment.at, addr)
		}
	}
}

func (a *attachment) setLine(line Line) {
	down := line
	if line.Down != nil {
		down = *line.Down
	}
	a.up.line, a.down.line = line.withDefaults(), down.withDefaults()
}

// addr returns an address of a family, the wanted one if that is valid.
func (a *attachment) addr(four bool, want netip.Addr) netip.Addr {
	for _, addr := range a.addrs {
		if addr.Is4() == four && (!want.IsValid() || want == addr) {
			return addr
		}
	}
	return netip.Addr{}
}
