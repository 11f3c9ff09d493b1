package suite_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// Reasons for scenarios that are not played on loopback.
const (
	noGateways = "loopback has no gateways"
	noFaults   = "loopback cannot be cut or moved"
)

// gateways are the kinds that internal/netlab compares with the simulator's.
var gateways = []struct {
	name string
	nat  sim.NAT
}{
	{"full", sim.FullCone()},
	{"address", sim.AddressRestricted()},
	{"port", sim.PortRestricted()},
	{"open", sim.OpenMasquerade()},
	{"symmetric", sim.Symmetric()},
}

// directs tells whether two clients behind these gateways get a direct path: those
// whose plain packets always find a way (internal/netlab, TestMatrix). Where that
// depends on who sends first, they may.
func directs(a, b string) (always, never bool) {
	hard := func(name string) bool { return name == "symmetric" }
	strict := func(name string) bool { return name == "port" || name == "open" }
	switch {
	case hard(a) && hard(b), hard(a) && strict(b), strict(a) && hard(b):
		return false, true
	case strict(a) && strict(b):
		return a == "port" && b == "port", false
	}
	return true, false
}

// pair is two clients behind gateways, with a stream between them.
type pair struct {
	name        string
	from, to    *client.Client
	here, there *client.Stream
}

// Clients behind any two gateways exchange messages, and get a direct path where
// there is one.
func TestGateways(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		var near, far []*client.Client
		for _, kind := range gateways {
			for side, list := range map[string]*[]*client.Client{"near-": &near, "far-": &far} {
				name := side + kind.name
				w.behind(w.ground.gateway("gateway-"+name, nil, kind.nat), name)
				// What cannot be direct is tried for that long.
				*list = append(*list, w.client(name, func(c *client.Config) { c.OpenTimeout, c.NoPortSearch = 3*time.Second, true }))
			}
		}
		var direct, relayed []pair
		for i, a := range gateways {
			for j, b := range gateways {
				p := pair{name: a.name + " and " + b.name, from: near[i], to: far[j]}
				p.here, p.there = w.stream(p.from, p.to, nil)
				w.both(p.here, p.there)
				if always, never := directs(a.name, b.name); always {
					direct = append(direct, p)
				} else if never {
					relayed = append(relayed, p)
				}
			}
		}
		for _, p := range direct {
			w.direct(p.name, p.here, p.there)
			w.both(p.here, p.there)
		}
		var all sync.WaitGroup
		for _, p := range relayed {
			all.Go(func() {
				_, err := p.from.OpenStream(w.ctx, p.to.Name(), &client.StreamOptions{Mode: client.DirectOnly})
				if !errors.Is(err, messages.ErrUnreachable) {
					w.Errorf("%s: a direct stream: %v, want unreachable", p.name, err)
				}
			})
		}
		all.Wait()
		for _, p := range relayed {
			if here, there := p.here.Channel().Path(), p.there.Channel().Path(); !here.Relayed || !there.Relayed {
				w.Errorf("%s: paths %v and %v, want relayed", p.name, here, there)
			}
			w.both(p.here, p.there)
		}
	}, except(loopback, noGateways))
}

// Two clients of which one is behind a symmetric NAT, and the other behind one that lets in only what it has sent to, find each
// other all the same.
func TestPortSearch(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		here, there := w.homes(sim.Symmetric(), sim.PortRestricted())
		to, back := w.traffic(here, there), w.traffic(there, here)
		w.direct("the channel", here, there)
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// direct waits until a channel takes a direct path, seen from each of the streams.
func (w *world) direct(what string, streams ...*client.Stream) {
	w.Helper()
	w.takes(what+" to be direct", false, streams)
}

// relays waits until a channel takes the relay, seen from each of the streams.
func (w *world) relays(what string, streams ...*client.Stream) {
	w.Helper()
	w.takes(what+" to be relayed", true, streams)
}

func (w *world) takes(what string, relay bool, streams []*client.Stream) {
	w.Helper()
	w.eventually(what, func() bool {
		for _, s := range streams {
			if path := s.Channel().Path(); path.Relayed != relay || !path.Remote.IsValid() {
				return false
			}
		}
		return true
	})
}

// homes puts two clients behind gateways of their own, with a stream between them.
func (w *world) homes(a, b sim.NAT) (here, there *client.Stream) {
	w.Helper()
	w.behind(w.ground.gateway("home-alice", nil, a), "alice")
	w.behind(w.ground.gateway("home-bob", nil, b), "bob")
	return w.stream(w.client("alice"), w.client("bob"), nil)
}

// The direct path is cut in one direction. Both sides go back to the relay, and
// later directly again; no message is lost.
func TestCutOneWay(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		here, there := w.homes(sim.PortRestricted(), sim.PortRestricted())
		to, back := w.traffic(here, there), w.traffic(there, here)
		w.direct("the channel", here, there)
		heal := w.ground.cut(w.machine("alice"), w.machine("bob"))
		w.relays("the cut channel", here, there)
		to.flows(50)
		back.flows(50)
		heal()
		w.direct("the healed channel", here, there)
		to.flows(50)
		back.flows(50)
		to.stop()
		back.stop()
	}, append(slow("paths that failed are tried again after seconds"), except(loopback, noFaults))...)
}

// An interface is down for two seconds. What is sent meanwhile arrives later.
func TestInterfaceDown(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				here, there := w.stream(w.client("alice"), w.client("bob"), &client.StreamOptions{Mode: mode})
				to, back := w.traffic(here, there), w.traffic(there, here)
				to.flows(100)
				w.machine("alice").setUp(false)
				<-time.After(time.Second)
				before := to.count.Load() + back.count.Load()
				<-time.After(time.Second)
				if after := to.count.Load() + back.count.Load(); after != before {
					w.Errorf("%d messages came without an interface", after-before)
				}
				w.machine("alice").setUp(true)
				to.flows(100)
				back.flows(100)
				to.stop()
				back.stop()
			}, append(slow("takes seconds"), except(loopback, noFaults))...)
		})
	}
}

// A client goes from one gateway to another: its channels go on, from there.
func TestRoam(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		office := w.ground.gateway("office", nil, sim.PortRestricted())
		here, there := w.homes(sim.PortRestricted(), sim.AddressRestricted())
		to, back := w.traffic(here, there), w.traffic(there, here)
		w.direct("the channel", here, there)
		w.machine("alice").move(office)
		to.flows(100)
		back.flows(100)
		w.eventually("a direct path to the office", func() bool {
			path := there.Channel().Path()
			return !path.Relayed && path.Remote.Addr() == office.addr()
		})
		w.direct("the moved channel", here, there)
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
		w.attached(2)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// A client that is idle goes to another network. It is told so, and reached there at once: not only when it speaks the next
// time, which would be after seconds.
func TestRoamIdle(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		office := w.ground.gateway("office", nil, sim.PortRestricted())
		w.behind(w.ground.gateway("home", nil, sim.PortRestricted()), "alice")
		told := make(chan client.NetworkChanged, 16)
		alice := w.client("alice", func(c *client.Config) {
			c.OnEvent = func(event client.Event) {
				if change, ok := event.(client.NetworkChanged); ok {
					told <- change
				}
			}
		})
		here, there := w.stream(alice, w.client("bob"), &client.StreamOptions{Mode: client.RelayOnly})
		w.both(here, there)
		<-time.After(3 * time.Second) // until nobody waits for anybody
		w.machine("alice").move(office)
		began := time.Now()
		w.send(there, "to the office")
		w.want(here, "to the office")
		if took := time.Since(began); took > time.Second {
			w.Errorf("reached after %v", took)
		}
		if change := <-told; len(change.Former) == 0 || change.Slept != 0 {
			w.Errorf("told %+v", change)
		}
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// A gateway forgets its mappings: the channel goes on, by another.
func TestGatewayReboot(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		home := w.ground.gateway("home-alice", nil, sim.Symmetric())
		w.behind(home, "alice")
		w.behind(w.ground.gateway("home-bob", nil, sim.AddressRestricted()), "bob")
		here, there := w.stream(w.client("alice"), w.client("bob"), nil)
		to, back := w.traffic(here, there), w.traffic(there, here)
		for range 2 {
			w.direct("the channel", here, there)
			former := there.Channel().Path().Remote
			home.reboot()
			w.eventually("another port", func() bool {
				path := there.Channel().Path()
				return !path.Relayed && path.Remote.IsValid() && path.Remote != former
			})
			to.flows(100)
			back.flows(100)
		}
		to.stop()
		back.stop()
		w.attached(2)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// Two homes behind one carrier reach each other if the carrier's gateway sends
// back what is for itself; else the relay does.
func TestCarrier(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		t.Run(fmt.Sprintf("hairpin %v", hairpin), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				nat := sim.FullCone()
				nat.Hairpin = hairpin
				nat.Inside = netip.MustParsePrefix("100.64.0.0/10")
				carrier := w.ground.gateway("carrier", nil, nat)
				w.behind(w.ground.gateway("home-alice", carrier, sim.PortRestricted()), "alice")
				w.behind(w.ground.gateway("home-bob", carrier, sim.PortRestricted()), "bob")
				alice := w.client("alice", func(c *client.Config) { c.OpenTimeout = 3 * time.Second })
				here, there := w.stream(alice, w.client("bob"), nil)
				w.both(here, there)
				if hairpin {
					w.direct("the channel", here, there)
					if path := here.Channel().Path(); path.Remote.Addr() != carrier.addr() {
						w.Errorf("path %v, want by the carrier's address %v", path, carrier.addr())
					}
				} else if _, err := alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: client.DirectOnly}); !errors.Is(err, messages.ErrUnreachable) {
					w.Errorf("a direct stream: %v, want unreachable", err)
				}
				w.both(here, there)
			}, except(loopback, noGateways))
		})
	}
}

// A gateway that passes no UDP keeps a client from attaching that has no TCP. Once it passes some,
// the client comes in; while it passes none again, the client is detached, and
// comes back.
func TestNoUDP(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.IdleTimeout = time.Second })
		blocked := sim.PortRestricted()
		blocked.NoUDP = true
		home := w.ground.gateway("home", nil, blocked)
		w.behind(home, "alice")
		config := w.clientConfig("alice")
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if _, err := client.Connect(ctx, &config); !errors.Is(err, context.DeadlineExceeded) {
			w.Fatalf("connect through a gateway without UDP: %v, want deadline exceeded", err)
		}
		home.become(sim.PortRestricted())
		events := newRecorder()
		alice, bob := w.client("alice", events.config, func(c *client.Config) {
			c.IdleTimeout, c.KeepAlive = time.Second, 200*time.Millisecond
		}), w.client("bob")
		w.both(w.stream(alice, bob, nil))
		await[client.Attached](w, events)
		home.become(blocked)
		await[client.Detached](w, events)
		w.attached(1)
		home.become(sim.PortRestricted())
		await[client.Attached](w, events)
		w.both(w.stream(alice, bob, nil))
		w.both(w.stream(bob, alice, nil))
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// The coordinator restarts while it relays between clients that cannot do without:
// their channel waits for it and loses nothing.
func TestCoordinatorRestartBehindGateways(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		here, there := w.homes(sim.Symmetric(), sim.Symmetric())
		to, back := w.traffic(here, there), w.traffic(there, here)
		to.flows(100)
		back.flows(100)
		w.stop()
		w.start()
		w.attached(2)
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
		w.relays("the channel", here, there)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}
