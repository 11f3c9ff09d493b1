package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestProgram runs the program on loopback.
func TestProgram(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "the depot has [alice/alice.dat bob/bob.dat]\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed\n%s, want it to end with %q", out.String(), want)
	}
}

// TestOnTheRoad runs the same code in a simulated network: the three are behind different NATs. While two files are on
// their way, alice's host moves from the home to a mobile network and the coordinator restarts. Nothing is lost, at any of
// the seeds.
func TestOnTheRoad(t *testing.T) {
	seeds := 5
	if testing.Short() {
		seeds = 2
	}
	sim.Seeds(t, seeds, nil, func(w *sim.World) {
		fiber := sim.Line{Latency: 5 * time.Millisecond, Rate: 5_000_000}
		mobile := sim.Line{Latency: 30 * time.Millisecond, Jitter: 10 * time.Millisecond, Rate: 2_000_000, Loss: 0.01}
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), fiber)
		office := w.Gateway("office", w.Internet(), sim.AddressRestricted(), fiber)
		hotel := w.Gateway("hotel", w.Internet(), sim.Symmetric(), fiber)
		lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), mobile)
		lan := sim.Line{Latency: time.Millisecond}

		coordinator := w.Coordinator(w.Host("coordinator", w.Internet(), fiber), nil)
		keeper := w.Client(w.Host("depot", office, lan), nil)
		alice := w.Client(w.Host("alice", home, lan), nil)
		bob := w.Client(w.Host("bob", hotel, lan), nil)

		files := &depot{}
		w.Go(func() { files.keep(context.Background(), keeper.Client) })

		// Faults strike while the files are on their way, at instants that follow from the seed.
		random := w.Rand()
		sometime := func() time.Duration { return time.Second + time.Duration(random.Int64N(int64(3*time.Second))) }
		w.After(sometime(), func() {
			if err := alice.Host().Move(lte, lan); err != nil {
				w.T.Error(err)
			}
		})
		w.After(sometime(), func() {
			coordinator.Stop()
			w.After(2*time.Second, func() { coordinator.Start() })
		})

		var dropping sync.WaitGroup
		for _, sender := range []*sim.Client{alice, bob} {
			content := make([]byte, 20<<20)
			fill(content, random)
			dropping.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				if _, err := drop(ctx, sender.Client, "depot", "file", bytes.NewReader(content)); err != nil {
					w.T.Errorf("%s: %v", sender.Name(), err)
				} else if !bytes.Equal(files.file(sender.Name()+"/file"), content) {
					w.T.Errorf("%s: the depot has something else", sender.Name())
				}
			})
		}
		dropping.Wait()
		for _, event := range alice.Events() {
			if closed, ok := event.Event.(client.ChannelClosed); ok {
				w.T.Errorf("alice lost her channel after %v: %v", event.At, closed.Err)
			}
		}
	})
}

// fill makes content that nobody can make up.
func fill(content []byte, random *rand.Rand) {
	for i := range content {
		content[i] = byte(random.Uint32())
	}
}
