package netio

import "net/netip"

// MaxBatch is the size in bytes of the buffer a [Link] that coalesces datagrams needs: the largest UDP payload, rounded up.
const MaxBatch = 64 << 10

// Batch holds datagrams that one sender sent, side by side in one buffer: each is Segment bytes long, the last one may
// be shorter. A reader on Linux gets up to 64 of them from one system call (UDP_GRO).
type Batch struct {
	Buf     []byte         // owned by whoever reads; a Link replaces it when it is too small
	N       int            // bytes in use
	Segment int            // bytes of each datagram but the last; equal to N when there is one
	From    netip.AddrPort // never a v4-mapped address
	Local   netip.Addr     // address it was sent to, when the link is bound to none in particular and knows; else invalid
	ECN     uint8          // the two ECN bits of the IP header (RFC 3168)
}

// Packets is what one write sends: Data cut into datagrams of Segment bytes (the last may be shorter; 0 means one
// datagram), each with Header in front of it. A Link must not keep or change Header and Data after Write returned.
type Packets struct {
	Header  []byte // may be nil
	Data    []byte
	Segment int
	Local   netip.Addr // source address to use, where the link is bound to none in particular; invalid = the system's choice
	ECN     uint8
}

// Link is a way out of this host that carries datagrams: a UDP socket, or something that behaves like one. A Link is
// comparable with ==.
//
// One goroutine reads; any number may write, and Close may be called by anybody, more than once.
type Link interface {
	// Read waits for datagrams and fills in all fields of b. It uses b.Buf if that is large enough and sets it to a new
	// buffer otherwise. It returns an error only once the link is closed, matching [net.ErrClosed].
	Read(b *Batch) error
	// Write sends p. If the link cannot take it now, Write blocks (wait) or drops it and returns an error (no wait).
	// An error means that some or all datagrams were not sent; the link can still be used. It matches syscall.EMSGSIZE
	// if they were too large, syscall.EAGAIN if the link cannot take them now.
	Write(to netip.AddrPort, p Packets, wait bool) error
	// LocalAddr is the address the link is bound to.
	LocalAddr() netip.AddrPort
	// Addrs are the addresses at which this host could be reached through this link: at most [MaxAddrs], sorted,
	// without loopback unless the link is bound to it or there is nothing else.
	Addrs() []netip.AddrPort
	// Close ends a Read or Write that is waiting.
	Close() error
}
