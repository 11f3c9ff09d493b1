package sim_test

import (
	"context"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestPortSearch has a client behind a symmetric NAT and one behind a port-restricted one find each other, whoever opened the
// channel, and then keep the path.
func TestPortSearch(t *testing.T) {
	seeds := 10
	if testing.Short() {
		seeds = 2
	}
	for _, hardDials := range []bool{true, false} {
		sim.Seeds(t, seeds, nil, func(w *sim.World) {
			hard, easy := searching(w, sim.Symmetric(), sim.PortRestricted(), nil)
			p := &pair{w, hard, easy}
			if !hardDials {
				p = &pair{w, easy, hard}
			}
			a, b := p.openTo(client.StreamOptions{})
			w.Eventually(time.Minute, "a direct path", func() bool { return !a.Channel().Path().Relayed && !b.Channel().Path().Relayed })
			took := w.Elapsed()
			time.Sleep(time.Minute)
			if one, other := a.Channel().Path(), b.Channel().Path(); one.Relayed || other.Relayed {
				w.T.Errorf("after a minute: %v, %v", one, other)
			}
			w.T.Logf("direct after %v: %v", took, a.Channel().Path())
		})
	}
}

// TestNoPortSearch counts what is sent when nothing can be found, and when searching is turned off at either side.
func TestNoPortSearch(t *testing.T) {
	off := func(c *client.Config) { c.NoPortSearch = true }
	for _, test := range []struct {
		name        string
		easy        sim.NAT
		hard, other func(*client.Config)
		least, most int // probes without padding
	}{
		{"both hard", sim.Symmetric(), nil, nil, 0, 0},
		{"off at the hard side", sim.PortRestricted(), off, nil, 0, 0},
		{"off at the other", sim.PortRestricted(), nil, off, 0, 0},
		{"nothing is found", sim.PortRestricted(), nil, nil, 2048, 2048 + 4*256},
	} {
		t.Run(test.name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				small := 0
				hard, easy := searching(w, sim.Symmetric(), test.easy, test.hard, test.other)
				w.Add(func(p sim.Packet) sim.Verdict {
					if frameKind(p) != typeProbe {
						return sim.Verdict{}
					}
					if len(p.Payload) < 1000 {
						small++
					}
					return sim.Drop()
				})
				a, _ := (&pair{w, hard, easy}).openTo(client.StreamOptions{})
				time.Sleep(3 * time.Minute)
				if path := a.Channel().Path(); !path.Relayed || small < test.least || small > test.most {
					t.Errorf("%d small probes, want %d to %d; path is %v", small, test.least, test.most, path)
				}
			})
		})
	}
}

// searching makes a client behind each of two NATs.
func searching(w *sim.World, first, second sim.NAT, change ...func(*client.Config)) (a, b *sim.Client) {
	line := sim.Line{Latency: 5 * time.Millisecond}
	w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
	change = append(change, nil, nil)
	a = w.Client(w.Host("alice", w.Gateway("home-alice", w.Internet(), first, line), sim.Line{}), change[0])
	b = w.Client(w.Host("bob", w.Gateway("home-bob", w.Internet(), second, line), sim.Line{}), change[1])
	return a, b
}

// openTo opens a stream to whoever is the other one of a pair.
func (p *pair) openTo(options client.StreamOptions) (out, in *client.Stream) {
	p.w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := p.alice.OpenStream(ctx, p.bob.Host().Name(), &options)
	if err != nil {
		p.w.T.Fatal(err)
	}
	if in, err = p.bob.AcceptStream(ctx); err != nil {
		p.w.T.Fatal(err)
	}
	return out, in
}
