package netio

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// rawSource is somebody who sent raw QUIC packets; never changed.
type rawSource struct {
	addr  netip.AddrPort
	udp   net.UDPAddr
	link  Link
	local netip.Addr
}

// ReadBatch fills in at least one message or returns an error. quic-go calls it instead of ReadFrom.
func (s *Switch) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	for {
		if s.now != nil {
			if n := s.fill(ms); n > 0 {
				return n, nil
			}
			s.recycle(s.now)
			s.now = nil
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
}

// next waits for a batch. It may return without one and without an error.
func (s *Switch) next() error {
	link, err := s.inlineLink()
	if err != nil {
		return err
	}
	if link == nil || len(s.queue) > 0 {
		select {
		case s.now = <-s.queue:
			return nil
		default:
		}
	}
	if link == nil {
		select {
		case s.now = <-s.queue:
			return nil
		case <-s.deadline.expired():
			return os.ErrDeadlineExceeded
		case <-s.closed:
			return net.ErrClosed
		}
	}
	a := s.take()
	switch err := link.Read(&a.Batch); {
	case err == nil:
		if s.arrived(a, link) {
			s.now = a
			return nil
		}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		s.mu.Lock() // the link is dead; there may be others later
		s.inline, s.leave = nil, true
		s.mu.Unlock()
	}
	s.recycle(a)
	return nil
}

// inlineLink is the link that the reader is to read itself, if any. It hands the link over if there are now several.
func (s *Switch) inlineLink() (Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.shut:
		return nil, net.ErrClosed
	case s.inline == nil:
		return nil, nil
	case s.leave:
		_ = s.inline.SetReadDeadline(time.Time{})
		s.startReading(s.inline)
		s.inline = nil
		return nil, nil
	case s.deadline.passed():
		return nil, os.ErrDeadlineExceeded
	case s.woken:
		s.woken = false
		_ = s.inline.SetReadDeadline(s.deadline.when())
	}
	return s.inline, nil
}

// startReading starts the goroutine that reads a link until it is closed. The caller holds mu.
func (s *Switch) startReading(link Link) {
	s.readers.Go(func() {
		for {
			a := s.take()
			for {
				err := link.Read(&a.Batch)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
				if err == nil && s.arrived(a, link) {
					break
				}
			}
			select {
			case s.queue <- a:
			case <-s.closed:
				return
			}
		}
	})
}

func (s *Switch) take() *arrival {
	select {
	case a := <-s.free:
		return a
	default:
		return &arrival{}
	}
}

func (s *Switch) recycle(a *arrival) {
	select {
	case s.free <- a:
	default:
	}
}

// rawAddr is the address of who sent a batch of raw packets, nil if that is not allowed.
func (s *Switch) rawAddr(a *arrival) *net.UDPAddr {
	if a.rawKnown {
		return a.raw
	}
	a.rawKnown = true
	if !s.cfg.AcceptRaw && !s.isAllowed(a.From) {
		return nil
	}
	if _, made := madeUpNumber(a.From); made && a.link != Link(s.tcp.Load()) {
		return nil // a forged source
	}
	slot := &s.sources[s.slot(a.From)]
	src := slot.Load()
	if src == nil || src.addr != a.From || src.link != a.link || src.local != a.Local {
		src = &rawSource{addr: a.From, udp: *net.UDPAddrFromAddrPort(a.From), link: a.link, local: a.Local}
		slot.Store(src)
	}
	a.raw = &src.udp
	return a.raw
}

// slot is where the sender is remembered. Two senders may share one: then the one heard last is.
func (s *Switch) slot(addr netip.AddrPort) int {
	ip := addr.Addr().As16()
	h := s.seed ^ binary.LittleEndian.Uint64(ip[:8])
	h = (h ^ h>>32) * 0x9e3779b97f4a7c15
	h ^= binary.LittleEndian.Uint64(ip[8:]) ^ uint64(addr.Port())<<16
	h = (h ^ h>>29) * 0xbf58476d1ce4e5b9
	return int((h >> 33) % uint64(len(s.sources)))
}

// rawRoute is the link that raw packets to an address take, and our address there if it matters. The link is nil if none fits.
func (s *Switch) rawRoute(to netip.AddrPort) (Link, netip.Addr) {
	if _, made := madeUpNumber(to); made {
		if l := s.tcp.Load(); l != nil {
			return l, netip.Addr{}
		}
		return nil, netip.Addr{}
	}
	src := s.sources[s.slot(to)].Load()
	if src != nil && src.addr != to {
		src = nil
	}
	if preferred := s.rawLink.Load(); preferred != nil {
		if src != nil && src.link == preferred.link {
			return src.link, src.local
		}
		return preferred.link, netip.Addr{}
	}
	var fits Link
	for _, l := range *s.links.Load() {
		if src != nil && l == src.link {
			return l, src.local
		}
		if ip := l.LocalAddr().Addr(); fits == nil && (ip.Is4() == to.Addr().Is4() || ip.Is6() && ip.IsUnspecified()) {
			fits = l
		}
	}
	return fits, netip.Addr{}
}

// write sends what QUIC wrote; from is the channel's address that it is to come from, and addr the one that it goes to: one of
// both is the first, and the other the mark, see epochs.
func (s *Switch) write(b, oob []byte, addr *net.UDPAddr, from int) error {
	if s.isClosed() {
		s.drops.add(dropNoPath, 1)
		return net.ErrClosed
	}
	segment, ecn := parseOOB(oob)
	if tag, ok := fakeTag(addr.IP); ok {
		if p, ok := s.ports.get(uint64(tag)); ok {
			p.write(b, segment, ecn, (from+addr.Port+marks-1)%marks)
		} else {
			s.drops.add(dropNoPath, 1)
		}
		return nil
	}
	to := unmap(addr.AddrPort())
	link, local := s.rawRoute(to)
	if link == nil {
		s.drops.add(dropNoPath, 1)
		return nil
	}
	_ = s.sendPackets(link, to, Packets{Data: b, Segment: segment, ECN: ecn, Local: local}, true) // counted there
	return nil
}

// WriteMsgUDP sends packets to a real address or that of a port. It fails only once the switch is closed.
func (s *Switch) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if err := s.write(b, oob, addr, 0); err != nil {
		return 0, 0, err
	}
	return len(b), len(oob), nil
}

// WriteTo sends one packet; see WriteMsgUDP.
func (s *Switch) WriteTo(b []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	n, _, err := s.WriteMsgUDP(b, nil, udp)
	return n, err
}

// ReadMsgUDP reads one packet.
func (s *Switch) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	ms := []ipv4.Message{{Buffers: [][]byte{b}, OOB: oob}}
	if _, err := s.ReadBatch(ms, 0); err != nil {
		return 0, 0, 0, nil, err
	}
	return ms[0].N, ms[0].NN, 0, ms[0].Addr.(*net.UDPAddr), nil
}

// ReadFrom reads one packet.
func (s *Switch) ReadFrom(b []byte) (int, net.Addr, error) {
	n, _, _, addr, err := s.ReadMsgUDP(b, nil)
	if err != nil {
		return 0, nil, err
	}
	return n, addr, nil
}

// LocalAddr is the address of the first link.
func (s *Switch) LocalAddr() net.Addr {
	if links := *s.links.Load(); len(links) > 0 {
		return net.UDPAddrFromAddrPort(links[0].LocalAddr())
	}
	return &net.UDPAddr{IP: net.IPv6zero}
}

// SetReadDeadline makes a waiting read return [os.ErrDeadlineExceeded] at t. Zero means never.
func (s *Switch) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline.set(t)
	if s.inline != nil && !s.leave && !s.woken {
		return s.inline.SetReadDeadline(t)
	}
	return nil
}

// SetDeadline is SetReadDeadline: a write waits for the kernel at most.
func (s *Switch) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (s *Switch) SetWriteDeadline(time.Time) error { return nil }

// deadline is a channel that closes at an instant that can be moved, like the one in net.Pipe.
type deadline struct {
	mu    sync.Mutex
	at    time.Time
	timer *time.Timer
	done  chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	done := d.done
	if done != nil {
		select {
		case <-done:
			done = nil
		default:
		}
	}
	if done == nil {
		done = make(chan struct{})
		d.done = done
	}
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { d.expire(t) })
		return
	}
	close(done)
}

// expire closes the channel, unless the deadline has been moved meanwhile.
func (d *deadline) expire(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at.Equal(t) && d.timer != nil {
		d.timer = nil
		close(d.done)
	}
}

func (d *deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *deadline) when() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// SyscallConn gives quic-go the first kernel socket among the links, to find out what it can do. If there is none, it
// gets something that accepts everything.
//
// Before that, quic-go wants to inspect the buffers of the socket and would log that they are small where there is no
// socket: an error until SetWriteBuffer has been called makes it do without.
func (s *Switch) SyscallConn() (syscall.RawConn, error) {
	if l := s.kernelLink(); l != nil {
		return l.SyscallConn()
	}
	if !s.quiet.Load() {
		return nil, errors.ErrUnsupported
	}
	return noSocket{}, nil
}

// SetReadBuffer sets the receive buffer of the first kernel socket; the others have asked for enough already.
func (s *Switch) SetReadBuffer(bytes int) error {
	if l := s.kernelLink(); l != nil {
		return l.SetReadBuffer(bytes)
	}
	return nil
}

// SetWriteBuffer is SetReadBuffer for the send buffer.
func (s *Switch) SetWriteBuffer(bytes int) error {
	s.quiet.Store(true)
	if l := s.kernelLink(); l != nil {
		return l.SetWriteBuffer(bytes)
	}
	return nil
}

// socketLink is a link that is a kernel socket, as UDPLink is.
type socketLink interface {
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

func (s *Switch) kernelLink() socketLink {
	for _, l := range *s.links.Load() {
		if k, ok := l.(socketLink); ok {
			return k
		}
	}
	return nil
}

// noSocket is the RawConn of a link that is no kernel socket.
type noSocket struct{}

func (noSocket) Control(func(fd uintptr)) error   { return nil }
func (noSocket) Read(func(fd uintptr) bool) error { return errors.ErrUnsupported }

func (noSocket) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
