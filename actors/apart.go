package actors

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// apart is the most by which [Apart] lengthens a pause.
const apart = 1 << 16 * time.Nanosecond

// Apart lengthens a pause by less than 0.1 milliseconds at random. Timers that
// were set at the same instant, such as the arrival of a packet, then do not fire
// at the same instant, in which their order would be anybody's: QUIC's own, and
// those of other actors, last a round number of milliseconds, too. On the clock of
// package sim they would all the time.
func Apart(d time.Duration) time.Duration { return d + time.Duration(random()*float64(apart)) }

// random returns a number in [0, 1). It comes from crypto/rand, which a simulation
// can seed.
func random() float64 {
	const bits = 53 // of a float64's fraction
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return float64(binary.LittleEndian.Uint64(b[:])>>(64-bits)) / (1 << bits)
}
