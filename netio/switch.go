package netio

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of a [Switch].
const (
	DefaultMaxPorts = 4096
	queuedBatches   = 8    // between the goroutines that read links and QUIC
	clientSources   = 8    // remembered senders of raw packets
	serveSources    = 4096 // the same where anybody may send them
)

// ErrTooMany means that a limit on ports, routes, clients or addresses has been reached.
var ErrTooMany = errors.New("too many")

// SwitchConfig says what a [Switch] accepts.
type SwitchConfig struct {
	// AcceptRaw accepts raw QUIC packets from anybody, as a coordinator must. If false, only from addresses that
	// [Switch.AllowRaw] named.
	AcceptRaw bool
	// Relay forwards relay frames and answers bind frames. If nil, relay frames are for our ports, and must come from
	// addresses that [Switch.AllowRaw] named.
	Relay *Relay
	// OnBound is told of answers to bind frames that are authentic (see [Switch.SetBindKey]) and new. It is called in a
	// goroutine that reads a link and must be quick. May be nil.
	OnBound func(b BoundFrame, link Link, from netip.AddrPort)
	// OnUnknown is told when the coordinator says that it does not know the client of a bind or ask frame, with its sequence. Who sees
	// our packets can forge that. It is called like OnBound. May be nil.
	OnUnknown func(id, sequence uint64)
	// OnWriteError is told when a link did not take packets, other than because they were too large or it was busy: a
	// hint that it is down. It is called in the goroutine that writes, for every such write, and must be quick. May be nil.
	OnWriteError func(link Link, to netip.AddrPort, err error)
	// MaxPorts limits the open ports. If zero, [DefaultMaxPorts].
	MaxPorts int
	// Random is where tags come from. If nil, crypto/rand.
	Random io.Reader
}

func (c SwitchConfig) withDefaults() SwitchConfig {
	if c.MaxPorts <= 0 {
		c.MaxPorts = DefaultMaxPorts
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	return c
}

// Switch is the packet layer under one QUIC transport. It reads all links and hands the packets of each channel to QUIC
// as if they came from fixed addresses, and sends what QUIC writes to these along the channel's current path.
// Raw QUIC packets, of home channels, pass through with their real addresses.
//
// It implements net.PacketConn and what quic-go needs on top for segmentation offload, ECN and path MTU discovery. While
// it is open it never returns an error to QUIC: a failed write ends a QUIC connection, a failed read all of them. One
// goroutine may read at a time; all else may be called by anybody.
type Switch struct {
	cfg     SwitchConfig
	start   time.Time
	closed  chan struct{}
	ports   table[*Port] // by tag
	routes  table[*Port] // by our route number
	bounds  table[*boundState]
	allowed atomic.Pointer[map[netip.AddrPort]struct{}]
	links   atomic.Pointer[[]Link]
	rawLink atomic.Pointer[source] // only its link
	tcp     atomic.Pointer[TCPListener]
	sources []atomic.Pointer[rawSource]
	seed    uint64

	mu       sync.Mutex // guards changes of links, and the fields below
	shut     bool
	inline   deadlineLink // the only link, which the reader reads itself; nil if goroutines read
	leave    bool         // the reader must hand inline over to a goroutine
	woken    bool         // the reader's wait for inline was ended, to look at the queue
	readers  sync.WaitGroup
	deadline deadline
	quiet    atomic.Bool // see SyscallConn

	queue chan *arrival
	free  chan *arrival
	now   *arrival // what the reader is reading from; its own

	largestRaw atomic.Int64 // see TakeLargestRaw

	ecn     [4][]byte // control messages for quic-go
	in, out traffic
	drops   drops
}

// longAgo is a deadline that ends a wait.
var longAgo = time.Unix(1, 0)

// deadlineLink is a link that can be read without a goroutine of its own, because the reader can be woken.
type deadlineLink interface {
	Link
	SetReadDeadline(t time.Time) error
}

// boundState is what is needed to check the coordinator's answers.
type boundState struct {
	key  *macKey
	mu   sync.Mutex
	last uint64
}

// NewSwitch starts reading the links. It owns them from then on: closing the switch closes them.
func NewSwitch(cfg SwitchConfig, links ...Link) (*Switch, error) {
	cfg = cfg.withDefaults()
	s := &Switch{
		cfg: cfg, start: time.Now(), closed: make(chan struct{}),
		queue: make(chan *arrival, queuedBatches), free: make(chan *arrival, 2*queuedBatches),
	}
	var seed [8]byte
	if _, err := io.ReadFull(cfg.Random, seed[:]); err != nil {
		return nil, err
	}
	s.seed = binary.LittleEndian.Uint64(seed[:])
	size := clientSources
	if cfg.AcceptRaw {
		size = serveSources
	}
	s.sources = make([]atomic.Pointer[rawSource], size)
	for ecn := range s.ecn {
		if ecn != 0 {
			s.ecn[ecn] = ecnControl(uint8(ecn))
		}
	}
	s.allowed.Store(&map[netip.AddrPort]struct{}{})
	s.links.Store(&[]Link{})
	for _, l := range links {
		s.AddLink(l)
	}
	return s, nil
}

// Close closes all links and waits until nothing reads them any more. What goroutines did before they wrote to the switch
// for the last time happened before Close returns, though QUIC does not wait for all of its own.
func (s *Switch) Close() error {
	s.mu.Lock()
	if !s.shut {
		s.shut = true
		close(s.closed)
	}
	links := s.Links()
	s.mu.Unlock()
	for _, l := range links {
		_ = l.Close()
	}
	s.readers.Wait()
	_ = s.Stats() // every write has counted something
	return nil
}

// Links are the links in use.
func (s *Switch) Links() []Link { return slices.Clone(*s.links.Load()) }

// AddLink starts reading one more link. It does nothing if the link is in use already, and closes it if the switch is closed.
//
// With one link that can be woken, a UDP socket, the reader reads the socket itself, which saves handing batches from
// goroutine to goroutine; a relay gets a goroutine for itself in any case.
func (s *Switch) AddLink(link Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := s.Links()
	if slices.Contains(links, link) {
		return
	}
	if s.shut {
		_ = link.Close()
		return
	}
	links = append(links, link)
	s.links.Store(&links)
	dl, ok := link.(deadlineLink)
	if ok && len(links) == 1 && s.cfg.Relay == nil && s.inline == nil && !s.leave {
		s.inline = dl
		return
	}
	s.startReading(link)
	s.leave = true
	if s.inline != nil {
		_ = s.inline.SetReadDeadline(longAgo) // wakes the reader, which hands its link over
	}
}

// Largest is the size of the largest datagrams that channels send or receive at present, at least that of their first
// ones: a way that takes no such datagrams is of no use to them.
func (s *Switch) Largest() int {
	largest := int64(FirstPacket)
	s.ports.each(func(p *Port) { largest = max(largest, p.largest.Load(), p.largestIn.Load()) })
	return int(largest) + headerSize
}

// TakeLargestRaw returns how many bytes the largest raw packet had that came in since it was asked last, 0 if none did.
func (s *Switch) TakeLargestRaw() int { return int(s.largestRaw.Swap(0)) }

// addTCP adds a link whose connections have addresses of their own.
func (s *Switch) addTCP(l *TCPListener) {
	s.tcp.Store(l)
	s.AddLink(l)
}

// Real is the address that packets from addr came from: another one if they came over
// TCP (see [TCPListener]); invalid once that connection is over.
func (s *Switch) Real(addr netip.AddrPort) netip.AddrPort {
	if _, ok := madeUpNumber(addr); !ok {
		return addr
	}
	if l := s.tcp.Load(); l != nil {
		return l.real(addr)
	}
	return netip.AddrPort{}
}

// RemoveLink closes a link and forgets it. Ports whose path it is have none until they get another one.
func (s *Switch) RemoveLink(link Link) {
	s.mu.Lock()
	links := slices.DeleteFunc(s.Links(), func(l Link) bool { return l == link })
	s.links.Store(&links)
	s.mu.Unlock()
	_ = link.Close()
}

// SetRawLink makes raw QUIC packets leave through one link, whatever link the other side was heard on last. Nil undoes
// that. Without it they leave through the link on which the other side was heard last, at first through the first link
// that has the right address family. Ports whose path has no link follow.
func (s *Switch) SetRawLink(link Link) {
	if link == nil {
		s.rawLink.Store(nil)
		return
	}
	s.rawLink.Store(&source{link: link})
	s.ports.each(func(p *Port) { p.rawMoved() })
}

// AllowRaw names an address of the coordinator: raw QUIC packets, relay frames and bound frames are accepted from it.
func (s *Switch) AllowRaw(addr netip.AddrPort) {
	s.changeAllowed(func(m map[netip.AddrPort]struct{}) { m[unmap(addr)] = struct{}{} })
}

// DisallowRaw takes back what AllowRaw gave.
func (s *Switch) DisallowRaw(addr netip.AddrPort) {
	s.changeAllowed(func(m map[netip.AddrPort]struct{}) { delete(m, unmap(addr)) })
}

func (s *Switch) changeAllowed(change func(map[netip.AddrPort]struct{})) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := maps.Clone(*s.allowed.Load())
	change(m)
	s.allowed.Store(&m)
}

func (s *Switch) isAllowed(from netip.AddrPort) bool {
	_, ok := (*s.allowed.Load())[from]
	return ok
}

// SetBindKey lets bound frames for this client id in: those that were made with the key that EncodeBind gets.
func (s *Switch) SetBindKey(id uint64, key [32]byte) {
	s.bounds.put(id, &boundState{key: newMACKey(key, boundPurpose)}, s.cfg.MaxPorts, false)
}

// RemoveBindKey takes back what SetBindKey gave.
func (s *Switch) RemoveBindKey(id uint64) {
	s.bounds.remove(id, func(*boundState) bool { return true })
}

// OpenPort makes the end of a channel. It fails with [ErrTooMany], or [net.ErrClosed].
func (s *Switch) OpenPort() (*Port, error) {
	for !s.isClosed() {
		tag, err := randomNumber(s.cfg.Random)
		if err != nil {
			return nil, err
		}
		p := newPort(s, tag)
		ok, full := s.ports.put(uint64(tag), p, s.cfg.MaxPorts, true)
		switch {
		case full:
			return nil, ErrTooMany
		case ok:
			return p, nil
		}
	}
	return nil, net.ErrClosed
}

// randomNumber is a tag or route: unguessable, and not zero.
func randomNumber(r io.Reader) (uint32, error) {
	var b [4]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, err
		}
		if n := binary.BigEndian.Uint32(b[:]); n != 0 {
			return n, nil
		}
	}
}

func (s *Switch) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Send sends one conec frame without blocking. A nil link means the one that raw QUIC packets to the address take.
func (s *Switch) Send(link Link, to netip.AddrPort, frame []byte) error {
	to = unmap(to)
	var local netip.Addr
	if link == nil {
		if link, local = s.rawRoute(to); link == nil {
			s.drops.add(dropNoPath, 1)
			return net.ErrClosed
		}
	}
	return s.sendPackets(link, to, Packets{Data: frame, Local: local}, false)
}

// sendPackets writes to a link and counts.
func (s *Switch) sendPackets(link Link, to netip.AddrPort, p Packets, wait bool) error {
	packets, bytes := p.size()
	err := link.Write(to, p, wait)
	if p.Local.IsValid() && err != nil && writeReason(err) == dropWrite { // this host has moved: the address is not its own any more
		p.Local = netip.Addr{}
		err = link.Write(to, p, wait)
	}
	if err != nil {
		reason := writeReason(err)
		s.drops.add(reason, packets)
		if reason == dropWrite && s.cfg.OnWriteError != nil {
			s.cfg.OnWriteError(link, to, err)
		}
		return err
	}
	s.out.add(packets, bytes)
	return nil
}

// writeReason tells errors that say something about a packet from those that say something about the link.
func writeReason(err error) dropReason {
	switch {
	case errors.Is(err, syscall.EMSGSIZE):
		return dropTooLarge
	case errors.Is(err, syscall.EAGAIN):
		return dropFull
	}
	return dropWrite
}

// size is the number of datagrams and of bytes with headers.
func (p Packets) size() (packets, bytes int) {
	packets = 1
	if p.Segment > 0 && p.Segment < len(p.Data) {
		packets = (len(p.Data) + p.Segment - 1) / p.Segment
	}
	return packets, len(p.Data) + packets*len(p.Header)
}

// instant is the time that lies so many nanoseconds after the start; zero for zero.
func (s *Switch) instant(since int64) time.Time {
	if since == 0 {
		return time.Time{}
	}
	return s.start.Add(time.Duration(since))
}

// SwitchStats says what went through a switch: datagrams and bytes of UDP payload.
type SwitchStats struct {
	In, Out Traffic
	Dropped Drops
}

// Stats says what went through the switch so far.
func (s *Switch) Stats() SwitchStats {
	return SwitchStats{In: s.in.load(), Out: s.out.load(), Dropped: s.drops.load()}
}
