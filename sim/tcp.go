package sim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// flowKey is how a host finds a TCP connection.
type flowKey struct{ local, remote netip.AddrPort }

// tcpBacklog is how many connections wait at a listener to be accepted.
const tcpBacklog = 128

// ListenTCP opens a TCP listener at a local address, as [Host.Listen] does for UDP.
func (h *Host) ListenTCP(local netip.AddrPort) (net.Listener, error) {
	if !local.Addr().IsValid() {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
	}
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	err := h.mayBind(local.Addr())
	switch {
	case err != nil:
	case local.Port() == 0:
		local, err = h.freeTCP(local.Addr())
	case h.listener(local) != nil: // connections that were accepted before are in nobody's way (SO_REUSEADDR)
		err = syscall.EADDRINUSE
	}
	if err != nil {
		return nil, fmt.Errorf("listen at %s on %s: %w", local, h.name, err)
	}
	h.crashed = false
	l := &tcpListener{host: h, local: local, ready: make(chan struct{}, 1)}
	h.listeners = append(h.listeners, l)
	return l, nil
}

// DialTCP opens a TCP connection to an IP address. It blocks until that is open, refused
// (syscall.ECONNREFUSED), given up (syscall.ETIMEDOUT) or ctx ends. It is for Config.Dial.
func (h *Host) DialTCP(ctx context.Context, _, addr string) (net.Conn, error) {
	remote, err := netip.ParseAddrPort(addr)
	if err == nil {
		var c *tcpConn
		if c, err = h.dial(remote); err == nil {
			if err = c.opened(ctx); err == nil {
				return c, nil
			}
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(remote), Err: err}
}

func (h *Host) dial(remote netip.AddrPort) (*tcpConn, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	_, source, err := h.way(remote.Addr(), netip.Addr{}, nil)
	if err != nil {
		return nil, err
	}
	local, err := h.freeTCP(source)
	if err != nil {
		return nil, err
	}
	c := h.newConn(local, remote)
	c.begin(synSent)
	return c, nil
}

// freeTCP returns a local address with a port that nothing has.
func (h *Host) freeTCP(addr netip.Addr) (netip.AddrPort, error) {
	for range lastPort - firstPort + 1 {
		local := netip.AddrPortFrom(addr, h.nextTCP)
		if h.nextTCP++; h.nextTCP == 0 {
			h.nextTCP = firstPort
		}
		if !h.takenTCP(local) {
			return local, nil
		}
	}
	return netip.AddrPort{}, syscall.EADDRINUSE
}

func (h *Host) takenTCP(local netip.AddrPort) bool {
	for key := range h.flows {
		if key.local == local {
			return true
		}
	}
	return h.listener(local) != nil
}

// inOrder returns the connections in an order that does not change.
func (h *Host) inOrder() []*tcpConn {
	return slices.SortedFunc(maps.Values(h.flows), func(a, b *tcpConn) int {
		return cmp.Or(a.local.Compare(b.local), a.remote.Compare(b.remote))
	})
}

// listener returns who takes connections to a local address.
func (h *Host) listener(local netip.AddrPort) *tcpListener {
	i := slices.IndexFunc(h.listeners, func(l *tcpListener) bool {
		return l.local.Port() == local.Port() && (covers(l.local.Addr(), local.Addr()) || covers(local.Addr(), l.local.Addr()))
	})
	if i < 0 {
		return nil
	}
	return h.listeners[i]
}

// takeSegment gives a TCP segment to the connection that it is for. What is for none is refused.
func (h *Host) takeSegment(d *datagram) Fate {
	segment, ok := parseSegment(d.payload)
	if !ok {
		return Lost // it was damaged on its way
	}
	c := h.flows[flowKey{d.to, d.from}]
	if c == nil && segment.flags&(tcpSYN|tcpACK|tcpRST) == tcpSYN {
		if l := h.listener(d.to); l != nil {
			if len(l.waiting)+l.opening >= tcpBacklog {
				return Overrun
			}
			l.opening++
			c = h.newConn(d.to, d.from)
			c.listener, c.expected = l, segment.seq+1
			c.begin(synReceived)
			return Passed
		}
	}
	if c == nil {
		if segment.flags&tcpRST == 0 && !h.crashed {
			refusal := tcpSegment{flags: tcpRST | tcpACK, seq: segment.ack, ack: segment.seq + uint32(segment.length())}
			h.sendSegment(d.to, d.from, refusal)
		}
		return Unreachable
	}
	c.take(segment)
	return Passed
}

// sendSegment sends a segment, if there is a way.
func (h *Host) sendSegment(local, remote netip.AddrPort, segment tcpSegment) {
	a, source, err := h.way(remote.Addr(), local.Addr(), nil)
	if err != nil || source != local.Addr() {
		return // the host has moved: as if it were lost
	}
	h.send(a, datagram{from: local, to: remote, tcp: true, payload: segment.append(h.network.payload())})
}

// tcpListener implements [net.Listener]. Its fields are under the network's mu.
type tcpListener struct {
	host    *Host
	local   netip.AddrPort
	opening int // connections that are not open yet
	waiting []*tcpConn
	closed  bool
	ready   chan struct{} // a connection waits, or it is closed
}

// Accept waits for a connection.
func (l *tcpListener) Accept() (net.Conn, error) {
	for {
		if c, err := l.get(); c != nil || err != nil {
			return c, err
		}
		<-l.ready
	}
}

func (l *tcpListener) get() (net.Conn, error) {
	n := l.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case l.closed:
		raise(l.ready) // for whoever else waits
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	case len(l.waiting) == 0:
		return nil, nil //nolint:nilnil // there is none now
	}
	c := l.waiting[0]
	if l.waiting = l.waiting[1:]; len(l.waiting) > 0 {
		raise(l.ready)
	}
	return c, nil
}

// Addr is the address that it listens on.
func (l *tcpListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.local) }

// Close refuses all who come from now on, and those that were not accepted.
func (l *tcpListener) Close() error {
	n := l.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	l.shut(true)
	return nil
}

func (l *tcpListener) shut(tell bool) {
	if l.closed {
		return
	}
	l.closed = true
	l.host.listeners = slices.DeleteFunc(l.host.listeners, func(other *tcpListener) bool { return other == l })
	for _, c := range l.waiting {
		c.abort(tell)
	}
	l.waiting = nil
	raise(l.ready)
}

// expiry is a deadline of a connection. Its fields are under the network's mu.
type expiry struct {
	timer *time.Timer
	over  chan struct{} // closed when it has passed; nil: there is none
}

// set makes a deadline; the zero time is none.
func (e *expiry) set(at time.Time) {
	if e.timer != nil {
		e.timer.Stop()
	}
	*e = expiry{}
	if at.IsZero() {
		return
	}
	over := make(chan struct{})
	e.over = over
	if left := time.Until(at); left > 0 {
		e.timer = time.AfterFunc(left, func() { close(over) })
	} else {
		close(over)
	}
}

// passed reports whether the deadline has passed.
func (e *expiry) passed() bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}
