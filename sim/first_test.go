package sim_test

import (
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// hop is how long a packet takes between a client and the coordinator.
const hop = 50 * time.Millisecond

// hops returns how many times hop something has taken, for want of a better unit; what else it took is next to nothing.
func hops(t *testing.T, took time.Duration) int {
	t.Helper()
	n := int((took + hop/2) / hop)
	if over := took - time.Duration(n)*hop; over < 0 || over > hop/50 {
		t.Errorf("took %v: %d hops and %v", took, n, over)
	}
	return n
}

// firstPair returns two clients who know their coordinator and not each other, each one hop from it.
func firstPair(w *sim.World) (alice, bob *client.Client) {
	at, line := w.Internet(), sim.Line{Latency: hop}
	w.Coordinator(w.Host("coordinator", at, sim.Line{}), nil)
	both := w.Clients(nil, w.Host("alice", at, line), w.Host("bob", at, line))
	time.Sleep(time.Second) // nothing is on its way
	return both[0].Current(), both[1].Current()
}

// firstAt tells when the first message of the next stream arrives.
func firstAt(w *sim.World, bob *client.Client) <-chan time.Duration {
	arrived := make(chan time.Duration, 1)
	w.Go(func() {
		stream, err := bob.AcceptStream(within(time.Minute))
		if err == nil {
			_, err = stream.Receive(within(time.Minute))
		}
		if err != nil {
			w.T.Error(err)
		}
		arrived <- w.Elapsed()
	})
	return arrived
}

// TestFirstMessage counts how long the first message to a peer takes, in ways of a packet between a client and the
// coordinator: six are three round trips.
func TestFirstMessage(t *testing.T) {
	for name, test := range map[string]struct {
		options         *client.StreamOptions
		opened, arrived int
	}{
		"waits for the answer":          {nil, 8, 10},
		"early":                         {&client.StreamOptions{Early: true}, 4, 6},
		"early, resumable":              {&client.StreamOptions{Early: true, Resumable: true}, 4, 6},
		"resumable":                     {&client.StreamOptions{Resumable: true}, 8, 10},
		"early, by the relay only":      {&client.StreamOptions{Early: true, Mode: client.RelayOnly}, 4, 6},
		"unordered, waits for the peer": {&client.StreamOptions{Delivery: client.Unordered}, 8, 10},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				alice, bob := firstPair(w)
				arrived := firstAt(w, bob)
				began := w.Elapsed()
				stream, err := alice.OpenStream(within(time.Minute), "bob", test.options)
				if err != nil {
					w.T.Fatal(err)
				}
				opened := hops(w.T, w.Elapsed()-began)
				if err := stream.Send(within(time.Minute), []byte("first")); err != nil {
					w.T.Fatal(err)
				}
				if got := hops(w.T, <-arrived-began); opened != test.opened || got != test.arrived {
					w.T.Errorf("opened after %d hops, arrived after %d; want %d and %d", opened, got, test.opened, test.arrived)
				}
			})
		})
	}
}
