package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestNATPreservesPorts(t *testing.T) {
	low := netip.AddrPortFrom(inside1.Addr(), 443)
	last1, last2 := netip.AddrPortFrom(inside1.Addr(), 65535), netip.AddrPortFrom(inside2.Addr(), 65535)
	for _, test := range []struct {
		name     string
		nat      NAT
		from, to []netip.AddrPort
		want     []uint16
	}{
		{"kept", FullCone(), []netip.AddrPort{inside1}, []netip.AddrPort{remoteA1}, []uint16{5000}},
		{
			"the next free one", PortRestricted(),
			[]netip.AddrPort{inside1, inside2, netip.MustParseAddrPort("192.168.1.4:5000"), netip.MustParseAddrPort("192.168.1.5:5001")},
			[]netip.AddrPort{remoteA1, remoteB1, remoteA1, remoteA1},
			[]uint16{5000, 5001, 5002, 5003},
		},
		{"from the beginning after the end", FullCone(), []netip.AddrPort{last1, last2}, []netip.AddrPort{remoteA1, remoteA1}, []uint16{65535, 1024}},
		{"not a low one", FullCone(), []netip.AddrPort{low}, []netip.AddrPort{remoteA1}, []uint16{1024}},
		{
			"shared by remotes",
			NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent},
			[]netip.AddrPort{inside1, inside1, inside2},
			[]netip.AddrPort{remoteA1, remoteB1, remoteA2},
			[]uint16{5000, 5000, 5000},
		},
		{
			"not shared if the filter cannot tell",
			NAT{Mapping: AddressAndPortDependent, Filtering: AddressDependent},
			[]netip.AddrPort{inside1, inside1, inside2},
			[]netip.AddrPort{remoteA1, remoteB1, remoteA2},
			[]uint16{5000, 5001, 5002},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNATUnderTest(t, test.nat)
			var mapped []netip.AddrPort
			for i, from := range test.from {
				mapped = append(mapped, n.sends(from, test.to[i]))
				if got := mapped[i].Port(); got != test.want[i] {
					t.Errorf("mapping %d: got port %d, want %d", i, got, test.want[i])
				}
			}
			for i, from := range test.from { // whoever shares a port
				n.gets(test.to[i], mapped[i], from, Passed)
			}
		})
	}
}

// TestNATSharesNotOneRemote: Linux gives the second socket another port where the
// remote is the same, and that one only.
func TestNATSharesNotOneRemote(t *testing.T) {
	n := newNATUnderTest(t, NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent})
	first, second := n.sends(inside1, remoteA1), n.sends(inside2, remoteA1)
	if first.Port() != 5000 || second.Port() == 5000 || second.Port() == 5001 {
		t.Errorf("got %s and %s, want port 5000 and a random one", first, second)
	}
	n.gets(remoteA1, first, inside1, Passed)
	n.gets(remoteA1, second, inside2, Passed)
	n.gets(remoteB1, first, inside1, Filtered)
	if got := n.sends(inside2, remoteB1); got != second { // seen in Linux 6.18
		t.Errorf("the second socket to another remote: got %s, want its last one, %s", got, second)
	}
	if got := n.sends(inside1, remoteB1); got != first {
		t.Errorf("the first socket to another remote: got %s, want %s", got, first)
	}
}

func TestNATCountsPortsUp(t *testing.T) {
	n := newNATUnderTest(t, NAT{Mapping: AddressAndPortDependent, Ports: SequentialPorts})
	n.next = ports - 2 // the last but one
	var got []uint16
	for i := range uint16(4) {
		got = append(got, n.sends(inside1, netip.AddrPortFrom(remoteA1.Addr(), 100+i)).Port())
	}
	n.next = 0 // after the last
	got = append(got, n.sends(inside1, remoteB1).Port())
	if want := []uint16{65534, 65535, 1024, 1025, 1026}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got ports %v, want %v", got, want)
	}
}

func TestNATRandomPorts(t *testing.T) {
	ports := func(seed uint64) (got [64]uint16) {
		table := newNATTable(Symmetric(), natOutside, rand.New(rand.NewPCG(seed, 0)))
		for i := range got {
			mapped, _ := table.out(0, inside1, netip.AddrPortFrom(remoteA1.Addr(), uint16(i+1)))
			got[i] = mapped.Port()
		}
		return got
	}
	first := ports(1)
	low, high, used := uint16(65535), uint16(0), map[uint16]bool{}
	for _, port := range first {
		low, high = min(low, port), max(high, port)
		used[port] = true
	}
	if len(used) != len(first) || low > 10_000 || high < 55_000 {
		t.Errorf("%d mappings have %d ports from %d to %d, want different ones from everywhere", len(first), len(used), low, high)
	}
	if ports(1) != first {
		t.Error("the same seed gives other ports")
	}
	if ports(2) == first {
		t.Error("another seed gives the same ports")
	}
}

// TestNATLimit: what would be one more is exhausted, what there is goes on, and age
// makes room.
func TestNATLimit(t *testing.T) {
	for name, nat := range map[string]NAT{
		"mappings":        {Mapping: AddressAndPortDependent, Ports: RandomPorts, Limit: 3},
		"shared ports":    {Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Limit: 3},
		"openings":        {Filtering: AddressAndPortDependent, Limit: 3},
		"opened from new": {Filtering: AddressDependent, Mapping: EndpointIndependent, Limit: 3},
		"routed":          {Routed: true, Filtering: AddressAndPortDependent, Limit: 3},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNATUnderTest(t, nat)
			to := func(i int) netip.AddrPort {
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(1000+i))
			}
			for i := range 3 {
				n.sends(inside1, to(i))
			}
			for _, from := range []netip.AddrPort{inside1, inside2} {
				if mapped, fate := n.out(n.now, from, to(3)); fate != Exhausted {
					t.Errorf("out from %s: got %s %s, want exhausted", from, mapped, fate)
				}
			}
			n.gets(to(2), n.sends(inside1, to(2)), inside1, Passed)
			before := n.size()
			n.now += defaultTimeout
			n.sends(inside2, to(3))
			if n.size() >= before {
				t.Errorf("%d entries, before %d: the dead are still there", n.size(), before)
			}
		})
	}
}

// TestNATFullOfPorts fills every port, by each policy.
func TestNATFullOfPorts(t *testing.T) {
	for _, policy := range []PortPolicy{PreservePorts, SequentialPorts, RandomPorts} {
		t.Run(policy.String(), func(t *testing.T) {
			n := newNATUnderTest(t, NAT{Mapping: AddressAndPortDependent, Ports: policy, Limit: ports})
			for i := range ports {
				n.sends(inside1, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i >> 15)}), uint16(1+i&0x7fff)))
			}
			if got := len(n.claims); got != ports {
				t.Errorf("%d ports are taken, want %d", got, ports)
			}
			if _, fate := n.out(n.now, inside2, remoteB1); fate != Exhausted {
				t.Errorf("got %s, want exhausted", fate)
			}
			if port, ok := n.choose(policy, 5000, remoteB1); ok {
				t.Errorf("found port %d among none", port)
			}
		})
	}
}

// TestNATPrefersTheLast: where remotes share a port, a new flow has that of the
// socket's last mapping that lives; if the remote has it, the socket's own.
func TestNATPrefersTheLast(t *testing.T) {
	n := newNATUnderTest(t, NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Timeout: 30 * time.Second})
	remote := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 1) }
	sends := func(from, to netip.AddrPort, want uint16) {
		t.Helper()
		if got := n.sends(from, to).Port(); got != want {
			t.Errorf("from %s to %s: got port %d, want %d", from, to, got, want)
		}
	}
	sends(inside1, remote(1), 5000)
	other := n.sends(inside2, remote(1)).Port()
	third := netip.AddrPortFrom(netip.MustParseAddr("192.168.1.4"), other)
	sends(third, remote(2), other)
	sends(inside2, remote(2), 5000) // its own: the remote has the last one's
	sends(inside2, remote(3), 5000) // that of the last one
	n.now += 29 * time.Second
	sends(inside2, remote(1), other) // the first one alone stays alive
	n.now += 29 * time.Second
	if got := n.source(n.now, inside2, remote(4)).Port(); got != other {
		t.Errorf("would send from port %d, want that of the one that is left, %d", got, other)
	}
	n.now += time.Second
	sends(inside2, remote(5), 5000) // all are dead
}
