package netio

import (
	"container/list"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conec-go/conec/messages"
)

// Limits of a [TCPListener].
const (
	DefaultMaxTCP = 10_000
	maxTCPNew     = 1024             // connections over which no client has bound yet
	tcpBindWait   = 15 * time.Second // for a client to bind, with the TLS handshake
	tcpRetry      = 100 * time.Millisecond
)

// TCPListener is a coordinator's [Link] to the clients whose network blocks UDP: all
// their TLS connections together. Each has an address of its own making, so that
// no UDP packet with a forged source gets between, and so that two clients never share one;
// [Switch.Real] tells where the other side is.
//
// A connection over which no client has bound is closed after 15 seconds, and before
// that if 1,024 newer ones are like it: who connects and says nothing pushes out its own. One that
// nothing comes from for 45 seconds is closed. Bounded queues of 256 KiB keep a slow
// connection from stopping others; what they have no room for is dropped.
type TCPListener struct {
	listener net.Listener
	config   *tls.Config
	limit    int
	conns    table[*tcpAccepted] // by number
	arrived  chan *Batch
	free     chan *Batch
	closed   chan struct{}
	running  sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	shut  bool
	last  uint32     // number of a connection
	fresh *list.List // of *tcpAccepted that have not bound, oldest first
	all   map[*tcpAccepted]struct{}

	accepted, refused, evicted atomic.Uint64
}

// tcpAccepted is one connection.
type tcpAccepted struct {
	*tcpConn
	number uint32
	raw    net.Conn
	real   netip.AddrPort
	place  *list.Element // in fresh, nil once bound; guarded by the listener's mu
	bound  atomic.Bool
	timer  *time.Timer // closes it if it does not bind
}

// ListenTCP lets clients reach this coordinator over TLS connections to the listener,
// at most as many as limit; if that is zero, [DefaultMaxTCP]. The switch owns the listener from now on.
func (t *Transport) ListenTCP(listener net.Listener, limit int) *TCPListener {
	config := t.baseTLS(messages.ALPNTCP, t.Identity)
	config.VerifyConnection = checkTCP // who the client is, the home channel says
	if limit <= 0 {
		limit = DefaultMaxTCP
	}
	l := &TCPListener{
		listener: listener, config: config, limit: limit,
		arrived: make(chan *Batch, queuedBatches), free: make(chan *Batch, 2*queuedBatches), closed: make(chan struct{}),
		fresh: list.New(), all: map[*tcpAccepted]struct{}{},
	}
	l.running.Go(l.accept)
	t.sw.addTCP(l)
	return l
}

// madeUp is the address of a connection: fd63:6f6e:6563::1:<number>, beside those of
// ports (see fakeIP).
func madeUp(number uint32) netip.AddrPort {
	ip := [16]byte{0: 0xfd, 1: 'c', 2: 'o', 3: 'n', 4: 'e', 5: 'c', 11: 1}
	binary.BigEndian.PutUint32(ip[12:], number)
	return netip.AddrPortFrom(netip.AddrFrom16(ip), 1)
}

// madeUpNumber is the number in an address that madeUp made.
func madeUpNumber(addr netip.AddrPort) (number uint32, ok bool) {
	if !addr.Addr().Is6() {
		return 0, false
	}
	ip := addr.Addr().As16()
	if [12]byte(ip[:]) != ([12]byte{0: 0xfd, 1: 'c', 2: 'o', 3: 'n', 4: 'e', 5: 'c', 11: 1}) {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip[12:]), true
}

// accept is a pump: it takes connections until the listener is closed.
func (l *TCPListener) accept() {
	for {
		raw, err := l.listener.Accept()
		switch {
		case err == nil:
			l.add(raw)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, perhaps: others may close
			select {
			case <-time.After(tcpRetry):
			case <-l.closed:
				return
			}
		}
	}
}

// add makes room for a connection and serves it.
func (l *TCPListener) add(raw net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut || len(l.all) >= l.limit && l.fresh.Len() == 0 {
		l.refused.Add(1)
		_ = raw.Close()
		return
	}
	if l.fresh.Len() >= maxTCPNew || len(l.all) >= l.limit {
		l.evict()
	}
	l.accepted.Add(1)
	l.last++
	c := &tcpAccepted{number: l.last, raw: raw, real: tcpAddrPort(raw.RemoteAddr())}
	c.place = l.fresh.PushBack(c)
	l.all[c] = struct{}{}
	c.timer = time.AfterFunc(tcpBindWait, func() {
		if !c.bound.Load() {
			_ = raw.Close()
		}
	})
	l.running.Go(func() { l.serve(c) })
}

// evict closes the oldest connection that has not bound. Called with mu held.
func (l *TCPListener) evict() {
	oldest := l.fresh.Front()
	c := l.fresh.Remove(oldest).(*tcpAccepted)
	c.place = nil
	delete(l.all, c)
	l.evicted.Add(1)
	_ = c.raw.Close()
}

// remove forgets a connection that is over.
func (l *TCPListener) remove(c *tcpAccepted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(c)
	delete(l.all, c)
	c.timer.Stop()
}

// settle takes a connection out of those that have not bound. Called with mu held.
func (l *TCPListener) settle(c *tcpAccepted) {
	if c.place != nil {
		l.fresh.Remove(c.place)
		c.place = nil
	}
}

// proven notes that a client has bound over a connection: it may stay.
func (l *TCPListener) proven(addr netip.AddrPort) {
	number, _ := madeUpNumber(addr)
	c, ok := l.conns.get(uint64(number))
	if !ok || c.bound.Swap(true) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(c)
	c.timer.Stop()
}

// serve is a pump: it shakes hands and passes on what comes, until the connection is over.
func (l *TCPListener) serve(c *tcpAccepted) {
	defer l.remove(c)
	defer c.raw.Close()
	conn := tls.Server(c.raw, l.config)
	if err := conn.HandshakeContext(context.Background()); err != nil { // its timer ends it
		return
	}
	c.tcpConn = newTCPConn(c.raw, conn)
	l.running.Go(c.write)
	defer c.cut()
	number := uint64(c.number)
	if ok, _ := l.conns.put(number, c, l.limit+maxTCPNew, true); !ok {
		return
	}
	defer l.conns.remove(number, func(o *tcpAccepted) bool { return o == c })
	from := madeUp(c.number)
	for c.await() == nil {
		b := l.batch()
		c.take(b)
		b.From, b.Local, b.ECN = from, netip.Addr{}, 0
		select {
		case l.arrived <- b:
		case <-l.closed:
			c.close()
			return
		}
	}
}

func (l *TCPListener) batch() *Batch {
	select {
	case b := <-l.free:
		return b
	default:
		return &Batch{}
	}
}

// Read waits for datagrams of any connection; see [Link].
func (l *TCPListener) Read(b *Batch) error {
	select {
	case got := <-l.arrived:
		*b, *got = *got, Batch{Buf: b.Buf}
		select {
		case l.free <- got:
		default:
		}
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

// Write queues datagrams for a connection and does not block; see [Link].
func (l *TCPListener) Write(to netip.AddrPort, p Packets, _ bool) error {
	number, ok := madeUpNumber(to)
	if ok {
		if c, ok := l.conns.get(uint64(number)); ok {
			return c.put(p)
		}
	}
	return fmt.Errorf("%w: TCP connection %d", net.ErrClosed, number)
}

// real is where the other side of a connection is, invalid if there is none.
func (l *TCPListener) real(addr netip.AddrPort) netip.AddrPort {
	number, _ := madeUpNumber(addr)
	if c, ok := l.conns.get(uint64(number)); ok {
		return c.real
	}
	return netip.AddrPort{}
}

// LocalAddr is the address that the listener is bound to.
func (l *TCPListener) LocalAddr() netip.AddrPort { return tcpAddrPort(l.listener.Addr()) }

// Addrs is empty: only clients that dialed are reached through the link.
func (l *TCPListener) Addrs() []netip.AddrPort { return nil }

// TCPStats says what a [TCPListener] did.
type TCPStats struct {
	Open     int    // connections, those in the TLS handshake too
	Accepted uint64 // connections so far
	Refused  uint64 // at the limit
	Evicted  uint64 // that had not bound, for newer ones
}

// Stats says what the listener did so far.
func (l *TCPListener) Stats() TCPStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return TCPStats{Open: len(l.all), Accepted: l.accepted.Load(), Refused: l.refused.Load(), Evicted: l.evicted.Load()}
}

// Close sends what is queued, for which it waits a second at most, and ends all connections.
func (l *TCPListener) Close() error {
	l.mu.Lock()
	first := !l.shut
	l.shut = true
	l.mu.Unlock()
	if first {
		close(l.closed)
		_ = l.listener.Close()
		l.mu.Lock()
		for c := range l.all {
			l.running.Go(func() { l.hangUp(c) })
		}
		l.mu.Unlock()
	}
	l.running.Wait()
	return nil
}

// hangUp ends a connection, after what is queued for it.
func (l *TCPListener) hangUp(c *tcpAccepted) {
	if known, ok := l.conns.get(uint64(c.number)); ok {
		known.close()
		return
	}
	_ = c.raw.Close() // it is still shaking hands
}
