package sim

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/bits"
	"net/netip"
	"time"
)

// Numbers of pcapng files (draft-ietf-opsawg-pcapng-03, sections 3.5 and 4).
const (
	blockHeader  = 0x0A0D0D0A // section header block
	blockLine    = 1          // interface description block
	blockPacket  = 6          // enhanced packet block
	blockSecrets = 10         // decryption secrets block

	optionEnd         = 0
	optionComment     = 1
	optionProgram     = 4 // of a section header
	optionName        = 2 // of an interface
	optionResolution  = 9 // of an interface: 9 is nanoseconds
	optionFlags       = 2 // of a packet
	flagInbound       = 1
	flagOutbound      = 2
	secretsTLS        = 0x544c534b // section 4.7: SSLKEYLOGFILE
	linkRaw           = 101        // LINKTYPE_RAW: begins with an IP header
	protocolTCP       = 6
	protocolUDP       = 17
	hopLimit          = 64
	largestDatagram   = 1<<16 - 1
	notFragment       = 0x4000
	checksumFieldIPv4 = 10 // where it is in the header
	checksumFieldTCP  = 16
)

// pcapWriter writes a packet capture for Wireshark: one section, in which each
// line of a network is an interface. Its clock starts with the network, at the
// epoch: the seconds since 1970 are those that all parts of a trace show.
//
// After an error it writes nothing more (package bufio); flush returns the error.
type pcapWriter struct {
	out   *bufio.Writer
	block []byte // the one being made, without the length at its end
	lines int
}

// newPcapWriter begins a section that secrets, lines and packets may follow.
func newPcapWriter(out io.Writer, comment string) *pcapWriter {
	p := &pcapWriter{out: bufio.NewWriterSize(out, 64<<10)}
	p.begin(blockHeader)
	p.uint32(0x1A2B3C4D) // tells the order of bytes
	p.uint16(1)          // version 1.0
	p.uint16(0)
	p.uint32(0xFFFFFFFF, 0xFFFFFFFF) // length of the section: unknown
	p.option(optionComment, []byte(comment))
	p.option(optionProgram, []byte("conec sim"))
	p.end()
	return p
}

// secrets lets Wireshark decrypt the packets that follow.
func (p *pcapWriter) secrets(keyLog []byte) {
	if len(keyLog) == 0 {
		return
	}
	p.begin(blockSecrets)
	p.uint32(secretsTLS, uint32(len(keyLog)))
	p.bytes(keyLog)
	p.finish() // it has no options
}

// line describes one more interface and returns its number.
func (p *pcapWriter) line(name string) int {
	p.begin(blockLine)
	p.uint16(linkRaw)
	p.uint16(0)
	p.uint32(0) // no limit of what is kept of a packet
	p.option(optionName, []byte(name))
	p.option(optionResolution, []byte{9})
	p.end()
	p.lines++
	return p.lines - 1
}

// packet writes a packet that was seen on a line. The comment may be empty.
func (p *pcapWriter) packet(line int, seen *capture, comment string) {
	at := uint64(seen.at.Nanoseconds())
	p.begin(blockPacket)
	p.uint32(uint32(line), uint32(at>>32), uint32(at))
	sizes := len(p.block)
	p.uint32(0, 0)
	body := len(p.block)
	p.block = seen.appendIP(p.block)
	kept := len(p.block) - body
	binary.LittleEndian.PutUint32(p.block[sizes:], uint32(kept))
	binary.LittleEndian.PutUint32(p.block[sizes+4:], uint32(kept+seen.length-len(seen.payload)))
	p.pad()
	flags := []byte{flagInbound, 0, 0, 0}
	if seen.up {
		flags[0] = flagOutbound
	}
	p.option(optionFlags, flags)
	if comment != "" {
		p.option(optionComment, []byte(comment))
	}
	p.end()
}

// flush writes what is buffered and returns the first error.
func (p *pcapWriter) flush() error { return p.out.Flush() }

// begin starts a block; its length comes in finish.
func (p *pcapWriter) begin(kind uint32) {
	p.block = p.block[:0]
	p.uint32(kind, 0)
}

// end ends the options and the block.
func (p *pcapWriter) end() {
	p.option(optionEnd, nil)
	p.finish()
}

// finish writes the block, with its length before and after it.
func (p *pcapWriter) finish() {
	length := uint32(len(p.block) + 4)
	binary.LittleEndian.PutUint32(p.block[4:], length)
	p.uint32(length)
	_, _ = p.out.Write(p.block) // flush tells of errors
}

func (p *pcapWriter) option(code uint16, value []byte) {
	value = value[:min(len(value), largestDatagram)]
	p.uint16(code)
	p.uint16(uint16(len(value)))
	p.bytes(value)
}

func (p *pcapWriter) bytes(value []byte) {
	p.block = append(p.block, value...)
	p.pad()
}

// pad fills up to a whole number of 32-bit words, as everything in a block is.
func (p *pcapWriter) pad() {
	for len(p.block)%4 != 0 {
		p.block = append(p.block, 0)
	}
}

func (p *pcapWriter) uint16(value uint16) {
	p.block = binary.LittleEndian.AppendUint16(p.block, value)
}

func (p *pcapWriter) uint32(values ...uint32) {
	for _, value := range values {
		p.block = binary.LittleEndian.AppendUint32(p.block, value)
	}
}

// capture is what a trace keeps of a [Sight].
type capture struct {
	line     int // number in the log
	at       time.Duration
	from, to netip.AddrPort
	up       bool
	tcp      bool
	fate     Fate
	length   int    // of the whole payload, in bytes
	payload  []byte // the start of it
	sum      uint16 // Internet checksum of the whole payload, not complemented
}

// appendIP appends the packet as it was on the line: with an IP and a UDP or TCP header,
// and checksums that hold for the whole packet.
func (c *capture) appendIP(to []byte) []byte {
	source, target := c.from.Addr().Unmap(), c.to.Addr().Unmap()
	protocol, header := byte(protocolUDP), overheadUDP
	if c.tcp {
		protocol, header = protocolTCP, 0 // it is in the payload
	}
	length := uint16(min(header+c.length, largestDatagram))
	start := len(to)
	addresses := start + 12
	if source.Is4() && target.Is4() {
		to = append(to, 0x45, 0) // version, length of the header in words; no ECN
		to = binary.BigEndian.AppendUint16(to, uint16(min(20+header+c.length, largestDatagram)))
		to = append(to, 0, 0, notFragment>>8, 0, hopLimit, protocol, 0, 0)
		to = append(to, source.AsSlice()...)
		to = append(to, target.AsSlice()...)
		binary.BigEndian.PutUint16(to[start+checksumFieldIPv4:], ^fold(0, to[start:]))
	} else {
		addresses = start + 8
		source, target := c.from.Addr().As16(), c.to.Addr().As16()
		to = append(to, 0x60, 0, 0, 0)
		to = binary.BigEndian.AppendUint16(to, length)
		to = append(to, protocol, hopLimit)
		to = append(to, source[:]...)
		to = append(to, target[:]...)
	}
	if c.tcp {
		return c.appendTCP(to, length, addresses)
	}
	// RFC 768: the sum is over the addresses, the protocol, the length, the header, the payload.
	sum := fold(uint64(c.sum)+protocolUDP+uint64(length), to[addresses:])
	udp := len(to)
	to = binary.BigEndian.AppendUint16(to, c.from.Port())
	to = binary.BigEndian.AppendUint16(to, c.to.Port())
	to = binary.BigEndian.AppendUint16(to, length)
	check := ^fold(uint64(sum), to[udp:])
	if check == 0 {
		check = 0xFFFF // 0 says that there is none
	}
	to = binary.BigEndian.AppendUint16(to, check)
	return append(to, c.payload...)
}

// appendTCP appends the segment, with its ports. The checksum that it has is over itself without these; RFC 9293 section
// 3.1 has it over them, the addresses, the protocol and the length, too.
func (c *capture) appendTCP(to []byte, length uint16, addresses int) []byte {
	sum := fold(protocolTCP+uint64(length)+uint64(c.from.Port())+uint64(c.to.Port()), to[addresses:])
	tcp := len(to)
	to = append(to, c.payload...)
	if len(c.payload) >= tcpHeader {
		binary.BigEndian.PutUint16(to[tcp:], c.from.Port())
		binary.BigEndian.PutUint16(to[tcp+2:], c.to.Port())
		check := to[tcp+checksumFieldTCP:]
		binary.BigEndian.PutUint16(check, ^fold(uint64(sum)+uint64(^binary.BigEndian.Uint16(check)), nil))
	}
	return to
}

// fold adds 16-bit words in ones' complement (RFC 1071), eight bytes at a time and
// four times in a row, which keeps the carry in the processor's flags.
func fold(sum uint64, data []byte) uint16 {
	var carry uint64
	for ; len(data) >= 32; data = data[32:] {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(data), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(data[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(data[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(data[24:]), carry)
	}
	for len(data) > 0 {
		var word [8]byte
		data = data[copy(word[:], data):]
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(word[:]), carry)
	}
	sum, carry = bits.Add64(sum, carry, 0)
	sum += carry
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return uint16(sum)
}
