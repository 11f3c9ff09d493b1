package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// TestReload takes one permission after the other from two clients whose neighbors notice nothing.
func TestReload(t *testing.T) {
	const (
		openToBob    = anyKey + `peers: [{from: alice, to: bob, may: [see, open, relay]}, {from: "c*", to: "c*", may: [see, open, relay]}]`
		confined     = anyKey + `peers: [{from: alice, to: bob, may: [see, open]}, {from: "c*", to: "c*", may: [see, open, relay]}]`
		closed       = anyKey + `peers: [{from: alice, to: bob, may: [see]}, {from: "c*", to: "c*", may: [see, open, relay]}]`
		withoutAlice = `attach: [{name: [bob, "c*"], open: true}]
peers: [{from: "c*", to: "c*", may: [see, open, relay]}]`
	)
	inWorldUnder(t, openToBob, func(w *world) {
		alice, bob, c1, c2 := w.client("alice", near, nil), w.client("bob", near, nil), w.client("c1", near, nil), w.client("c2", near, nil)
		began := time.Now()
		c, d := w.open(c1, c2, &client.StreamOptions{Mode: client.RelayOnly})
		neighbors := w.flows(c, d, 200*time.Millisecond, 200)
		a, b := w.open(alice, bob, nil)
		relayedA, relayedB := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
		w.direct(5*time.Second, a, b)
		kept := w.flows(a, b, 10*time.Millisecond, 200)

		w.set(confined)
		for _, s := range []*client.Stream{relayedA, relayedB} {
			if err := w.ends(s); !errors.Is(err, messages.ErrForbidden) {
				w.T.Errorf("the relayed stream to %s ended with %v", s.Peer(), err)
			}
		}
		<-time.After(5 * time.Second)
		heal := w.Add(func(p sim.Packet) sim.Verdict { // a direct path that fails does not go over the relay now
			if kind := frameKind(p); kind == typeDirect || kind == typeProbe {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
		routes := w.coordinator.Stats().Relay.Routes
		<-time.After(3 * time.Second)
		heal()
		if routes != 2 { // the neighbors'
			w.T.Errorf("%d ends of routes", routes)
		}
		w.direct(20*time.Second, a, b)
		w.check(kept.end())

		a, b = w.open(alice, bob, nil)
		w.set(closed)
		for _, s := range []*client.Stream{a, b} {
			if err := w.ends(s); !errors.Is(err, messages.ErrForbidden) {
				w.T.Errorf("the stream to %s ended with %v", s.Peer(), err)
			}
		}
		w.refused(alice, "bob", nil, messages.ErrForbidden)

		w.set(openToBob)
		a, b = w.open(alice, bob, nil)
		w.direct(5*time.Second, a, b)
		w.set(withoutAlice)
		gone := time.Now()
		if err := w.ends(b); !errors.Is(err, messages.ErrForbidden) {
			w.T.Errorf("bob's stream ended with %v", err)
		}
		<-time.After(10 * time.Minute) // how often does it try?
		tries := 0
		for _, e := range alice.since(gone) {
			if lost, ok := e.Event.(client.Detached); ok {
				tries++
				if !errors.Is(lost.Err, messages.ErrForbidden) || lost.Final {
					w.T.Errorf("alice was told %+v", lost)
				}
			}
		}
		if tries < 6 || tries > 10 {
			w.T.Errorf("alice was refused %d times in ten minutes", tries)
		}
		w.set(openToBob)
		w.are(4, 6*time.Minute)
		w.greet(alice, bob)

		if err := w.coordinator.SetPolicy(within(time.Second), nil); err != nil {
			w.T.Error(err)
		}
		w.greet(c1, alice)
		w.check(neighbors.end())
		for _, p := range []*program{c1, c2} {
			for _, e := range p.since(began) {
				switch e := e.Event.(type) {
				case client.Detached:
					w.T.Errorf("%s was detached: %v", p.Name(), e.Err)
				case client.ChannelClosed:
					w.T.Errorf("%s lost a channel: %v", p.Name(), e.Err)
				}
			}
		}
	})
}

// detached waits until a client is told that it is not attached any more, and returns why.
func (p *program) detached(since time.Time, limit time.Duration) (why error) {
	p.world.T.Helper()
	p.world.Eventually(limit, p.Name()+" is detached", func() bool {
		for _, e := range p.since(since) {
			if lost, ok := e.Event.(client.Detached); ok {
				why = lost.Err
			}
		}
		return why != nil
	})
	return why
}

// are waits until the coordinator has so many clients.
func (w *world) are(clients int, limit time.Duration) {
	w.T.Helper()
	w.Eventually(limit, fmt.Sprint(clients, " clients"), func() bool { return w.coordinator.Stats().Attached == clients })
}

// TestKick disconnects a client, which comes back to its channels.
func TestKick(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		ra, rb := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
		w.direct(5*time.Second, a, b)
		direct, relayed := w.flows(a, b, 10*time.Millisecond, 200), w.flows(ra, rb, 10*time.Millisecond, 200)
		began := time.Now()
		w.must(w.coordinator.Kick(within(time.Second), "alice", "lunch"))
		if err := alice.detached(began, time.Second); !errors.Is(err, messages.ErrKicked) || err.Error() != "kicked: lunch" {
			w.T.Errorf("alice was told %v", err)
		}
		w.are(2, 10*time.Second)
		if took := time.Since(began); took < 4*time.Second {
			w.T.Errorf("alice was back after %v", took)
		}
		<-time.After(time.Second)
		w.check(direct.end())
		w.check(relayed.end())
		for _, p := range []*program{alice, bob} {
			if lost := p.lost(began); len(lost) > 0 {
				w.T.Errorf("%s lost %v", p.Name(), lost)
			}
		}
		if err := w.coordinator.Kick(within(time.Second), "nobody", ""); !errors.Is(err, messages.ErrNoSuchPeer) {
			w.T.Errorf("kick nobody: %v", err)
		}
	})
}

// TestBan keeps clients away by name, key and address, for a time and until it is lifted.
func TestBan(t *testing.T) {
	inWorldWith(t, 1, func(c *coord.Config) { c.Limits.Bans = 2 }, func(w *world) {
		alice, bob, carol := w.client("alice", near, nil), w.client("bob", near, nil), w.client("carol", near, nil)
		ban := func(b policy.Ban, want int) {
			w.T.Helper()
			if removed, err := w.coordinator.Ban(within(time.Second), b); err != nil || removed != want {
				w.T.Errorf("ban %+v: %d removed, want %d; %v", b, removed, want, err)
			}
		}
		a, b := w.open(alice, bob, nil)
		w.direct(5*time.Second, a, b)
		began := time.Now()
		first := policy.Ban{Name: "al*", Until: time.Now().Add(2 * time.Minute), Reason: "noise"}
		ban(first, 1)
		if err := alice.detached(began, time.Second); !errors.Is(err, messages.ErrBanned) {
			w.T.Errorf("alice was told %v", err)
		}
		for _, s := range []*client.Stream{a, b} { // the direct channel, too, which the coordinator can not cut
			if err := w.ends(s); !errors.Is(err, messages.ErrForbidden) {
				w.T.Errorf("the stream to %s ended with %v", s.Peer(), err)
			}
		}
		w.refused(bob, "alice", nil, messages.ErrNoSuchPeer)
		again := w.NewClient(w.host("alina", near), nil)
		if err := again.Start(); !errors.Is(err, messages.ErrBanned) {
			w.T.Errorf("a newcomer that the ban fits: %v", err)
		}
		w.are(3, 5*time.Minute) // by itself, when the ban is over
		if took := time.Since(began); took < 2*time.Minute {
			w.T.Errorf("alice was back after %v", took)
		}
		if list, err := w.coordinator.Bans(within(time.Second)); err != nil || len(list) != 0 {
			w.T.Errorf("bans: %v, %v", list, err)
		}

		key := policy.Ban{Key: bob.Fingerprint()}
		ban(key, 1)
		ban(policy.Ban{Addr: netip.PrefixFrom(carol.Host().Addr(), 32)}, 1)
		if _, err := w.coordinator.Ban(within(time.Second), policy.Ban{Name: "x"}); !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("a third ban: %v", err)
		}
		if _, err := w.coordinator.Ban(within(time.Second), policy.Ban{}); err == nil {
			w.T.Error("a ban of nobody")
		}
		if list, err := w.coordinator.Bans(within(time.Second)); err != nil || len(list) != 2 || list[0] != key {
			w.T.Errorf("bans: %v, %v", list, err)
		}
		w.must(w.coordinator.Unban(within(time.Second), key))
		if err := w.coordinator.Unban(within(time.Second), key); !errors.Is(err, messages.ErrNoSuchPeer) {
			w.T.Errorf("lifted again: %v", err)
		}
		w.are(2, 6*time.Minute)
		w.greet(bob, alice)
		w.refused(alice, "carol", nil, messages.ErrNoSuchPeer)
	})
}

// TestIntroduce has a client hand a channel to two others that may not open one.
func TestIntroduce(t *testing.T) {
	const rules = anyKey + `introduce: [{by: hub, between: [alice, bob]}]
peers: [{from: hub, to: "*", may: [see]}, {from: alice, to: bob, may: [see, open, relay]}]
`
	const handed = anyKey + `introduce: [{by: hub, between: [alice, bob]}]
peers: [{from: hub, to: "*", may: [see]}]
`
	for name, text := range map[string]string{"who could open one": rules, "who could not": handed} {
		t.Run(name, func(t *testing.T) {
			inWorldUnder(t, text, func(w *world) {
				alice, bob, hub := w.client("alice", near, nil), w.client("bob", near, nil), w.client("hub", near, nil)
				w.must(hub.Introduce(within(5*time.Second), "bob", "alice", "chat"))
				ca, err := alice.AcceptChannel(within(5 * time.Second))
				w.must(err)
				cb, err := bob.AcceptChannel(within(5 * time.Second))
				w.must(err)
				if ca.Peer() != "bob" || cb.Peer() != "alice" || ca.Purpose() != "chat" {
					w.T.Errorf("alice has a channel to %s for %q, bob to %s", ca.Peer(), ca.Purpose(), cb.Peer())
				}
				a, err := ca.OpenStream(within(5*time.Second), nil)
				w.must(err)
				b, err := cb.AcceptStream(within(5 * time.Second))
				w.must(err)
				w.say(a, b, "there", time.Second)
				w.say(b, a, "back", time.Second)
				w.set(text)
				w.must(hub.Close(within(time.Second)))
				w.set(text)
				w.say(a, b, "there", time.Second)
				if err := alice.Introduce(within(5*time.Second), "alice", "bob", ""); err == nil {
					w.T.Error("alice could introduce bob")
				}
				w.set(anyKey)
				for _, s := range []*client.Stream{a, b} {
					if err := w.ends(s); !errors.Is(err, messages.ErrForbidden) {
						w.T.Errorf("the stream to %s ended with %v", s.Peer(), err)
					}
				}
			})
		})
	}
}

// TestIntroduceFails says what is in the way, and takes back what nobody waits for.
func TestIntroduceFails(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		hub, alice := w.client("hub", near, nil), w.client("alice", near, nil)
		w.client("shy", near, func(c *client.Config) { c.NotAccepting = true })
		for _, test := range []struct {
			one, other string
			want       error
			text       string
		}{
			{"alice", "nobody", messages.ErrNoSuchPeer, `introduce to "nobody": no such peer`},
			{"shy", "alice", messages.ErrNotAccepting, `introduce to "shy": peer accepts no channels`},
			{"Alice", "hub", messages.ErrNameInvalid, ""},
		} {
			err := hub.Introduce(within(5*time.Second), test.one, test.other, "")
			if !errors.Is(err, test.want) || test.text != "" && err.Error() != test.text {
				w.T.Errorf("%s and %s: %v", test.one, test.other, err)
			}
		}
		heal := w.Add(sim.Isolate(alice.Host()))
		err := hub.Introduce(within(2*time.Second), "alice", "hub", "")
		if !errors.Is(err, context.DeadlineExceeded) {
			w.T.Errorf("one who does not answer: %v", err)
		}
		w.Eventually(time.Second, "nothing waits", func() bool { return w.coordinator.Stats().Pending == 0 })
		waits := make(chan error, 1)
		go func() { waits <- hub.Introduce(within(time.Minute), "alice", "hub", "") }()
		<-time.After(time.Second)
		w.coordinator.Crash()
		w.coordinator.Start()
		if err := <-waits; err == nil || errors.Is(err, context.DeadlineExceeded) {
			w.T.Errorf("when the coordinator was gone: %v", err)
		}
		heal()
	})
}

// TestReloadAtRandom has policies come and go. Two pairs are allowed by all of them, and
// lose nothing; for the others, what there is follows the policy.
func TestReloadAtRandom(t *testing.T) {
	count := max(1, *seeds/6)
	if testing.Short() {
		count = 1
	}
	for seed := range count {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { reloadAtRandom(t, uint64(seed)) })
	}
}

func reloadAtRandom(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	const others = 3
	// draw makes a policy, and tells what it allows: by client, and from one to another.
	draw := func() (text string, attach [others]bool, open [others][others]bool) {
		text = "attach:\n  - {name: \"kept-*\", open: true}\n"
		peers := "peers:\n  - {from: kept-0, to: kept-1, may: [see, open, relay]}\n"
		relay := [2]string{"[see, open]", "[see, open, relay]"}
		peers += "  - {from: kept-2, to: kept-3, may: " + relay[random.IntN(2)] + "}\n" // they have a direct path
		for i := range others {
			if attach[i] = random.IntN(4) > 0; attach[i] {
				text += fmt.Sprintf("  - {name: c%d, open: true}\n", i)
			}
			for j := range others {
				if open[i][j] = random.IntN(2) == 0 && i != j; open[i][j] {
					peers += fmt.Sprintf("  - {from: c%d, to: c%d, may: %s}\n", i, j, relay[random.IntN(2)])
				}
			}
		}
		return text + peers, attach, open
	}
	inWorldUnder(t, openAll, func(w *world) {
		var kept, free []*program
		for i := range 4 {
			kept = append(kept, w.client(fmt.Sprint("kept-", i), near, nil))
		}
		for i := range others {
			free = append(free, w.client(fmt.Sprint("c", i), near, nil))
		}
		a, b := w.open(kept[0], kept[1], &client.StreamOptions{Mode: client.RelayOnly})
		c, d := w.open(kept[2], kept[3], nil)
		w.direct(5*time.Second, c, d)
		began := time.Now()
		relayed, direct := w.flows(a, b, 100*time.Millisecond, 200), w.flows(c, d, 100*time.Millisecond, 200)
		type pair struct{ near, far *client.Stream }
		streams := map[[2]int]pair{}
		for round := range 8 {
			text, attach, open := draw()
			may := func(i, j int) bool { return attach[i] && attach[j] && (open[i][j] || open[j][i] || i == j) }
			w.set(text)
			<-time.After(time.Second)
			if round%4 == 3 {
				<-time.After(w.Elapsed() + 10*time.Second) // all who may are back: nobody waits longer than it was away
			}
			for ends, p := range streams {
				i, j := ends[0], ends[1]
				if may(i, j) {
					continue // its relay may have gone, and the stream with it
				}
				for _, s := range []*client.Stream{p.near, p.far} {
					if err := w.ends(s); !errors.Is(err, messages.ErrForbidden) {
						w.T.Errorf("round %d: c%d to c%d ended with %v", round, i, j, err)
					}
				}
				delete(streams, ends)
			}
			for i := range others {
				for j := range others {
					if !attach[i] && j != round%others { // it waits to be attached: once is enough
						continue
					}
					here, err := free[i].OpenStream(within(time.Second), free[j].Name(), nil)
					switch {
					case err != nil && round%4 == 3 && attach[i] && attach[j] && (open[i][j] || i == j):
						w.T.Errorf("round %d: c%d may open to c%d: %v", round, i, j, err)
					case err == nil && !may(i, j):
						w.T.Errorf("round %d: c%d opened to c%d", round, i, j)
					case err == nil:
						there, err := free[j].AcceptStream(within(2 * time.Second))
						w.must(err)
						if streams[[2]int{i, j}].near == nil && i != j {
							streams[[2]int{i, j}] = pair{here, there}
						}
					}
				}
			}
			if w.T.Failed() {
				w.T.Logf("round %d under\n%s", round, text)
				return
			}
		}
		w.check(relayed.end())
		w.check(direct.end())
		for _, p := range kept {
			for _, e := range p.since(began) {
				switch e := e.Event.(type) {
				case client.Detached, client.ChannelClosed:
					w.T.Errorf("%s: %T %+v", p.Name(), e, e)
				}
			}
		}
	})
}
