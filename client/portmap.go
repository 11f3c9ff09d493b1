package client

import (
	"context"
	"net/netip"
	"slices"
	"strconv"

	"github.com/conec-go/conec/netio/portmap"
)

// PortMapper asks a gateway to map a port of its own address to this client: a
// [portmap.Mapper], or one of a simulator. Both methods may block until ctx ends. They may
// be called while a former call, whose ctx has ended, is still under way.
type PortMapper interface {
	// Map has the UDP port mapped, or renews that.
	Map(ctx context.Context, inner netip.AddrPort) (portmap.Mapping, error)
	// Unmap ends that.
	Unmap(ctx context.Context) error
}

// PortMapping is what a client knows of a port of its own at the gateway.
type PortMapping struct {
	// State says whether there is one.
	State PortMapState
	// Protocol made it: "PCP", "NAT-PMP" or "UPnP". Addr is its address, at which peers can
	// reach the client. Both only if State is PortMapped.
	Protocol string
	Addr     netip.AddrPort
	// Err is why there is none, if State is PortNotMapped.
	Err error

	inner netip.AddrPort // this host's
}

// PortMapState says whether a client has a port at the gateway.
type PortMapState int

// The states.
const (
	PortMapUnneeded PortMapState = iota // the client is not attached over UDP, or seen under an address of its own
	PortMapOff                          // none is asked for: Config says so
	PortMapAsking                       // there was no answer yet
	PortMapped                          // there is one
	PortNotMapped                       // the gateway does not give one
)

var portMapStates = [...]string{
	PortMapUnneeded: "unneeded", PortMapOff: "off", PortMapAsking: "asking", PortMapped: "mapped", PortNotMapped: "none",
}

// String returns a word, such as "mapped".
func (s PortMapState) String() string {
	if s < 0 || int(s) >= len(portMapStates) {
		return "state " + strconv.Itoa(int(s))
	}
	return portMapStates[s]
}

// PortMapping returns what is known now. It does not block.
func (cl *Client) PortMapping() PortMapping {
	if cl.mapper == nil {
		return PortMapping{State: PortMapOff}
	}
	if known := cl.shared.mapped.Load(); known != nil {
		return *known
	}
	if cl.wantsPort() {
		return PortMapping{State: PortMapAsking}
	}
	return PortMapping{}
}

// chooseMapper says who asks the gateway; nil: nobody.
func (c *Config) chooseMapper() PortMapper {
	switch {
	case c.NoPortMapping, c.RelayOnly, c.PortMapper == nil && c.Link != nil:
		return nil
	case c.PortMapper != nil:
		return c.PortMapper
	}
	return portmap.New()
}

// wantsPort reports whether peers could reach the client by a port at the gateway, and hardly without: its IPv4 addresses
// are private, and its coordinator sees it under another.
func (cl *Client) wantsPort() bool {
	observed, own := cl.shared.observed.Load(), cl.link.Addrs()
	return observed != nil && needsPort(*observed, own)
}

func needsPort(observed netip.AddrPort, own []netip.AddrPort) bool {
	seen := observed.Addr()
	if !seen.IsValid() || seen.IsLoopback() || seen.Is4() && slices.Contains(own, observed) {
		return false
	}
	carriers := netip.MustParsePrefix("100.64.0.0/10") // what they number their customers with (RFC 6598)
	inside := false
	for _, addr := range own {
		switch ip := addr.Addr(); {
		case !ip.Is4() || ip.IsLoopback():
		case ip.IsPrivate() || carriers.Contains(ip):
			inside = true
		default:
			return false
		}
	}
	return inside
}

// mappedAddr is the address at the gateway; invalid if there is none, or if this host has moved away from there.
func (cl *Client) mappedAddr(own []netip.AddrPort) netip.AddrPort {
	if known := cl.shared.mapped.Load(); known != nil && slices.Contains(own, known.inner) {
		return known.Addr
	}
	return netip.AddrPort{}
}
