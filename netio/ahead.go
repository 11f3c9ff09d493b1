package netio

import (
	"context"
	"crypto/tls"
	"slices"
	"sync/atomic"
)

// A channel is dialed before it is known whom there is to dial: QUIC's first packets say nothing of the peer, so they
// travel with the question for it, by another way, and its answer to them comes as soon as it has accepted. See [Port.PassOn]
// and [Port.Take].

// MaxPassed is how many packets of a port are passed on another way, and MaxPacket the size in bytes of the largest.
const (
	MaxPassed = 4 // a ClientHello with a post-quantum key takes two
	MaxPacket = 1500
)

// Pin is the certificate that a peer has to present, once that is known. The zero Pin trusts nobody.
type Pin struct{ certificate atomic.Pointer[[]byte] }

// Set makes the certificate known, in DER. It may be called by anybody, once.
func (p *Pin) Set(certificate []byte) { p.certificate.Store(&certificate) }

// DialAhead is [Transport.DialChannel] before the peer's certificate is known: pin has to be set before the port has a
// path. It waits for the peer twice as long, because that has to be asked meanwhile.
func (t *Transport) DialAhead(ctx context.Context, port *Port, peer string, pin *Pin) (*Conn, error) {
	config := t.channelConfig()
	config.HandshakeIdleTimeout *= 2
	return t.dial(ctx, port, peer, config, func(state tls.ConnectionState) error {
		certificate := pin.certificate.Load()
		if certificate == nil {
			return untrusted("the certificate of %q is not known", peer)
		}
		return verifyPinned(peer, *certificate, t.config.Now)(state)
	})
}

// passing is where packets go while a port has no path.
type passing struct {
	pass func(packet []byte)
	left atomic.Int32
}

// PassOn has pass given the packets that QUIC writes while the port has no path, the first [MaxPassed]. It is called by
// the goroutine that writes, and must be quick; the packet is its own.
func (p *Port) PassOn(pass func(packet []byte)) {
	to := &passing{pass: pass}
	to.left.Store(MaxPassed)
	p.passing.Store(to)
}

// passOn passes packets on, and reports whether it did.
func (p *Port) passOn(b []byte, segment int) bool {
	to := p.passing.Load()
	if to == nil {
		return false
	}
	if segment <= 0 {
		segment = len(b)
	}
	for packet := range slices.Chunk(b, segment) {
		if to.left.Add(-1) < 0 || len(packet) > MaxPacket {
			return false
		}
		to.pass(slices.Clone(packet))
	}
	return true
}

// Take hands QUIC a packet that the peer has passed on, as if the relay had carried it. It blocks until QUIC reads it,
// or the switch is closed. The port needs its route, and the path of the relay.
func (p *Port) Take(packet []byte) {
	p.mu.Lock()
	route, relay := p.route, p.path.To
	p.mu.Unlock()
	frame := make([]byte, headerSize, headerSize+len(packet))
	putHeader(frame, typeRelay, route)
	frame = append(frame, packet...)
	p.sw.inject(&arrival{Batch: Batch{Buf: frame, N: len(frame), Segment: len(frame), From: relay}})
}

// inject has the reader deal with a batch that no link has read.
func (s *Switch) inject(a *arrival) {
	if !s.arrived(a, nil) {
		return
	}
	s.wake() // the queue may be full because nobody looks at it
	select {
	case s.queue <- a:
		s.wake()
	case <-s.closed:
	}
}

// wake has a reader that waits for its own link look at the queue.
func (s *Switch) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inline != nil && !s.leave {
		s.woken = true
		_ = s.inline.SetReadDeadline(longAgo)
	}
}
