package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	natOutside = netip.MustParseAddr("203.0.113.2")
	inside1    = netip.MustParseAddrPort("192.168.1.2:5000")
	inside2    = netip.MustParseAddrPort("192.168.1.3:5000") // another host, the same port
	remoteA1   = netip.MustParseAddrPort("198.51.100.1:1001")
	remoteA2   = netip.MustParseAddrPort("198.51.100.1:1002") // another port of A
	remoteB1   = netip.MustParseAddrPort("198.51.100.2:1001") // another address
)

// natUnderTest is a table with a clock, in a test that ends with the first surprise.
type natUnderTest struct {
	*natTable
	t   *testing.T
	now time.Duration
}

func newNATUnderTest(t *testing.T, nat NAT) *natUnderTest {
	t.Helper()
	if err := nat.Validate(); err != nil {
		t.Fatal(err)
	}
	return &natUnderTest{natTable: newNATTable(nat, natOutside, rand.New(rand.NewPCG(1, 2))), t: t}
}

// sends has a socket inside send and returns the source address outside.
func (n *natUnderTest) sends(from, to netip.AddrPort) netip.AddrPort {
	n.t.Helper()
	mapped, fate := n.out(n.now, from, to)
	if fate != Passed {
		n.t.Fatalf("at %s, out from %s to %s: got %s, want passed", n.now, from, to, fate)
	}
	return mapped
}

// gets tells what becomes of a packet from outside, and that it reaches inside if it does.
func (n *natUnderTest) gets(from, to, inside netip.AddrPort, want Fate) {
	n.t.Helper()
	got, fate := n.in(n.now, from, to)
	if fate != want || fate == Passed && got != inside {
		n.t.Fatalf("at %s, in from %s to %s: got %s %s, want %s %s", n.now, from, to, fate, got, want, inside)
	}
}

// TestNATMappingAndFiltering is RFC 4787, sections 4.1 and 5, as a table: all nine
// pairs.
func TestNATMappingAndFiltering(t *testing.T) {
	mappings := []struct {
		mapping           Dependence
		samePort, another bool // whether X1':x1' = X2':x2' for (Y1:y1, Y1:y2), (Y1:y1, Y2:y1)
	}{
		{EndpointIndependent, true, true},
		{AddressDependent, true, false},
		{AddressAndPortDependent, false, false},
	}
	filterings := []struct {
		filtering         Dependence
		samePort, another Fate // of packets from Y1:y2 and Y2:y1 after one to Y1:y1
	}{
		{EndpointIndependent, Passed, Passed},
		{AddressDependent, Passed, Filtered},
		{AddressAndPortDependent, Filtered, Filtered},
	}
	for _, m := range mappings {
		for _, f := range filterings {
			for _, ports := range []PortPolicy{SequentialPorts, RandomPorts} {
				t.Run(fmt.Sprintf("map %s filter %s %s", m.mapping, f.filtering, ports), func(t *testing.T) {
					n := newNATUnderTest(t, NAT{Mapping: m.mapping, Filtering: f.filtering, Ports: ports})
					n.gets(remoteA1, netip.AddrPortFrom(natOutside, inside1.Port()), inside1, Unmapped)
					external := n.sends(inside1, remoteA1)
					if external.Addr() != natOutside || external.Port() < 1024 {
						t.Fatalf("mapped to %s, want %s and a port from 1024", external, natOutside)
					}
					n.gets(remoteA1, external, inside1, Passed)
					n.gets(remoteA2, external, inside1, f.samePort)
					n.gets(remoteB1, external, inside1, f.another)
					n.gets(remoteA1, netip.AddrPortFrom(external.Addr().Next(), external.Port()), inside1, Unmapped)

					if got := n.sends(inside1, remoteA1); got != external {
						t.Errorf("the same flow again: got %s, want %s", got, external)
					}
					if got := n.sends(inside1, remoteA2); (got == external) != m.samePort {
						t.Errorf("to another port: got %s after %s, want the same: %v", got, external, m.samePort)
					} else {
						n.gets(remoteA2, got, inside1, Passed)
					}
					if got := n.sends(inside1, remoteB1); (got == external) != m.another {
						t.Errorf("to another address: got %s after %s, want the same: %v", got, external, m.another)
					} else {
						n.gets(remoteB1, got, inside1, Passed)
					}
					if got := n.sends(inside2, remoteA1); got == external {
						t.Errorf("two sockets have %s", got)
					} else {
						n.gets(remoteA1, got, inside2, Passed)
					}
				})
			}
		}
	}
}

// TestNATFilterIsTheMappings: what left by one mapping does not open another.
func TestNATFilterIsTheMappings(t *testing.T) {
	n := newNATUnderTest(t, Symmetric())
	a, b := n.sends(inside1, remoteA1), n.sends(inside1, remoteB1)
	n.gets(remoteB1, a, inside1, Filtered)
	n.gets(remoteB1, b, inside1, Passed)
}

// TestNATTimeout: 30 seconds without packets of a direction that counts end a
// mapping, and what it let in.
func TestNATTimeout(t *testing.T) {
	for _, filtering := range []Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent} {
		for _, mapping := range []Dependence{EndpointIndependent, AddressAndPortDependent} {
			for _, outbound := range []bool{false, true} {
				t.Run(fmt.Sprintf("map %s filter %s outbound only %v", mapping, filtering, outbound), func(t *testing.T) {
					n := newNATUnderTest(t, NAT{
						Mapping: mapping, Filtering: filtering, Timeout: 30 * time.Second, OutboundRefresh: outbound, Ports: RandomPorts,
					})
					external := n.sends(inside1, remoteA1)
					n.now += 29 * time.Second
					if got := n.sends(inside1, remoteA1); got != external { // what goes out counts always
						t.Fatalf("mapped to %s after 29 s, before to %s", got, external)
					}
					n.now += 29 * time.Second
					n.gets(remoteA1, external, inside1, Passed)
					n.now += 29 * time.Second
					if outbound {
						n.gets(remoteA1, external, inside1, Unmapped)
					} else {
						n.gets(remoteA1, external, inside1, Passed)
					}
					n.now += 30*time.Second - 1
					if !outbound {
						n.gets(remoteA1, external, inside1, Passed)
					}
					n.now += 30 * time.Second
					n.gets(remoteA1, external, inside1, Unmapped)
					if n.size() != 0 {
						t.Errorf("%d entries are left, want none", n.size())
					}
					if got := n.sends(inside1, remoteA1); got == external {
						t.Errorf("mapped to %s again, want another port", got)
					}
				})
			}
		}
	}
}

// TestNATOpeningTimeout: an opening dies for itself while others keep the mapping
// alive.
func TestNATOpeningTimeout(t *testing.T) {
	n := newNATUnderTest(t, PortRestricted())
	external := n.sends(inside1, remoteA1)
	n.sends(inside1, remoteB1)
	n.now = defaultTimeout - 1
	n.gets(remoteB1, external, inside1, Passed)
	n.now++
	n.gets(remoteA1, external, inside1, Filtered)
	n.gets(remoteB1, external, inside1, Passed)
	if got := n.sends(inside1, remoteA1); got != external {
		t.Errorf("mapped to %s, before to %s", got, external)
	}
	n.gets(remoteA1, external, inside1, Passed)
}

// TestNATHairpin: a gateway takes what is sent to its own address out and in again;
// both of its mappings decide.
func TestNATHairpin(t *testing.T) {
	n := newNATUnderTest(t, PortRestricted())
	one, two := n.sends(inside1, remoteA1), n.sends(inside2, remoteA1)
	if source := n.sends(inside1, two); source != one {
		t.Fatalf("looped from %s, want %s", source, one)
	}
	n.gets(one, two, inside2, Filtered)
	if source := n.sends(inside2, one); source != two {
		t.Fatalf("looped from %s, want %s", source, two)
	}
	n.gets(two, one, inside1, Passed)
	n.gets(one, two, inside2, Passed)
}

func TestNATForgets(t *testing.T) {
	for _, nat := range []NAT{FullCone(), AddressRestricted(), PortRestricted(), Symmetric(), OpenMasquerade(), Firewall()} {
		n := newNATUnderTest(t, nat)
		external := n.sends(inside1, remoteA1)
		n.gets(remoteB1, netip.AddrPortFrom(external.Addr(), 7), inside1, map[bool]Fate{true: Filtered, false: Unmapped}[nat.Routed])
		n.reset()
		if n.size() != 0 {
			t.Errorf("%d entries after a reset", n.size())
		}
		if _, fate := n.in(n.now, remoteA1, external); fate == Passed {
			t.Errorf("%+v: %s lets in after a reset", nat, external)
		}
		n.sends(inside1, remoteB1)
		moved := netip.MustParseAddr("203.0.113.99")
		n.renumber(moved)
		if n.size() != 0 {
			t.Errorf("%d entries after another address", n.size())
		}
		external = n.sends(inside1, remoteA1)
		if want := map[bool]netip.Addr{true: inside1.Addr(), false: moved}[nat.Routed]; external.Addr() != want {
			t.Errorf("%+v: mapped to %s, want %s", nat, external, want)
		}
		n.gets(remoteA1, external, inside1, Passed)
	}
}

// TestNATEarlyTakes: an early packet has its pair for 30 seconds, each further one
// prolongs that, and only flows to its sender get another port.
func TestNATEarlyTakes(t *testing.T) {
	for name, nat := range map[string]NAT{
		"open masquerade": OpenMasquerade(),
		"one mapping":     {Filtering: AddressAndPortDependent, EarlyTakes: true},
		"address mapping": {Mapping: AddressDependent, Filtering: AddressAndPortDependent, EarlyTakes: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNATUnderTest(t, nat)
			external := n.sends(inside1, remoteA1)
			n.gets(remoteA2, external, inside1, Filtered)
			n.now += 29 * time.Second
			n.gets(remoteA2, external, inside1, Filtered)
			n.now += 29 * time.Second
			exception := n.sends(inside1, remoteA2)
			if exception == external || exception.Port() == external.Port()+1 {
				t.Fatalf("mapped to %s, want a random port: the early packet has %s", exception, external)
			}
			n.gets(remoteA2, exception, inside1, Passed)
			n.gets(remoteA2, external, inside1, Filtered) // still: the router takes it
			if got := n.sends(inside1, remoteA1); got != external {
				t.Errorf("the other flow moved to %s from %s", got, external)
			}
			n.gets(remoteA1, external, inside1, Passed)
			n.now += 31 * time.Second
			if got := n.sends(inside1, remoteA2); got != exception {
				t.Errorf("mapped to %s after the early pair died, before to %s", got, exception)
			}
			if got := n.sends(inside2, remoteA2).Port(); (got == external.Port()) != (nat.Mapping == AddressAndPortDependent) {
				t.Errorf("another socket with the same port: got %d, after %s", got, external)
			}

			if nat.Mapping == AddressAndPortDependent { // seen in Linux 6.18
				if got := n.sends(inside1, netip.AddrPortFrom(remoteB1.Addr(), 7)); got != exception {
					t.Errorf("a new flow after the exception: got %s, want %s too", got, exception)
				}
				return
			}
			n.gets(remoteB1, external, inside1, Filtered)
			n.now += 30 * time.Second
			if got := n.sends(inside1, remoteB1).Port(); got != external.Port() && nat.Mapping != AddressDependent {
				t.Errorf("30 s after the early packet: mapped to port %d, want %d", got, external.Port())
			}
		})
	}
	// Even before anything inside has the port.
	n := newNATUnderTest(t, OpenMasquerade())
	n.gets(remoteA1, netip.AddrPortFrom(natOutside, 5000), inside1, Unmapped)
	exception := n.sends(inside1, remoteA1)
	if exception.Port() == 5000 {
		t.Error("mapped to a pair that an early packet has")
	}
	if got := n.sends(inside1, remoteB1); got != exception {
		t.Errorf("to another remote: got %s, want the last mapping's %s", got, exception)
	}
	if got := n.sends(inside2, remoteB1).Port(); got != 5000 {
		t.Errorf("another socket: got port %d, want 5000", got)
	}
	n.reset()
	n.gets(remoteA1, netip.AddrPortFrom(natOutside, 5000), inside1, Unmapped)
	n.now += 30 * time.Second
	if got := n.sends(inside1, remoteA1).Port(); got != 5000 {
		t.Errorf("30 s after the early packet: got port %d, want 5000", got)
	}
	// With an input filter it does not matter.
	n = newNATUnderTest(t, PortRestricted())
	n.gets(remoteA1, netip.AddrPortFrom(natOutside, 5000), inside1, Unmapped)
	if got := n.sends(inside1, remoteA1).Port(); got != 5000 {
		t.Errorf("behind an input filter: got port %d, want 5000", got)
	}
}

// TestNATEarlyFlood: pairs from all over cannot fill the memory.
func TestNATEarlyFlood(t *testing.T) {
	nat := OpenMasquerade()
	nat.Limit = 100
	n := newNATUnderTest(t, nat)
	for i := range 1000 {
		n.gets(netip.AddrPortFrom(remoteA1.Addr(), uint16(i+1)), netip.AddrPortFrom(natOutside, 5000), inside1, Unmapped)
	}
	if n.size() != 100 {
		t.Errorf("%d early pairs, want the limit of 100", n.size())
	}
	n.now += 30 * time.Second
	if n.sends(inside1, remoteA1); n.size() != 1 {
		t.Errorf("%d entries, want the mapping alone", n.size())
	}
}

// TestNATRouted: a firewall and IPv6 keep addresses and let in by Filtering what
// was asked for.
func TestNATRouted(t *testing.T) {
	six := []netip.AddrPort{
		netip.MustParseAddrPort("[2001:db8:1::2]:5000"), netip.MustParseAddrPort("[2001:db8:2::1]:1001"),
		netip.MustParseAddrPort("[2001:db8:2::1]:1002"), netip.MustParseAddrPort("[2001:db8:2::2]:1001"),
	}
	four := []netip.AddrPort{inside1, remoteA1, remoteA2, remoteB1}
	for _, f := range []struct {
		filtering         Dependence
		samePort, another Fate
	}{
		{EndpointIndependent, Passed, Passed},
		{AddressDependent, Passed, Filtered},
		{AddressAndPortDependent, Filtered, Filtered},
	} {
		for name, test := range map[string]struct {
			nat   NAT
			addrs []netip.AddrPort
		}{
			"IPv4": {NAT{Routed: true, Filtering: f.filtering, Timeout: 30 * time.Second}, four},
			"IPv4, translation aside": {NAT{
				Routed: true, Filtering: f.filtering, Timeout: 30 * time.Second,
				Mapping: AddressAndPortDependent, Ports: RandomPorts, EarlyTakes: true,
			}, four},
			"IPv6": {NAT{Filtering: f.filtering, Timeout: 30 * time.Second}, six},
			"IPv6, translation aside": {NAT{
				Filtering: f.filtering, Timeout: 30 * time.Second, Mapping: AddressAndPortDependent, EarlyTakes: true,
			}, six},
		} {
			t.Run(f.filtering.String()+" "+name, func(t *testing.T) {
				n := newNATUnderTest(t, test.nat)
				inside, y11, y12, y21 := test.addrs[0], test.addrs[1], test.addrs[2], test.addrs[3]
				n.gets(y11, inside, inside, Filtered) // even if anybody may: not before it has sent
				if got := n.sends(inside, y11); got != inside {
					t.Fatalf("mapped to %s, want %s", got, inside)
				}
				n.gets(y11, inside, inside, Passed)
				n.gets(y12, inside, inside, f.samePort)
				n.gets(y21, inside, inside, f.another)
				n.gets(y11, netip.AddrPortFrom(inside.Addr(), 7), inside, Filtered)
				if to, ok := n.peek(n.now, y21, inside); !ok || to != inside {
					t.Errorf("peek: got %s, %v", to, ok)
				}
				if got := n.source(n.now, inside, y21); got != inside {
					t.Errorf("source: got %s", got)
				}
				n.now += 30 * time.Second
				n.gets(y11, inside, inside, Filtered)
				if n.size() != 0 {
					t.Errorf("%d entries are left", n.size())
				}
			})
		}
	}
}

// TestNATWithoutOutside: a gateway that has only IPv6 outside translates nothing.
func TestNATWithoutOutside(t *testing.T) {
	table := newNATTable(FullCone(), netip.Addr{}, rand.New(rand.NewPCG(1, 2)))
	if _, fate := table.out(0, inside1, remoteA1); fate != Unreachable {
		t.Errorf("got %s, want unreachable", fate)
	}
	if _, fate := table.in(0, remoteA1, netip.AddrPortFrom(natOutside, 5000)); fate != Unmapped {
		t.Errorf("got %s, want unmapped", fate)
	}
}

// TestNATPeek: asking where a packet would go, or come from, changes nothing.
func TestNATPeek(t *testing.T) {
	nat := PortRestricted()
	nat.Timeout = 30 * time.Second
	n := newNATUnderTest(t, nat)
	guess := netip.AddrPortFrom(natOutside, 5000)
	if got := n.source(n.now, inside1, remoteA1); got != guess {
		t.Errorf("source before: got %s, want the guess %s", got, guess)
	}
	if to, ok := n.peek(n.now, remoteA1, guess); ok {
		t.Errorf("peek before: got %s", to)
	}
	n.sends(inside2, remoteA1)
	external := n.sends(inside1, remoteA1)
	for range 3 {
		if got := n.source(n.now, inside1, remoteB1); got != external {
			t.Errorf("source: got %s, want %s", got, external)
		}
		if to, ok := n.peek(n.now, remoteB1, external); !ok || to != inside1 {
			t.Errorf("peek: got %s, %v, want %s whoever asks", to, ok, inside1)
		}
		n.now += 10 * time.Second
	}
	n.gets(remoteA1, external, inside1, Unmapped)
	if got := newNATUnderTest(t, Symmetric()).source(0, inside1, remoteA1); got != netip.AddrPortFrom(natOutside, 0) {
		t.Errorf("source of a random port: got %s, want port 0", got)
	}
}

// TestNATAllocates nothing for a packet of a flow that there is.
func TestNATAllocates(t *testing.T) {
	for name, nat := range natPresets() {
		n := newNATUnderTest(t, nat)
		if got := testing.AllocsPerRun(1000, func() {
			n.now += time.Millisecond
			n.gets(remoteA1, n.sends(inside1, remoteA1), inside1, Passed)
			n.sends(inside2, remoteB1)
		}); got != 0 {
			t.Errorf("%s: %v allocations per packet", name, got)
		}
	}
}

func natPresets() map[string]NAT {
	return map[string]NAT{
		"full cone": FullCone(), "address restricted": AddressRestricted(), "port restricted": PortRestricted(),
		"open masquerade": OpenMasquerade(), "symmetric": Symmetric(), "firewall": Firewall(),
	}
}

func BenchmarkNAT(b *testing.B) {
	for name, nat := range natPresets() {
		b.Run("established/"+name, func(b *testing.B) {
			const flows = 1000
			table := newNATTable(nat, natOutside, rand.New(rand.NewPCG(1, 2)))
			from, to := make([]netip.AddrPort, flows), make([]netip.AddrPort, flows)
			for i := range flows {
				from[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(i)}), uint16(5000+i))
				to[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 3), 1}), uint16(1000+i))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ { // a packet out and one in
				mapped, _ := table.out(time.Duration(i), from[i%flows], to[i%flows])
				if _, fate := table.in(time.Duration(i), to[i%flows], mapped); fate != Passed {
					b.Fatal(fate)
				}
			}
		})
		b.Run("new/"+name, func(b *testing.B) {
			nat.Timeout = time.Second // with a packet each millisecond, 1,000 live
			table := newNATTable(nat, natOutside, rand.New(rand.NewPCG(1, 2)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ { // all with the same port
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5000)
				if _, fate := table.out(time.Duration(i)*time.Millisecond, from, remoteA1); fate != Passed {
					b.Fatal(fate)
				}
			}
		})
	}
}
