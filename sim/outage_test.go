package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestOutage takes a client's network away for a while, under traffic in both directions: messages come again within half a
// second of its return, on the direct path and over the relay.
func TestOutage(t *testing.T) {
	for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
		for _, lasts := range []time.Duration{2 * time.Second, 5 * time.Second, 12 * time.Second} {
			t.Run(fmt.Sprintf("%v, %v", mode, lasts), func(t *testing.T) {
				inWorld(t, 1, func(w *world) {
					alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
					a, b := w.open(alice, bob, &client.StreamOptions{Mode: mode})
					streams := w.flows(a, b, 10*time.Millisecond, 200)
					for phase := range phases(6) {
						time.Sleep(10*time.Second + time.Duration(phase)*171*time.Millisecond)
						heal := w.Add(func(p sim.Packet) sim.Verdict {
							if p.Source == "alice" || p.Destination == "alice" {
								return sim.Drop()
							}
							return sim.Verdict{}
						})
						time.Sleep(lasts)
						before := [2]uint64{streams[0].count(), streams[1].count()}
						heal()
						began := w.Elapsed()
						w.Eventually(5*time.Second, "messages", func() bool { return streams[0].count() > before[0] && streams[1].count() > before[1] })
						if took := w.Elapsed() - began; took > 500*time.Millisecond {
							w.T.Errorf("phase %d: messages came %v after the network", phase, took)
						}
					}
					time.Sleep(10 * time.Second)
					w.check(streams.end())
				})
			})
		}
	}
}

// phases is how many phases of timers are tried.
func phases(n int) int {
	if testing.Short() {
		return 1
	}
	return n
}

// TestCoordinatorAway crashes the coordinator and starts it again after a while: what it relays goes on within a second, and
// direct channels notice nothing.
func TestCoordinatorAway(t *testing.T) {
	lead, aways := 2*time.Minute, []time.Duration{500 * time.Millisecond, 3 * time.Second, 10 * time.Second, 20 * time.Second}
	if testing.Short() {
		lead, aways = 10*time.Second, aways[1:2]
	}
	for _, away := range aways {
		t.Run(away.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				a, b := w.open(alice, bob, nil)
				direct := w.flows(a, b, 10*time.Millisecond, 200)
				w.direct(3*time.Second, a, b)
				c, d := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
				relayed := w.flows(c, d, 10*time.Millisecond, 200)
				for phase := range phases(3) {
					time.Sleep(lead + time.Duration(phase)*271*time.Millisecond) // who is lost often is dialed less often
					direct.measure()
					w.coordinator.Crash()
					time.Sleep(away)
					w.coordinator.Start()
					before, began := [2]uint64{relayed[0].count(), relayed[1].count()}, w.Elapsed()
					w.Eventually(20*time.Second, "messages", func() bool { return relayed[0].count() > before[0] && relayed[1].count() > before[1] })
					if took := w.Elapsed() - began; took > time.Second {
						w.T.Errorf("phase %d: messages came %v after the coordinator", phase, took)
					}
					if gap := direct.gap(); gap > 50*time.Millisecond {
						w.T.Errorf("phase %d: %v without a message on the direct channel", phase, gap)
					}
				}
				w.check(direct.end())
				w.check(relayed.end())
				c, d = w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly}) // they have their names
				w.say(c, d, "hi", time.Second)
			})
		})
	}
}

// TestBurstIsNoOutage sends a lot after a pause: that nothing came meanwhile is no reason for QUIC to begin anew.
func TestBurstIsNoOutage(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		w.direct(3*time.Second, a, b)
		time.Sleep(5 * time.Second)
		epochs := map[byte]int{}
		w.Add(func(p sim.Packet) sim.Verdict {
			if p.Source == "alice" && frameKind(p) == typeDirect {
				epochs[p.Payload[0]]++
			}
			return sim.Verdict{}
		})
		for range 5 {
			w.say(a, b, string(make([]byte, 50_000)), 5*time.Second)
			time.Sleep(6 * time.Second)
		}
		if len(epochs) != 1 {
			t.Errorf("packets by epoch: %v, want one", epochs)
		}
	})
}
