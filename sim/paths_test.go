package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// away returns a line that makes the direct round trip of two hosts that long.
func away(roundTrip time.Duration) sim.Line { return sim.Line{Latency: roundTrip / 4} }

// soon is the tolerance of times: what the network takes for its own nanoseconds
// and what a waiting scenario takes to look.
const soon = 2 * time.Millisecond

func TestAttachThenRelayThenDirect(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		began := time.Now()
		alice := w.client("alice", near, nil)
		if took := time.Since(began); took > 3*direct+soon { // handshake, attach, bind
			w.T.Errorf("attached after %v", took)
		}
		bob := w.client("bob", near, nil)
		began = time.Now()
		a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
		// Introduction, handshake of the channel, opening of the stream: each there and back.
		if took := time.Since(began); took > 2*direct+relayed+relayed+soon {
			w.T.Errorf("stream over the relay opened after %v", took)
		}
		began = time.Now()
		w.say(a, b, "over the relay", time.Second)
		if took := time.Since(began); took < relayed/2 || took > relayed/2+soon {
			w.T.Errorf("message over the relay took %v", took)
		}
		if path := a.Channel().Path(); !path.Relayed || path.Remote != hubAddr || path.RTT.Round(10*time.Millisecond) != relayed {
			w.T.Errorf("path is %v", path)
		}
		began = time.Now()
		a, b = w.open(alice, bob, nil)
		w.direct(time.Second, a, b)
		if took := time.Since(began); took > time.Second {
			w.T.Errorf("direct after %v", took)
		}
		began = time.Now()
		w.say(a, b, "directly", time.Second)
		if took := time.Since(began); took < direct/2 || took > direct/2+soon {
			w.T.Errorf("message over the direct path took %v", took)
		}
		if path := b.Channel().Path(); path.Relayed || path.Remote != alice.addr() {
			w.T.Errorf("path is %v", path)
		}
	})
}

// TestDirectPathDies cuts the direct path under traffic in both directions, at
// different phases of the probes, and heals it.
func TestDirectPathDies(t *testing.T) {
	for _, roundTrip := range []time.Duration{2 * time.Millisecond, 40 * time.Millisecond, 200 * time.Millisecond} {
		for _, oneWay := range []bool{false, true} {
			for phase := range phases(4) {
				t.Run(fmt.Sprintf("%v, one way %v, phase %d", roundTrip, oneWay, phase), func(t *testing.T) {
					inWorld(t, uint64(phase), func(w *world) {
						alice, bob := w.client("alice", away(roundTrip), nil), w.client("bob", away(roundTrip), nil)
						a, b := w.open(alice, bob, nil)
						traffic := w.flows(a, b, 10*time.Millisecond, 200)
						w.direct(3*time.Second, a, b)
						time.Sleep(7*time.Second + time.Duration(phase)*53*time.Millisecond)
						traffic.measure()
						rule := sim.Block(alice.Host(), bob.Host())
						if oneWay {
							rule = sim.Cut(alice.Host(), bob.Host())
						}
						heal := w.Add(rule)
						limit := time.Second
						if oneWay { // the side that is heard last learns of it from the other, over the relay
							limit += roundTrip
						}
						w.relays(limit, a, b)
						time.Sleep(5 * time.Second)
						// What was on the way is sent again, after a round trip over the relay.
						if gap := traffic.gap(); gap > limit+2*roundTrip {
							w.T.Errorf("%v without a message", gap)
						}
						heal()
						w.direct(15*time.Second, a, b)
						time.Sleep(time.Second)
						w.check(traffic.end())
					})
				})
			}
		}
	}
}

// TestOneDirectionOfTraffic kills the direct path while only one side sends: the
// other hears of it by what comes over the relay.
func TestOneDirectionOfTraffic(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		traffic := w.flow(a, b, 10*time.Millisecond, 1000)
		w.direct(3*time.Second, a, b)
		time.Sleep(10 * time.Second)
		traffic.measure()
		w.Add(sim.Block(alice.Host(), bob.Host()))
		w.relays(time.Second, a)
		w.relays(time.Second, a, b)
		time.Sleep(5 * time.Second)
		if gap, _ := traffic.longest(); gap > 1200*time.Millisecond {
			w.T.Errorf("%v without a message", gap)
		}
		w.check(traffic.end())
	})
}

// TestFlapping cuts and heals the direct path every second: the channel does not
// follow each time, and nothing is lost.
func TestFlapping(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		traffic := w.flows(a, b, 10*time.Millisecond, 200)
		w.direct(3*time.Second, a, b)
		began := time.Now()
		const times, period = 30, time.Second
		for range times {
			heal := w.Add(sim.Block(alice.Host(), bob.Host()))
			time.Sleep(period)
			heal()
			time.Sleep(period)
		}
		// A path that died is not used for three seconds.
		if moves, most := len(alice.paths(began, false)), int(times*2*period/(3*time.Second))+1; moves > most {
			w.T.Errorf("%d moves to the direct path, want at most %d", moves, most)
		}
		if len(alice.paths(began, true)) == 0 {
			w.T.Error("the path never died")
		}
		w.direct(15*time.Second, a, b)
		w.check(traffic.end())
	})
}

// TestIdleDirectPathDies cuts the direct path while nothing is sent: probes notice.
func TestIdleDirectPathDies(t *testing.T) {
	for _, wait := range []time.Duration{0, 3 * time.Second, 20 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				a, b := w.open(alice, bob, nil)
				w.direct(3*time.Second, a, b)
				w.say(a, b, "before", time.Second)
				time.Sleep(12345 * time.Millisecond)
				cut := time.Now()
				w.Add(sim.Block(alice.Host(), bob.Host()))
				time.Sleep(wait)
				w.say(a, b, "first", 2*time.Second)
				w.say(b, a, "back", 2*time.Second)
				w.relays(7*time.Second, a, b)
				if wait > 7*time.Second { // an idle path is probed every 5 seconds
					for _, p := range []*program{alice, bob} {
						if at := p.paths(cut, true); len(at) == 0 || at[0].Sub(cut) > 6*time.Second {
							w.T.Errorf("%s noticed at %v, cut at %v", p.Name(), at, cut)
						}
					}
				}
			})
		})
	}
}

// TestSlowPathIsNotDead sends single messages over paths with long round trips:
// an answer that takes its time is no reason to leave.
func TestSlowPathIsNotDead(t *testing.T) {
	for _, roundTrip := range []time.Duration{300 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond} {
		t.Run(roundTrip.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", away(roundTrip), nil), w.client("bob", away(roundTrip), nil)
				a, b := w.open(alice, bob, nil)
				w.direct(10*time.Second, a, b)
				direct := time.Now()
				for i := range 50 {
					w.say(a, b, "question", 5*time.Second)
					w.say(b, a, "answer", 5*time.Second)
					time.Sleep(time.Duration(i) * 77 * time.Millisecond)
				}
				for _, p := range []*program{alice, bob} {
					if at := p.paths(direct.Add(time.Second), true); len(at) > 0 {
						w.T.Errorf("%s left a direct path that was alive %d times", p.Name(), len(at))
					}
				}
			})
		})
	}
}

func TestDirectOnlyToBlockedPeer(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		heal := w.Add(sim.Block(alice.Host(), bob.Host()))
		began := time.Now()
		_, err := alice.OpenStream(context.Background(), "bob", &client.StreamOptions{Mode: client.DirectOnly})
		if took := time.Since(began); !errors.Is(err, messages.ErrUnreachable) || took > 16*time.Second {
			w.T.Errorf("after %v: %v", took, err)
		}
		heal()
		a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.DirectOnly})
		if a.Channel().Path().Relayed {
			w.T.Errorf("path is %v", a.Channel().Path())
		}
		w.say(a, b, "hello", time.Second)
	})
}

// TestDirectOnlyNeverRelaysData kills the path of a direct-only channel under
// traffic: it waits for the path rather than use the relay.
func TestDirectOnlyNeverRelaysData(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.DirectOnly})
		w.direct(time.Second, a, b)
		relayed := 0
		forget := w.Add(func(p sim.Packet) sim.Verdict {
			if frameKind(p) == typeRelay {
				relayed++
			}
			return sim.Verdict{}
		})
		traffic := w.flows(a, b, 10*time.Millisecond, 200)
		time.Sleep(5 * time.Second)
		heal := w.Add(sim.Block(alice.Host(), bob.Host()))
		time.Sleep(8 * time.Second)
		if path := a.Channel().Path(); path.Remote.IsValid() {
			w.T.Errorf("path is %v", path)
		}
		heal()
		w.direct(15*time.Second, a, b)
		w.check(traffic.end())
		if forget(); relayed > 0 {
			w.T.Errorf("%d packets over the relay", relayed)
		}
	})
}

func TestRelayOnlySendsNothingDirectly(t *testing.T) {
	for _, who := range []string{"stream", "client", "peer"} {
		t.Run(who, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				only := func(c *client.Config) { c.RelayOnly = true }
				var ofAlice, ofBob func(*client.Config)
				options := &client.StreamOptions{}
				switch who {
				case "stream":
					options.Mode = client.RelayOnly
				case "client":
					ofAlice = only
				case "peer":
					ofBob = only
				}
				alice, bob := w.client("alice", near, ofAlice), w.client("bob", near, ofBob)
				var between []netip.AddrPort
				forget := w.Add(func(p sim.Packet) sim.Verdict {
					if p.Source != "coordinator" && p.Destination != "coordinator" {
						between = append(between, p.To)
					}
					return sim.Verdict{}
				})
				a, b := w.open(alice, bob, options)
				traffic := w.flows(a, b, 50*time.Millisecond, 200)
				time.Sleep(time.Minute)
				if !a.Channel().Path().Relayed {
					w.T.Errorf("path is %v", a.Channel().Path())
				}
				w.check(traffic.end())
				// Where only the peer's client wants the relay, ours offers addresses, but hears of none.
				if forget(); len(between) > 0 {
					w.T.Errorf("%d packets past the relay, the first to %v", len(between), between[0])
				}
			})
		})
	}
}

// narrow loses what is too large for the path between two hosts.
func narrow(a, b *sim.Host, payload int) sim.Rule {
	block := sim.Block(a, b)
	return func(p sim.Packet) sim.Verdict {
		if len(p.Payload) > payload {
			return block(p)
		}
		return sim.Verdict{}
	}
}

// TestNarrowDirectPath has a direct path that carries datagrams of 1,300 bytes. It is used, also by a channel whose QUIC
// has found larger packets to pass on the relay: QUIC is told, and begins with small ones again.
func TestNarrowDirectPath(t *testing.T) {
	every := 10 * time.Millisecond
	if testing.Short() {
		every = 40 * time.Millisecond
	}
	for _, relayFirst := range []bool{false, true} {
		if testing.Short() && !relayFirst {
			continue // many packets
		}
		t.Run(fmt.Sprintf("relay first %v", relayFirst), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				largest := 0
				forget := w.Add(func(p sim.Packet) sim.Verdict {
					if p.Destination == "coordinator" {
						largest = max(largest, len(p.Payload))
					}
					return sim.Verdict{}
				})
				heal := func() {}
				if relayFirst {
					heal = w.Add(sim.Block(alice.Host(), bob.Host()))
				}
				w.Add(narrow(alice.Host(), bob.Host(), 1300))
				a, b := w.open(alice, bob, nil)
				traffic := w.flows(a, b, every, 10_000)
				time.Sleep(20 * time.Second)
				heal()
				time.Sleep(40 * time.Second)
				w.direct(time.Second, a, b)
				if forget(); relayFirst && largest < 1400 {
					w.T.Errorf("largest packet to the relay has %d bytes: path MTU discovery is off", largest)
				}
				if gap := traffic.gap(); gap > time.Second {
					w.T.Errorf("%v without a message", gap)
				}
				w.check(traffic.end())
				time.Sleep(20 * time.Second) // now only probes tell, and they are as large as what QUIC sends
				w.direct(time.Second, a, b)
			})
		})
	}
}
