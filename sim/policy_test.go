package sim_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
)

// rules reads a policy that names no other files.
func rules(t *testing.T, text string) *policy.Rules {
	t.Helper()
	r, err := policy.Parse("policy.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Policies of the scenarios, by what they allow: everybody may attach in all of them.
const (
	anyKey = `attach: [{name: "*", open: true}]
`
	openAll = anyKey + `peers: [{from: "*", to: "*", may: [see, open, relay]}]
`
	directAll = anyKey + `peers: [{from: "*", to: "*", may: [see, open]}]
`
	seeAll = anyKey + `peers: [{from: "*", to: "*", may: [see]}]
`
)

// inWorldUnder runs a scenario with a policy.
func inWorldUnder(t *testing.T, text string, scenario func(w *world)) {
	t.Helper()
	inWorldWith(t, 1, func(c *coord.Config) { c.Policy = rules(t, text) }, scenario)
}

// set has another policy in force.
func (w *world) set(text string) {
	w.T.Helper()
	w.must(w.coordinator.SetPolicy(within(5*time.Second), rules(w.T, text)))
}

// refused opens a stream and expects to be told why not.
func (w *world) refused(from *program, to string, options *client.StreamOptions, want error) {
	w.T.Helper()
	s, err := from.OpenStream(within(20*time.Second), to, options)
	if err == nil {
		s.Reset()
	}
	if !errors.Is(err, want) {
		w.T.Errorf("%s opens to %s: %v, want %v", from.Name(), to, err, want)
	}
}

// ends waits until a stream has ended, for a second, and returns why.
func (w *world) ends(s *client.Stream) error {
	w.T.Helper()
	for {
		if _, err := s.Receive(within(time.Second)); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				w.T.Errorf("a stream to %s has not ended", s.Peer())
			}
			return err
		}
	}
}

// TestPolicyOpen holds that a client opens what it may, and learns nothing of who it may not see.
func TestPolicyOpen(t *testing.T) {
	inWorldUnder(t, anyKey+`peers:
  - {from: alice, to: bob, may: [see, open, relay]}
  - {from: alice, to: carol, may: [see]}
`, func(w *world) {
		alice, bob, carol := w.client("alice", near, nil), w.client("bob", near, nil), w.client("carol", near, nil)
		w.greet(alice, bob)
		w.refused(alice, "carol", nil, messages.ErrForbidden)
		w.refused(carol, "bob", nil, messages.ErrNoSuchPeer)
		w.refused(carol, "nobody", nil, messages.ErrNoSuchPeer)
		_, here := carol.OpenStream(within(time.Second), "bob", nil)
		_, away := carol.OpenStream(within(time.Second), "bot", nil)
		if got, want := here.Error(), `open stream to "bob": no such peer`; got != want || away.Error() != `open stream to "bot": no such peer` {
			w.T.Errorf("one who is hidden: %q; one who is not there: %q", got, away)
		}
		w.refused(bob, "alice", &client.StreamOptions{Mode: client.RelayOnly}, messages.ErrNoSuchPeer) // though they have a channel
		a, b := w.open(alice, bob, nil)
		back, err := b.Channel().OpenStream(within(time.Second), nil) // on which each may open streams
		w.must(err)
		back.Close()
		a.Close()
		w.greet(bob, bob) // everybody reaches itself
	})
}

// TestPolicyDirectOnly holds that user data keeps off a relay that is not allowed: a channel opens over a direct path or not at all.
func TestPolicyDirectOnly(t *testing.T) {
	inWorldUnder(t, directAll, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		if path := a.Channel().Path(); path.Relayed {
			w.T.Errorf("the path is %v", path)
		}
		traffic := w.flows(a, b, 10*time.Millisecond, 1000)
		<-time.After(time.Minute) // longer than the route for the handshake lasts
		w.check(traffic.end())
		if got := w.coordinator.Stats(); got.Relay.Forwarded.Bytes > 40_000 || got.Relay.Routes != 0 || got.Channels != 1 {
			w.T.Errorf("%d bytes over the relay, %d routes, %d channels", got.Relay.Forwarded.Bytes, got.Relay.Routes, got.Channels)
		}
		w.refused(alice, "bob", &client.StreamOptions{Mode: client.RelayOnly}, messages.ErrForbidden)
		w.refused(bob, "alice", &client.StreamOptions{Mode: client.RelayOnly}, messages.ErrForbidden)
	})
}
