package netlab

import (
	"fmt"
	"net/netip"

	"github.com/conec-go/conec/sim"
)

// Gateway is a router that translates and filters between its outside and its
// inside. It is a Place.
type Gateway struct {
	lab    *Lab
	name   string
	router *namespace
	nat    sim.NAT
	addr   netip.Addr // outside
	within *network
	zone   int // of its connections; another one for each time that it forgets them
}

// Gateway adds a gateway. These are the NATs that nft can be told to be:
//
//   - endpoint-independent mapping with preserved ports, and any filtering;
//   - address-and-port-dependent mapping and filtering, with preserved or random
//     ports; preserved, it is the same to nft as endpoint-independent mapping;
//   - those with address-and-port-dependent filtering also with EarlyTakes;
//   - with endpoint-independent filtering also with Hairpin;
//   - each with NoUDP, Timeout (whole seconds) and Inside.
//
// Others fail the test.
func (l *Lab) Gateway(name string, at Place, nat sim.NAT) *Gateway {
	l.tb.Helper()
	g := &Gateway{lab: l, name: name, router: l.namespace()}
	var err error
	g.addr, err = l.plug(g.router, "wan", at.network(), primary)
	l.must(name, err)
	prefix := nat.Inside
	if !prefix.IsValid() {
		prefix = home
	}
	first := prefix.Masked().Addr().Next()
	g.within = &network{inside: g.router, bridge: "lan", prefix: prefix, router: first, last: first, public: at.network().public}
	if !g.within.public.IsValid() {
		g.within.public = g.addr
	}
	l.must(name, g.router.bridge("lan", fmt.Sprintf("addr add %v/%d dev lan", first, prefix.Bits())))
	g.SetNAT(nat)
	return g
}

func (g *Gateway) network() *network { return g.within }

// Name is the gateway's name.
func (g *Gateway) Name() string { return g.name }

// Addr is its address outside.
func (g *Gateway) Addr() netip.Addr { return g.addr }

// SetNAT makes it another kind of gateway, with the same inside. It forgets all
// mappings.
func (g *Gateway) SetNAT(nat sim.NAT) {
	g.lab.tb.Helper()
	g.nat = nat
	g.Reboot()
}

// Reboot makes the gateway forget all mappings.
func (g *Gateway) Reboot() {
	g.lab.tb.Helper()
	g.zone++
	rules, err := ruleset(g.nat, g.addr, g.within.prefix, g.zone)
	g.lab.must(g.name, err)
	g.lab.must(g.name, g.router.forward(lifetime(g.nat)))
	g.lab.must(g.name, g.router.nft(rules))
}
