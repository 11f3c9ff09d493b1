package sim

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// puncher is a socket behind a table of its own that wants to reach another one,
// knowing where the coordinator saw it and answering whoever reaches it.
type puncher struct {
	table   *natTable
	inside  netip.AddrPort
	seen    netip.AddrPort   // by the coordinator
	targets []netip.AddrPort // that it sends to
	heard   bool
}

func newPuncher(nat NAT, outside string, port uint16, seed uint64) *puncher {
	p := &puncher{
		table:  newNATTable(nat, netip.MustParseAddr(outside), rand.New(rand.NewPCG(seed, 0))),
		inside: netip.AddrPortFrom(netip.MustParseAddr("192.168.1.2"), port),
	}
	p.seen, _ = p.table.out(0, p.inside, netip.MustParseAddrPort("203.0.113.10:1719"))
	return p
}

// send returns the source addresses that its packets have outside.
func (p *puncher) send(now time.Duration) (sources []netip.AddrPort) {
	for _, target := range p.targets {
		source, _ := p.table.out(now, p.inside, target)
		sources = append(sources, source)
	}
	return sources
}

// hear takes packets from the other one.
func (p *puncher) hear(now time.Duration, sources, targets []netip.AddrPort) {
	for i, source := range sources {
		if _, fate := p.table.in(now, source, targets[i]); fate == Passed {
			p.heard = true
			if !slices.Contains(p.targets, source) {
				p.targets = append(p.targets, source)
			}
		}
	}
}

// punch has two sockets send to each other every 100 milliseconds; the second one
// begins 600 milliseconds after the first. If they cross, both begin at once and
// packets arrive after the other one has sent, as if the way took time.
func punch(first, second *puncher, cross bool) bool {
	first.targets, second.targets = []netip.AddrPort{second.seen}, []netip.AddrPort{first.seen}
	for round := range 20 {
		now := time.Second + time.Duration(round)*100*time.Millisecond
		targets := slices.Clone(first.targets)
		sources := first.send(now)
		if !cross {
			second.hear(now, sources, targets)
			if round < 6 {
				continue
			}
		}
		back := slices.Clone(second.targets)
		answers := second.send(now)
		if cross {
			second.hear(now, sources, targets)
		}
		first.hear(now, answers, back)
	}
	return first.heard && second.heard
}

// TestNATPunching holds the matrix that was measured in the kernel: two sockets
// behind all pairs of gateways, sending plain packets. A row is A, which is 600
// milliseconds late there.
//
// What was measured as simultaneous had no latency: one of the two came first,
// so each of its cells is that of one order or the other. Where packets cross on
// their way, no early packet takes anything, and masquerading peers meet.
func TestNATPunching(t *testing.T) {
	kinds := []struct {
		name string
		nat  NAT
	}{
		{"full cone", FullCone()},
		{"address restricted", AddressRestricted()},
		{"port restricted", PortRestricted()},
		{"open masquerade", OpenMasquerade()},
		{"symmetric", Symmetric()},
	}
	const ok, no = true, false
	for _, test := range []struct {
		name        string
		cross, late bool
		want        [5][5]bool
	}{
		{"A is late", false, true, [5][5]bool{
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, ok, no},
			{ok, ok, no, no, no},
			{ok, ok, no, no, no},
		}},
		{"B is late", false, false, [5][5]bool{
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, no, no},
			{ok, ok, ok, no, no},
			{ok, ok, no, no, no},
		}},
		{"packets cross", true, false, [5][5]bool{
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, ok, ok},
			{ok, ok, ok, ok, no},
			{ok, ok, ok, ok, no},
			{ok, ok, no, no, no},
		}},
	} {
		for row, a := range kinds {
			for column, b := range kinds {
				for _, ports := range [][2]uint16{{5000, 6000}, {5000, 5000}} {
					first := newPuncher(a.nat, "203.0.113.2", ports[0], 1)
					second := newPuncher(b.nat, "203.0.113.3", ports[1], 2)
					if test.late {
						first, second = second, first
					}
					if got := punch(first, second, test.cross); got != test.want[row][column] {
						t.Errorf("%s, A behind %s, B behind %s, ports %v: reached each other %v, want %v",
							test.name, a.name, b.name, ports, got, test.want[row][column])
					}
				}
			}
		}
	}
}
