package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/conec-go/conec/netio"
)

// Host is a machine with interfaces and sockets. Its fields are under the
// network's mu.
type Host struct {
	network    *Network
	name       string
	interfaces []*attachment // the first that fits is the way out
	loop       *pipe         // from the host to itself
	plugged    int           // how many there ever were
	sockets    []*socket
	nextPort   uint16
	listeners  []*tcpListener
	flows      map[flowKey]*tcpConn
	nextTCP    uint16
	crashed    bool // nothing was opened since
	paused     bool
	asleep     time.Duration // since when, on the network's clock, if paused
	skew       time.Duration
}

// loopLatency is how long a packet takes from a host to itself.
const loopLatency = 10 * time.Microsecond

// Host adds a host with one interface, "eth0", plugged in by a line. Without
// addrs, that has the next free IPv4 address there.
func (n *Network) Host(name string, at Place, line Line, addrs ...netip.Addr) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.claim(name); err != nil {
		return nil, fmt.Errorf("host %q: %w", name, err)
	}
	h := &Host{network: n, name: name, nextPort: firstPort, nextTCP: firstPort, flows: map[flowKey]*tcpConn{}, loop: newPipe(n.seed, name+" loop")}
	h.loop.line = Line{Latency: loopLatency, MTU: 1 << 16}.withDefaults()
	if err := h.plug("eth0", at, line, addrs); err != nil {
		return nil, err
	}
	n.names[name] = true
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Addr returns the first address of the host's first interface; the zero Addr if
// it has none.
func (h *Host) Addr() netip.Addr {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if len(h.interfaces) == 0 {
		return netip.Addr{}
	}
	return h.interfaces[0].addrs[0]
}

// Plug adds an interface.
func (h *Host) Plug(name string, at Place, line Line, addrs ...netip.Addr) error {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	err := h.plug(name, at, line, addrs)
	if err == nil {
		h.changed(netio.Hint{Rerouted: true})
	}
	return err
}

func (h *Host) plug(name string, at Place, line Line, addrs []netip.Addr) error {
	if h.iface(name) != nil {
		return fmt.Errorf("host %q: has an interface %q", h.name, name)
	}
	if at.segment().network != h.network {
		return fmt.Errorf("host %q: the place is in another network", h.name)
	}
	full := h.name + "/" + name
	pipes := full
	if h.plugged++; h.plugged > 1 {
		pipes = fmt.Sprintf("%s %d", full, h.plugged)
	}
	a, err := at.segment().plug(full, pipes, line, addrs)
	if err != nil {
		return fmt.Errorf("host %q: %w", h.name, err)
	}
	a.host = h
	h.interfaces = append(h.interfaces, a)
	return nil
}

// iface returns the interface of a name, or nil.
func (h *Host) iface(name string) *attachment {
	full := h.name + "/" + name
	for _, a := range h.interfaces {
		if a.name == full {
			return a
		}
	}
	return nil
}

// Unplug takes an interface away. Sockets stay open; those that are bound to one
// of its addresses hear nothing and cannot send.
func (h *Host) Unplug(name string) error {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	a := h.iface(name)
	if a == nil {
		return fmt.Errorf("host %q: has no interface %q", h.name, name)
	}
	a.unplug()
	h.interfaces = slices.DeleteFunc(h.interfaces, func(other *attachment) bool { return other == a })
	h.changed(netio.Hint{Rerouted: true})
	return nil
}

// SetUp takes an interface down, which keeps its addresses, or up again.
func (h *Host) SetUp(name string, on bool) error {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	a := h.iface(name)
	if a == nil {
		return fmt.Errorf("host %q: has no interface %q", h.name, name)
	}
	a.on = on
	h.changed(netio.Hint{Rerouted: true})
	return nil
}

// Move takes all interfaces away and plugs "eth0" in elsewhere, as a laptop does
// that goes to another network. Sockets stay open; those that are bound to all
// addresses go on from the new one. If it fails, nothing has changed.
func (h *Host) Move(at Place, line Line, addrs ...netip.Addr) error {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	former := h.interfaces
	h.interfaces = nil
	for _, a := range former {
		a.forget() // it may move to an address that it has
	}
	err := h.plug("eth0", at, line, addrs)
	for _, a := range former {
		if err != nil {
			a.claim()
		} else {
			a.unplug()
		}
	}
	if err != nil {
		h.interfaces = former
		return err
	}
	h.changed(netio.Hint{Rerouted: true})
	return nil
}

// SetLine changes the lines of all interfaces, for packets that have not reached
// them yet.
func (h *Host) SetLine(line Line) error {
	if err := line.Validate(); err != nil {
		return err
	}
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	for _, a := range h.interfaces {
		a.setLine(line)
	}
	return nil
}

// Crash silences the host at once: its programs can send no more, not even a
// goodbye, and their sockets read as closed. The programs are still to be stopped
// by whoever started them. Listen works again at once.
func (h *Host) Crash() {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.shut()
}

func (h *Host) shut() {
	for len(h.sockets) > 0 {
		h.sockets[0].shut()
	}
	for len(h.listeners) > 0 {
		h.listeners[0].shut(false)
	}
	for _, c := range h.inOrder() {
		c.abort(false)
	}
	h.crashed = true
}

// Pause cuts the host off, as sleep does: what it sends or is sent is lost. Its
// programs go on, because time cannot stop for some goroutines only.
func (h *Host) Pause() { h.setPaused(true) }

// Resume ends Pause, and its programs notice that the host slept.
func (h *Host) Resume() { h.setPaused(false) }

func (h *Host) setPaused(paused bool) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	switch now := h.network.elapsed(); {
	case paused && !h.paused:
		h.asleep = now
	case !paused && h.paused:
		h.changed(netio.Hint{Slept: now - h.asleep})
	}
	h.paused = paused
}

// Skew sets by how much the host's wall clock is ahead.
func (h *Host) Skew(ahead time.Duration) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.skew = ahead
}

// Now returns the time of the host's wall clock. It is for Config.Now.
func (h *Host) Now() time.Time {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return time.Now().Add(h.skew)
}

// Ports that are given away where none is asked for (RFC 6335 section 6).
const (
	firstPort = 49152
	lastPort  = 65535
)

// Listen opens a UDP socket at a local address; an unspecified or zero one means
// all addresses of the host, IPv4 only if it is 0.0.0.0, port 0 a free port. It
// fails with syscall.EADDRINUSE, with syscall.EADDRNOTAVAIL if the host has no
// such address, and with [net.ErrClosed] once the network is closed.
func (h *Host) Listen(local netip.AddrPort) (netio.Link, error) {
	if !local.Addr().IsValid() {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
	}
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := h.bind(local)
	if err != nil {
		return nil, fmt.Errorf("listen at %s on %s: %w", local, h.name, err)
	}
	return s, nil
}

// ListenOn opens a UDP socket on an interface and a free port, for all addresses that the interface has. It fails with
// syscall.ENODEV if there is no such interface. When that is unplugged, the socket is of no use any more.
func (h *Host) ListenOn(name string) (netio.Link, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := h.iface(name), error(syscall.ENODEV)
	if a != nil {
		var s *socket
		if s, err = h.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), 0)); err == nil {
			s.on = a
			return s, nil
		}
	}
	return nil, fmt.Errorf("listen on interface %q of %s: %w", name, h.name, err)
}

// mayBind says why there can be no socket at an address.
func (h *Host) mayBind(addr netip.Addr) error {
	switch {
	case h.network.closed:
		return errClosed
	case !addr.IsUnspecified() && !addr.IsLoopback() && !h.owns(addr):
		return syscall.EADDRNOTAVAIL
	}
	return nil
}

func (h *Host) bind(local netip.AddrPort) (*socket, error) {
	addr := local.Addr()
	if err := h.mayBind(addr); err != nil {
		return nil, err
	}
	if local.Port() != 0 {
		if h.taken(local) {
			return nil, syscall.EADDRINUSE
		}
		return h.open(local), nil
	}
	for range lastPort - firstPort + 1 {
		local = netip.AddrPortFrom(addr, h.nextPort)
		if h.nextPort == lastPort {
			h.nextPort = firstPort
		} else {
			h.nextPort++
		}
		if !h.taken(local) {
			return h.open(local), nil
		}
	}
	return nil, errors.Join(errors.New("no port is free"), syscall.EADDRINUSE)
}

// taken tells whether another socket would get the same packets.
func (h *Host) taken(local netip.AddrPort) bool {
	return slices.ContainsFunc(h.sockets, func(s *socket) bool {
		a, b := s.local.Addr(), local.Addr()
		return s.local.Port() == local.Port() && (a == b || covers(a, b) || covers(b, a))
	})
}

// covers tells whether a socket bound to an address gets what is sent to another.
func covers(bound, addr netip.Addr) bool {
	return bound == addr || bound == netip.IPv6Unspecified() || bound == netip.IPv4Unspecified() && addr.Is4()
}

// owns tells whether an address is the host's own.
func (h *Host) owns(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.ContainsFunc(h.interfaces, func(a *attachment) bool { return slices.Contains(a.addrs, addr) })
}

// way chooses the interface and source address towards an address: from want if
// that is valid, else the first interface that is up and has its family, but one
// at the same place first; on the interface on, if that is not nil. The interface is nil for the host itself.
func (h *Host) way(to, want netip.Addr, on *attachment) (*attachment, netip.Addr, error) {
	if h.owns(to) && on == nil {
		if want.IsValid() {
			return nil, want, nil
		}
		return nil, to, nil
	}
	var first *attachment
	for _, a := range h.interfaces {
		switch {
		case on != nil && on != a, !a.on, !a.addr(to.Is4(), want).IsValid():
		case a.segment.at[to] != nil:
			return a, a.addr(to.Is4(), want), nil
		case first == nil:
			first = a
		}
	}
	switch {
	case first != nil:
		return first, first.addr(to.Is4(), want), nil
	case want.IsValid() && !h.owns(want):
		return nil, netip.Addr{}, syscall.EINVAL // as Linux says
	}
	return nil, netip.Addr{}, syscall.ENETUNREACH
}

// take gives a datagram that came down a line, or from the host itself if that is
// nil, to the socket that it is for.
func (h *Host) take(a *attachment, d datagram) {
	n := h.network
	name := h.name
	fate := Unreachable
	switch {
	case h.paused, a != nil && !a.on:
		fate = Silent
	case d.tcp:
		fate = h.takeSegment(&d)
	default:
		for _, s := range h.sockets {
			if s.local.Port() == d.to.Port() && covers(s.local.Addr(), d.to.Addr()) && (s.on == nil || s.on == a) {
				fate = s.put(d)
				break
			}
		}
	}
	if a != nil {
		name = a.name
	}
	n.see(name, false, &d, fate)
	if fate == Passed {
		n.stats.Delivered++
	}
	if fate != Passed || d.tcp { // of which nothing is kept
		n.recycle(d.payload)
	}
}
