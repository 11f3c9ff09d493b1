package netio

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/net/ipv4"
)

// arrival is a batch on its way from a link to QUIC.
type arrival struct {
	Batch
	link Link
	at   time.Duration // since the start of the switch
	off  int           // bytes dealt with

	// What the last relay or direct header, and the raw source, turned out to be: most packets of a batch are alike.
	header     [headerSize]byte
	port       *Port
	reason     dropReason
	rawKnown   bool
	raw        *net.UDPAddr // nil: not allowed
	keep, used int          // packets for QUIC, packets in all
}

// arrived deals with all that is not for QUIC and reports whether anything is left. It runs where the link is read.
func (s *Switch) arrived(a *arrival, link Link) bool {
	*a = arrival{Batch: a.Batch, link: link, at: time.Since(s.start)}
	if a.Segment <= 0 {
		a.Segment = max(a.N, 1)
	}
	for off := 0; off < a.N; {
		end := min(off+a.Segment, a.N)
		a.used++
		switch kind, _ := splitType(a.Buf[off]); {
		case kind >= typeQUIC, kind == typeDirect, kind == typeRelay && s.cfg.Relay == nil:
			a.keep++
		case kind == typeRelay:
			end = s.forward(a, off)
		default:
			s.drops.add(s.control(a, a.Buf[off:end]), 1)
			a.Buf[off] = typeDone
		}
		off = end
	}
	s.in.add(a.used, a.N)
	return a.keep > 0
}

// forward gives the run of packets that starts at off and has one route to the relay. It returns the end of the run.
func (s *Switch) forward(a *arrival, off int) (end int) {
	end = min(off+a.Segment, a.N)
	if end-off >= headerSize {
		header := [headerSize]byte(a.Buf[off:])
		for a.N-end >= headerSize && [headerSize]byte(a.Buf[end:]) == header {
			end = min(end+a.Segment, a.N)
			a.used++
		}
	}
	s.cfg.Relay.forward(s, a, a.Buf[off:end])
	for i := off; i < end; i += a.Segment {
		a.Buf[i] = typeDone
	}
	return end
}

// control deals with one frame that is neither QUIC nor carries it.
func (s *Switch) control(a *arrival, frame []byte) dropReason {
	switch frame[0] {
	case typeBind, typeAsk:
		if s.cfg.Relay == nil {
			return dropUnknownType
		}
		return s.cfg.Relay.bind(s, a, frame)
	case typeBound:
		return s.bound(a, frame)
	case typeWho:
		return s.who(a, frame)
	case typeProbe:
		if len(frame) < MinProbe {
			return dropMalformed
		}
		port, ok := s.ports.get(uint64(binary.BigEndian.Uint32(frame[1:])))
		if !ok {
			return dropUnknown
		}
		return port.probed(frame, a.From, a.Local, a.link)
	}
	return dropUnknownType
}

func (s *Switch) bound(a *arrival, frame []byte) dropReason {
	if !s.isAllowed(a.From) {
		return dropUnproven
	}
	if len(frame) < bindSize {
		return dropMalformed
	}
	size := len(frame)
	frame = frame[:bindSize] // the answer to an ask is padded, as that was
	id, _ := bindNumbers(frame)
	state, ok := s.bounds.get(id)
	if !ok {
		return dropUnknown
	}
	b, err := parseBound(frame, state.key)
	if err != nil {
		return dropMAC
	}
	state.mu.Lock()
	fresh := b.Sequence > state.last
	if fresh {
		state.last = b.Sequence
	}
	state.mu.Unlock()
	if !fresh {
		return dropReplay
	}
	if s.cfg.OnBound != nil {
		b.Size = size
		s.cfg.OnBound(b, a.link, a.From)
	}
	return dropNone
}

// who passes on that the coordinator does not know us.
func (s *Switch) who(a *arrival, frame []byte) dropReason {
	if !s.isAllowed(a.From) {
		return dropUnproven
	}
	if len(frame) < bindSize {
		return dropMalformed
	}
	id, sequence := bindNumbers(frame)
	if _, ok := s.bounds.get(id); !ok {
		return dropUnknown
	}
	if s.cfg.OnUnknown != nil {
		s.cfg.OnUnknown(id, sequence)
	}
	return dropNone
}

// fill copies packets of the current batch to quic-go's buffers.
func (s *Switch) fill(ms []ipv4.Message) (n int) {
	a := s.now
	var r packetRun
	var raw int
	for n < len(ms) && a.off < a.N {
		segment := a.Buf[a.off:min(a.off+a.Segment, a.N)]
		a.off += len(segment)
		if segment[0] == typeDone {
			continue
		}
		m := &ms[n]
		var data []byte
		if segment[0] >= typeQUIC {
			addr := s.rawAddr(a)
			if addr == nil {
				s.drops.add(dropUnproven, 1)
				continue
			}
			m.Addr, data = addr, segment
			raw = max(raw, len(segment))
		} else {
			p, reason := s.portFor(a, segment)
			if reason != dropNone {
				s.drops.add(reason, 1)
				continue
			}
			kind, mark := splitType(segment[0])
			m.Addr, data = p.addrs[mark], segment[headerSize:]
			if direct := kind == typeDirect; p != r.port || direct != r.direct || mark != r.mark {
				r.end(a.at)
				r = packetRun{port: p, direct: direct, mark: mark}
			}
			r.add(len(data))
		}
		m.N = copy(m.Buffers[0], data)
		m.NN = copy(m.OOB, s.ecn[a.ECN&ecnMask])
		m.Flags = 0
		n++
	}
	r.end(a.at)
	if int64(raw) > s.largestRaw.Load() {
		s.largestRaw.Store(int64(raw))
	}
	return n
}

// packetRun is packets of one port that came together and alike.
type packetRun struct {
	port                    *Port // nil: there are none
	direct                  bool
	mark                    int
	packets, bytes, largest int
	moved                   bool // QUIC has moved to the address that it marks
}

func (r *packetRun) add(size int) {
	r.packets++
	r.bytes += size
	r.largest = max(r.largest, size)
	r.moved = r.moved || size != validatingSize
}

func (r *packetRun) end(at time.Duration) {
	if r.port != nil {
		r.port.received(r, at)
	}
}

// portFor is the port that a relay or direct packet is for, if it may come from where it did.
func (s *Switch) portFor(a *arrival, segment []byte) (*Port, dropReason) {
	if len(segment) <= headerSize {
		return nil, dropMalformed
	}
	if segment[headerSize] < typeQUIC {
		return nil, dropUnknownType
	}
	if header := [headerSize]byte(segment); header != a.header {
		a.header = header
		kind, _ := splitType(segment[0])
		a.port, a.reason = s.lookup(a, kind, binary.BigEndian.Uint32(segment[1:]))
	}
	return a.port, a.reason
}

func (s *Switch) lookup(a *arrival, kind byte, number uint32) (*Port, dropReason) {
	if kind == typeRelay {
		if !s.isAllowed(a.From) {
			return nil, dropUnproven
		}
		p, ok := s.routes.get(uint64(number))
		if !ok {
			return nil, dropUnknown
		}
		return p, dropNone
	}
	p, ok := s.ports.get(uint64(number))
	if !ok {
		return nil, dropUnknown
	}
	if !p.allowed(a.link, a.From) {
		return nil, dropUnproven
	}
	return p, dropNone
}
