package sim

import "encoding/binary"

// tcpHeader is the size in bytes of a TCP header without options.
const tcpHeader = 20

// Flags of a TCP segment (RFC 9293 section 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	_
	tcpACK
)

// windowShift is by how much windows are scaled, as if both had agreed on it (RFC 7323 section 2).
const windowShift = 8

// tcpSegment is what a TCP segment says. Its ports are in the addresses of the datagram.
type tcpSegment struct {
	flags    byte
	seq, ack uint32
	window   int // bytes that the sender takes beyond ack
	data     []byte
}

// append appends the header, with a checksum and without ports, and the data.
func (s tcpSegment) append(to []byte) []byte {
	start := len(to)
	to = append(to, 0, 0, 0, 0)
	to = binary.BigEndian.AppendUint32(to, s.seq)
	to = binary.BigEndian.AppendUint32(to, s.ack)
	to = append(to, tcpHeader/4<<4, s.flags)
	to = binary.BigEndian.AppendUint16(to, uint16(s.window>>windowShift))
	to = append(to, 0, 0, 0, 0)
	to = append(to, s.data...)
	binary.BigEndian.PutUint16(to[start+checksumFieldTCP:], ^fold(0, to[start:]))
	return to
}

// parseSegment reads what append wrote. It fails if that was damaged.
func parseSegment(payload []byte) (s tcpSegment, ok bool) {
	if len(payload) < tcpHeader || fold(0, payload) != 0xFFFF {
		return s, false
	}
	return tcpSegment{
		flags: payload[13], seq: binary.BigEndian.Uint32(payload[4:]), ack: binary.BigEndian.Uint32(payload[8:]),
		window: int(binary.BigEndian.Uint16(payload[14:])) << windowShift, data: payload[tcpHeader:],
	}, true
}

// length is how much of the sequence a segment takes.
func (s tcpSegment) length() int {
	n := len(s.data)
	if s.flags&tcpSYN != 0 {
		n++
	}
	if s.flags&tcpFIN != 0 {
		n++
	}
	return n
}
