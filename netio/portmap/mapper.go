package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Limits and times of mappings.
const (
	// Patience is how long [Mapper.Map] takes at most, whatever the gateway does.
	Patience = 10 * time.Second

	wanted   = time.Hour       // lifetime that is asked for
	shortest = 2 * time.Minute // lifetimes that are believed
	longest  = 2 * time.Hour
)

// Why there is no mapping.
var (
	// ErrNoGateway is that this host has no IPv4 default gateway, or its system does not say which.
	ErrNoGateway = errors.New("no IPv4 gateway is known")
	// ErrOtherAddr is that the port is not open at the address from which the gateway is reached.
	ErrOtherAddr = errors.New("the port is bound to an address that the gateway does not serve")
	// ErrNoAnswer is that nothing came back.
	ErrNoAnswer = errors.New("no answer")
	// ErrRefused is that the gateway will not, or can not.
	ErrRefused = errors.New("refused")
	// ErrInvalid is that its answer can not be used.
	ErrInvalid = errors.New("invalid answer")
)

// Mapping is a port of the gateway's outer address that leads to a port of this host.
type Mapping struct {
	// Protocol made it: "PCP", "NAT-PMP" or "UPnP".
	Protocol string
	// Outer is the address at the gateway. It may be a private one, if the gateway is behind
	// another.
	Outer netip.AddrPort
	// Inner is this host's.
	Inner netip.AddrPort
	// Lifetime is for how long the gateway keeps it, from now on.
	Lifetime time.Duration
}

// Mapper keeps a port of this host mapped at its gateway. Use [New].
type Mapper struct {
	gateway func() (netip.Addr, error)
	ways    ways

	turn chan struct{} // holds one while a call is under way, which owns what follows
	held *held         // nil: no mapping
}

// held is a mapping and what it takes to renew it.
type held struct {
	Mapping
	gateway netip.Addr
	maker   maker
}

// maker makes, renews and deletes a mapping by one protocol.
type maker interface {
	// make asks for the outer address, if that is valid, else any.
	make(ctx context.Context, site site, outer netip.AddrPort) (netip.AddrPort, time.Duration, error)
	unmake(ctx context.Context, site site, outer netip.AddrPort) error
}

// site is where a mapping is asked for.
type site struct {
	ways
	gateway netip.Addr
	inner   netip.AddrPort // an address of this host that the gateway can reach
}

// ways are how a gateway is asked.
type ways struct {
	control uint16        // port of PCP and NAT-PMP
	search  uint16        // port of SSDP
	group   bool          // SSDP's multicast group is asked, too
	pause   time.Duration // until a request is sent again; doubles
}

// New makes a mapper of the default gateway of this host. It does nothing yet.
func New() *Mapper {
	return &Mapper{
		gateway: defaultGateway, ways: ways{control: 5351, search: 1900, group: true, pause: firstPause},
		turn: make(chan struct{}, 1),
	}
}

// Map has the UDP port of inner mapped, or renews that. It blocks until the gateway has
// answered, for at most [Patience], or until ctx ends. A mapping of another gateway or port
// is forgotten. Errors, each after the name of its protocol: [ErrNoAnswer], [ErrRefused],
// [ErrInvalid]; or [ErrNoGateway] or [ErrOtherAddr]. A mapping that could not be renewed
// lasts as long as it did before.
func (m *Mapper) Map(ctx context.Context, inner netip.AddrPort) (Mapping, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := m.begin(ctx); err != nil {
		return Mapping{}, err
	}
	defer m.end()
	at, err := m.site(inner)
	if err != nil {
		return Mapping{}, err
	}
	if m.held != nil && (m.held.gateway != at.gateway || m.held.Inner != at.inner) {
		m.held = nil
	}
	outer := netip.AddrPort{}
	if m.held != nil {
		outer = m.held.Outer
		if mapping, err := m.try(ctx, m.held.maker, m.held.Protocol, at, outer); err == nil {
			return mapping, nil
		}
	}
	var errs []error
	for _, protocol := range protocols() {
		mapping, err := m.try(ctx, protocol.maker, protocol.name, at, outer)
		if err == nil {
			return mapping, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", protocol.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Mapping{}, errors.Join(errs...)
}

// protocols are those there are, in order, each with a maker for one mapping.
func protocols() []struct {
	name  string
	maker maker
} {
	return []struct {
		name  string
		maker maker
	}{{"PCP", newPCP()}, {"NAT-PMP", pmp{}}, {"UPnP", &igd{}}}
}

// try asks by one protocol and keeps what comes of it.
func (m *Mapper) try(ctx context.Context, by maker, protocol string, at site, outer netip.AddrPort) (Mapping, error) {
	outer, lifetime, err := by.make(ctx, at, outer)
	if err != nil {
		return Mapping{}, err
	}
	if !usable(outer, at) {
		return Mapping{}, fmt.Errorf("%w: outer address %v", ErrInvalid, outer)
	}
	mapping := Mapping{Protocol: protocol, Outer: outer, Inner: at.inner, Lifetime: min(max(lifetime, shortest), longest)}
	m.held = &held{mapping, at.gateway, by}
	return mapping, nil
}

// usable reports whether an outer address can be one: hosts of other networks could send there, and it is not inside.
func usable(outer netip.AddrPort, at site) bool {
	addr := outer.Addr()
	if outer.Port() == 0 || !addr.Is4() || !addr.IsGlobalUnicast() || addr == at.inner.Addr() || addr == at.gateway {
		return false
	}
	first := addr.As4()[0]
	return first != 0 && first < 224 // RFC 1122 section 3.2.1.3, RFC 1112 section 4
}

// Unmap has the mapping deleted, if there is one. It blocks until the gateway has answered, or ctx ends; the mapping then
// lasts for the rest of its lifetime.
func (m *Mapper) Unmap(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	was := m.held
	if was == nil {
		return nil
	}
	m.held = nil
	return was.maker.unmake(ctx, site{m.ways, was.gateway, was.Inner}, was.Outer)
}

func (m *Mapper) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // select might take the turn all the same
	}
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Mapper) end() { <-m.turn }

// site finds the gateway, and the address of this host that it can reach.
func (m *Mapper) site(inner netip.AddrPort) (site, error) {
	gateway, err := m.gateway()
	if err != nil {
		return site{}, fmt.Errorf("%w: %w", ErrNoGateway, err)
	}
	if inner.Addr().Is6() && !inner.Addr().IsUnspecified() {
		return site{}, ErrOtherAddr
	}
	at := site{m.ways, gateway, inner}
	conn, err := at.dial()
	if err != nil {
		return site{}, err
	}
	defer conn.Close()
	at.inner = netip.AddrPortFrom(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), inner.Port())
	return at, nil
}

// dial opens a socket to the gateway's port of PCP and NAT-PMP: only from there anything comes in.
func (at site) dial() (*net.UDPConn, error) {
	var local *net.UDPAddr
	if addr := at.inner.Addr(); addr.Is4() && !addr.IsUnspecified() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	}
	conn, err := net.DialUDP("udp4", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.gateway, at.control)))
	switch {
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EINVAL):
		return nil, fmt.Errorf("%w: %w", ErrOtherAddr, err)
	case err != nil:
		return nil, fmt.Errorf("ask gateway: %w", err)
	}
	return conn, nil
}
