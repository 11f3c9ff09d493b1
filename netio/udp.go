package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// MaxAddrs is the most addresses that a link reports for this host.
const MaxAddrs = 32

// socketBuffer is what a UDP socket asks the kernel for, in bytes and per direction; the number is quic-go's.
const socketBuffer = 7 << 20

// maxReadErrors is how many times in a row reading a socket may fail before the link counts as closed.
const maxReadErrors = 1000

// UDPLink is a [Link] over one UDP socket. On Linux it reads with UDP_GRO and writes with UDP_SEGMENT, so that one
// system call moves many datagrams; elsewhere it moves them one by one.
type UDPLink struct {
	conn  *net.UDPConn
	local netip.AddrPort
	on    int    // index of the interface that it is bound to, 0 if to none
	sock  socket // what the system calls need; differs per system
}

// ListenUDP opens a UDP socket. Port 0 lets the system choose. An invalid address, or [::], means every address of both
// families where the system can do that, else every IPv4 address; 0.0.0.0 means IPv4 only.
func ListenUDP(addr netip.AddrPort) (*UDPLink, error) {
	network := "udp"
	if ip := addr.Addr(); ip.Is4() {
		network = "udp4"
	} else if ip.IsValid() && !ip.IsUnspecified() && !ip.Is4In6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", addr, err)
	}
	l, err := newUDPLink(conn, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", addr, err)
	}
	return l, nil
}

// ListenUDPOn opens a UDP socket on an interface and a free port, for all addresses that the interface has at any time. What
// is sent leaves there, whatever the system's routes say; on Linux and macOS, only what comes in there is received. It works
// as long as the interface exists: one that is made again under the same name is another. It fails where the system can not
// bind to interfaces, or does not let this process.
func ListenUDPOn(name string) (*UDPLink, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("listen on interface %q: %w", name, err)
	}
	bind := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		var bindErr error
		err := raw.Control(func(fd uintptr) { bindErr = bindToInterface(fd, network == "udp6", ifi) })
		return errors.Join(err, bindErr)
	}}
	conn, err := bind.ListenPacket(context.Background(), "udp", ":0")
	if err != nil {
		return nil, fmt.Errorf("listen on interface %q: %w", name, err)
	}
	l, err := newUDPLink(conn.(*net.UDPConn), ifi.Index) //nolint:forcetypeassert // of "udp" there is no other
	if err != nil {
		return nil, fmt.Errorf("listen on interface %q: %w", name, err)
	}
	return l, nil
}

// newUDPLink takes over a socket, which is bound to an interface if on is not 0.
func newUDPLink(conn *net.UDPConn, on int) (*UDPLink, error) {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	l := &UDPLink{conn: conn, local: unmap(local), on: on}
	_ = conn.SetReadBuffer(socketBuffer) // the kernel's limit may be lower; quic-go logs that
	_ = conn.SetWriteBuffer(socketBuffer)
	if err := l.sock.open(conn, l.local); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}

// LocalAddr is the address the socket is bound to.
func (l *UDPLink) LocalAddr() netip.AddrPort { return l.local }

// Close closes the socket.
func (l *UDPLink) Close() error {
	_ = l.conn.Close() // the second Close of a UDPConn fails; ours does not
	return nil
}

// SyscallConn gives access to the socket: it marks the link as a kernel socket for [Switch].
func (l *UDPLink) SyscallConn() (syscall.RawConn, error) { return l.conn.SyscallConn() }

// SetReadBuffer sets the size of the socket's receive buffer, in bytes.
func (l *UDPLink) SetReadBuffer(bytes int) error { return l.conn.SetReadBuffer(bytes) }

// SetWriteBuffer sets the size of the socket's send buffer, in bytes.
func (l *UDPLink) SetWriteBuffer(bytes int) error { return l.conn.SetWriteBuffer(bytes) }

// SetReadDeadline makes a waiting Read return [os.ErrDeadlineExceeded] at t. Zero means never.
func (l *UDPLink) SetReadDeadline(t time.Time) error { return l.conn.SetReadDeadline(t) }

// Addrs are the addresses at which this host could be reached through the socket: its own if it is bound to one, else
// those of the interfaces that are up, or of the interface that it is bound to, with the socket's port. Link-local addresses mean nothing to another host and are left out.
func (l *UDPLink) Addrs() []netip.AddrPort {
	if !l.local.Addr().IsUnspecified() {
		return []netip.AddrPort{l.local}
	}
	return reachable(interfaceAddrs(l.on), l.local)
}

// interfaceAddrs are the addresses of the interfaces that are up, or of the one with an index if that is not 0. Whether one is running is not asked: Linux says so up to
// a second late (linkwatch).
func interfaceAddrs(only int) (ips []netip.Addr) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, ifi := range interfaces {
		if ifi.Flags&net.FlagUp == 0 || only != 0 && ifi.Index != only {
			continue
		}
		found, err := ifi.Addrs()
		if err != nil {
			continue // it is gone meanwhile
		}
		for _, a := range found {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					ips = append(ips, ip.Unmap())
				}
			}
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return ips
}

// reachable selects, sorts and bounds the addresses that [UDPLink.Addrs] reports.
func reachable(ips []netip.Addr, local netip.AddrPort) []netip.AddrPort {
	var out, loopback []netip.AddrPort
	for _, ip := range ips {
		switch {
		case local.Addr().Is4() && !ip.Is4(), ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
		case ip.IsLoopback():
			loopback = append(loopback, netip.AddrPortFrom(ip, local.Port()))
		default:
			out = append(out, netip.AddrPortFrom(ip, local.Port()))
		}
	}
	if len(out) == 0 {
		out = loopback
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), MaxAddrs)]
}

// unmap turns a v4-mapped address into the IPv4 address it stands for, so that equal addresses compare equal.
func unmap(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4In6() {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return a
}

// zoneIndex is the interface index of an IPv6 zone, which is a number or an interface name; 0 if there is none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(i)
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}
