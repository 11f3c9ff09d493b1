package sim_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// inBenchmark runs a scenario once. Worlds want a test, and benchmarks are none.
func inBenchmark(b *testing.B, scenario func(w *sim.World)) {
	b.Helper()
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: b.Name(),
		F: func(t *testing.T) {
			t.Helper()
			sim.Test(t, &sim.Options{Limit: -1, Stall: -1, TraceOff: true}, scenario)
		},
	}})
	if !ok {
		b.Fatal("the scenario failed")
	}
}

// measured runs part of a scenario and reports how much faster than the real clock
// the world's was.
func measured(b *testing.B, part func()) {
	b.Helper()
	began, from := sim.RealClock(), time.Now()
	part()
	b.ReportMetric(time.Since(from).Seconds()/(sim.RealClock()-began).Seconds(), "virtual/real")
	b.ReportMetric((sim.RealClock() - began).Seconds(), "real-s")
}

// attachedClients starts so many clients on lines of their own.
func attachedClients(w *sim.World, clients int) []*sim.Client {
	w.Coordinator(w.Host("hub", w.Internet(), near), nil)
	var hosts []*sim.Host
	for i := range clients {
		line := sim.Line{Latency: time.Duration(5+i%20) * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01}
		hosts = append(hosts, w.Host(fmt.Sprintf("client-%d", i), w.Internet(), line))
	}
	return w.Clients(nil, hosts...)
}

// memory returns the bytes in use on the heap and by stacks.
func memory() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// BenchmarkClients has clients attached that send a message a second each, over a
// channel per pair: 100 for a virtual minute, 1,000 for half of one. Attaching
// counts, too.
func BenchmarkClients(b *testing.B) {
	for _, size := range []struct {
		clients int
		lasts   time.Duration
	}{{100, time.Minute}, {1000, 30 * time.Second}} {
		b.Run(fmt.Sprint(size.clients), func(b *testing.B) {
			for range b.N {
				inBenchmark(b, func(w *sim.World) {
					before := memory()
					measured(b, func() {
						all := attachedClients(w, size.clients)
						until := time.Now().Add(size.lasts)
						for i := 0; i < len(all); i += 2 {
							w.Go(func() { everySecond(w, all[i], all[i+1], until) })
						}
						<-time.After(time.Until(until))
					})
					b.ReportMetric(float64(memory()-before)/1024/float64(size.clients), "KiB/client")
				})
			}
		})
	}
}

// everySecond sends a message a second in both directions of a stream.
func everySecond(w *sim.World, from, to *sim.Client, until time.Time) {
	near, err := from.OpenStream(context.Background(), to.Host().Name(), nil)
	if err != nil {
		w.T.Error(err)
		return
	}
	far, err := to.AcceptStream(context.Background())
	if err != nil {
		w.T.Error(err)
		return
	}
	for _, stream := range []*client.Stream{near, far} {
		w.Go(func() {
			for time.Until(until) > 0 {
				if stream.Send(context.Background(), make([]byte, 100)) != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		w.Go(func() {
			for _, err := range stream.Messages(context.Background()) {
				if err != nil {
					return
				}
			}
		})
	}
}

// BenchmarkIdleHour has 100 attached clients do nothing for a virtual hour.
func BenchmarkIdleHour(b *testing.B) {
	for range b.N {
		inBenchmark(b, func(w *sim.World) {
			attachedClients(w, 100)
			measured(b, func() { <-time.After(time.Hour) })
		})
	}
}

// BenchmarkTransfer sends 10 MB between two clients over lines of 20 Mbit/s, with
// 50 milliseconds there and back.
func BenchmarkTransfer(b *testing.B) {
	const size, message = 10_000_000, 50_000
	for range b.N {
		inBenchmark(b, func(w *sim.World) {
			line := sim.Line{Latency: 12500 * time.Microsecond, Rate: 20_000_000 / 8}
			w.Coordinator(w.Host("hub", w.Internet(), near), nil)
			all := w.Clients(nil, w.Host("alice", w.Internet(), line), w.Host("bob", w.Internet(), line))
			measured(b, func() {
				stream, err := all[0].OpenStream(context.Background(), "bob", nil)
				if err != nil {
					w.T.Fatal(err)
				}
				w.Go(func() {
					for range size / message {
						_ = stream.Send(context.Background(), make([]byte, message)) // the receiver says if it failed
					}
				})
				far, err := all[1].AcceptStream(context.Background())
				if err != nil {
					w.T.Fatal(err)
				}
				for received := 0; received < size; {
					var got []byte
					if got, err = far.Receive(context.Background()); err != nil {
						w.T.Fatal(err)
					}
					received += len(got)
				}
			})
		})
	}
}
