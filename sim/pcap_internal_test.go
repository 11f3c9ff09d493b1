package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// captureFile is what a capture says, as read by a reader of the tests' own.
type captureFile struct {
	comment string
	secrets string
	lines   []string
	packets []capturedPacket
}

type capturedPacket struct {
	line     string
	at       time.Duration
	from, to netip.AddrPort
	payload  []byte
	length   int // of the whole payload
	inbound  bool
	comment  string
}

// readCapture reads a pcapng file of one section. It checks all that is redundant
// in it: lengths, and checksums of packets that are whole.
func readCapture(t *testing.T, file string) captureFile {
	t.Helper()
	var f captureFile
	for rest := []byte(file); len(rest) > 0; {
		if len(rest) < 12 {
			t.Fatalf("%d bytes at the end", len(rest))
		}
		kind, size := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
		if size%4 != 0 || int(size) > len(rest) || size < 12 || binary.LittleEndian.Uint32(rest[size-4:]) != size {
			t.Fatalf("block %#x: size %d, of %d bytes; at its end %x", kind, size, len(rest), rest[:min(len(rest), int(size))])
		}
		if first := len(rest) == len(file); first != (kind == 0x0A0D0D0A) {
			t.Fatalf("block %#x comes first: %v", kind, first)
		}
		if err := f.block(kind, rest[8:size-4]); err != nil {
			t.Fatalf("block %#x: %v", kind, err)
		}
		rest = rest[size:]
	}
	return f
}

func (f *captureFile) block(kind uint32, body []byte) error {
	switch kind {
	case 0x0A0D0D0A:
		if want := []byte{0x4D, 0x3C, 0x2B, 0x1A, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}; !bytes.HasPrefix(body, want) {
			return fmt.Errorf("begins with %x", body)
		}
		options, err := readOptions(body[16:])
		f.comment = string(options[1])
		return err
	case 10:
		if len(f.packets) > 0 || string(body[:4]) != "KSLT" {
			return errors.New("secrets after packets, or not TLS")
		}
		f.secrets = string(body[8 : 8+binary.LittleEndian.Uint32(body[4:])])
		return nil
	case 1:
		options, err := readOptions(body[8:])
		if err != nil || binary.LittleEndian.Uint16(body) != 101 || !bytes.Equal(options[9], []byte{9}) {
			return fmt.Errorf("not raw IP in nanoseconds: %v %w", options, err)
		}
		f.lines = append(f.lines, string(options[2]))
		return nil
	case 6:
		return f.packet(body)
	}
	return errors.New("unknown")
}

func (f *captureFile) packet(body []byte) error {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(body[4*i:]) }
	kept, length := int(word(3)), int(word(4))
	options, err := readOptions(body[20+(kept+3)/4*4:])
	if err != nil || kept > length {
		return fmt.Errorf("%d bytes kept of %d, %w", kept, length, err)
	}
	p := capturedPacket{
		line: f.lines[word(0)], at: time.Duration(uint64(word(1))<<32 | uint64(word(2))),
		comment: string(options[1]), inbound: options[2][0]&3 == 1,
	}
	if !p.inbound && options[2][0]&3 != 2 {
		return fmt.Errorf("flags %x", options[2])
	}
	ip := body[20 : 20+kept]
	header, size := 20, 4
	if ip[0]>>4 == 6 {
		header, size = 40, 16
	}
	total, protocol, addresses := int(binary.BigEndian.Uint16(ip[2:])), ip[9], ip[12:20]
	if size == 16 {
		total, protocol, addresses = int(binary.BigEndian.Uint16(ip[4:]))+40, ip[6], ip[8:40]
	} else if ip[0] != 0x45 || sumWords(ip[:20]) != 0xFFFF {
		return fmt.Errorf("IPv4 header %x", ip[:20])
	}
	udp := ip[header:]
	if total != length || protocol != 17 || int(binary.BigEndian.Uint16(udp[4:])) != length-header {
		return fmt.Errorf("protocol %d, length %d of %d", protocol, total, length)
	}
	if kept == length {
		pseudo := append(append([]byte{}, addresses...), 0, 17, udp[4], udp[5])
		if sum := sumWords(append(pseudo, udp...)); sum != 0xFFFF {
			return fmt.Errorf("UDP checksum is wrong: sum %#x", sum)
		}
	}
	from, _ := netip.AddrFromSlice(addresses[:size])
	to, _ := netip.AddrFromSlice(addresses[size:])
	p.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp))
	p.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:]))
	p.payload, p.length = udp[8:], length-header-8
	f.packets = append(f.packets, p)
	return nil
}

// sumWords adds 16-bit words in ones' complement, as in RFC 1071 section 4.1.
func sumWords(data []byte) uint16 {
	if len(data)%2 == 1 {
		data = append(slices.Clip(data), 0)
	}
	var sum uint32
	for ; len(data) > 0; data = data[2:] {
		sum += uint32(data[0])<<8 | uint32(data[1])
		sum = sum&0xFFFF + sum>>16
	}
	return uint16(sum)
}

func readOptions(data []byte) (map[uint16][]byte, error) {
	options := map[uint16][]byte{}
	for len(data) >= 4 {
		code, size := binary.LittleEndian.Uint16(data), int(binary.LittleEndian.Uint16(data[2:]))
		data = data[4:]
		if code == 0 {
			break
		}
		if size > len(data) {
			return nil, fmt.Errorf("option %d of %d bytes, there are %d", code, size, len(data))
		}
		options[code], data = data[:size], data[(size+3)/4*4:]
	}
	if len(data) != 0 {
		return nil, fmt.Errorf("%d bytes after the options", len(data))
	}
	return options, nil
}

// sights are one of each kind.
func sights() []Sight {
	small, large := []byte("odd"), bytes.Repeat([]byte{0x40, 0xFF, 3}, 400)
	shake := append([]byte{0xC0}, large...)
	return []Sight{
		{Line: "alice/eth0", Up: true, At: 1, From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:65535"), Payload: small},
		{Line: "bob/eth0", At: 5*time.Second + 7, From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: large, Fate: Overrun},
		{Line: "alice/eth0", Up: true, At: 6 * time.Hour, From: addrPort("[2001:db8::1]:1"), To: addrPort("[2001:db8::2]:2"), Payload: small, Fate: Filtered},
		{Line: "alice/eth0", At: 7 * time.Hour, From: addrPort("[2001:db8::1]:1"), To: addrPort("[2001:db8::2]:2"), Payload: large},
		{Line: "gateway", Up: true, At: 8 * time.Hour, From: addrPort("[::ffff:10.0.0.3]:3"), To: addrPort("10.0.0.4:4"), Payload: shake},
		{Line: "gateway", At: 9 * time.Hour, From: addrPort("10.0.0.3:3"), To: addrPort("10.0.0.4:4"), Fate: Silent},
		{Line: "gateway", At: 9 * time.Hour, From: addrPort("10.0.0.3:3"), To: addrPort("10.0.0.4:4"), Payload: append([]byte{32, 1, 2, 3, 4}, shake...)},
		{Line: "gateway", At: 9 * time.Hour, From: addrPort("10.0.0.3:3"), To: addrPort("10.0.0.4:4"), Payload: append([]byte{32, 1, 2, 3, 4}, large...)},
		{Line: "gateway", At: 9 * time.Hour, Payload: small},
	}
}

func TestCapture(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		keys := s.trace.keyLog("alice")
		for _, line := range []string{"CLIENT_RANDOM 1 2\n", "CLIENT_RANDOM 3 4\n", "CLIENT_RANDOM 1 2\n"} {
			if n, err := io.WriteString(keys, line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
		}
		for _, sight := range sights() {
			s.trace.packets.see(sight)
		}
		folder := s.written()
		all := readCapture(t, s.read(folder, "packets", "all.pcapng"))
		if want := "CLIENT_RANDOM 1 2\nCLIENT_RANDOM 3 4\n"; all.secrets != want || all.comment != "seed 7" {
			t.Errorf("secrets %q, want %q; comment %q", all.secrets, want, all.comment)
		}
		checkPackets(t, all, sights(), []int{3, packetSnap, 3, packetSnap, 1201, 0, 1206, packetSnap, 3})
		var ofLine []Sight
		for _, sight := range sights() {
			if sight.Line == "alice/eth0" {
				ofLine = append(ofLine, sight)
			}
		}
		one := readCapture(t, s.read(folder, "packets", "alice-eth0.pcapng"))
		checkPackets(t, one, ofLine, []int{3, 3, packetSnap})
		if one.secrets != all.secrets || len(one.lines) != 1 {
			t.Errorf("lines %q, secrets %q", one.lines, one.secrets)
		}
	})
}

// checkPackets compares a capture with what was seen.
func checkPackets(t *testing.T, file captureFile, sights []Sight, kept []int) {
	t.Helper()
	if len(file.packets) != len(sights) {
		t.Fatalf("%d packets, want %d", len(file.packets), len(sights))
	}
	plain := func(a netip.AddrPort) netip.AddrPort {
		if !a.IsValid() {
			return addrPort("[::]:0")
		}
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	for i, sight := range sights {
		got := file.packets[i]
		if got.line != sight.Line || got.at != sight.At || got.from != plain(sight.From) || got.to != plain(sight.To) || got.inbound == sight.Up {
			t.Errorf("packet %d: got %+v, want %+v", i, got, sight)
		}
		if got.length != len(sight.Payload) || !bytes.Equal(got.payload, sight.Payload[:kept[i]]) {
			t.Errorf("packet %d: %d bytes of %d: %x\nwant %d of %d", i, len(got.payload), got.length, got.payload, kept[i], len(sight.Payload))
		}
		if want := sight.Fate.String(); (sight.Fate != Passed) != strings.HasSuffix(got.comment, want) || sight.Fate == Passed && got.comment != "" {
			t.Errorf("packet %d: comment %q, want %q", i, got.comment, want)
		}
	}
}

// TestCaptureChecksumOfPart compares the UDP checksum of a packet of which a part
// was kept with that of the whole one.
func TestCaptureChecksumOfPart(t *testing.T) {
	for _, sight := range sights() {
		var sums [2]uint16
		for i, snap := range []int{1, -1} {
			log := newPacketLog(0, snap)
			log.see(sight)
			log.view().each(func(c *capture) {
				ip := c.appendIP(nil)
				sums[i] = binary.BigEndian.Uint16(ip[len(ip)-len(c.payload)-2:])
			})
		}
		if sums[0] != sums[1] || sums[0] == 0 {
			t.Errorf("%+v: checksum %#x of a part, %#x of the whole", sight, sums[0], sums[1])
		}
	}
}

// TestCaptureChecksumZero holds that a sum of zero is written as the other zero:
// none at all means that the packet has no checksum.
func TestCaptureChecksumZero(t *testing.T) {
	seen := capture{from: addrPort("10.0.0.1:1"), to: addrPort("10.0.0.2:2"), length: 2, payload: make([]byte, 2)}
	ip := seen.appendIP(nil)
	copy(seen.payload, ip[len(ip)-4:len(ip)-2]) // what the sum lacked
	seen.sum = fold(0, seen.payload)
	ip = seen.appendIP(nil)
	if got := binary.BigEndian.Uint16(ip[len(ip)-4:]); got != 0xFFFF {
		t.Errorf("checksum %#x", got)
	}
}

// TestCaptureWriteError holds that the first error of a file ends its writing.
func TestCaptureWriteError(t *testing.T) {
	p := newPcapWriter(brokenWriter{}, "")
	line := p.line("a")
	for range 1000 {
		p.packet(line, &capture{length: 1000, payload: make([]byte, 1000)}, "")
	}
	if err := p.flush(); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("got %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortBuffer }

// TestCaptureTCP holds that a segment has its ports and the checksum of TCP (RFC 9293 section 3.1) in a capture, also if a part was kept.
func TestCaptureTCP(t *testing.T) {
	segment := tcpSegment{flags: tcpACK, seq: 1 << 31, ack: 7, window: 1 << 20, data: bytes.Repeat([]byte{0x40, 0xFF, 3}, 99)}
	for _, ends := range [][2]string{{"10.0.0.1:1", "10.0.0.2:65535"}, {"[2001:db8::1]:443", "[2001:db8::2]:2"}} {
		from, to := addrPort(ends[0]), addrPort(ends[1])
		for _, snap := range []int{-1, 100} {
			log := newPacketLog(0, snap)
			log.see(Sight{Line: "a", From: from, To: to, TCP: true, Payload: segment.append(nil)})
			log.view().each(func(c *capture) {
				ip := c.appendIP(nil)
				tcp := ip[len(ip)-len(c.payload):]
				if got := [2]uint16{binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])}; got != [2]uint16{from.Port(), to.Port()} {
					t.Errorf("ports %d", got)
				}
				whole := append(bytes.Clone(tcp[:tcpHeader]), segment.data...)
				pseudo := append(append(from.Addr().AsSlice(), to.Addr().AsSlice()...), 0, protocolTCP, 0, 0)
				binary.BigEndian.PutUint16(pseudo[len(pseudo)-2:], uint16(len(whole)))
				if got := fold(uint64(fold(0, pseudo)), whole); got != 0xFFFF {
					t.Errorf("%v, %d bytes kept: the sum is %#x", from, len(c.payload), got)
				}
			})
		}
	}
}
