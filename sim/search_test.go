package sim_test

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

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
				a, _ := (&pair{w, hard, easy}).openTo()
				time.Sleep(3 * time.Minute)
				if path := a.Channel().Path(); !path.Relayed || small < test.least || small > test.most {
					t.Errorf("%d small probes, want %d to %d; path is %v", small, test.least, test.most, path)
				}
			})
		})
	}
}

// TestSearchAgain has a path that was found die for good. An hour later another one is found, and no socket is left behind,
// though opening so many takes a while.
func TestSearchAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("an hour")
	}
	sim.Seeds(t, 3, &sim.Options{Limit: 2 * time.Hour}, func(w *sim.World) {
		var hard, easy *sim.Client
		var open atomic.Int64
		hard, easy = searching(w, sim.Symmetric(), sim.PortRestricted(), func(c *client.Config) {
			c.OpenLink = func() (netio.Link, error) {
				time.Sleep(2 * time.Millisecond)
				link, err := hard.Host().Listen(netip.AddrPort{})
				open.Add(1)
				return &countedLink{Link: link, open: &open}, err
			}
		})
		a, b := (&pair{w, hard, easy}).openTo()
		direct := func() bool { return !a.Channel().Path().Relayed && !b.Channel().Path().Relayed }
		found := func() {
			w.Eventually(2*time.Minute, "a direct path", direct)
			time.Sleep(30 * time.Second)
			if n := open.Load(); n != 1 || !direct() {
				w.T.Errorf("%d sockets are open, path is %v", n, a.Channel().Path())
			}
		}
		found()
		former := b.Channel().Path().Remote // behind it is the socket of alice that was kept
		w.Add(func(p sim.Packet) sim.Verdict {
			if p.To == former {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
		w.Eventually(time.Minute, "the relay", func() bool { return !direct() })
		time.Sleep(time.Hour - w.Elapsed())
		if direct() {
			w.T.Fatal("direct though nothing passes")
		}
		found()
	})
}

// countedLink counts how many of its kind are open.
type countedLink struct {
	netio.Link
	open *atomic.Int64
	once sync.Once
}

func (l *countedLink) Close() error {
	l.once.Do(func() { l.open.Add(-1) })
	return l.Link.Close()
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
func (p *pair) openTo() (out, in *client.Stream) {
	p.w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := p.alice.OpenStream(ctx, p.bob.Host().Name(), nil)
	if err != nil {
		p.w.T.Fatal(err)
	}
	if in, err = p.bob.AcceptStream(ctx); err != nil {
		p.w.T.Fatal(err)
	}
	return out, in
}
