package netlab

import (
	"net/netip"
	"testing"

	"github.com/conec-go/conec/sim"
)

// TestRules shows that what nft cannot be told to be is refused, not made into something else.
func TestRules(t *testing.T) {
	change := func(nat sim.NAT, f func(*sim.NAT)) sim.NAT {
		f(&nat)
		return nat
	}
	tests := []struct {
		name string
		nat  sim.NAT
		ok   bool
	}{
		{"full cone", sim.FullCone(), true},
		{"address-restricted", sim.AddressRestricted(), true},
		{"port-restricted", sim.PortRestricted(), true},
		{"open masquerade", sim.OpenMasquerade(), true},
		{"symmetric", sim.Symmetric(), true},
		{"hairpin", change(sim.FullCone(), func(n *sim.NAT) { n.Hairpin = true }), true},
		{"without UDP", change(sim.Symmetric(), func(n *sim.NAT) { n.NoUDP = true }), true},
		{"port-restricted hairpin", change(sim.PortRestricted(), func(n *sim.NAT) { n.Hairpin = true }), false},
		{"random full cone", change(sim.FullCone(), func(n *sim.NAT) { n.Ports = sim.RandomPorts }), false},
		{"sequential symmetric", change(sim.Symmetric(), func(n *sim.NAT) { n.Ports = sim.SequentialPorts }), false},
		{"symmetric that filters nothing", change(sim.Symmetric(), func(n *sim.NAT) { n.Filtering = sim.EndpointIndependent }), false},
		{"address-dependent mapping", change(sim.Symmetric(), func(n *sim.NAT) { n.Mapping = sim.AddressDependent }), false},
		{"full cone that takes early packets", change(sim.FullCone(), func(n *sim.NAT) { n.EarlyTakes = true }), false},
		{"refreshed from inside only", change(sim.FullCone(), func(n *sim.NAT) { n.OutboundRefresh = true }), false},
		{"firewall", sim.Firewall(), false},
		{"limited", change(sim.FullCone(), func(n *sim.NAT) { n.Limit = 1 }), false},
	}
	for _, test := range tests {
		_, err := ruleset(test.nat, netip.MustParseAddr("203.0.113.2"), home, 1)
		if (err == nil) != test.ok {
			t.Errorf("%s: error %v, want none: %v", test.name, err, test.ok)
		}
	}
}
