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
	const rate, queue = 1 << 20, 300 << 10 // 300 ms of it
	const roundTrip = 40 * time.Millisecond
	for _, resumable := range []bool{false, true} {
		var p90 [2]time.Duration
		for i, urgency := range []client.Urgency{client.Interactive, client.Bulk} {
			sim.Test(t, nil, func(w *sim.World) {
				line := sim.Line{Latency: roundTrip / 4, Rate: rate, Queue: queue}
				w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
				p := &pair{w, w.Client(w.Host("alice", w.Internet(), line), nil), w.Client(w.Host("bob", w.Internet(), line), nil)}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
				defer cancel()
				flow, flowIn := p.open(client.StreamOptions{Urgency: urgency, Resumable: resumable})
				small, smallIn := p.open(client.StreamOptions{Resumable: resumable})
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
						message, err := smallIn.Receive(ctx)
						if err != nil || smallIn.Send(ctx, message) != nil {
							if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
								w.T.Error(err)
							}
							return
						}
					}
				})
				var took []time.Duration
				start := w.Elapsed()
				for range 100 {
					sent := w.Elapsed()
					if err := small.Send(ctx, []byte("?")); err != nil {
						w.T.Fatal(err)
					}
					if _, err := small.Receive(ctx); err != nil {
						w.T.Fatal(err)
					}
					took = append(took, w.Elapsed()-sent)
					<-time.After(50 * time.Millisecond)
				}
				slices.Sort(took)
				p90[i] = took[len(took)*9/10]
				busy := float64(came) / (w.Elapsed() - start).Seconds() / rate
				w.T.Logf("%v, resumable %v: p50 %v, p90 %v, slowest %v, %.2f of the line", urgency, resumable, took[len(took)/2], p90[i], took[len(took)-1], busy)
				if busy < 0.6 {
					w.T.Errorf("%v: %.2f of the line is used", urgency, busy)
				}
				flow.Reset()
				small.Close()
			})
		}
		if most := roundTrip * 5 / 2; p90[1] > most || p90[0] < most {
			t.Errorf("resumable %v: beside bulk p90 %v, beside another flow %v, want the first below %v and the second above", resumable, p90[1], p90[0], most)
		}
	}
}

// TestEqualStreamsShare: streams of the same urgency get the same, also those that give way.
func TestEqualStreamsShare(t *testing.T) {
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
			<-time.After(30 * time.Second)
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
