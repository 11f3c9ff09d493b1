package suite_test

import (
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// The path changes again and again while messages flow both ways: it dies at once and is there again, an end goes to another
// network, a gateway forgets all, an interface is down for a moment. None is lost, repeated or out of order.
func TestManyChanges(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		home := w.ground.gateway("home", nil, sim.PortRestricted())
		places := []place{home, w.ground.gateway("office", nil, sim.AddressRestricted())}
		w.behind(home, "alice")
		w.behind(w.ground.gateway("home-bob", nil, sim.PortRestricted()), "bob")
		here, there := w.stream(w.client("alice"), w.client("bob"), nil)
		to, back := w.traffic(here, there), w.traffic(there, here)
		alice, bob := w.machine("alice"), w.machine("bob")
		flow := func() {
			w.Helper()
			to.flows(20)
			back.flows(20)
		}
		for round := range 3 {
			w.direct("the channel", here, there)
			healTo, healBack := w.ground.cut(alice, bob), w.ground.cut(bob, alice)
			w.relays("the cut channel", here, there)
			flow()
			healTo()
			healBack()
			w.direct("the healed channel", here, there)
			flow()
			at := places[(round+1)%len(places)]
			alice.move(at)
			flow()
			w.direct("the moved channel", here, there)
			at.reboot()
			flow()
			alice.setUp(false)
			<-time.After(300 * time.Millisecond)
			alice.setUp(true)
			flow()
		}
		to.stop()
		back.stop()
		w.attached(2)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}

// The network of one end takes smaller packets from one moment on: large messages arrive all the same, in both directions.
func TestNarrows(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		here, there := w.stream(w.client("alice"), w.client("bob"), nil)
		w.direct("the channel", here, there)
		large := strings.Repeat("x", 50_000)
		exchange := func() {
			w.Helper()
			for range 20 {
				w.send(here, large)
				w.want(there, large)
				w.send(there, large)
				w.want(here, large)
			}
		}
		exchange() // QUIC finds out how large packets may be
		switch m := w.machine("bob").(type) {
		case simHost:
			if err := m.SetLine(sim.Line{Latency: near.Latency, MTU: 1280}); err != nil {
				w.Fatal(err)
			}
		case netlabHost:
			if output, err := m.Run("ip", "link", "set", "eth0", "mtu", "1280"); err != nil {
				w.Fatal(output, err)
			}
		}
		exchange()
		w.attached(2)
	}, append(slow("takes seconds"), except(loopback, noFaults))...)
}

// The gateways of both ends forget a mapping after two seconds. Who is silent for longer is reached all the same.
func TestMappingsExpire(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		nat := sim.PortRestricted()
		nat.Timeout = 2 * time.Second
		here, there := w.homes(nat, nat)
		w.direct("the channel", here, there)
		for range 2 {
			<-time.After(5 * time.Second)
			w.both(here, there)
			<-time.After(5 * time.Second)
			w.both(there, here)
		}
		w.attached(2)
	}, append(slow("takes seconds"), except(loopback, noGateways))...)
}
