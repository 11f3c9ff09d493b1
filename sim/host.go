package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/conec-go/conec/netio"
)

// inboxSize is how many datagrams wait at a link for its reader.
const inboxSize = 1024

// Line is what connects a host with the core of the network. It is the same in
// both directions, each of which has its own queue and random source.
type Line struct {
	// Latency is how long a packet takes, after the time that its bytes take.
	Latency time.Duration
	// Jitter is the most that a packet takes longer, evenly distributed: packets
	// may overtake each other.
	Jitter time.Duration
	// Loss is the fraction of packets that are lost, from 0 to 1.
	Loss float64
	// Rate is how many bytes pass per second, headers counted. If zero, any number.
	Rate int64
	// Queue is how many bytes may wait where Rate is set; packets that find it
	// full are lost. If zero, 100 milliseconds' worth, at least 16 KiB.
	Queue int
	// MTU is the size in bytes of the largest packet, IPv4 and UDP headers (28
	// bytes) counted. If zero, 1500.
	MTU int
}

func (l Line) withDefaults() Line {
	if l.Queue == 0 {
		l.Queue = max(int(l.Rate/10), 16<<10)
	}
	if l.MTU == 0 {
		l.MTU = 1500
	}
	return l
}

// pipe is one direction of a line.
type pipe struct {
	random *rand.Rand
	busy   time.Duration // until when bytes that were taken keep it busy, since the network's start
}

func newPipe(seed uint64, name string) pipe {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name)) // never fails (hash.Hash)
	return pipe{random: rand.New(rand.NewPCG(seed, hash.Sum64()))}
}

// carry takes a datagram at now, and returns how long it is on the way, or false
// if it does not come through.
func (p *pipe) carry(line Line, now time.Duration, payload int, stats *Stats) (delay time.Duration, ok bool) {
	size := payload + overhead
	if size > line.MTU {
		stats.TooLarge++
		return 0, false
	}
	if line.Rate > 0 {
		p.busy = max(p.busy, now)
		if queued := (p.busy - now).Seconds() * float64(line.Rate); queued+float64(size) > float64(line.Queue) {
			stats.Overrun++
			return 0, false
		}
		p.busy += time.Duration(float64(size) / float64(line.Rate) * float64(time.Second))
		delay = p.busy - now
	}
	if line.Loss > 0 && p.random.Float64() < line.Loss {
		stats.Lost++
		return 0, false
	}
	if line.Jitter > 0 {
		delay += time.Duration(p.random.Int64N(int64(line.Jitter)))
	}
	return delay + line.Latency, true
}

// Host is a machine at the network, with one address and one link at a time. Its
// fields are under the network's mu.
type Host struct {
	network  *Network
	name     string
	local    netip.AddrPort // what the machine believes to be its address
	source   netip.AddrPort // what its packets come from and can be sent to
	line     Line
	up, down pipe
	link     *link // nil until Open
}

// Host adds a host. Its name and address must be new to the network; if not, Open
// says so.
func (n *Network) Host(name string, addr netip.AddrPort, line Line) *Host {
	h := &Host{
		network: n, name: name, local: addr, source: addr, line: line.withDefaults(),
		up: newPipe(n.seed, name+" up"), down: newPipe(n.seed, name+" down"),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[name] == nil {
		n.hosts[name] = h
	}
	return h
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Addr returns the address from which the host's packets come now.
func (h *Host) Addr() netip.AddrPort {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return h.source
}

// SetLine changes the host's line for packets that have not reached it yet.
func (h *Host) SetLine(line Line) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.line = line.withDefaults()
}

// Open returns the host's socket: at first, after the one before was closed, and
// after a crash. It fails with syscall.EADDRINUSE if the name or the address is
// another host's, or the socket is open.
func (h *Host) Open() (netio.Link, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, net.ErrClosed
	case n.hosts[h.name] != h, n.at[h.source] != nil:
		return nil, fmt.Errorf("open %s at %s: %w", h.name, h.source, syscall.EADDRINUSE)
	}
	h.link = &link{host: h, inbox: make(chan datagram, inboxSize), closed: make(chan struct{})}
	n.at[h.source] = h.link
	return h.link, nil
}

// Rebind changes the address from which the host's packets come, as a NAT that
// forgot its mapping does: the host does not notice, and what is sent to the old
// address is lost. It fails with syscall.EADDRINUSE if another host has it.
func (h *Host) Rebind(addr netip.AddrPort) error {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[addr] != nil {
		return fmt.Errorf("rebind %s to %s: %w", h.name, addr, syscall.EADDRINUSE)
	}
	if n.at[h.source] == h.link && h.link != nil {
		delete(n.at, h.source)
		n.at[addr] = h.link
	}
	h.source = addr
	return nil
}

// Crash silences the host at once: its program can send no more, not even a
// goodbye, and its link reads as closed. The program is still to be stopped by
// whoever started it. Open returns a new link at the same address.
func (h *Host) Crash() {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.link.shut()
}

// link is the socket of a host. It implements [netio.Link].
type link struct {
	host   *Host
	inbox  chan datagram
	once   sync.Once
	closed chan struct{} // no more packets in or out
}

// shut closes a link, which may be nil. Called with the network's mu held.
func (l *link) shut() {
	if l == nil {
		return
	}
	l.once.Do(func() {
		close(l.closed)
		if n := l.host.network; n.at[l.host.source] == l {
			delete(n.at, l.host.source)
		}
	})
}

func (l *link) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Read waits for a datagram, or for the link to be closed.
func (l *link) Read(b *netio.Batch) error {
	if l.isClosed() {
		return net.ErrClosed
	}
	select {
	case d := <-l.inbox:
		if len(b.Buf) < len(d.payload) {
			b.Buf = make([]byte, max(len(d.payload), 2048))
		}
		b.N = copy(b.Buf, d.payload)
		b.Segment, b.From, b.Local, b.ECN = b.N, d.from, netip.Addr{}, d.ecn
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

// Write sends each segment as a datagram of its own. It never waits: a full queue
// loses what does not fit. Segments that are too large for the host's own line
// are left out, and reported once the others were sent.
func (l *link) Write(to netip.AddrPort, p netio.Packets, _ bool) error {
	n := l.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.isClosed() {
		return net.ErrClosed
	}
	segment := p.Segment
	if segment <= 0 {
		segment = len(p.Data)
	}
	var err error
	for at := 0; at == 0 || at < len(p.Data); at += max(segment, 1) {
		part := p.Data[at:min(at+segment, len(p.Data))]
		payload := append(append(make([]byte, 0, len(p.Header)+len(part)), p.Header...), part...)
		if len(payload)+overhead > l.host.line.MTU {
			err = syscall.EMSGSIZE
			continue
		}
		n.send(l, datagram{from: l.host.source, to: to, payload: payload, ecn: p.ECN})
	}
	return err
}

// LocalAddr is the address that the host believes to have.
func (l *link) LocalAddr() netip.AddrPort { return l.host.local }

// Addrs is LocalAddr.
func (l *link) Addrs() []netip.AddrPort { return []netip.AddrPort{l.host.local} }

// Close frees the address and ends a Read that waits.
func (l *link) Close() error {
	l.host.network.mu.Lock()
	defer l.host.network.mu.Unlock()
	l.shut()
	return nil
}
