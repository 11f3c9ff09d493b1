package sim_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// crowded plays many streams that send as fast as they can over a narrow line, and returns how long requests on another
// stream took meanwhile.
func crowded(t *testing.T, crowd int, options client.StreamOptions, size int) (p50, p99 time.Duration) {
	t.Helper()
	sim.Test(t, &sim.Options{TraceOff: true}, func(w *sim.World) {
		narrow := sim.Line{Latency: 10 * time.Millisecond, Rate: 1_000_000, Queue: 16 << 10}
		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{Latency: 5 * time.Millisecond}), nil)
		alice := w.Client(w.Host("alice", w.Internet(), narrow), nil)
		bob := w.Client(w.Host("bob", w.Internet(), sim.Line{Latency: time.Millisecond}), nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		open := func(options client.StreamOptions) (out, in *client.Stream) {
			out, err := alice.OpenStream(ctx, "bob", &options)
			if err != nil {
				w.T.Fatal(err)
			}
			if in, err = bob.AcceptStream(ctx); err != nil {
				w.T.Fatal(err)
			}
			return out, in
		}
		asks, answers := open(client.StreamOptions{})
		over, end := context.WithCancel(ctx)
		var all sync.WaitGroup
		for range crowd {
			out, in := open(options)
			all.Go(func() {
				for {
					err := out.Send(over, make([]byte, size))
					if large, ok := errors.AsType[*messages.SizeError](err); ok { // as much as a packet takes by now
						err = out.Send(over, make([]byte, large.Limit))
					}
					if err != nil {
						break
					}
				}
				out.Reset()
			})
			all.Go(func() {
				for _, err := range in.Messages(ctx) {
					if err != nil {
						return
					}
				}
			})
		}
		all.Go(func() {
			for message, err := range answers.Messages(ctx) {
				if err != nil || answers.Send(ctx, message) != nil {
					return
				}
			}
			answers.CloseSend()
		})
		<-time.After(2 * time.Second)
		var took []time.Duration
		for range 100 {
			began := w.Elapsed()
			if err := asks.Send(ctx, []byte("how long?")); err != nil {
				w.T.Fatal(err)
			}
			if _, err := asks.Receive(ctx); err != nil {
				w.T.Fatal(err)
			}
			took = append(took, w.Elapsed()-began)
			<-time.After(20 * time.Millisecond)
		}
		end()
		asks.CloseSend()
		all.Wait()
		slices.Sort(took)
		p50, p99 = took[50], took[99]
	})
	return p50, p99
}

// TestUrgency has many streams send in bulk beside requests. If those say that they are bulk, they delay no request; if
// not, a request waits until each of them has had its turn.
func TestUrgency(t *testing.T) {
	bulk, _ := crowded(t, 60, client.StreamOptions{Urgency: client.Bulk}, 64<<10)
	equal, _ := crowded(t, 60, client.StreamOptions{}, 64<<10)
	t.Logf("p50 of requests beside bulk %v, beside equals %v", bulk, equal)
	if bulk > 50*time.Millisecond || equal < bulk+20*time.Millisecond {
		t.Errorf("p50 of requests beside bulk %v, beside equals %v", bulk, equal)
	}
}

// TestFlood floods a channel with datagrams: a stream still has its turns.
func TestFlood(t *testing.T) {
	for _, mode := range []client.Delivery{client.Sequenced, client.Lossy, client.Unordered} {
		p50, p99 := crowded(t, 3, client.StreamOptions{Delivery: mode}, 64<<10)
		t.Logf("%v: p50 of requests %v, p99 %v", mode, p50, p99)
		if p99 > 500*time.Millisecond {
			t.Errorf("%v: p50 of requests %v, p99 %v", mode, p50, p99)
		}
	}
}
