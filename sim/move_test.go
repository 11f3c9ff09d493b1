package sim_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestMoveToFasterPath moves a busy channel from a slow relay to a fast direct path, whoever dialed. QUIC is told of it;
// otherwise its congestion window would grow from the relay's by a packet each round trip, and the second after the move would
// carry a tenth of this.
func TestMoveToFasterPath(t *testing.T) {
	if testing.Short() {
		t.Skip("many packets")
	}
	for _, dialerSends := range []bool{true, false} {
		t.Run(fmt.Sprintf("dialer sends %v", dialerSends), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				relayed, first, next := speeds(w, dialerSends)
				t.Logf("relayed %.2f MB/s, in the second after the move %.1f, in the next %.1f", relayed, first, next)
				if relayed < 0.7 || first < 25 || next < 20 {
					t.Errorf("relayed %.2f MB/s, in the second after the move %.1f, in the next %.1f; want 0.7, 25 and 20", relayed, first, next)
				}
			})
		})
	}
}

// speeds lets one side send as much as it can, over a relay of 1 MB/s and then directly at 40 MB/s with a round trip of 40 ms, and
// queues of as much.
// It returns MB/s in a second before the move and in two after it.
func speeds(w *sim.World, dialerSends bool) (relayed, first, next float64) {
	w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{Rate: 1e6}), nil)
	line := sim.Line{Latency: 10 * time.Millisecond, Rate: 40e6, Queue: 1.6e6}
	alice, bob := w.Host("alice", w.Internet(), line), w.Host("bob", w.Internet(), line)
	p := &pair{w, w.Client(alice, nil), w.Client(bob, nil)}
	heal := w.Add(sim.Block(alice, bob))
	from, to := p.open(client.StreamOptions{})
	if !dialerSends {
		from, to = to, from
	}
	ctx, cancel := context.WithCancel(context.Background())
	var came atomic.Int64
	w.Go(func() {
		for from.Send(ctx, make([]byte, 64<<10)) == nil {
		}
	})
	w.Go(func() {
		for message, err := to.Receive(ctx); err == nil; message, err = to.Receive(ctx) {
			came.Add(int64(len(message)))
		}
	})
	second := func() float64 {
		before := came.Load()
		time.Sleep(time.Second)
		return float64(came.Load()-before) / 1e6
	}
	time.Sleep(5 * time.Second)
	relayed = second()
	heal()
	w.Eventually(15*time.Second, "a direct path", func() bool { return !from.Channel().Path().Relayed && !to.Channel().Path().Relayed })
	first, next = second(), second()
	cancel()
	return relayed, first, next
}
