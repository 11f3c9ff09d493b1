package client

import (
	"net/netip"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// Mapping says under how many addresses a NAT shows a client to others (RFC 4787 section 4.1).
type Mapping int

// What a client can find out about the NAT before it.
const (
	// MappingUnknown is that it has not found out: the coordinator has no second
	// port, or did not answer there.
	MappingUnknown Mapping = iota
	// NoMapping is that there is none: the client is seen under an address of its own.
	NoMapping
	// EndpointIndependent is that everybody sees the client under the same address.
	EndpointIndependent
	// EndpointDependent is that each sees it under another one, as behind a
	// "symmetric" NAT: it can be reached directly only by those behind an easier one.
	EndpointDependent
)

// String returns "unknown", "none", "endpoint-independent" or "endpoint-dependent".
func (m Mapping) String() string {
	switch m {
	case NoMapping:
		return "none"
	case EndpointIndependent:
		return "endpoint-independent"
	case EndpointDependent:
		return "endpoint-dependent"
	default:
		return "unknown"
	}
}

// NAT is what a client knows of the address translation between it and its coordinator.
type NAT struct {
	// Mapping is how it maps this client's address.
	Mapping Mapping
	// Observed is the address under which the coordinator sees the client, Alternate
	// that under which it sees it at its second port. Both are invalid at first.
	Observed, Alternate netip.AddrPort
}

// NAT returns what is known now. It does not block.
func (cl *Client) NAT() NAT {
	if nat := cl.shared.nat.Load(); nat != nil {
		return *nat
	}
	return NAT{}
}

// lookTries is how often it is asked at the second port until it is left alone: until
// the client is seen under another address.
const lookTries = 4

// look is how a client actor finds out about the NAT.
type look struct {
	at    netip.AddrPort // the coordinator's second port, invalid if it has none
	tries int            // questions there since it was seen under another address
}

// lookFrom takes the second port of the coordinator at home.
func (c *clientActor) lookFrom(home netip.AddrPort, port uint32) {
	sw := c.cl.transport.Switch()
	if c.look.at.IsValid() {
		sw.DisallowRaw(c.look.at)
	}
	c.look = look{}
	if port > 0 && port <= 1<<16-1 && uint16(port) != home.Port() {
		c.look.at = netip.AddrPortFrom(home.Addr(), uint16(port))
		sw.AllowRaw(c.look.at)
	}
	c.cl.shared.nat.Store(&NAT{})
}

// lookAgain asks at the second port, with each bind until there is an answer. anew says
// that the first port sees the client under another address than before.
func (c *clientActor) lookAgain(anew bool) {
	if anew {
		c.look.tries = 0
	}
	observed := *c.cl.shared.observed.Load()
	known := c.cl.NAT()
	if !c.look.at.IsValid() || !observed.IsValid() || known.Observed == observed && known.Alternate.IsValid() || c.look.tries == lookTries {
		return
	}
	c.look.tries++
	c.sequence++
	frame := netio.EncodeAsk(nil, c.id, c.sequence, c.key, 0)
	_ = c.cl.transport.Switch().Send(c.cl.link, c.look.at, frame) // lost, it is sent again with the next bind
	c.cl.shared.nat.Store(&NAT{Observed: observed})
}

// seenAs takes the answer of the second port.
func (c *clientActor) seenAs(ctx actor.Context, alternate netip.AddrPort) {
	nat := NAT{Observed: *c.cl.shared.observed.Load(), Alternate: alternate, Mapping: EndpointDependent}
	switch {
	case slices.Contains(c.cl.link.Addrs(), nat.Observed):
		nat.Mapping = NoMapping
	case nat.Observed == alternate:
		nat.Mapping = EndpointIndependent
	}
	c.cl.shared.nat.Store(&nat)
	c.cl.config.Logger.Info("nat found", "addr", nat.Observed.String(), "mapping", nat.Mapping.String())
	if nat.Mapping == EndpointDependent {
		c.tellChannels(ctx, actors.AddrsChanged{}) // peers had taken the first address for ours
	}
}
