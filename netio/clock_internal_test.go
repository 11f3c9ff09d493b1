package netio

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestOffset has messages sent by a clock that is ahead and drifts, over ways that take 30 to 130 milliseconds, with
// questions about the time now and then. A message is never taken for younger than it is, and its age is known well after
// some time.
func TestOffset(t *testing.T) {
	const least, roundTrip = 30 * time.Millisecond, 60 * time.Millisecond
	for _, parts := range []time.Duration{0, 20_000, -20_000} { // 50 parts per million
		random := rand.New(rand.NewPCG(1, 1))
		way := func() time.Duration { return least + time.Duration(random.Int64N(int64(100*time.Millisecond))) }
		other := func(at time.Duration) time.Duration { // what the other clock says
			if at += 5 * time.Hour; parts != 0 {
				at += (at - 5*time.Hour) / parts
			}
			return at
		}
		var o offset
		for i := range 100_000 {
			sent := time.Duration(i) * 10 * time.Millisecond
			if i%100 == 0 {
				read := sent + way()
				o.answered(sent, other(read), read+way())
			}
			took := way()
			o.arrived(other(sent), sent+took)
			off := o.age(other(sent), sent+took, roundTrip) - took
			if off < -time.Millisecond || i > 10_000 && off > 15*time.Millisecond {
				t.Fatalf("drift 1/%d: message %d is %v old, measured %v more", parts, i, took, off)
			}
		}
	}
}

// TestOffsetBounds: what is known gets better by fast answers and messages, and not worse by slow ones.
func TestOffsetBounds(t *testing.T) {
	const ms, roundTrip = time.Millisecond, 20 * time.Millisecond
	var o offset
	if o.width(0, roundTrip) != time.Second {
		t.Error("something is known from nothing")
	}
	o.answered(100*ms, 50*ms, 200*ms)
	for _, step := range []struct {
		name  string
		what  func()
		width time.Duration
	}{
		{"an answer", func() {}, 80 * ms}, // the other clock was read between 110 and 190 by this one
		{"a slower one", func() { o.answered(100*ms, 50*ms, 300*ms) }, 80 * ms},
		{"a faster one", func() { o.answered(130*ms, 50*ms, 150*ms) }, 0},
		{"a slow message", func() { o.arrived(100*ms, 400*ms) }, 0},
	} {
		step.what()
		if got := o.width(200*ms, roundTrip); got < step.width-ms || got > step.width+ms {
			t.Errorf("%s: %v are between the bounds, want %v", step.name, got, step.width)
		}
	}
	if got := o.age(100*ms, 300*ms, roundTrip); got < 110*ms || got > 111*ms {
		t.Errorf("the age is %v", got)
	}
}
