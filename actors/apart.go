package actors

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// apart is the most by which [Apart] lengthens a pause, about a millisecond.
const apart = 1 << 20

// Apart sets timers that fire up to a millisecond late, at random. Timers that were
// set at the same instant, such as the arrival of a packet, then do not fire at the
// same instant, in which their order would be anybody's: QUIC's own and those of
// other actors last a round number of milliseconds, too. On a simulated clock they
// would meet all the time.
//
// The zero value is ready. It belongs to one actor: a source that is shared would
// make what one draws depend on when the others do.
type Apart struct{ state uint64 }

// AfterFunc is [time.AfterFunc] after a pause of d, or a little more.
func (a *Apart) AfterFunc(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d+a.Pause(), f)
}

// Pause returns how much more, for what else sets timers: the beginning of a connection.
func (a *Apart) Pause() time.Duration {
	if a.state == 0 {
		a.state = random64()
	}
	// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
	a.state += 0x9e3779b97f4a7c15
	z := a.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return time.Duration(z % apart)
}

// random returns a number in [0, 1).
func random() float64 {
	const bits = 53 // of a float64's fraction
	return float64(random64()>>(64-bits)) / (1 << bits)
}

// random64 comes from crypto/rand, which a simulation can seed.
func random64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}
