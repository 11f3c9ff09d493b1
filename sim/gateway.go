package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Gateway is a router between two places. It translates IPv4 addresses and filters
// as its [NAT] says; IPv6 it routes and filters. It is itself the place that is
// its inside.
type Gateway struct {
	network *Network
	name    string
	nat     NAT
	table   *natTable // of UDP
	streams *natTable // of TCP
	random  *rand.Rand
	chance  *rand.Rand // of streams
	outside *attachment
	inside  *segment
}

// Gateway adds a gateway, plugged in by a line. Without addrs, its outside has the
// next free IPv4 address there; inside, nat.Inside and an IPv6 network of its own.
func (n *Network) Gateway(name string, at Place, nat NAT, line Line, addrs ...netip.Addr) (*Gateway, error) {
	if err := nat.Validate(); err != nil {
		return nil, fmt.Errorf("gateway %q: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.claim(name); err != nil {
		return nil, fmt.Errorf("gateway %q: %w", name, err)
	}
	nat = nat.withDefaults()
	if err := n.fits(at.segment(), nat); err != nil {
		return nil, fmt.Errorf("gateway %q: %w", name, err)
	}
	outside, err := at.segment().plug(name, name, line, addrs)
	if err != nil {
		return nil, fmt.Errorf("gateway %q: %w", name, err)
	}
	n.gateways++
	six := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n.gateways >> 8), byte(n.gateways)}), 64)
	g := &Gateway{network: n, name: name, outside: outside, random: newPipe(n.seed, name+" ports").random, chance: newPipe(n.seed, name+" TCP ports").random}
	g.inside = newSegment(n, g, nat.Inside, six)
	outside.gateway = g
	at.segment().below = append(at.segment().below, g)
	n.names[name] = true
	g.set(nat)
	return g, nil
}

// fits tells why a gateway cannot be at a place.
func (n *Network) fits(s *segment, nat NAT) error {
	if s.network != n {
		return errors.New("the place is in another network")
	}
	if !nat.Routed {
		return nil
	}
	for _, other := range s.below {
		if other.nat.Routed && other.inside.four.Overlaps(nat.Inside) {
			return fmt.Errorf("inside %s is routed, and overlaps that of %s, %s: want another", nat.Inside, other.name, other.inside.four)
		}
	}
	return nil
}

// claim checks a name that is to be given away.
func (n *Network) claim(name string) error {
	switch {
	case name == "":
		return errors.New("has no name")
	case n.names[name]:
		return errors.New("the name is taken")
	}
	return nil
}

func (g *Gateway) set(nat NAT) {
	g.nat = nat
	g.table = newNATTable(nat, g.outside.addr(true, netip.Addr{}), g.random)
	nat.Timeout = tcpMapping
	g.streams = newNATTable(nat, g.outside.addr(true, netip.Addr{}), g.chance)
}

// tcpMapping is how long a gateway remembers an idle TCP connection (RFC 5382 section 5).
const tcpMapping = 124 * time.Minute

// tableOf returns the mappings of a protocol.
func (g *Gateway) tableOf(tcp bool) *natTable {
	if tcp {
		return g.streams
	}
	return g.table
}

// Name returns the gateway's name.
func (g *Gateway) Name() string { return g.name }

// Addr returns the IPv4 address of its outside.
func (g *Gateway) Addr() netip.Addr {
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	return g.outside.addr(true, netip.Addr{})
}

// IPv4 returns an address inside that nobody has.
func (g *Gateway) IPv4() netip.Addr { return g.inside.nextFree(true) }

// IPv6 returns an address inside that nobody has.
func (g *Gateway) IPv6() netip.Addr { return g.inside.nextFree(false) }

func (g *Gateway) segment() *segment { return g.inside }

// Mappings returns how many mappings and openings the gateway keeps.
func (g *Gateway) Mappings() int {
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	return g.table.size() + g.streams.size()
}

// Reboot has the gateway forget all mappings.
func (g *Gateway) Reboot() {
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	g.table.reset()
	g.streams.reset()
}

// Renumber gives the outside another IPv4 address, as a provider does; all
// mappings are forgotten.
func (g *Gateway) Renumber(addr netip.Addr) error {
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	at, old := g.outside.segment.at, g.outside.addr(true, netip.Addr{})
	err := g.outside.segment.mayHave(addr)
	switch {
	case err != nil:
	case !addr.Is4():
		err = errors.New("want an IPv4 address")
	case at[addr] != nil && addr != old:
		err = fmt.Errorf("is that of %s: %w", at[addr].name, syscall.EADDRINUSE)
	}
	if err != nil {
		return fmt.Errorf("renumber %s to %s: %w", g.name, addr, err)
	}
	g.outside.addrs = append(slices.DeleteFunc(slices.Clone(g.outside.addrs), func(a netip.Addr) bool { return a == old }), addr)
	delete(at, old)
	at[addr] = g.outside
	g.table.renumber(addr)
	g.streams.renumber(addr)
	return nil
}

// SetNAT changes how the gateway behaves; all mappings are forgotten. Inside stays
// what it was.
func (g *Gateway) SetNAT(nat NAT) error {
	if err := nat.Validate(); err != nil {
		return err
	}
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	nat = nat.withDefaults()
	nat.Inside = g.nat.Inside
	if nat.Routed && !g.nat.Routed {
		if err := g.network.fits(g.outside.segment, nat); err != nil {
			return fmt.Errorf("gateway %q: %w", g.name, err)
		}
	}
	g.set(nat)
	return nil
}

// SetLine changes the line of the outside for packets that have not reached it yet.
func (g *Gateway) SetLine(line Line) error {
	if err := line.Validate(); err != nil {
		return err
	}
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	g.outside.setLine(line)
	return nil
}

// SetUp takes the line of the outside away, or brings it back.
func (g *Gateway) SetUp(on bool) {
	g.network.mu.Lock()
	defer g.network.mu.Unlock()
	g.outside.on = on
}

// has tells whether an address is one of the outside's.
func (g *Gateway) has(addr netip.Addr) bool { return slices.Contains(g.outside.addrs, addr) }

// outward takes a datagram from the inside to nobody there.
func (g *Gateway) outward(d datagram) {
	n, now := g.network, g.network.elapsed()
	if g.nat.NoUDP && !d.tcp {
		n.see(g.name, true, &d, Blocked)
		return
	}
	loops := g.has(d.to.Addr())
	if loops && !g.nat.Hairpin {
		n.see(g.name, true, &d, Filtered)
		return
	}
	mapped, fate := g.tableOf(d.tcp).out(now, d.from, d.to)
	if fate != Passed {
		n.see(g.name, true, &d, fate)
		return
	}
	d.from = mapped
	if loops {
		g.inward(d)
		return
	}
	n.ascend(g.outside, d)
}

// inward takes a datagram to the inside.
func (g *Gateway) inward(d datagram) {
	n := g.network
	if g.nat.NoUDP && !d.tcp {
		n.see(g.name, false, &d, Blocked)
		return
	}
	inside, fate := g.tableOf(d.tcp).in(n.elapsed(), d.from, d.to)
	if fate != Passed {
		n.see(g.name, false, &d, fate)
		return
	}
	d.to = inside
	a := g.inside.find(inside.Addr())
	if a == nil {
		n.see(g.name, false, &d, Unreachable)
		return
	}
	n.descend(a, d)
}
