package exampletest

import (
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/sim"
)

// Lines of the simulated network.
var (
	Fiber  = sim.Line{Latency: 5 * time.Millisecond, Rate: 5_000_000}
	Mobile = sim.Line{Latency: 30 * time.Millisecond, Jitter: 10 * time.Millisecond, Rate: 2_000_000, Loss: 0.01}
	LAN    = sim.Line{Latency: time.Millisecond}
)

// Play plays a scenario at some seeds, at fewer with -short.
func Play(t *testing.T, scenario func(w *sim.World)) {
	t.Helper()
	seeds := 5
	if testing.Short() {
		seeds = 2
	}
	sim.Seeds(t, seeds, nil, scenario)
}

// Codecs returns those for messages of the types of these values.
func Codecs(w *sim.World, messages []any) []actors.Codec {
	w.T.Helper()
	codec, err := actors.JSON(messages...)
	if err != nil {
		w.T.Fatal(err)
	}
	return []actors.Codec{codec}
}

// Sometime returns an instant at which something is to happen: after a second, and before
// so much more is over.
func Sometime(random *rand.Rand, within time.Duration) time.Duration {
	return time.Second + time.Duration(random.Int64N(int64(within)))
}

// Move moves a client's host at an instant.
func Move(w *sim.World, at time.Duration, cl *sim.Client, to sim.Place, line sim.Line) {
	w.After(at, func() {
		if err := cl.Host().Move(to, line); err != nil {
			w.T.Error(err)
		}
	})
}

// RestartCoordinator has it away for two seconds.
func RestartCoordinator(w *sim.World, at time.Duration, coordinator *sim.Coordinator) {
	w.After(at, func() {
		coordinator.Stop()
		w.After(2*time.Second, coordinator.Start)
	})
}

// StartAgain starts another process of a client. The coordinator may be just ending: then it
// is tried again. It returns false if the world ends.
func StartAgain(cl *sim.Client) bool {
	for err := cl.Start(); err != nil; err = cl.Start() {
		if <-time.After(time.Second); errors.Is(err, net.ErrClosed) {
			return false
		}
	}
	return true
}
