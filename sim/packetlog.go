package sim

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// Sizes in bytes of a [packetLog].
const (
	packetChunk   = 256 << 10
	packetLimit   = 64 << 20 // default
	packetSnap    = 200      // default; holds every header, ack and control message that is not large
	captureHeader = 28       // in front of the addresses and the payload
)

// Bits of a capture's flags.
const (
	captureUp = 1 << iota
	captureIPv6
	captureTCP
)

// packetLog keeps the last packets that were seen on the lines of a network, in
// memory of a fixed limit. It fills one chunk after the other, and then the oldest
// again. It is written to for every packet, with the network locked.
type packetLog struct {
	limit int // in chunks
	snap  int // what is kept of a packet, in bytes; all of it if negative

	mu      sync.Mutex
	numbers map[string]uint32 // of lines
	names   []string
	chunks  []packetPart // oldest first
	seen    int
	dropped int
}

// packetPart is a chunk of a log.
type packetPart struct {
	data   []byte
	count  int
	shared bool // a copy of the log has it too: it must not be filled again
}

func newPacketLog(limit, snap int) *packetLog {
	if limit == 0 {
		limit = packetLimit
	}
	if snap == 0 {
		snap = packetSnap
	}
	return &packetLog{limit: max(limit/packetChunk, 2), snap: snap, numbers: map[string]uint32{}}
}

// see keeps a packet.
func (l *packetLog) see(s Sight) {
	payload := s.Payload[:l.keep(s.Payload)]
	var sum uint16
	if len(payload) < len(s.Payload) { // else it can be had later
		sum = fold(0, s.Payload)
	}
	source, target := s.From.Addr().Unmap(), s.To.Addr().Unmap()
	short := source.Is4() && target.Is4()
	size := captureHeader + 8 + len(payload)
	var flags byte
	if !short {
		flags |= captureIPv6
		size += 24
	}
	if s.Up {
		flags |= captureUp
	}
	if s.TCP {
		flags |= captureTCP
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	number, ok := l.numbers[s.Line]
	if !ok {
		number = uint32(len(l.names))
		l.numbers[s.Line], l.names = number, append(l.names, s.Line)
	}
	to := l.room(size)
	binary.LittleEndian.PutUint64(to, uint64(s.At))
	binary.LittleEndian.PutUint32(to[8:], number)
	binary.LittleEndian.PutUint32(to[12:], uint32(len(s.Payload)))
	binary.LittleEndian.PutUint32(to[16:], uint32(len(payload)))
	binary.LittleEndian.PutUint16(to[20:], sum)
	binary.LittleEndian.PutUint16(to[22:], s.From.Port())
	binary.LittleEndian.PutUint16(to[24:], s.To.Port())
	to[26], to[27] = flags, byte(s.Fate)
	to = to[captureHeader:]
	if short {
		from, target := source.As4(), target.As4()
		copy(to, from[:])
		copy(to[4:], target[:])
		to = to[8:]
	} else {
		from, target := s.From.Addr().As16(), s.To.Addr().As16()
		copy(to, from[:])
		copy(to[16:], target[:])
		to = to[32:]
	}
	copy(to, payload)
}

// keep says how much of a payload is kept. Handshakes are kept as they are: who
// has the keys cannot decrypt a part of a packet, and without these nothing that
// comes after them.
func (l *packetLog) keep(payload []byte) int {
	const (
		long          = 0x80   // of a QUIC packet's first byte (RFC 9000 section 17.2)
		relay, direct = 32, 33 // first bytes of frames around a QUIC packet (docs/protocol.md)
		header        = 5      // of those frames
	)
	switch {
	case l.snap < 0 || len(payload) <= l.snap:
		return len(payload)
	case payload[0] >= long:
		return len(payload)
	case (payload[0] == relay || payload[0] == direct) && len(payload) > header && payload[header] >= long:
		return len(payload)
	}
	return l.snap
}

// room makes room for size bytes at the end of the newest chunk.
func (l *packetLog) room(size int) []byte {
	l.seen++
	if last := len(l.chunks) - 1; last < 0 || cap(l.chunks[last].data)-len(l.chunks[last].data) < size {
		l.rotate()
	}
	chunk := &l.chunks[len(l.chunks)-1]
	chunk.count++
	start := len(chunk.data)
	chunk.data = chunk.data[:start+size]
	return chunk.data[start:]
}

// rotate begins a chunk, the oldest one if there are enough.
func (l *packetLog) rotate() {
	var next packetPart
	if len(l.chunks) == l.limit {
		next = l.chunks[0]
		l.dropped += next.count
		l.chunks = append(l.chunks[:0], l.chunks[1:]...)
	}
	if next.data == nil || next.shared {
		next.data = make([]byte, 0, packetChunk)
	}
	l.chunks = append(l.chunks, packetPart{data: next.data[:0]})
}

// packetView is a copy of a log that no longer changes.
type packetView struct {
	names         []string
	seen, dropped int
	chunks        []packetPart
}

// view copies the log, but not its packets.
func (l *packetLog) view() packetView {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.chunks {
		l.chunks[i].shared = true
	}
	return packetView{
		names: append([]string(nil), l.names...), seen: l.seen, dropped: l.dropped,
		chunks: append([]packetPart(nil), l.chunks...),
	}
}

// each calls f with every packet, oldest first. The capture is only valid during
// the call.
func (v packetView) each(f func(c *capture)) {
	var c capture
	for _, chunk := range v.chunks {
		for data := chunk.data; len(data) > 0; {
			data = c.parse(data)
			f(&c)
		}
	}
}

// parse reads what see wrote, and returns what follows.
func (c *capture) parse(data []byte) []byte {
	c.at = time.Duration(binary.LittleEndian.Uint64(data))
	c.line = int(binary.LittleEndian.Uint32(data[8:]))
	c.length = int(binary.LittleEndian.Uint32(data[12:]))
	kept := int(binary.LittleEndian.Uint32(data[16:]))
	c.sum = binary.LittleEndian.Uint16(data[20:])
	source, target := binary.LittleEndian.Uint16(data[22:]), binary.LittleEndian.Uint16(data[24:])
	c.tcp = data[26]&captureTCP != 0
	c.up, c.fate = data[26]&captureUp != 0, Fate(data[27])
	size := 4
	if data[26]&captureIPv6 != 0 {
		size = 16
	}
	data = data[captureHeader:]
	from, _ := netip.AddrFromSlice(data[:size])
	to, _ := netip.AddrFromSlice(data[size : 2*size])
	c.from, c.to = netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, target)
	c.payload = data[2*size : 2*size+kept]
	if kept == c.length {
		c.sum = fold(0, c.payload)
	}
	return data[2*size+kept:]
}
