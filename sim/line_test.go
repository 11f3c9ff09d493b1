package sim_test

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// sendMany sends numbered packets, a millisecond apart, and returns what came.
func (w *wire) sendMany(packets int) []arrival {
	w.Helper()
	var got []arrival
	for i := range packets {
		w.send(fmt.Sprintf("%05d", i))
		got = append(got, w.take(time.Millisecond)...)
	}
	return append(got, w.take(time.Second)...)
}

// closeTo tells whether a share of n trials is what it should be, within four
// standard deviations.
func closeTo(share, want float64, n int) bool {
	return math.Abs(share-want) <= 4*math.Sqrt(want*(1-want)/float64(n))
}

// TestBurst checks the mean loss and the mean length of runs of losses against
// the model of Gilbert and Elliott.
func TestBurst(t *testing.T) {
	const packets, enter, leave = 20_000, 0.02, 0.25
	onWire(t, 1, sim.Line{Burst: &sim.Burst{Enter: enter, Leave: leave}}, sim.Line{}, func(w *wire) {
		got := w.sendMany(packets)
		came := map[string]bool{}
		for _, a := range got {
			came[a.payload] = true
		}
		runs, lost := 0, 0
		for i := range packets {
			if came[fmt.Sprintf("%05d", i)] {
				continue
			}
			lost++
			if i == 0 || came[fmt.Sprintf("%05d", i-1)] {
				runs++
			}
		}
		share, length := float64(lost)/packets, float64(lost)/float64(runs)
		if want := enter / (enter + leave); math.Abs(share-want) > 0.01 {
			t.Errorf("%v of the packets were lost, want %v", share, want)
		}
		if want := 1 / leave; math.Abs(length-want) > 0.4 {
			t.Errorf("%v packets were lost in a row, want %v", length, want)
		}
	})
}

// TestBurstLoss loses a part of what comes in a bad time.
func TestBurstLoss(t *testing.T) {
	const packets = 10_000
	onWire(t, 1, sim.Line{Burst: &sim.Burst{Enter: 1, Loss: 0.5}}, sim.Line{}, func(w *wire) {
		if share := float64(len(w.sendMany(packets))) / packets; !closeTo(share, 0.5, packets) {
			t.Errorf("%v of the packets came", share)
		}
	})
}

func TestReorder(t *testing.T) {
	const packets = 5000
	onWire(t, 1, sim.Line{Latency: time.Millisecond, Reorder: 0.1, ReorderBy: 20 * time.Millisecond}, sim.Line{}, func(w *wire) {
		got := w.sendMany(packets)
		late, highest := 0, ""
		for _, a := range got {
			if a.payload < highest {
				late++
			}
			highest = max(highest, a.payload)
		}
		if len(got) != packets || !closeTo(float64(late)/packets, 0.1, packets) {
			t.Errorf("%d of %d packets came, %d of them late", len(got), packets, late)
		}
	})
}

func TestDuplicate(t *testing.T) {
	const packets = 5000
	onWire(t, 1, sim.Line{Duplicate: 0.2}, sim.Line{}, func(w *wire) {
		got := texts(w.sendMany(packets))
		twice := len(got) - packets
		slices.Sort(got)
		if !closeTo(float64(twice)/packets, 0.2, packets) || len(slices.Compact(got)) != packets || w.Stats().Duplicated != twice {
			t.Errorf("%d of %d packets came twice; %v", twice, packets, w.Stats())
		}
	})
}

func TestCorrupt(t *testing.T) {
	const packets, text = 5000, "intact"
	onWire(t, 1, sim.Line{Corrupt: 0.1, Duplicate: 0.5}, sim.Line{}, func(w *wire) {
		wrong := 0
		for range packets {
			w.send(text)
			for _, got := range texts(w.take(2 * time.Millisecond)) {
				wrongBits := 0
				for i := range got {
					wrongBits += bits.OnesCount8(got[i] ^ text[i])
				}
				if wrongBits > 1 {
					t.Errorf("%d bits of %q are wrong", wrongBits, got)
				}
				wrong += wrongBits
			}
		}
		if got := w.Stats().Corrupted; !closeTo(float64(got)/packets, 0.1, packets) || wrong != got {
			t.Errorf("%d packets corrupted, %d came wrong", got, wrong)
		}
	})
}

// TestDown has a line whose directions differ.
func TestDown(t *testing.T) {
	line := sim.Line{Latency: time.Millisecond, Down: &sim.Line{Latency: 30 * time.Millisecond, Loss: 0}}
	onWire(t, 1, sim.Line{}, line, func(w *wire) {
		w.read(w.a)
		w.send("down")
		if got := w.take(time.Second); len(got) != 1 || got[0].after.Round(time.Millisecond) != 30*time.Millisecond {
			t.Errorf("down: %+v", got)
		}
		began := time.Since(w.started)
		w.write(w.b, aliceAddr, "up")
		if got := w.take(time.Second); len(got) != 1 || (got[0].after-began).Round(time.Millisecond) != time.Millisecond {
			t.Errorf("up: %+v", got)
		}
	})
}

func TestValidateLine(t *testing.T) {
	line := sim.Line{
		Latency: -1, Loss: 1.5, MTU: 100, Burst: &sim.Burst{Enter: -1},
		Down: &sim.Line{Rate: -3, Down: &sim.Line{}},
	}
	const want = `Loss is 1.5: want a fraction from 0 to 1
Burst.Enter is -1: want a fraction from 0 to 1
Latency is -1: want 0 or more
MTU is 100: want 0 for 1500, or at least 576
Down.Down is set: a line has two directions
down: Rate is -3: want 0 or more`
	if err := line.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := (sim.Line{Loss: 1, Down: &sim.Line{Loss: 0.5}}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestSmallQueue has a queue that is smaller than the packets.
func TestSmallQueue(t *testing.T) {
	onWire(t, 1, sim.Line{Rate: 10_000, Queue: 500}, sim.Line{}, func(w *wire) {
		payload := string(make([]byte, 972))
		w.send(payload)
		w.send(payload) // the line is busy
		if got := w.take(time.Second); len(got) != 1 {
			t.Errorf("%d packets came; %v", len(got), w.Stats())
		}
	})
}
