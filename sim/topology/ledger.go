package topology

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"sync"
	"time"
)

// message is what is in front of each message of traffic: its sum, life, number and
// when it was sent. The rest is filling.
const (
	sumAt    = 0
	lifeAt   = 4
	numberAt = 8
	sentAt   = 16
	headerIs = 24 // less than minMessage
)

// compose makes a message of a size. A life is one attempt of a transfer.
func compose(buffer []byte, life uint32, number uint64, sent time.Duration) {
	binary.BigEndian.PutUint32(buffer[lifeAt:], life)
	binary.BigEndian.PutUint64(buffer[numberAt:], number)
	binary.BigEndian.PutUint64(buffer[sentAt:], uint64(sent))
	if len(buffer) > headerIs {
		buffer[len(buffer)-1] = byte(number) // a message that was cut or taken for another is noticed
	}
	binary.BigEndian.PutUint32(buffer[sumAt:], crc32.ChecksumIEEE(buffer[lifeAt:]))
}

// parsed is what a message says.
type parsed struct {
	life   uint32
	number uint64
	sent   time.Duration
}

// parse reads a message, and tells whether it is what was sent.
func parse(buffer []byte) (parsed, bool) {
	if len(buffer) < headerIs || binary.BigEndian.Uint32(buffer[sumAt:]) != crc32.ChecksumIEEE(buffer[lifeAt:]) {
		return parsed{}, false
	}
	return parsed{
		binary.BigEndian.Uint32(buffer[lifeAt:]), binary.BigEndian.Uint64(buffer[numberAt:]),
		time.Duration(binary.BigEndian.Uint64(buffer[sentAt:])),
	}, true
}

// ledger keeps what a pair sent and received in one direction. Both sides write to
// it; in a simulation they share a clock.
type ledger struct {
	mu sync.Mutex
	counts
	next    uint64
	seen    []uint64 // a bit for each number that arrived
	highest uint64   // number that arrived, plus one
	first   time.Duration
	last    time.Duration // when the last new message arrived, or the first was sent
	begun   bool
}

// counts are what a ledger counts.
type counts struct {
	Sent      int64 `json:"sent"`
	Received  int64 `json:"received"` // each once
	Repeated  int64 `json:"repeated"`
	Reordered int64 `json:"reordered"`
	Damaged   int64 `json:"damaged"`
	Bytes     int64 `json:"bytes"` // received
	// Gap is the longest time between two messages that arrived.
	Gap time.Duration `json:"longest_gap"`
}

// number takes the number of the next message.
func (l *ledger) number(now time.Duration) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.begun, l.first, l.last = true, now, now
	}
	number := l.next
	l.next++
	l.Sent++
	return number
}

// unsent takes the last number back: nothing of its message was sent.
func (l *ledger) unsent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next--
	l.Sent--
}

// again forgets what arrived, because all is sent again.
func (l *ledger) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = counts{Gap: l.Gap, Damaged: l.Damaged, Repeated: l.Repeated, Reordered: l.Reordered}
	l.next, l.highest, l.seen = 0, 0, nil
}

// arrived notes a message. It tells whether it is new.
func (l *ledger) arrived(number uint64, size int, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number >= l.next { // never sent
		l.Damaged++
		return false
	}
	word, bit := number/64, uint64(1)<<(number%64)
	for uint64(len(l.seen)) <= word {
		l.seen = append(l.seen, 0)
	}
	if l.seen[word]&bit != 0 {
		l.Repeated++
		return false
	}
	l.seen[word] |= bit
	if number < l.highest {
		l.Reordered++
	}
	l.highest = max(l.highest, number+1)
	l.Received++
	l.Bytes += int64(size)
	l.Gap = max(l.Gap, now-l.last)
	l.last = now
	return true
}

func (l *ledger) damage() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Damaged++
}

// end counts the time in which nothing more came although something was missing.
func (l *ledger) end(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Received < l.Sent {
		l.Gap = max(l.Gap, now-l.last)
	}
}

// read returns the counters of now, and the bytes per second from the first
// message sent to the last that arrived.
func (l *ledger) read() (counts, float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last <= l.first {
		return l.counts, 0
	}
	return l.counts, float64(l.Bytes) / (l.last - l.first).Seconds()
}

// histogram counts durations in classes 1.6 % wide.
type histogram struct {
	mu      sync.Mutex
	classes [classes]int64
	total   int64
}

const (
	classBits = 6
	classes   = (64 - classBits) << classBits
)

func class(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<classBits {
		return int(n)
	}
	exponent := bits.Len64(n) - classBits - 1
	return exponent<<classBits + int(n>>exponent)
}

// most is the largest duration of a class.
func most(class int) time.Duration {
	if class < 2<<classBits {
		return time.Duration(class)
	}
	exponent := class>>classBits - 1
	return time.Duration((uint64(class)-uint64(exponent)<<classBits+1)<<exponent - 1)
}

func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.classes[min(class(d), classes-1)]++
	h.total++
}

// quantile returns the duration that a part of those counted are not longer than.
func (h *histogram) quantile(part float64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	rank := int64(part * float64(h.total))
	for i, count := range h.classes {
		if rank -= count; rank < 0 {
			return most(i)
		}
	}
	if h.total == 0 {
		return 0
	}
	return most(classes - 1)
}

func (h *histogram) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}
