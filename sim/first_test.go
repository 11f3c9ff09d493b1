package sim_test

import (
	"context"
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

func TestFirstMessage(t *testing.T) {
	for name, test := range map[string]struct {
		options *client.StreamOptions
		opened  int
		arrived int
	}{
		"default": {nil, 8, 9},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				at := w.Internet()
				line := sim.Line{Latency: hop}
				w.Coordinator(w.Host("coordinator", at, sim.Line{}), nil)
				alice := w.Client(w.Host("alice", at, line), nil).Current()
				bob := w.Client(w.Host("bob", at, line), nil).Current()
				time.Sleep(time.Second)
				began := time.Now()
				arrived := make(chan time.Duration, 1)
				w.Go(func() {
					stream, err := bob.AcceptStream(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = stream.Receive(context.Background())
					arrived <- time.Since(began)
				})
				stream, err := alice.OpenStream(t.Context(), "bob", test.options)
				if err != nil {
					t.Fatal(err)
				}
				t.Log("opened", hops(t, time.Since(began)))
				_ = stream.Send(t.Context(), []byte("hi"))
				t.Log("arrived", hops(t, <-arrived))
			})
		})
	}
}
