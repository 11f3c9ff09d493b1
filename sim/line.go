package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Sizes in bytes of the headers of a datagram.
const (
	overheadUDP = 8
	overhead4   = 20 + overheadUDP // IPv4 and UDP
	overhead6   = 40 + overheadUDP // IPv6 and UDP
)

// Line is what connects an interface of a host, or the outside of a gateway, with
// the place where it is plugged in. It is the same in both directions, unless Down
// says otherwise; each direction has its own queue and random source.
type Line struct {
	// Latency is how long a packet takes, after the time that its bytes take; up to
	// 4.1 microseconds more, so that not everything happens at the same instant.
	Latency time.Duration
	// Jitter is the most that a packet takes longer, evenly distributed. Packets
	// do not overtake each other because of it; see Reorder.
	Jitter time.Duration
	// Rate is how many bytes pass per second, headers counted. If zero, any number.
	Rate int64
	// Queue is how many bytes may wait where Rate is set; packets that find it
	// full are lost, but for one that finds the line idle. If zero, 100
	// milliseconds' worth, at least 16 KiB.
	Queue int
	// MTU is the size in bytes of the largest packet, IP and UDP headers counted
	// (28 bytes, or 48 with IPv6). If zero, 1500.
	MTU int

	// Loss is the fraction of packets that are lost, from 0 to 1.
	Loss float64
	// Burst loses packets in a row, too.
	Burst *Burst
	// Reorder is the fraction of packets that later ones overtake, because they
	// take ReorderBy longer. If that is zero, 10 milliseconds.
	Reorder   float64
	ReorderBy time.Duration
	// Duplicate is the fraction of packets that come twice, the second time up to
	// a millisecond later.
	Duplicate float64
	// Corrupt is the fraction of packets in which one bit arrives wrong.
	Corrupt float64

	// Down is the direction towards the host or gateway, where it differs.
	Down *Line
}

// Burst is the loss model of Gilbert and Elliott: a line that is good or bad.
type Burst struct {
	// Enter and Leave are the probabilities, at each packet, that a good line
	// turns bad and a bad one good.
	Enter, Leave float64
	// Loss is the fraction of packets that a bad line loses. If zero, all.
	Loss float64
}

// Validate reports everything that is wrong with a line.
func (l Line) Validate() error {
	var errs []error
	for _, field := range []struct {
		name  string
		value float64
	}{
		{"Loss", l.Loss},
		{"Reorder", l.Reorder},
		{"Duplicate", l.Duplicate},
		{"Corrupt", l.Corrupt},
	} {
		errs = append(errs, checkFraction(field.name, field.value))
	}
	if l.Burst != nil {
		errs = append(errs, checkFraction("Burst.Enter", l.Burst.Enter), checkFraction("Burst.Leave", l.Burst.Leave),
			checkFraction("Burst.Loss", l.Burst.Loss))
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Latency", int64(l.Latency)},
		{"Jitter", int64(l.Jitter)},
		{"ReorderBy", int64(l.ReorderBy)},
		{"Rate", l.Rate},
		{"Queue", int64(l.Queue)},
	} {
		if field.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d: want 0 or more", field.name, field.value))
		}
	}
	if l.MTU != 0 && l.MTU < 576 {
		errs = append(errs, fmt.Errorf("MTU is %d: want 0 for 1500, or at least 576", l.MTU))
	}
	if l.Down != nil {
		if l.Down.Down != nil {
			errs = append(errs, errors.New("Down.Down is set: a line has two directions"))
		}
		down := *l.Down
		down.Down = nil
		if err := down.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("down: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkFraction(name string, value float64) error {
	if value >= 0 && value <= 1 {
		return nil
	}
	return fmt.Errorf("%s is %v: want a fraction from 0 to 1", name, value)
}

func (l Line) withDefaults() Line {
	if l.Queue == 0 {
		l.Queue = max(int(l.Rate/10), 16<<10)
	}
	if l.MTU == 0 {
		l.MTU = 1500
	}
	if l.ReorderBy == 0 {
		l.ReorderBy = 10 * time.Millisecond
	}
	if l.Burst != nil && l.Burst.Loss == 0 {
		l.Burst = &Burst{Enter: l.Burst.Enter, Leave: l.Burst.Leave, Loss: 1}
	}
	return l
}

// grain is how much in nanoseconds the latency of a packet varies in any case. It
// keeps packets from arriving at the very instant at which a timer fires that was
// set when they were sent: what happens at the same instant has no order.
const grain = 1 << 12

// pipe is one direction of a line.
type pipe struct {
	line   Line
	random *rand.Rand
	busy   time.Duration // until when bytes that were taken keep it busy, since the network's start
	last   time.Duration // when the last packet in order comes out
	bad    bool          // a burst of losses is on
}

// newPipe makes a direction whose decisions follow from the seed and its name.
func newPipe(seed uint64, name string) *pipe {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name)) // never fails (hash.Hash)
	return &pipe{random: rand.New(rand.NewPCG(seed, hash.Sum64()))}
}

// passage is what a pipe does with a packet.
type passage struct {
	fate    Fate
	delay   time.Duration
	again   time.Duration // delay of a second copy, if not zero
	corrupt bool
}

// carry takes a packet of that size, headers counted, at now.
func (p *pipe) carry(now time.Duration, size int) passage {
	line := &p.line
	if size > line.MTU {
		return passage{fate: TooLarge}
	}
	out := now
	if line.Rate > 0 {
		p.busy = max(p.busy, now)
		if queued := (p.busy - now).Seconds() * float64(line.Rate); queued > 0 && queued+float64(size) > float64(line.Queue) {
			return passage{fate: Overrun}
		}
		p.busy += time.Duration(float64(size) / float64(line.Rate) * float64(time.Second))
		out = p.busy
	}
	if p.loses() {
		return passage{fate: Lost}
	}
	if line.Latency > 0 {
		out += line.Latency + time.Duration(p.random.Int64N(grain))
	}
	if line.Jitter > 0 {
		out += time.Duration(p.random.Int64N(int64(line.Jitter) + 1))
	}
	switch {
	case line.Reorder > 0 && p.random.Float64() < line.Reorder:
		out += line.ReorderBy
	default:
		p.last = max(p.last, out)
		out = p.last
	}
	result := passage{delay: out - now}
	if line.Duplicate > 0 && p.random.Float64() < line.Duplicate {
		result.again = result.delay + 1 + time.Duration(p.random.Int64N(int64(time.Millisecond)))
	}
	result.corrupt = line.Corrupt > 0 && p.random.Float64() < line.Corrupt
	return result
}

// loses decides about one packet.
func (p *pipe) loses() bool {
	if burst := p.line.Burst; burst != nil {
		switch {
		case p.bad:
			p.bad = p.random.Float64() >= burst.Leave
		default:
			p.bad = p.random.Float64() < burst.Enter
		}
		if p.bad && p.random.Float64() < burst.Loss {
			return true
		}
	}
	return p.line.Loss > 0 && p.random.Float64() < p.line.Loss
}

// damage turns one bit over.
func (p *pipe) damage(payload []byte) {
	if len(payload) > 0 {
		bit := p.random.IntN(8 * len(payload))
		payload[bit/8] ^= 1 << (bit % 8)
	}
}
