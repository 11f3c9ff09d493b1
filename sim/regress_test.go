package sim_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// What TestSchedules and its like have found, each as a scenario of its own.

// TestOpenAfterMove opens a channel between two clients that have moved while
// nothing was said: the relay does not know yet where they are.
func TestOpenAfterMove(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.client("a", near, nil), w.client("b", near, nil)
		<-time.After(20 * time.Second)
		for _, p := range []*program{a, b} {
			w.must(p.Host().Move(w.Internet(), near))
		}
		<-time.After(5 * time.Second) // until the keepalive of QUIC has told where to send an offer
		began := w.Elapsed()
		w.open(a, b, nil)
		if took := w.Elapsed() - began; took > 4*time.Second {
			t.Errorf("opened after %v", took)
		}
	})
}

// TestNarrowNetwork attaches from a network that carries packets of no more than
// 1,280 bytes, as tunnels do.
func TestNarrowNetwork(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		narrow := near
		narrow.MTU = 1280
		home, err := w.Network.Gateway("home", w.Internet(), sim.PortRestricted(), narrow)
		w.must(err)
		inside := &program{w.Client(w.Host("a", home, near), nil), w}
		b := w.client("b", narrow, nil)
		stream, far := w.open(inside, b, nil)
		w.say(stream, far, string(make([]byte, 100_000)), 10*time.Second)
	})
}

// TestRelayToItselfAfterCoordinatorRestart keeps a relayed channel of a client to
// itself over a restart of the coordinator.
func TestRelayToItselfAfterCoordinatorRestart(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a := w.client("a", near, nil)
		one, other := w.open(a, a, &client.StreamOptions{Mode: client.RelayOnly})
		w.say(one, other, "before", time.Second)
		w.coordinator.Crash()
		w.coordinator.Start()
		w.say(one, other, "after", 25*time.Second)
		w.say(other, one, "back", time.Second)
	})
}

// TestRuleAtFirewall sends to the outside address of a firewall, from its inside
// and from the internet, while there is a rule, for which the network looks up who
// gets it: nobody.
func TestRuleAtFirewall(t *testing.T) {
	network := sim.NewNetwork(1)
	defer network.Close()
	wall := sim.Firewall()
	wall.Inside = netip.MustParsePrefix("100.100.0.0/24")
	gateway, err := network.Gateway("wall", network.Internet(), wall, sim.Line{})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 2)
	network.Add(func(p sim.Packet) sim.Verdict {
		asked <- p.Destination
		return sim.Drop()
	})
	for name, place := range map[string]sim.Place{"inside": gateway, "outside": network.Internet()} {
		host, err := network.Host(name, place, sim.Line{})
		if err != nil {
			t.Fatal(err)
		}
		link, err := host.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Write(netip.AddrPortFrom(gateway.Addr(), 5000), netio.Packets{Data: []byte("x")}, false); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != "" {
			t.Errorf("from %s: %q would get it", name, got)
		}
	}
}

// TestCloseAfterPeerClosed closes a channel that the peer has closed, whose last
// packet was lost: everything was read, so there is nothing to wait for.
func TestCloseAfterPeerClosed(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.client("a", near, nil), w.client("b", near, nil)
		stream, far := w.open(a, b, nil)
		w.direct(5*time.Second, stream, far)
		closed := make(chan error, 1)
		go func() { closed <- stream.Channel().Close(within(10 * time.Second)) }()
		<-time.After(direct * 3 / 4) // b has said that it has read everything; a does not know
		w.Add(sim.Isolate(a.Host()))
		began := w.Elapsed()
		err := far.Channel().Close(within(10 * time.Second))
		if took := w.Elapsed() - began; err != nil || took > 3*time.Second {
			t.Errorf("closed after %v: %v", took, err)
		}
		w.check(<-closed)
	})
}

// TestBothClose has both sides close a channel at the same instant, and loses what
// one says for a moment: both get to know that everything was read.
func TestBothClose(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.client("a", near, nil), w.client("b", near, nil)
		stream, far := w.open(a, b, nil)
		w.direct(5*time.Second, stream, far)
		results := make(chan error, 2)
		for _, s := range []*client.Stream{stream, far} {
			go func() { results <- s.Channel().Close(within(10 * time.Second)) }()
		}
		began := w.Elapsed()
		<-time.After(direct / 4)
		heal := w.Add(sim.Cut(a.Host(), b.Host()))
		<-time.After(direct)
		heal()
		for range 2 {
			err := <-results
			if took := w.Elapsed() - began; err != nil || took > 3*time.Second {
				t.Errorf("closed after %v: %v", took, err)
			}
		}
	})
}

// TestAbortTowardsItself aborts one end of a channel of a client to itself, and
// loses the packet that says so: the coordinator tells the other end.
func TestAbortTowardsItself(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a := w.client("a", near, nil)
		one, other := w.open(a, a, &client.StreamOptions{Mode: client.RelayOnly})
		w.say(one, other, "before", time.Second)
		w.Add(func(p sim.Packet) sim.Verdict {
			if frameKind(p) == typeRelay {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
		one.Channel().Abort()
		began := w.Elapsed()
		_, err := other.Receive(within(time.Minute))
		if took := w.Elapsed() - began; err == nil || took > 3*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
