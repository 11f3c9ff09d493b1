package sim_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// isBind tells the bind frames of a host.
func isBind(p sim.Packet, from string) bool {
	return p.Source == from && p.Destination == "coordinator" && p.Payload[0] == typeBind
}

// TestRebind changes the address of a client under traffic, as a NAT does that
// forgot its mapping: the client is not told. If it is, it is faster.
func TestRebind(t *testing.T) {
	tests := []struct {
		mode    client.Mode
		watcher netio.Watcher
		limit   time.Duration // without a message
	}{
		{client.Automatic, deaf{}, 800 * time.Millisecond}, // silence is doubted, probes come from the new address and are answered
		{client.RelayOnly, deaf{}, 1300 * time.Millisecond},
		{client.Automatic, nil, 450 * time.Millisecond},
		{client.RelayOnly, nil, relayed + direct + 50*time.Millisecond},
	}
	phases := 4
	if testing.Short() {
		phases = 1
	}
	for _, test := range tests {
		for phase := range phases {
			t.Run(fmt.Sprintf("%v, told %v, phase %d", test.mode, test.watcher == nil, phase), func(t *testing.T) {
				inWorld(t, uint64(phase), func(w *world) {
					alice := w.client("alice", near, func(c *client.Config) { c.Watcher = test.watcher })
					bob := w.client("bob", near, nil)
					binds := 0
					fresh := addr("203.0.113.77:49152")
					forget := w.Add(func(p sim.Packet) sim.Verdict {
						if isBind(p, "alice") && p.From == fresh {
							binds++
						}
						return sim.Verdict{}
					})
					a, b := w.open(alice, bob, &client.StreamOptions{Mode: test.mode})
					traffic := w.flows(a, b, 10*time.Millisecond, 200)
					if test.mode == client.Automatic {
						w.direct(time.Second, a, b)
					}
					time.Sleep(7*time.Second + time.Duration(phase)*4100*time.Millisecond)
					traffic.measure()
					began := time.Now()
					alice.move(fresh)
					time.Sleep(20 * time.Second)
					if gap := traffic.gap(); gap > test.limit {
						w.T.Errorf("%v without a message", gap)
					}
					if path := b.Channel().Path(); test.mode == client.Automatic && path.Remote != fresh {
						w.T.Errorf("bob's path is %v", path)
					}
					if forget(); binds == 0 {
						w.T.Error("no bind from the new address")
					}
					w.greet(alice, bob)
					w.check(traffic.end())
					for _, p := range []*program{alice, bob} {
						if lost := p.lost(began); len(lost) > 0 {
							w.T.Errorf("%s: %v", p.Name(), lost)
						}
					}
				})
			})
		}
	}
}

// TestCoordinatorCrash has the coordinator vanish and come back.
func TestCoordinatorCrash(t *testing.T) {
	t.Run("direct channel goes on", func(t *testing.T) {
		inWorld(t, 1, func(w *world) {
			alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
			a, b := w.open(alice, bob, nil)
			w.direct(time.Second, a, b)
			traffic := w.flows(a, b, 10*time.Millisecond, 200)
			began := time.Now()
			w.coordinator.Crash()
			away := 5 * time.Minute
			if testing.Short() {
				away = time.Minute
			}
			time.Sleep(away)
			if gap := traffic.gap(); gap > 50*time.Millisecond {
				w.T.Errorf("%v without a message", gap)
			}
			w.coordinator.Start()
			w.attached(15*time.Second, alice, bob)
			w.greet(alice, bob)
			w.check(traffic.end())
			if moves := alice.paths(began, true); len(moves) > 0 {
				w.T.Errorf("%d moves to a relay that was not there", len(moves))
			}
		})
	})
	for _, outage := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second} {
		t.Run("relayed channel waits "+outage.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
				traffic := w.flows(a, b, 10*time.Millisecond, 200)
				time.Sleep(7 * time.Second)
				began := time.Now()
				w.coordinator.Crash()
				time.Sleep(outage)
				w.coordinator.Start()
				w.attached(15*time.Second, alice, bob)
				traffic.measure()
				time.Sleep(time.Second)
				if gap := traffic.gap(); gap > 8*relayed { // one to have a route again, the others for what waited
					w.T.Errorf("%v without a message after attaching again", gap)
				}
				if took := time.Since(began); took > max(outage, time.Second)+11*time.Second {
					w.T.Errorf("back after %v", took)
				}
				w.greet(alice, bob)
				w.check(traffic.end())
				for _, p := range []*program{alice, bob} {
					if lost := p.lost(began); len(lost) > 0 {
						w.T.Errorf("%s: %v", p.Name(), lost)
					}
				}
			})
		})
	}
	t.Run("relayed channel is lost and restarted", func(t *testing.T) {
		inWorld(t, 1, func(w *world) {
			alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
			a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
			w.say(a, b, "before", time.Second)
			w.coordinator.Crash()
			for _, s := range []*client.Stream{a, b} {
				if _, err := s.Receive(within(45 * time.Second)); !errors.Is(err, messages.ErrUnreachable) {
					w.T.Errorf("receive: %v, want ErrUnreachable", err)
				}
			}
			time.Sleep(30 * time.Second)
			w.coordinator.Start()
			w.attached(15*time.Second, alice, bob)
			w.greet(alice, bob)
			w.greet(bob, alice)
		})
	})
}

// TestPeerCrash has a client vanish: its peer's channel fails, is restarted a few
// times and given up.
func TestPeerCrash(t *testing.T) {
	for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				a, b := w.open(alice, bob, &client.StreamOptions{Mode: mode})
				w.say(a, b, "hello", time.Second)
				time.Sleep(3 * time.Second)
				crash := time.Now()
				bob.Crash()
				_, err := a.Receive(within(time.Minute))
				if took := time.Since(crash); !errors.Is(err, messages.ErrUnreachable) || took > 41*time.Second {
					w.T.Errorf("receive after %v: %v, want ErrUnreachable", took, err)
				}
				var op *messages.OpError
				if !errors.As(err, &op) || op.Peer != "bob" || op.Remote {
					w.T.Errorf("receive: %#v", err)
				}
				if err := a.Send(within(time.Second), []byte("x")); !errors.Is(err, messages.ErrUnreachable) {
					w.T.Errorf("send: %v, want ErrUnreachable", err)
				}
				time.Sleep(3 * time.Minute)
				var restarts, ends int
				for _, lost := range alice.lost(crash) {
					if lost.Restarting {
						restarts++
					} else {
						ends++
					}
				}
				if restarts < 1 || restarts > 10 || ends != 1 {
					w.T.Errorf("%d restarts, %d ends: %v", restarts, ends, alice.lost(crash))
				}
				_, err = alice.OpenStream(within(time.Minute), "bob", nil)
				if !errors.Is(err, messages.ErrNoSuchPeer) {
					w.T.Errorf("open to who is gone: %v", err)
				}
				w.must(bob.Start())
				w.greet(alice, bob)
			})
		})
	}
}

// TestCrashedClientTakesItsNameOver comes back before anybody has noticed.
func TestCrashedClientTakesItsNameOver(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		w.say(a, b, "hello", time.Second)
		bob.Crash()
		crash := time.Now()
		w.must(bob.Start())
		if took := time.Since(crash); took > 5*direct {
			w.T.Errorf("back after %v", took)
		}
		if got := w.coordinator.Stats().Attached; got != 2 {
			w.T.Errorf("%d clients attached, want 2", got)
		}
		w.greet(bob, alice)
		link, err := w.Host("mallory", w.Internet(), near).Listen(netip.AddrPort{})
		w.must(err)
		_, err = client.Connect(within(time.Minute), &client.Config{
			Name: "bob", Coordinator: hubAddr.String(), Fingerprint: w.coordinator.Fingerprint(), Link: link,
		})
		if !errors.Is(err, messages.ErrNameTaken) {
			w.T.Errorf("another key got the name: %v", err)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	t.Run("idle client stays", func(t *testing.T) {
		inWorld(t, 1, func(w *world) {
			alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
			a, b := w.open(alice, bob, nil)
			w.direct(time.Second, a, b)
			began := time.Now()
			time.Sleep(time.Hour)
			w.say(a, b, "still there", 3*direct)
			for _, p := range []*program{alice, bob} {
				if events := p.since(began.Add(time.Second)); len(events) > 0 {
					w.T.Errorf("%s: %v", p.Name(), events)
				}
			}
			if got := w.coordinator.Stats(); got.Attached != 2 || got.Connections != 2 {
				w.T.Errorf("stats %+v", got)
			}
		})
	})
	t.Run("off", func(t *testing.T) {
		inWorldWith(t, 1, func(c *coord.Config) { c.KeepAlive = -1 }, func(w *world) {
			alice := w.client("alice", near, func(c *client.Config) { c.KeepAlive = -1 })
			began := time.Now()
			time.Sleep(time.Minute)
			var detached, attached int
			for _, e := range alice.since(began.Add(time.Millisecond)) {
				switch e := e.Event.(type) {
				case client.Attached:
					attached++
				case client.Detached:
					if detached++; e.Final || !errors.Is(e.Err, messages.ErrUnreachable) {
						w.T.Errorf("detached: %+v", e)
					}
				}
			}
			if detached < 3 || detached > 4 || attached < detached-1 {
				w.T.Errorf("detached %d times, attached %d times in a minute of idle timeouts of 15 seconds", detached, attached)
			}
		})
	})
}

// TestLoss has loss and reordering on the line of one client, relayed and direct.
func TestLoss(t *testing.T) {
	for _, loss := range []float64{0.01, 0.05, 0.3} {
		for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
			t.Run(fmt.Sprintf("%g, %v", loss, mode), func(t *testing.T) {
				inWorld(t, 7, func(w *world) {
					line := near
					line.Loss, line.Jitter = loss, 20*time.Millisecond
					alice, bob := w.client("alice", line, nil), w.client("bob", near, nil)
					a, b := w.open(alice, bob, &client.StreamOptions{Mode: mode})
					began := time.Now()
					traffic := w.flows(a, b, 20*time.Millisecond, 500)
					time.Sleep(time.Minute)
					w.check(traffic.end())
					if lost := alice.lost(began); len(lost) > 0 {
						w.T.Errorf("channel lost: %v", lost)
					}
					if mode == client.Automatic && loss < 0.3 { // else half of the probes are not answered, and which path looks alive is chance
						w.direct(20*time.Second, a, b)
					}
					_, slowest := traffic[0].longest()
					w.T.Logf("%d messages, the slowest took %v, moved %d times to the relay", traffic[0].count(), slowest, len(alice.paths(began, true)))
				})
			})
		}
	}
}
