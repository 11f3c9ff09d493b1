package sim_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// outcome is what has to become of a channel with a direct path when something happens to the network.
type outcome struct {
	name    string
	clients func(w *world) (alice, bob *program) // if nil, with public addresses
	happens func(w *world, alice, bob *program)  // may be nil
	every   time.Duration                        // between messages, each way; if 0, 100 milliseconds
	relayed bool                                 // the path in the end
	moves   int                                  // the most that either makes in three minutes
	slowest time.Duration                        // the most that a message is on the way
	check   func(w *world, alice, bob *program, b *client.Stream)
}

// outcomes are events and what comes of them. Messages arrive once and in order, whatever happens.
var outcomes = []outcome{
	{
		name: "a fifth is lost, one way", slowest: 300 * time.Millisecond, moves: 1,
		happens: func(w *world, _, _ *program) {
			number := 0
			w.Add(fromAliceToBob(func() sim.Verdict {
				if number++; number%5 == 0 {
					return sim.Drop()
				}
				return sim.Verdict{}
			}))
		},
	},
	{
		name: "all is lost, one way", slowest: time.Second, moves: 1, relayed: true,
		happens: func(w *world, _, _ *program) { w.Add(fromAliceToBob(sim.Drop)) },
	},
	{
		name: "one way takes longer", slowest: 220 * time.Millisecond,
		happens: func(w *world, _, _ *program) {
			w.Add(fromAliceToBob(func() sim.Verdict { return sim.DeliverAfter(200 * time.Millisecond) }))
		},
	},
	{ // alice sends to the faster interface; what bob sends goes by the other
		name: "another interface for the way back", slowest: direct, moves: 1,
		happens: func(w *world, _, bob *program) {
			w.must(bob.Host().Plug("eth1", w.Internet(), sim.Line{Latency: time.Millisecond}, otherAddr.Addr()))
		},
		check: func(w *world, alice, bob *program, b *client.Stream) {
			if path := b.Channel().Path(); path.Remote != alice.addr() || movedTo(alice) != otherAddr.String() {
				w.T.Errorf("bob sends to %v, alice to %s", path, movedTo(alice))
			}
		},
	},
	{
		name: "packets have 1280 bytes at most", slowest: direct,
		clients: func(w *world) (alice, bob *program) {
			return w.client("alice", near, nil), w.client("bob", narrowLine, nil)
		},
	},
	{
		name: "packets have 1280 bytes at most from now on", slowest: 1500 * time.Millisecond, moves: 2,
		happens: func(w *world, _, bob *program) { w.must(bob.Host().SetLine(narrowLine)) },
	},
	{name: "mappings last 30 seconds, idle", clients: forgetful(30*time.Second, sim.PreservePorts), every: 45 * time.Second, slowest: direct},
	{name: "mappings last 4 seconds", clients: forgetful(4*time.Second, sim.PreservePorts), slowest: direct},
	{name: "mappings last 4 seconds, idle", clients: forgetful(4*time.Second, sim.PreservePorts), every: 20 * time.Second, slowest: direct},
	{
		name: "mappings last 4 seconds, idle, then have other ports", clients: forgetful(4*time.Second, sim.RandomPorts),
		every: 20 * time.Second, slowest: direct + time.Millisecond, moves: 24, // one that goes over the relay
	},
	{
		name: "another host has the address", slowest: 450 * time.Millisecond, moves: 1,
		happens: takeOver, check: leftAlone,
	},
	{
		name: "another host has the address, untold", slowest: 800 * time.Millisecond, moves: 1,
		clients: func(w *world) (alice, bob *program) {
			return w.client("alice", near, func(c *client.Config) { c.Watcher = deaf{} }), w.client("bob", near, nil)
		},
		happens: takeOver, check: leftAlone,
	},
}

var (
	narrowLine = sim.Line{Latency: near.Latency, MTU: 1280}

	freshAddr = addr("203.0.113.77:49152") // alice's, when she goes elsewhere
	otherAddr = addr("203.0.113.78:49152") // bob's at his other interface
)

// fromAliceToBob is a rule for what alice sends to bob.
func fromAliceToBob(verdict func() sim.Verdict) sim.Rule {
	return func(p sim.Packet) sim.Verdict {
		if p.Source == "alice" && p.Destination == "bob" {
			return verdict()
		}
		return sim.Verdict{}
	}
}

// forgetful puts two clients behind gateways with short memories.
func forgetful(timeout time.Duration, ports sim.PortPolicy) func(w *world) (alice, bob *program) {
	nat := sim.PortRestricted()
	nat.Timeout, nat.Ports = timeout, ports
	return func(w *world) (alice, bob *program) { return w.behind("alice", nat), w.behind("bob", nat) }
}

// movedTo returns where a client's path led after the last change.
func movedTo(p *program) (remote string) {
	for _, e := range p.Events() {
		if change, ok := e.Event.(client.PathChanged); ok {
			remote = change.Remote
		}
	}
	return remote
}

// takeOver has alice go elsewhere, and another client come to the address and port that were hers.
func takeOver(w *world, alice, _ *program) {
	former := alice.addr()
	alice.move(freshAddr)
	carol := &program{w.Client(w.Host("carol", w.Internet(), near, former.Addr()), nil), w}
	w.clients = append(w.clients, carol)
	if got := carol.Current().Attachment().Observed; got != former {
		w.T.Errorf("carol is at %v, want %v", got, former)
	}
}

// leftAlone checks that bob reaches alice where she is, and that carol heard nothing that she took for hers.
func leftAlone(w *world, _, _ *program, b *client.Stream) {
	if path := b.Channel().Path(); path.Remote != freshAddr {
		w.T.Errorf("bob's path is %v", path)
	}
	if events := w.clients[2].Events(); len(events) != 1 {
		w.T.Errorf("carol was told %+v, want only that she is attached", events)
	}
}

// TestOutcomes has each of the events happen to a channel under traffic.
func TestOutcomes(t *testing.T) {
	for i, test := range outcomes {
		if testing.Short() && i%2 == 1 {
			continue
		}
		t.Run(test.name, func(t *testing.T) { inWorld(t, 1, test.play) })
	}
}

func (o outcome) play(w *world) {
	var alice, bob *program
	if o.clients != nil {
		alice, bob = o.clients(w)
	} else {
		alice, bob = w.client("alice", near, nil), w.client("bob", near, nil)
	}
	every := o.every
	if every == 0 {
		every = 100 * time.Millisecond
	}
	a, b := w.open(alice, bob, nil)
	w.direct(3*time.Second, a, b)
	traffic := w.flows(a, b, every, 2000)
	time.Sleep(time.Second)
	traffic.measure()
	began := time.Now()
	if o.happens != nil {
		o.happens(w, alice, bob)
	}
	time.Sleep(3 * time.Minute)
	for _, p := range []*program{alice, bob} {
		if moves := len(p.paths(began, true)) + len(p.paths(began, false)); moves > o.moves {
			w.T.Errorf("%s moved %d times, want at most %d", p.Name(), moves, o.moves)
		}
	}
	for _, s := range []*client.Stream{a, b} {
		if path := s.Channel().Path(); path.Relayed != o.relayed {
			w.T.Errorf("path is %v, relayed: want %v", path, o.relayed)
		}
	}
	for i, f := range traffic {
		if _, slowest := f.longest(); slowest > o.slowest || slowest == 0 {
			w.T.Errorf("way %d: a message took %v, want at most %v", i, slowest, o.slowest)
		}
	}
	if o.check != nil {
		o.check(w, alice, bob, b)
	}
	w.check(traffic.end())
}

// TestAsleep has a host sleep for ten minutes. Its peer loses the channel meanwhile. When it wakes, it is attached again
// within seconds and talks to its peer; a resumable stream that both have waited for so long goes on and loses nothing,
// another one has ended. The client's timers go on in its sleep: TestSlept is about one that finds its attachment gone.
func TestAsleep(t *testing.T) {
	for _, test := range []struct {
		name string
		wait time.Duration
	}{{"streams end", 0}, {"a stream waits", 15 * time.Minute}} {
		for seed := range phases(3) {
			t.Run(fmt.Sprintf("%s, seed %d", test.name, seed), func(t *testing.T) {
				inWorld(t, uint64(seed+1), func(w *world) { asleep(w, test.wait) })
			})
		}
	}
}

func asleep(w *world, wait time.Duration) {
	patient := func(c *client.Config) { c.ResumeWait = wait }
	alice, bob := w.client("alice", near, patient), w.client("bob", near, patient)
	a, b := w.open(alice, bob, &client.StreamOptions{Resumable: true})
	w.direct(3*time.Second, a, b)
	traffic := w.flows(a, b, time.Second, 200)
	time.Sleep(10 * time.Second)
	began := time.Now()
	alice.Host().Pause()
	time.Sleep(40 * time.Second)
	if lost := bob.lost(began); len(lost) != 1 {
		w.T.Errorf("bob lost %d channels after 40 seconds, want one", len(lost))
	}
	time.Sleep(10*time.Minute - 40*time.Second)
	before := [2]uint64{traffic[0].count(), traffic[1].count()}
	alice.Host().Resume()
	w.Eventually(3*time.Second, "attached again", func() bool { return w.coordinator.Stats().Attached == 2 })
	if wait > 0 {
		w.Eventually(3*time.Second, "messages", func() bool { return traffic[0].count() > before[0] && traffic[1].count() > before[1] })
		time.Sleep(10 * time.Second)
		w.direct(time.Second, a, b)
		w.check(traffic.end())
		return
	}
	if err := traffic.end(); !errors.Is(err, messages.ErrUnreachable) {
		w.T.Errorf("streams ended with %v, want unreachable", err)
	}
	for _, way := range [][2]*program{{alice, bob}, {bob, alice}} {
		c, d := w.open(way[0], way[1], nil)
		w.say(c, d, "awake", time.Second)
		w.direct(3*time.Second, c, d)
	}
}
