package suite_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// gate is a link that a test lets no datagram through.
type gate struct {
	netio.Link
	shut atomic.Bool
}

func (g *gate) Write(to netip.AddrPort, p netio.Packets, wait bool) error {
	if g.shut.Load() {
		return nil
	}
	return g.Link.Write(to, p, wait)
}

func (g *gate) Read(b *netio.Batch) error {
	for {
		if err := g.Link.Read(b); err != nil || !g.shut.Load() {
			return err
		}
	}
}

// withoutNetns plays a scenario in the simulator and with sockets of this machine; network namespaces need no gate.
func withoutNetns(t *testing.T, scenario func(w *world)) {
	t.Helper()
	everywhere(t, func(w *world) {
		w.tcp = true
		w.begin()
		scenario(w)
	}, except(netns, "a gateway can do what the gate does: TestGatewayWithoutUDP"))
}

// onLoopback plays a scenario with sockets of this machine: a proxy needs real ones.
func onLoopback(t *testing.T, scenario func(w *world)) {
	t.Helper()
	playLoopback(t, func(w *world) {
		w.tcp = true
		w.begin()
		scenario(w)
	})
}

// gated attaches a client that UDP may be taken from.
func (w *world) gated(name string, shut bool, change ...func(*client.Config)) (*client.Client, *gate) {
	w.Helper()
	g := &gate{}
	g.shut.Store(shut)
	return w.client(name, append(change, func(c *client.Config) {
		g.Link = c.Link
		c.Link = g
		c.RelayOnly = true
	})...), g
}

// soon checks that something took seconds, as it should, and did not wait for what takes
// longer: a handshake over UDP, or a bind when nothing is amiss.
func (w *world) soon(what string, since time.Time) {
	w.Helper()
	if took := time.Since(since); took > 8*time.Second {
		w.Errorf("%s after %v", what, took)
	}
}

// stayed checks that a client was attached all the time, and its channels, too.
func (w *world) stayed(events recorder) {
	w.Helper()
	for len(events) > 0 {
		switch event := (<-events).(type) {
		case client.Detached, client.ChannelClosed:
			w.Errorf("%T%+v", event, event)
		}
	}
}

func (w *world) overTCP(cl *client.Client, want bool) {
	w.Helper()
	w.eventually(cl.Name()+" to change between UDP and TCP", func() bool { return cl.OverTCP() == want })
}

// Clients whose network blocks UDP attach over TCP, and exchange messages with others
// and with each other. They say so.
func TestUDPBlocked(t *testing.T) {
	withoutNetns(t, func(w *world) {
		events, start := newRecorder(), time.Now()
		alice, _ := w.gated("alice", true, events.config)
		w.soon("attached over TCP", start)
		if got := await[client.Attached](w, events); !got.TCP || !alice.OverTCP() {
			w.Errorf("%+v, over TCP %v, want TCP", got, alice.OverTCP())
		}
		bob, _ := w.gated("bob", true)
		carol, _ := w.gated("carol", false)
		if carol.OverTCP() {
			w.Error("TCP without need")
		}
		w.both(w.stream(alice, bob, nil))
		w.both(w.stream(alice, carol, nil))
		w.both(w.stream(carol, bob, nil))
		if stats := w.coord.Stats(); stats.TCP.Open != 2 {
			w.Errorf("%d TCP connections, want 2", stats.TCP.Open)
		}
	})
}

// Once UDP gets through again, a client goes on over UDP, and when it does not any
// more, over TCP. No message is lost, and its attachment and channels stay.
func TestUDPComesAndGoes(t *testing.T) {
	withoutNetns(t, func(w *world) {
		events := newRecorder()
		alice, gate := w.gated("alice", true, events.config)
		bob, _ := w.gated("bob", false)
		here, there := w.stream(alice, bob, nil)
		to, back := w.traffic(here, there), w.traffic(there, here)
		for range 2 {
			to.flows(100)
			back.flows(100)
			gate.shut.Store(false)
			if got := await[client.HomeMoved](w, events); got.TCP {
				w.Fatalf("%+v, want UDP", got)
			}
			to.flows(100)
			back.flows(100)
			gate.shut.Store(true)
			if got := await[client.HomeMoved](w, events); !got.TCP {
				w.Fatalf("%+v, want TCP", got)
			}
		}
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
		w.both(w.stream(bob, alice, nil)) // the home channel has moved, too
		w.stayed(events)
	})
}

// A coordinator restarts. Those who came over TCP come back over it, and lose nothing.
func TestRestartOverTCP(t *testing.T) {
	withoutNetns(t, func(w *world) {
		alice, _ := w.gated("alice", true)
		bob, _ := w.gated("bob", false)
		here, there := w.stream(alice, bob, nil)
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
		w.overTCP(alice, true)
		w.overTCP(bob, false) // sooner or later
	})
}

// Behind a gateway that passes TCP but no UDP, clients are attached over TCP. When the
// gateway passes UDP, they take that, and direct paths where there are any; when it
// does not any more, TCP again. No message is lost.
func TestGatewayWithoutUDP(t *testing.T) {
	everywhere(t, func(w *world) {
		w.tcp = true
		w.begin()
		blocked := sim.PortRestricted()
		blocked.NoUDP = true
		home := w.ground.gateway("home-alice", nil, blocked)
		w.behind(home, "alice")
		w.behind(w.ground.gateway("home-bob", nil, blocked), "bob")
		events := newRecorder()
		alice, bob, carol := w.client("alice", events.config), w.client("bob"), w.client("carol")
		if !alice.OverTCP() || !bob.OverTCP() || carol.OverTCP() {
			w.Fatal("not over TCP where needed")
		}
		w.both(w.stream(alice, bob, nil))
		here, there := w.stream(alice, carol, nil)
		to, back := w.traffic(here, there), w.traffic(there, here)
		to.flows(100)
		back.flows(100)
		home.become(sim.PortRestricted())
		w.overTCP(alice, false)
		w.direct("the channel", here, there)
		to.flows(100)
		back.flows(100)
		home.become(blocked)
		w.overTCP(alice, true)
		w.relays("the channel", here, there)
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
		w.attached(3)
		w.stayed(events)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}
