package netio

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MaxSources is how many sources may deliver direct packets to one port; allowing one more forgets the oldest.
const MaxSources = 320

// Path is where a port's packets go. The zero Path is nowhere: packets are dropped and counted, which QUIC sees as loss.
type Path struct {
	Link    Link           // nil: the link that raw QUIC packets to the same address take
	To      netip.AddrPort // the peer, or the coordinator if relayed
	Relayed bool
	Local   netip.Addr // source address, where the link has several; invalid = the system's choice
}

// Traffic counts packets and the bytes of QUIC in them.
type Traffic struct{ Packets, Bytes uint64 }

// PortStats says what went through a port.
type PortStats struct {
	DirectIn, DirectOut     Traffic
	RelayedIn, RelayedOut   Traffic
	Dropped                 uint64    // packets not sent: no path, or the link did not take them
	LargestOut              int       // bytes of the largest QUIC packets sent, without those by which QUIC tries a path's MTU
	LastDirect, LastRelayed time.Time // when the last packet came in; zero if none did
}

// Port is one end of a channel at the switch: QUIC sees fixed addresses, the switch knows where the packets go now.
//
// All methods may be called by anybody at any time, and none blocks.
type Port struct {
	sw      *Switch
	tag     uint32
	addrs   [marks]*net.UDPAddr // that QUIC knows the peer by, see epochs
	probing atomic.Pointer[probing]
	peerTag atomic.Uint32
	out     atomic.Pointer[outgoing] // nil: no path
	sources atomic.Pointer[[]source]
	passing atomic.Pointer[passing]  // what is written while there is no path; nil: it is dropped
	who     atomic.Pointer[Identity] // nil: the transport's

	mu     sync.Mutex // guards the fields below, and changes to peerTag, out and sources
	path   Path
	also   Path
	route  uint32
	closed bool

	directIn, directOut, relayedIn, relayedOut traffic
	lastDirect, lastRelayed                    atomic.Int64 // time since the switch's start, 0 if never
	dropped                                    atomic.Uint64
	unheard                                    atomic.Uint64 // packets written since anything was received…
	unheardSince                               atomic.Int64  // …and since when they are many
	onBack                                     atomic.Pointer[func()]
	largest, largestIn                         atomic.Int64 // since QUIC began anew, here and at the peer
	heardMark                                  atomic.Int64 // of the packets of which largestIn is
	followed                                   atomic.Int64 // the last address that the peer's QUIC is known to have moved to

	keep sync.Mutex // guards kept
	kept kept
}

// kept is the packet that QUIC wrote last.
type kept struct {
	packet []byte
	mark   int
	at     int64 // time since the switch's start
	size   int   // of recent packets that are larger than those before…
	count  int   // …and how many came in a row
	writes int   // since mark has been the present one, up to leftWrites
}

// A port that hears something after so long, in which it has sent so much, sends its last packet again: a network was away,
// and QUIC would wait ever longer.
const (
	outage        = time.Second
	outagePackets = 4 // more than the last acknowledgments before a pause, and than who sends now and then sends at once
)

// maxTries is how many packets of one size QUIC sends only to try a path's MTU (RFC 8899 section 5.1.2, MAX_PROBES).
const maxTries = 3

// leftWrites is how often QUIC writes to a new address what it had packed for the former one: what its queue holds, and what is
// in hand.
const leftWrites = 9

// outgoing is all that sending needs to know, never changed once published.
type outgoing struct {
	Path
	headers [marks][headerSize]byte
	also    Path                    // where a copy of each packet goes, directly; the zero Path if none does
	direct  [marks][headerSize]byte // headers of those
}

type source struct {
	link Link
	from netip.AddrPort
}

type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(packets, bytes int) {
	t.packets.Add(uint64(packets))
	t.bytes.Add(uint64(bytes))
}

func (t *traffic) load() Traffic { return Traffic{t.packets.Load(), t.bytes.Load()} }

func newPort(sw *Switch, tag uint32) *Port {
	ip := fakeIP(tag)
	p := &Port{sw: sw, tag: tag, kept: kept{writes: leftWrites}}
	for i := range p.addrs {
		p.addrs[i] = &net.UDPAddr{IP: ip, Port: i + 1}
	}
	return p
}

// fakeIP is the address under which QUIC knows the port with this tag: fd63:6f6e:6563::<tag>. The prefix is a
// unique local one (RFC 4193), which no packet on a network we use should have.
func fakeIP(tag uint32) net.IP {
	ip := net.IP{0: 0xfd, 1: 'c', 2: 'o', 3: 'n', 4: 'e', 5: 'c', 15: 0}
	binary.BigEndian.PutUint32(ip[12:], tag)
	return ip
}

// fakeTag is the tag in an address that fakeIP made.
func fakeTag(ip net.IP) (tag uint32, ok bool) {
	if len(ip) != net.IPv6len || [12]byte(ip) != ([12]byte{0xfd, 'c', 'o', 'n', 'e', 'c'}) {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip[12:]), true
}

// Addr is the address to dial with QUIC to reach the peer, and from which the peer's packets seem to come at first; in later
// epochs they come from one of the next two ports. The caller must not change it. Packets for the same IP and any port take the same way.
func (p *Port) Addr() *net.UDPAddr { return p.addrs[0] }

// Tag is what the peer must put into direct packets for this port. It is never zero.
func (p *Port) Tag() uint32 { return p.tag }

// Close frees the tag and the route. Packets for the port are dropped from then on.
func (p *Port) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.sw.ports.remove(uint64(p.tag), p.is)
	p.sw.routes.remove(uint64(p.route), p.is)
	p.probing.Store(nil)
	p.passing.Store(nil)
	p.out.Store(nil)
}

func (p *Port) is(other *Port) bool { return p == other }

// SetRoute sets our number of the relay route between the two ends, 0 for none.
func (p *Port) SetRoute(route uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.route == route {
		return
	}
	p.sw.routes.remove(uint64(p.route), p.is)
	p.route = route
	if route != 0 {
		p.sw.routes.put(uint64(route), p, p.sw.cfg.MaxPorts, false)
	}
	p.publish()
	p.replay(p.heard())
}

// SetPeerTag sets the tag that the peer chose for direct packets to it.
func (p *Port) SetPeerTag(tag uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peerTag.Store(tag)
	p.publish()
}

// SetPath moves the channel to another path, from the next packet on.
func (p *Port) SetPath(path Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	path.To = unmap(path.To)
	moved := path != p.path
	p.path = path
	p.publish()
	if moved {
		p.replay(p.heard())
	}
}

// SetCopies has a copy of each packet sent directly on one more path, until it is set to the zero Path. Copies are not
// counted, and lost if their link can not take them at once; the peer's QUIC drops those of what it has.
func (p *Port) SetCopies(path Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	path.To = unmap(path.To)
	p.also = path
	p.publish()
}

// Path is the path that SetPath set last.
func (p *Port) Path() Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path
}

// rawMoved sends again what may have been lost on the link that raw packets took before.
func (p *Port) rawMoved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.path.Link == nil && p.path.To.IsValid() {
		p.replay(p.heard())
	}
}

// publish tells the writers what is now known. A path without its number is no path.
func (p *Port) publish() {
	kind, number := byte(typeDirect), p.peerTag.Load()
	if p.path.Relayed {
		kind, number = typeRelay, p.route
	}
	if p.closed || !p.path.To.IsValid() || number == 0 {
		p.out.Store(nil)
		return
	}
	o := &outgoing{Path: p.path}
	putHeaders(&o.headers, kind, number)
	if tag := p.peerTag.Load(); tag != 0 {
		o.also = p.also
		putHeaders(&o.direct, typeDirect, tag)
	}
	p.out.Store(o)
}

// OnBack has f called when something comes after an outage: a second in which several packets were sent and none came. It
// is called in the goroutine that reads packets, and must be quick.
func (p *Port) OnBack(f func()) { p.onBack.Store(&f) }

// Replay sends the packet that QUIC wrote last once more, if nothing was received since: after an outage that was not the
// path's, as when the relay did not know where we are.
func (p *Port) Replay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replay(p.heard())
}

// heard is when the last packet came in, since the switch's start.
func (p *Port) heard() int64 { return max(p.lastDirect.Load(), p.lastRelayed.Load()) }

// replay sends the packet that QUIC wrote last over the path of now, if nothing
// was received since heard. After an outage QUIC waits ever longer between attempts;
// that packet was one, so its acknowledgment ends the wait. Elsewhere the peer's
// QUIC drops the copy. Called with mu held, so it does not wait for the link.
func (p *Port) replay(heard int64) {
	o := p.out.Load()
	p.keep.Lock()
	packet, at, mark := slices.Clone(p.kept.packet), p.kept.at, p.kept.mark
	p.keep.Unlock()
	if o == nil || len(packet) == 0 || heard > at {
		return
	}
	link, local := o.Link, o.Local
	if link == nil {
		link, _ = p.sw.rawRoute(o.To) // the system knows from where
	}
	if link != nil { // an error counts as loss
		_ = p.sw.sendPackets(link, o.To, Packets{Header: o.headers[mark][:], Data: packet, Local: local}, false)
	}
}

// remember keeps the last packet of what QUIC writes, and the size of what it writes often.
func (p *Port) remember(b []byte, segment, packets, largest, mark int) {
	if segment > 0 && segment < len(b) {
		b = b[(len(b)-1)/segment*segment:]
	}
	p.keep.Lock()
	defer p.keep.Unlock()
	if p.kept.mark != mark { // QUIC has begun anew
		p.kept.size, p.kept.count, p.kept.writes = 0, 0, 0
		p.largest.Store(0)
	}
	p.kept.packet = append(p.kept.packet[:0], b...)
	p.kept.at, p.kept.mark = int64(time.Since(p.sw.start)), mark
	if p.kept.writes < leftWrites {
		p.kept.writes++
		return
	}
	if int64(largest) <= p.largest.Load() {
		return
	}
	if p.kept.size != largest {
		p.kept.size, p.kept.count = largest, 0
	}
	if p.kept.count += packets; p.kept.count > maxTries {
		p.largest.Store(int64(largest))
	}
}

// Allow lets a source deliver direct packets to this port: one that answered a probe.
func (p *Port) Allow(link Link, from netip.AddrPort) {
	p.setSource(source{link, unmap(from)}, true)
}

// Disallow takes back what Allow gave.
func (p *Port) Disallow(link Link, from netip.AddrPort) {
	p.setSource(source{link, unmap(from)}, false)
}

func (p *Port) setSource(s source, allow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now []source
	if old := p.sources.Load(); old != nil {
		now = slices.DeleteFunc(slices.Clone(*old), func(o source) bool { return o == s })
	}
	if allow {
		now = append(now, s)
		now = now[max(0, len(now)-MaxSources):]
	}
	p.sources.Store(&now)
}

func (p *Port) allowed(link Link, from netip.AddrPort) bool {
	s := p.sources.Load()
	return s != nil && slices.Contains(*s, source{link, from})
}

// received counts packets that were handed to QUIC. One goroutine calls it.
func (p *Port) received(r *packetRun, at time.Duration) {
	if mark := int64(r.mark); p.heardMark.Load() != mark {
		p.heardMark.Store(mark)
		p.largestIn.Store(0)
	}
	if r.moved {
		p.followed.Store(int64(r.mark))
	}
	if int64(r.largest) > p.largestIn.Load() {
		p.largestIn.Store(int64(r.largest))
	}
	last := p.heard()
	if r.direct {
		p.directIn.add(r.packets, r.bytes)
		p.lastDirect.Store(int64(at))
	} else {
		p.relayedIn.add(r.packets, r.bytes)
		p.lastRelayed.Store(int64(at))
	}
	if p.unheard.Swap(0) < outagePackets || last == 0 || at-time.Duration(p.unheardSince.Load()) <= outage {
		return
	}
	p.mu.Lock()
	p.replay(last)
	p.mu.Unlock()
	if back := p.onBack.Load(); back != nil {
		(*back)()
	}
}

// write sends QUIC packets to the peer.
func (p *Port) write(b []byte, segment int, ecn uint8, mark int) {
	packets := 1
	largest := len(b)
	if segment > 0 && segment < len(b) {
		packets = (len(b) + segment - 1) / segment
		largest = segment
	}
	o := p.out.Load()
	if o == nil && p.passOn(b, segment) {
		return
	}
	p.remember(b, segment, packets, largest, mark)
	if n := p.unheard.Add(uint64(packets)); n >= outagePackets && n-uint64(packets) < outagePackets {
		p.unheardSince.Store(int64(time.Since(p.sw.start)))
	}
	if o == nil {
		p.dropped.Add(uint64(packets))
		p.sw.drops.add(dropNoPath, packets)
		return
	}
	link, local := o.Link, o.Local
	if link == nil {
		if link, _ = p.sw.rawRoute(o.To); link == nil {
			p.dropped.Add(uint64(packets))
			p.sw.drops.add(dropNoPath, packets)
			return
		}
	}
	if o.also.Link != nil && o.also.To.IsValid() {
		_ = p.sw.sendPackets(o.also.Link, o.also.To, Packets{Header: o.direct[mark][:], Data: b, Segment: segment, ECN: ecn}, false)
	}
	err := p.sw.sendPackets(link, o.To, Packets{Header: o.headers[mark][:], Data: b, Segment: segment, ECN: ecn, Local: local}, true)
	if err != nil {
		p.dropped.Add(uint64(packets))
		return
	}
	if o.Relayed {
		p.relayedOut.add(packets, len(b))
	} else {
		p.directOut.add(packets, len(b))
	}
}

// Stats says what went through the port so far.
func (p *Port) Stats() PortStats {
	return PortStats{
		DirectIn: p.directIn.load(), DirectOut: p.directOut.load(),
		RelayedIn: p.relayedIn.load(), RelayedOut: p.relayedOut.load(),
		Dropped:     p.dropped.Load(),
		LargestOut:  int(p.largest.Load()),
		LastDirect:  p.sw.instant(p.lastDirect.Load()),
		LastRelayed: p.sw.instant(p.lastRelayed.Load()),
	}
}
