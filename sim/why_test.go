package sim_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// behind attaches a client behind a gateway of its own.
func (w *world) behind(name string, nat sim.NAT) *program {
	w.T.Helper()
	number := len(w.clients) + 1
	gateway := w.Gateway(name+"-gateway", w.Internet(), nat, near, netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}))
	p := &program{w.Client(w.Host(name, gateway, sim.Line{}), nil), w}
	w.clients = append(w.clients, p)
	return p
}

// why returns a report, and holds that Path says the same.
func (w *world) why(s *client.Stream) *client.PathReport {
	w.T.Helper()
	report, err := s.Channel().Paths(within(time.Second))
	w.must(err)
	if path := s.Channel().Path(); path.Reason != report.Reason || path.Relayed != report.Relayed || path.Remote != report.Remote {
		w.T.Errorf("path is %v because of %v, report says %v, %v", path, path.Reason, report.Path, report.Reason)
	}
	return report
}

// TestWhyRelayed holds what both sides of a channel say of its path.
func TestWhyRelayed(t *testing.T) {
	only := func(c *client.Config) { c.RelayOnly = true }
	blocked := func(between func(a, b *sim.Host) sim.Rule) func(w *world) (a, b *program) {
		return func(w *world) (a, b *program) {
			a, b = w.client("alice", near, nil), w.client("bob", near, nil)
			w.Add(between(a.Host(), b.Host()))
			return a, b
		}
	}
	tests := []struct {
		name    string
		clients func(w *world) (a, b *program)
		mode    client.Mode
		after   time.Duration
		a, b    client.PathReason
		says    string // of a
		tried   int    // by a
	}{
		{
			"open", func(w *world) (a, b *program) { return w.client("alice", near, nil), w.client("bob", near, nil) },
			client.Automatic, time.Second, client.ReasonOnlyDirect, client.ReasonOnlyDirect, "the only direct path that answers", 1,
		},
		{
			"two hard NATs", func(w *world) (a, b *program) {
				return w.behind("alice", sim.Symmetric()), w.behind("bob", sim.Symmetric())
			},
			client.Automatic, 10 * time.Second, client.ReasonNoAnswer, client.ReasonNoAnswer, "no candidate answers: 2 candidates tried, ", 2,
		},
		{
			"and early", func(w *world) (a, b *program) {
				return w.behind("alice", sim.Symmetric()), w.behind("bob", sim.Symmetric())
			},
			client.Automatic, time.Second, client.ReasonSearching, client.ReasonSearching, "looking for a direct path: 2 candidates tried, ", 2,
		},
		{
			"the channel is for the relay", func(w *world) (a, b *program) { return w.client("alice", near, nil), w.client("bob", near, nil) },
			client.RelayOnly, time.Second, client.ReasonRelayOnly, client.ReasonRelayOnly, "the channel was opened for the relay only", 0,
		},
		{
			"this client is", func(w *world) (a, b *program) { return w.client("alice", near, only), w.client("bob", near, nil) },
			client.Automatic, time.Second, client.ReasonRelayOnly, client.ReasonRelayOnly, "this client is configured to use only the relay", 0,
		},
		{
			"the peer is", func(w *world) (a, b *program) { return w.client("alice", near, nil), w.client("bob", near, only) },
			client.Automatic, time.Second, client.ReasonNothingOffered, client.ReasonRelayOnly, "the peer offers no addresses: it allows only the relay", 0,
		},
		{"blocked", blocked(sim.Block), client.Automatic, 10 * time.Second, client.ReasonNoAnswer, client.ReasonNoAnswer, "no candidate answers: 1 candidate tried, ", 1},
		{"one way", blocked(sim.Cut), client.Automatic, 10 * time.Second, client.ReasonOneWay, client.ReasonNoAnswer, "the peer's probes arrive, ours are not answered", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := test.clients(w)
				a, b := w.open(alice, bob, &client.StreamOptions{Mode: test.mode})
				time.Sleep(test.after)
				near, far := w.why(a), w.why(b)
				if near.Reason != test.a || far.Reason != test.b {
					t.Errorf("reasons are %v and %v, want %v and %v", near.Reason, far.Reason, test.a, test.b)
				}
				if !strings.HasPrefix(near.Why(), test.says) || len(near.Candidates) != test.tried {
					t.Errorf("report is %v, want %q and %d candidates", near, test.says, test.tried)
				}
				if test.name == "two hard NATs" && (near.Candidates[0].Kind != client.KindObserved || near.Candidates[1].Kind != client.KindInterface) {
					t.Errorf("kinds are %v and %v", near.Candidates[0].Kind, near.Candidates[1].Kind)
				}
				for _, c := range near.Candidates {
					if c.Probes == 0 || (c.Answers > 0) != (c.State == client.CandidateInUse) || !strings.Contains(near.String(), "  "+c.Addr.String()+": ") {
						t.Errorf("candidate %+v of %v", c, near)
					}
				}
			})
		})
	}
}

// TestWhyItMoved holds the reasons that events tell while a path dies and heals.
func TestWhyItMoved(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		began := time.Now()
		a, b := w.open(alice, bob, nil)
		traffic := w.flows(a, b, 10*time.Millisecond, 200)
		w.direct(3*time.Second, a, b)
		time.Sleep(5 * time.Second)
		heal := w.Add(sim.Block(alice.Host(), bob.Host()))
		w.relays(time.Second+direct, a, b)
		time.Sleep(time.Second)
		report := w.why(a)
		if report.Reason != client.ReasonDied || report.DiedAt != bob.addr() || report.At.Sub(report.Died) < time.Second || report.At.Sub(report.Died) > 2*time.Second {
			t.Errorf("after a second, report is %v", report)
		}
		if want := "the direct path " + bob.addr().String() + " died 1."; !strings.HasPrefix(report.Why(), want) {
			t.Errorf("it says %q, want %q", report.Why(), want)
		}
		if c := report.Candidates[0]; c.State != client.CandidateDead || c.Answers < 2 || c.RTT.Round(10*time.Millisecond) != direct {
			t.Errorf("candidate is %+v", c)
		}
		heal()
		w.direct(15*time.Second, a, b)
		w.check(traffic.end())
		var reasons []client.PathReason
		for _, e := range alice.since(began) {
			if change, ok := e.Event.(client.PathChanged); ok {
				reasons = append(reasons, change.Reason)
			}
		}
		want := []client.PathReason{client.ReasonAwaitsOffer, client.ReasonOnlyDirect, client.ReasonDied, client.ReasonOnlyDirect}
		if len(reasons) != len(want) {
			t.Fatalf("reasons are %v, want %v", reasons, want)
		}
		for i := range want {
			if reasons[i] != want[i] {
				t.Errorf("reason %d is %v, want %v", i, reasons[i], want[i])
			}
		}
	})
}

// TestPathLoss holds that losses are those of the path in use: the relay loses a
// fifth, and the direct path that the channel then moves to loses nothing.
func TestPathLoss(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		open := w.Add(sim.Block(alice.Host(), bob.Host()))
		number := 0
		w.Add(func(p sim.Packet) sim.Verdict {
			if number++; p.Source == "alice" && p.Destination == "coordinator" && number%5 == 0 {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
		a, b := w.open(alice, bob, nil)
		traffic := w.flow(a, b, 10*time.Millisecond, 200)
		time.Sleep(10 * time.Second)
		if report := w.why(a); !report.Relayed || report.Loss() < 0.1 || report.Loss() > 0.3 {
			t.Errorf("a fifth was lost, report says %v of %v", report.Loss(), report)
		}
		open()
		w.direct(15*time.Second, a, b)
		time.Sleep(10 * time.Second)
		if report := w.why(a); report.Sent < 500 || report.Lost > 10 { // what was on the way when it moved counts
			t.Errorf("nothing was lost, report says %d of %d", report.Lost, report.Sent)
		}
		w.check(traffic.end())
	})
}

// TestPing measures round trips on both kinds of paths, and what becomes of pings
// that nobody answers.
func TestPing(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		for _, test := range []struct {
			mode client.Mode
			rtt  time.Duration
		}{{client.RelayOnly, relayed}, {client.DirectOnly, direct}} {
			ch, err := alice.OpenChannel(within(10*time.Second), "bob", &client.ChannelOptions{Mode: test.mode})
			w.must(err)
			for range 3 { // the first may wait for the peer to say that it answers
				pong, err := ch.Ping(within(time.Second))
				if err != nil || pong.RTT.Round(soon) != test.rtt || pong.Relayed != (test.mode == client.RelayOnly) {
					t.Errorf("%v: %+v, %v, want %v", test.mode, pong, err, test.rtt)
				}
			}
			w.must(ch.Close(within(time.Second)))
			if _, err := ch.Ping(within(time.Second)); !errors.Is(err, messages.ErrClosed) {
				t.Errorf("ping on a closed channel: %v", err)
			}
			if _, err := ch.Paths(within(time.Second)); !errors.Is(err, messages.ErrClosed) {
				t.Errorf("paths of a closed channel: %v", err)
			}
		}
		ch, err := alice.OpenChannel(within(10*time.Second), "bob", nil)
		w.must(err)
		w.Add(sim.Block(alice.Host(), bob.Host()))
		w.Add(sim.Block(w.hub, bob.Host()))
		began := time.Now()
		if _, err := ch.Ping(within(5 * time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("ping of an unreachable peer: %v after %v", err, time.Since(began))
		}
		if _, err := ch.Ping(within(time.Minute)); err == nil || errors.Is(err, context.DeadlineExceeded) { // the channel is lost first
			t.Errorf("ping on a channel that is lost: %v", err)
		}
	})
}

// TestAttachment holds what a client knows of its coordinator: one whose clock is 3
// seconds behind.
func TestAttachment(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		const behind = 3 * time.Second
		alice := w.client("alice", near, func(c *client.Config) {
			c.Now = func() time.Time { return time.Now().Add(-behind) }
		})
		got := alice.Current().Attachment()
		if got.Coordinator != hubAddr || got.Observed != alice.addr() || len(got.Addrs) != 1 || got.RTT.Round(soon) != direct {
			t.Errorf("attachment is %+v", got)
		}
		if off := (got.Clock - behind).Abs(); !got.ClockKnown || off > got.ClockError || got.ClockError > direct {
			t.Errorf("clock is %v ± %v ahead, want %v", got.Clock, got.ClockError, behind)
		}
	})
}

// TestMaxPacket holds that a report tells what QUIC has found the path to carry.
func TestMaxPacket(t *testing.T) {
	for name, carries := range map[string]int{"wide": 1500, "narrow": 1300} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				w.Add(narrow(alice.Host(), w.hub, carries))
				a, b := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
				traffic := w.flow(a, b, 10*time.Millisecond, 10_000)
				time.Sleep(5 * time.Second)
				if got := w.why(a).MaxPacket; got <= 1252 || got > min(carries, 1452) || carries > 1452 && got < 1432 {
					t.Errorf("largest packet has %d bytes, the path carries %d", got, carries)
				}
				w.check(traffic.end())
			})
		})
	}
}
