package netio

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// The first byte of a datagram says what it is. QUIC has 64 and above (RFC 9000 section 17), STUN 0–3; ours lie between.
const (
	typeRelay  = 32 // [32][route 4][QUIC packet]: client → coordinator → client
	typeDirect = 33 // [33][tag 4][QUIC packet]: client → client
	typeBind   = 34 // client → coordinator
	typeBound  = 35 // coordinator → client
	typeProbe  = 36 // client → client
	typeAsk    = 37 // client → coordinator, answered by a bound
	typeWho    = 38 // coordinator → client: it does not know the client of a bind or ask
	typeQUIC   = 64 // this and above: a bare QUIC packet
	typeStep   = 8  // times the mark is added to the type of a relay or direct datagram, see epochs
	typeDone   = 0  // written over the first byte of a datagram that has been dealt with

	headerSize = 5  // of relay and direct datagrams
	macSize    = 16 // HMAC-SHA256, truncated
	addrSize   = 18 // an address as 16 bytes and a port as 2
	ecnMask    = 3
)

// Errors of the decoders of bind, bound and probe frames.
var (
	// ErrMalformed means that a frame has the wrong type, size or content.
	ErrMalformed = errors.New("malformed frame")
	// ErrMAC means that a frame was not made with the key it was checked with.
	ErrMAC = errors.New("wrong message authentication code")
)

// splitType takes the first byte of a datagram apart: its type, and the mark of a relay or direct datagram.
func splitType(first byte) (kind byte, mark int) {
	const mask = 3 * typeStep
	kind, mark = first&^mask, int(first&mask/typeStep)
	if kind != typeRelay && kind != typeDirect || mark >= marks {
		return first, 0
	}
	return kind, mark
}

// putHeaders writes a header for each mark.
func putHeaders(b *[marks][headerSize]byte, kind byte, number uint32) {
	for mark := range b {
		putHeader(b[mark][:], kind+byte(mark*typeStep), number)
	}
}

// putHeader writes the header of a relay or direct datagram.
func putHeader(b []byte, kind byte, number uint32) {
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], number)
}

// appendAddr encodes an address; an invalid one as zeros.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	if !a.Addr().IsValid() {
		return append(b, make([]byte, addrSize)...)
	}
	ip := a.Addr().As16()
	b = append(b, ip[:]...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// parseAddr decodes what appendAddr wrote; b holds at least addrSize bytes.
func parseAddr(b []byte) netip.AddrPort {
	if [addrSize]byte(b) == ([addrSize]byte{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:addrSize]))
}

// macKey computes HMAC-SHA256 (RFC 2104) over short messages without allocating: anybody may send us frames to check.
type macKey struct{ inner, outer [sha256.BlockSize]byte }

// newMACKey derives the key for one purpose, so that no frame can be taken for another kind or for the other direction.
func newMACKey(secret [32]byte, purpose string) *macKey {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte(purpose))
	return rawMACKey([32]byte(h.Sum(nil)))
}

func rawMACKey(key [32]byte) *macKey {
	k := &macKey{}
	copy(k.inner[:], key[:])
	copy(k.outer[:], key[:])
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

// sum authenticates msg, of at most 80 bytes.
func (k *macKey) sum(msg []byte) [macSize]byte {
	var b [sha256.BlockSize + 80]byte
	n := copy(b[:], k.inner[:])
	n += copy(b[n:], msg)
	in := sha256.Sum256(b[:n])
	copy(b[:], k.outer[:])
	n = sha256.BlockSize + copy(b[sha256.BlockSize:], in[:])
	out := sha256.Sum256(b[:n])
	return [macSize]byte(out[:])
}

func (k *macKey) valid(msg, mac []byte) bool {
	return equalMAC(k.sum(msg), mac)
}

func equalMAC(want [macSize]byte, got []byte) bool {
	return subtle.ConstantTimeCompare(want[:], got) == 1
}

// table maps numbers to values. Reading takes no lock and allocates nothing; writing copies one shard.
type table[V any] struct {
	mu     sync.Mutex // writers
	size   int
	shards [64]atomic.Pointer[map[uint64]V]
}

func (t *table[V]) get(key uint64) (v V, ok bool) {
	if m := t.shards[key%64].Load(); m != nil {
		v, ok = (*m)[key]
	}
	return v, ok
}

// put adds or replaces an entry. It refuses when that would make more than limit, or when the key is taken and only is set.
func (t *table[V]) put(key uint64, v V, limit int, only bool) (ok, full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := map[uint64]V{}
	if old := t.shards[key%64].Load(); old != nil {
		m = maps.Clone(*old)
	}
	if _, taken := m[key]; !taken {
		if t.size >= limit {
			return false, true
		}
		t.size++
	} else if only {
		return false, false
	}
	m[key] = v
	t.shards[key%64].Store(&m)
	return true, false
}

// remove deletes an entry if match accepts it.
func (t *table[V]) remove(key uint64, match func(V) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.shards[key%64].Load()
	if old == nil {
		return false
	}
	v, ok := (*old)[key]
	if !ok || !match(v) {
		return false
	}
	m := maps.Clone(*old)
	delete(m, key)
	t.size--
	t.shards[key%64].Store(&m)
	return true
}

// each calls f with every entry, in no order.
func (t *table[V]) each(f func(V)) {
	for i := range t.shards {
		if m := t.shards[i].Load(); m != nil {
			for _, v := range *m {
				f(v)
			}
		}
	}
}

func (t *table[V]) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// dropReason is why packets were not passed on.
type dropReason int

const (
	dropNone dropReason = iota
	dropUnknownType
	dropMalformed
	dropUnknown
	dropUnproven
	dropMAC
	dropReplay
	dropNoPath
	dropWrite
	dropFull
	dropTooLarge
	dropRate
	numDrops
)

// Drops counts packets that were not passed on, by reason.
type Drops struct {
	UnknownType uint64 // the first byte means nothing here
	Malformed   uint64
	Unknown     uint64 // no such tag, route or client
	Unproven    uint64 // from a source that may not send this
	BadMAC      uint64
	Replay      uint64
	NoPath      uint64 // nowhere to send it
	WriteError  uint64 // the link did not take it, for another reason than the next two
	Full        uint64 // the link was busy, and this does not wait
	TooLarge    uint64 // larger than the link carries; QUIC looks for the limit and is expected to find it
	RateLimited uint64
}

type drops [numDrops]atomic.Uint64

func (d *drops) add(reason dropReason, packets int) {
	if reason != dropNone {
		d[reason].Add(uint64(packets))
	}
}

func (d *drops) load() Drops {
	return Drops{
		UnknownType: d[dropUnknownType].Load(),
		Malformed:   d[dropMalformed].Load(),
		Unknown:     d[dropUnknown].Load(),
		Unproven:    d[dropUnproven].Load(),
		BadMAC:      d[dropMAC].Load(),
		Replay:      d[dropReplay].Load(),
		NoPath:      d[dropNoPath].Load(),
		WriteError:  d[dropWrite].Load(),
		Full:        d[dropFull].Load(),
		TooLarge:    d[dropTooLarge].Load(),
		RateLimited: d[dropRate].Load(),
	}
}
