package netio

import (
	"sync"
	"time"
)

// drift is how far two clocks may run apart: 1 part in 10,000, which is more than
// clocks of computers do.
const drift = 10_000

// offset knows how far the other side's clock is behind this one's, between two
// bounds. A question and its answer give the lower one: the other clock was read
// after the question was asked. What arrives with a time gives the upper one. Both
// took half of the smallest round trip at least. The fastest question and the fastest
// message count (after NTP's clock filter, RFC 5905 section 10), and the bounds widen
// as the clocks may drift. Its zero value is ready.
type offset struct {
	low, high           time.Duration // without the round trip
	lowAt, highAt       time.Duration // when they were found
	knowsLow, knowsHigh bool
}

// answered takes the answer to a question that was asked at asked: the other clock
// was at read.
func (o *offset) answered(asked, read, now time.Duration) {
	if low := asked - read; !o.knowsLow || low > o.lowNow(now) {
		o.low, o.lowAt, o.knowsLow = low, now, true
	}
	o.arrived(read, now)
}

// arrived takes something that was sent at sent by the other clock and came now.
func (o *offset) arrived(sent, now time.Duration) {
	if high := now - sent; !o.knowsHigh || high < o.highNow(now) {
		o.high, o.highAt, o.knowsHigh = high, now, true
	}
}

func (o *offset) lowNow(now time.Duration) time.Duration  { return o.low - (now-o.lowAt)/drift }
func (o *offset) highNow(now time.Duration) time.Duration { return o.high + (now-o.highAt)/drift }

// age returns how old at most something is that was sent at sent by the other clock,
// if the smallest round trip is roundTrip. Something must have been answered.
func (o *offset) age(sent, now, roundTrip time.Duration) time.Duration {
	return now - sent - o.lowNow(now) - roundTrip/2
}

// width is how far the bounds are apart, at most a second.
func (o *offset) width(now, roundTrip time.Duration) time.Duration {
	if !o.knowsLow || !o.knowsHigh {
		return time.Second
	}
	return min(o.highNow(now)-o.lowNow(now)-roundTrip, time.Second)
}

// Pauses between questions. They double.
const (
	askFirst   = 50 * time.Millisecond
	askSlowest = 10 * time.Second
	askEnough  = 2 * time.Millisecond // bounds that are so near are not asked for again soon
)

// clock is what a connection knows of the other side's clock. It asks while there
// are streams that receive messages with deadlines. Under mu.
type clock struct {
	now       func() time.Duration // this side's
	roundTrip func() time.Duration // the smallest that QUIC has seen in this epoch; 0: none yet
	ask       func()               // asks the other side

	mu      sync.Mutex
	offset  offset
	fastest time.Duration // round trip of all; 0: none yet
	known   chan struct{} // closed with the first answer
	users   int           // streams
	timer   *time.Timer
	pause   time.Duration
}

func (c *clock) isKnown() bool {
	select {
	case <-c.known:
		return true
	default:
		return false
	}
}

// begin and end say that a stream needs the clock, and no longer.
func (c *clock) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users++; c.users == 1 {
		c.pause = askFirst
		c.again()
	}
}

func (c *clock) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 && c.timer != nil {
		c.timer.Stop()
	}
}

// again asks, and has it asked again after a pause. Called with mu held.
func (c *clock) again() {
	c.ask()
	if c.timer == nil {
		c.timer = time.AfterFunc(c.pause, c.due)
	} else {
		c.timer.Reset(c.pause)
	}
}

// due asks again, soon if little is known yet.
func (c *clock) due() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == 0 {
		return
	}
	if c.pause = min(2*c.pause, askSlowest); c.offset.width(c.now(), c.least()) <= askEnough {
		c.pause = askSlowest
	}
	c.again()
}

// answered takes an answer.
func (c *clock) answered(asked, read time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if asked > now {
		return
	}
	c.offset.answered(asked, read, now)
	if took := now - asked; c.fastest == 0 || took < c.fastest {
		c.fastest = took
	}
	if !c.isKnown() {
		close(c.known)
	}
}

// least is the smallest round trip that there was: QUIC's may have waited for the
// timer of its acknowledgments, and begins anew with each epoch. Called with mu held.
func (c *clock) least() time.Duration {
	if quic := c.roundTrip(); quic > 0 && (c.fastest == 0 || quic < c.fastest) {
		c.fastest = quic
	}
	return c.fastest
}

// age returns how old a message is that was sent at sent by the other clock, and
// whether that is known.
func (c *clock) age(sent, now time.Duration) (old time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset.arrived(sent, now)
	return c.offset.age(sent, now, c.least()), c.offset.knowsLow
}
