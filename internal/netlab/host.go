package netlab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/conec-go/conec/netio"
)

// The interface that every host has, and its place in the order of default routes.
const (
	device  = "eth0"
	primary = 0
)

// Host is a machine with one interface, and those that are plugged in later.
type Host struct {
	lab    *Lab
	name   string
	inside *namespace
	at     *network
	addr   netip.Addr
	more   int // interfaces that were plugged in
}

// Host adds a host with the next free address of a place.
func (l *Lab) Host(name string, at Place) *Host {
	l.tb.Helper()
	h := &Host{lab: l, name: name, inside: l.namespace(), at: at.network()}
	var err error
	h.addr, err = l.plug(h.inside, device, h.at, primary)
	l.must(name, err)
	return h
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Addr is the address of its interface.
func (h *Host) Addr() netip.Addr { return h.addr }

// Listen opens a UDP socket on the host, by [netio.ListenUDP].
func (h *Host) Listen(local netip.AddrPort) (netio.Link, error) {
	return h.open(func() (*netio.UDPLink, error) { return netio.ListenUDP(local) })
}

// ListenOn opens a UDP socket on one of the host's interfaces, by [netio.ListenUDPOn].
func (h *Host) ListenOn(name string) (netio.Link, error) {
	return h.open(func() (*netio.UDPLink, error) { return netio.ListenUDPOn(name) })
}

func (h *Host) open(listen func() (*netio.UDPLink, error)) (netio.Link, error) {
	l := &link{inside: h.inside}
	err := h.inside.do(func() (err error) {
		l.UDPLink, err = listen()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return l, nil
}

// Plug gives the host another interface, in another place than those it has. Packets take it only from sockets that are
// bound to it ([Host.ListenOn]), or if nothing else leads where they go.
func (h *Host) Plug(name string, at Place) {
	h.lab.tb.Helper()
	h.more++
	// Else the host would answer for all its addresses on each interface.
	h.lab.must(h.name, h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_ignore", []byte("1"), 0o600) }))
	_, err := h.lab.plug(h.inside, name, at.network(), h.more)
	h.lab.must(h.name, err)
}

// Unplug takes away an interface that was plugged in, with its addresses.
func (h *Host) Unplug(name string) {
	h.lab.tb.Helper()
	h.lab.must(h.name, h.inside.ip("link del "+name))
}

// ListenTCP opens a TCP listener on the host.
func (h *Host) ListenTCP(local netip.AddrPort) (listener net.Listener, err error) {
	err = h.inside.do(func() (err error) {
		listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(local))
		return err
	})
	return listener, err
}

// DialTCP opens a TCP connection from the host to an IP address.
func (h *Host) DialTCP(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.inside.do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Do calls f on a thread that is on the host. What f opens is there, too, but not what goroutines do that it starts.
func (h *Host) Do(f func() error) error { return h.inside.do(f) }

// Run runs a program on the host, for 20 seconds at most, and returns what it wrote.
func (h *Host) Run(program string, args ...string) (string, error) {
	var output bytes.Buffer
	err := h.inside.run("", &output, program, args...)
	return output.String(), err
}

// link is a socket in a namespace, which a thread must enter to see its addresses.
type link struct {
	*netio.UDPLink
	inside *namespace
}

// Addrs are the addresses at which the host can be reached.
func (l *link) Addrs() (addrs []netip.AddrPort) {
	err := l.inside.do(func() error {
		addrs = l.UDPLink.Addrs()
		return nil
	})
	if err != nil {
		return nil
	}
	return addrs
}

// Watch is that of a [netio.HostWatcher] on the host.
func (l *link) Watch(hint func(netio.Hint)) (stop func(), err error) {
	err = l.inside.do(func() (err error) {
		stop, err = netio.NewHostWatcher().Watch(hint)
		return err
	})
	return stop, err
}

// SetAddr gives the interface one more address, or takes it away.
func (h *Host) SetAddr(addr netip.Prefix, on bool) {
	h.lab.tb.Helper()
	what := "del"
	if on {
		what = "add"
	}
	h.lab.must(h.name, h.inside.ip(fmt.Sprintf("addr %s %v dev %s", what, addr, device)))
}

// SetUp sets the interface up or down.
func (h *Host) SetUp(up bool) {
	h.lab.tb.Helper()
	if up {
		h.lab.must(h.name, h.inside.ip(h.at.use(device, primary)...))
	} else {
		h.lab.must(h.name, h.inside.ip("link set "+device+" down"))
	}
}

// Move unplugs the host and plugs it in elsewhere, where it gets another address.
// Its sockets stay open.
func (h *Host) Move(at Place) {
	h.lab.tb.Helper()
	h.lab.must(h.name, h.inside.ip("link del "+device))
	var err error
	h.at = at.network()
	h.addr, err = h.lab.plug(h.inside, device, h.at, primary)
	h.lab.must(h.name, err)
}

// public is the host's address on the internet, or that of the gateway it is behind.
func (h *Host) public() netip.Addr {
	if h.at.public.IsValid() {
		return h.at.public
	}
	return h.addr
}
