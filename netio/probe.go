package netio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A probe asks over one path "do you hear me" (ping) or answers (pong).
//
//	probe = [36][receiver's tag 4][kind 1][sequence 8][transaction 8][observed address 18][MAC 16][zeros to any size]
//
// The MAC covers everything before it and the size of the datagram, so that what has been padded proves the path's MTU.
const (
	// MinProbe is the size in bytes of a probe without padding.
	MinProbe = probeSigned + macSize
	// MaxProbe is the size in bytes of the largest probe.
	MaxProbe = 9000

	probeSigned = 1 + 4 + 1 + 8 + 8 + addrSize
)

// ProbeKind says whether a probe asks or answers.
type ProbeKind uint8

// The kinds of probes.
const (
	Ping ProbeKind = 1
	Pong ProbeKind = 2
)

func (k ProbeKind) String() string {
	switch k {
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return fmt.Sprintf("probe(%d)", uint8(k))
}

// Errors of [Port.SendProbe].
var (
	// ErrNoProbeKeys means that the port has no probe keys yet, or does not know its peer's tag.
	ErrNoProbeKeys = errors.New("no probe keys")
	// ErrProbeSize means that a probe would be smaller than [MinProbe] or larger than [MaxProbe].
	ErrProbeSize = errors.New("probe size out of range")
)

// Probe is a probe that arrived and was authentic and new.
type Probe struct {
	Kind     ProbeKind
	Tx       uint64         // chosen by who sent the ping; the pong has the same
	Size     int            // bytes of the datagram
	Observed netip.AddrPort // in a pong: where the ping came from, as the peer saw it
	From     netip.AddrPort
	Link     Link
	Local    netip.Addr // our address it was sent to, if known
}

// probeFrame is what is on the wire, but for tag and MAC.
type probeFrame struct {
	kind     ProbeKind
	sequence uint64
	tx       uint64
	observed netip.AddrPort
}

// appendProbe appends a frame of size bytes.
func appendProbe(dst []byte, tag uint32, p probeFrame, size int, key *macKey) []byte {
	start := len(dst)
	dst = append(dst, typeProbe)
	dst = binary.BigEndian.AppendUint32(dst, tag)
	dst = append(dst, byte(p.kind))
	dst = binary.BigEndian.AppendUint64(dst, p.sequence)
	dst = binary.BigEndian.AppendUint64(dst, p.tx)
	dst = appendAddr(dst, p.observed)
	mac := probeMAC(dst[start:], size, key)
	dst = append(dst, mac[:]...)
	return append(dst, make([]byte, size-(len(dst)-start))...)
}

// parseProbe checks and decodes a frame. It fails with [ErrMalformed] or [ErrMAC].
func parseProbe(frame []byte, key *macKey) (p probeFrame, err error) {
	if len(frame) < MinProbe || len(frame) > MaxProbe || frame[0] != typeProbe {
		return p, ErrMalformed
	}
	mac := probeMAC(frame[:probeSigned], len(frame), key)
	if !equalMAC(mac, frame[probeSigned:MinProbe]) {
		return p, ErrMAC
	}
	p = probeFrame{
		kind:     ProbeKind(frame[5]),
		sequence: binary.BigEndian.Uint64(frame[6:]),
		tx:       binary.BigEndian.Uint64(frame[14:]),
		observed: parseAddr(frame[22:]),
	}
	if p.kind != Ping && p.kind != Pong {
		return p, ErrMalformed
	}
	return p, nil
}

func probeMAC(signed []byte, size int, key *macKey) [macSize]byte {
	var b [probeSigned + 2]byte
	n := copy(b[:], signed)
	binary.BigEndian.PutUint16(b[n:], uint16(size))
	return key.sum(b[:])
}

// window accepts each number once: any that is larger than all before, and of the 63 below the largest those that are
// new (RFC 4303 section 3.4.3).
type window struct {
	mu   sync.Mutex
	last uint64
	seen uint64 // bit i: last-i was accepted
}

// accept reports whether n is new. Zero never is.
func (w *window) accept(n uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.last {
		w.seen = w.seen<<min(n-w.last, 64) | 1
		w.last = n
		return true
	}
	bit := uint64(1) << (w.last - n) // zero when n is too old
	if n == 0 || bit == 0 || w.seen&bit != 0 {
		return false
	}
	w.seen |= bit
	return true
}

// probing is what a port needs to send and accept probes.
type probing struct {
	send, receive *macKey
	sequence      atomic.Uint64
	window        window
	onProbe       func(Probe)
}

// SetProbeKeys lets the port send and accept probes. The peer has the same keys the other way round; they must differ, so
// that what we sent is not taken for the peer's when it is sent back. Sequences start anew, so keys must not be used
// twice. onProbe is called in the goroutine that reads the link, possibly in several at once, and must be quick.
func (p *Port) SetProbeKeys(send, receive [32]byte, onProbe func(Probe)) {
	p.probing.Store(&probing{
		send:    newMACKey(send, probePurpose),
		receive: newMACKey(receive, probePurpose),
		onProbe: onProbe,
	})
}

const probePurpose = "conec v1 probe"

// SendProbe sends a probe of size bytes over one path, without blocking. Observed is where the ping came from, and is
// not valid in a ping. An error means that it was not sent.
func (p *Port) SendProbe(link Link, to netip.AddrPort, kind ProbeKind, tx uint64, observed netip.AddrPort, size int) error {
	return p.sendProbe(link, to, netip.Addr{}, probeFrame{kind: kind, tx: tx, observed: observed}, size)
}

// AnswerProbe sends the pong to a ping back where it came from, as large as the ping was.
func (p *Port) AnswerProbe(ping Probe) error {
	return p.sendProbe(ping.Link, ping.From, ping.Local, probeFrame{kind: Pong, tx: ping.Tx, observed: ping.From}, ping.Size)
}

func (p *Port) sendProbe(link Link, to netip.AddrPort, local netip.Addr, f probeFrame, size int) error {
	state, tag := p.probing.Load(), p.peerTag.Load()
	if state == nil || tag == 0 {
		return ErrNoProbeKeys
	}
	if size < MinProbe || size > MaxProbe {
		return ErrProbeSize
	}
	f.sequence = state.sequence.Add(1)
	frame := appendProbe(make([]byte, 0, size), tag, f, size, state.send)
	return p.sw.sendPackets(link, to, Packets{Data: frame, Local: local}, false)
}

// probed deals with a probe frame that carries the port's tag.
func (p *Port) probed(frame []byte, from netip.AddrPort, local netip.Addr, link Link) dropReason {
	state := p.probing.Load()
	if state == nil {
		return dropUnknown
	}
	f, err := parseProbe(frame, state.receive)
	switch {
	case errors.Is(err, ErrMAC):
		return dropMAC
	case err != nil:
		return dropMalformed
	case !state.window.accept(f.sequence):
		return dropReplay
	}
	if state.onProbe != nil {
		state.onProbe(Probe{
			Kind: f.kind, Tx: f.tx, Size: len(frame), Observed: f.observed,
			From: from, Link: link, Local: local,
		})
	}
	return dropNone
}
