package sim_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestCrowd has 50 clients open streams to each other for a virtual minute while
// faults strike that are shorter than any patience: whatever was sent arrives,
// once and in order.
func TestCrowd(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inWorld(t, seed, func(w *world) { crowd(w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// crowd runs one minute, all of which is drawn before it starts.
func crowd(w *world, random *rand.Rand) {
	clients, streams, faults := 50, 150, 60
	if testing.Short() {
		clients, streams, faults = 15, 40, 20
	}
	for i := range clients {
		line := sim.Line{
			Latency: time.Duration(1+random.IntN(60)) * time.Millisecond,
			Jitter:  time.Duration(random.IntN(2)) * 5 * time.Millisecond,
			Loss:    float64(random.IntN(3)) / 100,
			Rate:    int64(random.IntN(2)) * 1_000_000,
		}
		w.client(fmt.Sprintf("client-%d", i), line, nil)
	}
	var all sync.WaitGroup
	var counting sync.Mutex
	messages := 0
	accept(w)
	for range streams {
		from, to := random.IntN(clients), random.IntN(clients-1)
		if to >= from {
			to++
		}
		s := talk{
			at: time.Duration(random.IntN(50_000)) * time.Millisecond, every: time.Duration(1+random.IntN(300)) * time.Millisecond,
			size: 1 + random.IntN(1<<random.IntN(14)), count: 1 + random.IntN(200), mode: client.Mode(random.IntN(2) * 2),
		}
		all.Go(func() {
			if err := s.run(w.clients[from], w.clients[to].Name()); err != nil {
				w.T.Errorf("%s to %s: %v", w.clients[from].Name(), w.clients[to].Name(), err)
			}
			counting.Lock()
			defer counting.Unlock()
			messages += s.count
		})
	}
	for range faults {
		all.Go(fault(w, random))
	}
	all.Wait()
	w.T.Logf("%d messages, %v", messages, w.Stats())
}

// talk is what one stream does: its peer sends everything back.
type talk struct {
	at, every   time.Duration
	size, count int
	mode        client.Mode
}

func (s talk) run(from *program, to string) error {
	time.Sleep(s.at)
	stream, err := from.OpenStream(within(30*time.Second), to, &client.StreamOptions{Mode: s.mode})
	if err != nil {
		return err
	}
	defer stream.Close()
	sent := make(chan error, 1)
	go func() {
		defer stream.CloseSend()
		for i := range s.count {
			if err := stream.Send(within(time.Minute), s.message(i)); err != nil {
				sent <- err
				return
			}
			time.Sleep(s.every)
		}
		sent <- nil
	}()
	got := 0
	for message, err := range stream.Messages(within(3 * time.Minute)) {
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", got, s.count, err)
		}
		if string(message) != string(s.message(got)) {
			return fmt.Errorf("message %d is %.20q", got, message)
		}
		got++
	}
	if err := <-sent; err != nil {
		return err
	}
	if got != s.count {
		return fmt.Errorf("a clean end after %d of %d messages", got, s.count)
	}
	return nil
}

func (s talk) message(number int) []byte {
	return fmt.Appendf(nil, "%0*d", s.size, number)
}

// accept has all clients send back what they receive, until they are closed.
func accept(w *world) {
	for _, p := range w.clients {
		go func() {
			for {
				stream, err := p.AcceptStream(within(time.Hour))
				if err != nil {
					return
				}
				go echo(stream)
			}
		}()
	}
}

func echo(stream *client.Stream) {
	for message, err := range stream.Messages(within(time.Hour)) {
		if err != nil || stream.Send(within(time.Hour), message) != nil {
			stream.Reset()
			return
		}
	}
	stream.CloseSend()
}

// fault returns a fault that strikes once, and is drawn now.
func fault(w *world, random *rand.Rand) func() {
	host := func() *sim.Host { return w.clients[random.IntN(len(w.clients))].Host() }
	at, lasts := time.Duration(random.IntN(50_000))*time.Millisecond, time.Duration(1+random.IntN(5000))*time.Millisecond
	var rule sim.Rule
	switch a, b := host(), host(); random.IntN(5) {
	case 0:
		rule = sim.Block(a, b)
	case 1:
		rule = sim.Cut(a, b)
	case 2:
		rule = sim.Block(a, w.hub)
	case 3:
		rule = func(p sim.Packet) sim.Verdict { // everything of one host is late
			if p.Source == a.Name() {
				return sim.DeliverAfter(500 * time.Millisecond)
			}
			return sim.Verdict{}
		}
	case 4:
		return func() {
			time.Sleep(at)
			w.check(a.Move(w.Internet(), near))
		}
	}
	return func() {
		time.Sleep(at)
		heal := w.Add(rule)
		time.Sleep(lasts)
		heal()
	}
}
