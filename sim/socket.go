package sim

import (
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/conec-go/conec/netio"
)

// socketBuffer is how many bytes wait in a socket for its reader, headers counted.
const socketBuffer = 4 << 20

var errClosed = net.ErrClosed

// socket is a UDP socket of a host. It implements [netio.Link] and [netio.Watcher]. Its fields are
// under the network's mu.
type socket struct {
	host    *Host
	local   netip.AddrPort
	on      *attachment // the interface that it is bound to; nil: none
	waiting []datagram
	next    int // index of the first in waiting
	bytes   int
	closed  bool
	ready   chan struct{} // something waits, or the socket is closed
	hints   []*func(netio.Hint)
}

// open adds a socket to the host. Called with the network's mu held.
func (h *Host) open(local netip.AddrPort) *socket {
	s := &socket{host: h, local: local, ready: make(chan struct{}, 1)}
	h.crashed = false
	h.sockets = append(h.sockets, s)
	return s
}

// shut closes a socket. Called with the network's mu held.
func (s *socket) shut() {
	if s.closed {
		return
	}
	s.closed = true
	s.waiting = nil
	s.host.sockets = slices.DeleteFunc(s.host.sockets, func(other *socket) bool { return other == s })
	raise(s.ready)
}

// put queues a datagram for the reader. Called with the network's mu held.
func (s *socket) put(d datagram) Fate {
	if s.bytes+d.size() > socketBuffer {
		return Overrun
	}
	s.bytes += d.size()
	if s.next > len(s.waiting)/2 { // else a queue that is never empty would grow
		kept := copy(s.waiting, s.waiting[s.next:])
		clear(s.waiting[kept:])
		s.waiting, s.next = s.waiting[:kept], 0
	}
	s.waiting = append(s.waiting, d)
	raise(s.ready)
	return Passed
}

// Read waits for a datagram, or for the socket to be closed.
func (s *socket) Read(b *netio.Batch) error {
	for {
		got, err := s.get(b)
		if got || err != nil {
			return err
		}
		<-s.ready
	}
}

// get reads a datagram if one waits.
func (s *socket) get(b *netio.Batch) (bool, error) {
	n := s.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.closed {
		return false, errClosed
	}
	if s.next == len(s.waiting) {
		return false, nil
	}
	d := s.waiting[s.next]
	s.waiting[s.next] = datagram{}
	if s.next++; s.next == len(s.waiting) {
		s.waiting, s.next = s.waiting[:0], 0
	}
	s.bytes -= d.size()
	if len(b.Buf) < len(d.payload) {
		b.Buf = make([]byte, max(len(d.payload), 2048))
	}
	b.N = copy(b.Buf, d.payload)
	b.Segment, b.From, b.Local, b.ECN = b.N, d.from, netip.Addr{}, d.ecn
	if s.local.Addr().IsUnspecified() {
		b.Local = d.to.Addr()
	}
	n.recycle(d.payload)
	return true, nil
}

// Write sends each segment as a datagram of its own. It never waits: a full queue
// loses what does not fit. Segments that are too large for the interface are left
// out, and reported once the others were sent. It fails with syscall.ENETUNREACH
// if no interface leads there.
func (s *socket) Write(to netip.AddrPort, p netio.Packets, _ bool) error {
	n := s.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.local.Addr() == netip.IPv4Unspecified() && !to.Addr().Is4() {
		return syscall.EAFNOSUPPORT
	}
	want := p.Local
	if !s.local.Addr().IsUnspecified() {
		want = s.local.Addr()
	}
	a, source, err := s.host.way(to.Addr(), want, s.on)
	if err != nil {
		return err
	}
	segment := p.Segment
	if segment <= 0 {
		segment = len(p.Data)
	}
	for at := 0; at == 0 || at < len(p.Data); at += max(segment, 1) {
		part := p.Data[at:min(at+segment, len(p.Data))]
		d := datagram{from: netip.AddrPortFrom(source, s.local.Port()), to: to, ecn: p.ECN}
		d.payload = append(append(n.payload(), p.Header...), part...)
		if a != nil && d.size() > a.up.line.MTU {
			n.recycle(d.payload)
			err = syscall.EMSGSIZE
			continue
		}
		s.host.send(a, d)
	}
	return err
}

// send lets a datagram out by an interface, or to the host itself if that is nil.
func (h *Host) send(a *attachment, d datagram) {
	n := h.network
	n.stats.Sent++
	name := h.name
	if a != nil {
		name = a.name
	}
	if h.paused {
		n.see(name, true, &d, Silent)
		return
	}
	verdict := n.judge(h, a, d)
	switch {
	case verdict.decision == drop:
		n.see(name, true, &d, Ruled)
	case verdict.decision == deliver && a != nil:
		n.see(name, true, &d, Passed)
		d.express = true
		n.schedule(event{at: n.elapsed() + verdict.after, step: stepUp, line: a, datagram: d})
	case a == nil:
		n.see(name, true, &d, Passed)
		after := verdict.after
		if verdict.decision != deliver {
			after = h.loop.carry(n.elapsed(), d.size()).delay
		}
		n.schedule(event{at: n.elapsed() + after, step: stepLocal, host: h, datagram: d})
	default:
		n.ascend(a, d)
	}
}

// LocalAddr is the address that the socket is bound to.
func (s *socket) LocalAddr() netip.AddrPort { return s.local }

// Addrs are the addresses at which the host believes to be reached.
func (s *socket) Addrs() []netip.AddrPort {
	s.host.network.mu.Lock()
	defer s.host.network.mu.Unlock()
	var list []netip.AddrPort
	for _, a := range s.host.interfaces {
		for _, addr := range a.addrs {
			if a.on && covers(s.local.Addr(), addr) && (s.on == nil || s.on == a) {
				list = append(list, netip.AddrPortFrom(addr, s.local.Port()))
			}
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return list[:min(len(list), netio.MaxAddrs)]
}

// Close frees the address and ends a Read that waits.
func (s *socket) Close() error {
	s.host.network.mu.Lock()
	defer s.host.network.mu.Unlock()
	s.shut()
	return nil
}
