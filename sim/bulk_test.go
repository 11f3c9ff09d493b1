package sim_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestBulkGivesWay sends large messages over a slow line with a deep queue, and small ones back and forth beside them, on
// the same channel. If the large ones are bulk, the small ones do not wait in the queue, and the line is busy all the same;
// if they are not, they do, which shows that the test can fail.
func TestBulkGivesWay(t *testing.T) {
	const most = bulkRoundTrip * 5 / 2
	beside := []client.StreamOptions{{Resumable: true}, {}, {Delivery: client.Unordered}, {Delivery: client.Lossy}}
	if testing.Short() {
		beside = beside[:1]
	}
	for _, small := range beside {
		var p90 [2]time.Duration
		for i, urgency := range []client.Urgency{client.Interactive, client.Bulk} {
			sim.Test(t, nil, func(w *sim.World) {
				took, busy := besideFlow(w, client.StreamOptions{Urgency: urgency, Resumable: small.Resumable}, small)
				p90[i] = took[len(took)*9/10]
				w.T.Logf("%v, small %v, resumable %v: p50 %v, p90 %v, slowest %v, %.2f of the line",
					urgency, small.Delivery, small.Resumable, took[len(took)/2], p90[i], took[len(took)-1], busy)
				if busy < 0.6 {
					w.T.Errorf("%v: %.2f of the line is used", urgency, busy)
				}
			})
		}
		if p90[1] > most || p90[0] < most {
			t.Errorf("small %v, resumable %v: beside bulk p90 %v, beside another flow %v, want the first below %v and the second above",
				small.Delivery, small.Resumable, p90[1], p90[0], most)
		}
	}
}

// The line that is busy.
const (
	bulkRate      = 1 << 20   // bytes per second
	bulkQueue     = 300 << 10 // 300 ms of it
	bulkRoundTrip = 40 * time.Millisecond
)

// besideFlow has a flow of large messages, and small ones go back and forth. It returns how long these took, sorted, and
// how much of the line was used.
func besideFlow(w *sim.World, large, small client.StreamOptions) (took []time.Duration, busy float64) {
	line := sim.Line{Latency: bulkRoundTrip / 4, Rate: bulkRate, Queue: bulkQueue}
	w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
	p := &pair{w, w.Client(w.Host("alice", w.Internet(), line), nil), w.Client(w.Host("bob", w.Internet(), line), nil)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	flow, flowIn := p.open(large)
	out, in := p.open(small)
	w.Go(func() {
		for flow.Send(ctx, make([]byte, 1<<20)) == nil {
		}
	})
	came := 0
	w.Go(func() {
		for {
			message, err := flowIn.Receive(ctx)
			if err != nil {
				return
			}
			came += len(message)
		}
	})
	w.Go(func() {
		for {
			message, err := in.Receive(ctx)
			if err != nil || in.Send(ctx, message) != nil {
				if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
					w.T.Error(err)
				}
				return
			}
		}
	})
	start := w.Elapsed()
	for range 100 {
		sent := w.Elapsed()
		if err := out.Send(ctx, []byte("?")); err != nil {
			w.T.Fatal(err)
		}
		patience, done := context.WithTimeout(ctx, time.Second) // what is lossy may be lost
		if _, err := out.Receive(patience); err != nil && small.Delivery != client.Lossy {
			w.T.Fatal(err)
		}
		done()
		took = append(took, w.Elapsed()-sent)
		<-time.After(50 * time.Millisecond)
	}
	slices.Sort(took)
	busy = float64(came) / (w.Elapsed() - start).Seconds() / bulkRate
	flow.Reset()
	out.Close()
	return took, busy
}

// TestEqualStreamsShare: streams of the same urgency get the same, also those that give way.
func TestEqualStreamsShare(t *testing.T) {
	lasts := 30 * time.Second
	if testing.Short() {
		lasts = 12 * time.Second
	}
	for _, urgency := range []client.Urgency{client.Interactive, client.Bulk} {
		sim.Test(t, nil, func(w *sim.World) {
			line := sim.Line{Latency: 10 * time.Millisecond, Rate: 1 << 20}
			w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
			p := &pair{w, w.Client(w.Host("alice", w.Internet(), line), nil), w.Client(w.Host("bob", w.Internet(), line), nil)}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			var came [4]atomic.Int64
			for i := range came {
				out, in := p.open(client.StreamOptions{Urgency: urgency, Resumable: i%2 == 1})
				size := 1000 << (3 * (i / 2)) // what differs must not matter
				w.Go(func() {
					for out.Send(ctx, make([]byte, size)) == nil {
					}
				})
				w.Go(func() {
					for {
						message, err := in.Receive(ctx)
						if err != nil {
							return
						}
						came[i].Add(int64(len(message)))
					}
				})
			}
			small, smallIn := p.open(client.StreamOptions{OneWay: true})
			w.Go(func() {
				for small.Send(ctx, []byte("!")) == nil {
					<-time.After(100 * time.Millisecond)
				}
			})
			<-time.After(lasts)
			_ = smallIn
			var total int64
			for i := range came {
				total += came[i].Load()
			}
			for i := range came {
				if share := float64(came[i].Load()) / float64(total) * float64(len(came)); share < 0.8 || share > 1.2 {
					w.T.Errorf("%v: stream %d has %.2f of its share", urgency, i, share)
				}
			}
		})
	}
}
