package netio

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/conec-go/conec/messages"
)

// TCPLink is a client's [Link] to its coordinator over TLS and TCP, for networks that
// block UDP. What it writes to any other address is an error. When the connection
// breaks, Done is closed, writing fails and reading ends; a new link takes its place.
type TCPLink struct {
	conn *tcpConn
	as   netip.AddrPort
	done chan struct{}

	mu  sync.Mutex // guards the field below
	err error
}

// newTCPLink starts to carry datagrams over a connection to the coordinator that
// switches know by the address as.
func newTCPLink(raw, conn net.Conn, as netip.AddrPort) *TCPLink {
	l := &TCPLink{conn: newTCPConn(raw, conn), as: unmap(as), done: make(chan struct{})}
	go l.conn.write()
	return l
}

// Read waits for datagrams; see [Link]. They come from the coordinator's address.
func (l *TCPLink) Read(b *Batch) error {
	if err := l.conn.await(); err != nil {
		l.fail(err)
		return fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	l.conn.take(b)
	b.From, b.Local, b.ECN = l.as, netip.Addr{}, 0
	return nil
}

// fail notes why the connection is over, once.
func (l *TCPLink) fail(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		close(l.done)
	}
	l.mu.Unlock()
	if first {
		l.conn.cut()
	}
}

// Write queues datagrams and does not block; see [Link].
func (l *TCPLink) Write(to netip.AddrPort, p Packets, _ bool) error {
	if to != l.as {
		return fmt.Errorf("%w: %v is not the coordinator", messages.ErrUnreachable, to)
	}
	return l.conn.put(p)
}

// LocalAddr is this end of the TCP connection.
func (l *TCPLink) LocalAddr() netip.AddrPort { return tcpAddrPort(l.conn.raw.LocalAddr()) }

// tcpAddrPort is an address of package net, invalid if that is not TCP's.
func tcpAddrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(tcp.AddrPort())
}

// Remote is the address by which switches know the coordinator.
func (l *TCPLink) Remote() netip.AddrPort { return l.as }

// Addrs is empty: nobody else reaches this host through the link.
func (l *TCPLink) Addrs() []netip.AddrPort { return nil }

// Done is closed when the connection has broken or was closed. Somebody must read the
// link for that to be noticed.
func (l *TCPLink) Done() <-chan struct{} { return l.done }

// Err is why the connection is over, nil while it is not.
func (l *TCPLink) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close sends what is queued, for which it waits a second at most, and ends the connection.
func (l *TCPLink) Close() error {
	l.conn.close()
	l.fail(net.ErrClosed)
	return nil
}
