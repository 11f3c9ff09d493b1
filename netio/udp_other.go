//go:build !linux

package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// socket needs no state where datagrams are read and written one by one.
type socket struct{}

func (s *socket) open(*net.UDPConn, netip.AddrPort) error { return nil }

// Read waits for a datagram; see [Link].
func (l *UDPLink) Read(b *Batch) error {
	if len(b.Buf) < MaxBatch {
		b.Buf = make([]byte, MaxBatch)
	}
	for range maxReadErrors {
		n, from, err := l.conn.ReadFromUDPAddrPort(b.Buf)
		switch {
		case err == nil:
			b.N, b.Segment, b.From, b.Local, b.ECN = n, max(n, 1), unmap(from), netip.Addr{}, 0
			return nil
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		// Windows reports here that an earlier packet was unreachable, or too large.
	}
	return net.ErrClosed
}

// Write sends datagrams one by one; see [Link]. It ignores ECN, the local address, and wait: the system may block for a moment.
func (l *UDPLink) Write(to netip.AddrPort, p Packets, _ bool) error {
	var first error
	scratch := make([]byte, 0, 2048)
	eachPacket(p, func(data []byte) {
		if len(p.Header) > 0 {
			scratch = append(append(scratch[:0], p.Header...), data...)
			data = scratch
		}
		if _, err := l.conn.WriteToUDPAddrPort(data, to); err != nil && first == nil {
			first = err
		}
	})
	return first
}

// eachPacket calls send for each of the datagrams in p, without its header.
func eachPacket(p Packets, send func(data []byte)) {
	segment := p.Segment
	if segment <= 0 {
		segment = max(len(p.Data), 1)
	}
	for data := p.Data; ; {
		n := min(segment, len(data))
		send(data[:n])
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// parseOOB finds nothing: without GSO, what quic-go writes as control messages is only a hint.
func parseOOB([]byte) (segment int, ecn uint8) { return 0, 0 }

func ecnControl(uint8) []byte { return nil }
