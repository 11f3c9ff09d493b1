package suite_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// under gives a coordinator a policy: everybody may attach.
func under(w *world, rules string) func(*coord.Config) {
	return func(c *coord.Config) { c.Policy = w.rules(rules) }
}

func (w *world) rules(text string) *policy.Rules {
	w.Helper()
	rules, err := policy.Parse("policy.yaml", []byte("attach: [{name: '*', open: true}]\n"+text), nil)
	if err != nil {
		w.Fatal(err)
	}
	return rules
}

func (w *world) setPolicy(text string) {
	w.Helper()
	if err := w.coord.SetPolicy(w.ctx, w.rules(text)); err != nil {
		w.Fatal(err)
	}
}

const goodPeople = "peers: [{from: [alice, bob], to: [alice, bob], may: [see, open, relay]}]\n"

// withdrawal hears that the coordinator forbids a channel.
func (r *rawClient) withdrawal(channel []byte) {
	r.w.Helper()
	said := r.hear().GetOfferWithdrawn()
	if said.GetCode() != conecv1.Code_CODE_FORBIDDEN || !bytes.Equal(said.GetChannel(), channel) {
		r.w.Errorf("heard %v", said)
	}
}

// TestPolicyBypass has two who may do nothing try what the protocol has.
func TestPolicyBypass(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(under(w, goodPeople))
		b := w.bystanders()
		mallory, carol := w.rawClient("mallory"), w.rawClient("carol")
		for request, name := range []string{"bob", "nobody"} {
			mallory.say(open(uint64(request+1), name))
			heard := mallory.hear().GetOpenRefused()
			if heard.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER || heard.GetReason() != "" || heard.GetByPeer() {
				w.Errorf("mallory opens to %s: %v", name, heard)
			}
			mallory.say(&conecv1.Control{Said: &conecv1.Control_IntroducePeers{
				IntroducePeers: &conecv1.IntroducePeers{Request: 7, One: name, Other: "mallory"},
			}})
			if told := mallory.hear().GetPeersIntroduced(); told.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER || told.GetPeer() != name || told.GetReason() != "" {
				w.Errorf("mallory introduces %s: %v", name, told)
			}
		}
		channel := []byte("made up by both.")
		before := w.coord.Stats().Relay.Routes
		mallory.say(restore(channel, "carol"))
		carol.say(restore(channel, "mallory"))
		mallory.withdrawal(channel)
		carol.withdrawal(channel)
		if now := w.coord.Stats(); now.Relay.Routes != before || now.Pending != 0 {
			w.Errorf("%d ends of routes, were %d; %d wait", now.Relay.Routes, before, now.Pending)
		}

		// bob's address and certificate are known; he expects nobody there.
		port, err := mallory.transport.Switch().OpenPort()
		if err != nil {
			w.Fatal(err)
		}
		port.SetPath(netio.Path{Link: mallory.transport.Switch().Links()[0], To: w.addr(b.bob)})
		port.SetPeerTag(1)
		ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
		defer cancel()
		identity, err := netio.NewIdentity("bob", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		if _, err := mallory.transport.DialChannel(ctx, port, "bob", identity.Chain()[0]); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("mallory dials bob: %v", err)
		}
		port.Close()
		b.unharmed()
	})
}

// TestOldIntroduction uses an introduction that a new policy does not allow: its route is gone.
func TestOldIntroduction(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(under(w, "peers: [{from: '*', to: '*', may: [see, open, relay]}]\n"))
		b := w.bystanders()
		mallory := w.rawClient("mallory")
		mallory.say(open(1, "bob"))
		intro := mallory.hear().GetChannelIntroduced().GetIntroduction()
		w.eventually("bob has accepted", func() bool { return w.coord.Stats().Pending == 0 })
		w.setPolicy(goodPeople)
		mallory.withdrawal(intro.GetChannel())
		all := w.ctx
		short, cancel := context.WithTimeout(all, 300*time.Millisecond)
		defer cancel()
		w.ctx = short
		if _, err := mallory.tryConnect(intro); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("mallory connects: %v", err)
		}
		w.ctx = all
		mallory.say(restore(intro.GetChannel(), "bob"))
		mallory.say(open(2, "bob"))
		if told := mallory.hear().GetOpenRefused(); told.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER {
			w.Errorf("mallory opens again: %v", told)
		}
		b.unharmed()
	})
}

// TestRouteForHandshakes has two clients that may not use the relay use it all the same: they
// get the handshake through, and little more.
func TestRouteForHandshakes(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(under(w, `peers:
  - {from: [alice, bob], to: [alice, bob], may: [see, open, relay]}
  - {from: '*', to: '*', may: [see, open]}
`))
		b := w.bystanders()
		mallory, carol := w.rawClient("mallory"), w.rawClient("carol")
		mallory.say(&conecv1.Control{Said: &conecv1.Control_OpenChannel{
			OpenChannel: &conecv1.OpenChannel{Request: 1, Peer: "carol", Mode: conecv1.Mode_MODE_RELAY},
		}})
		if told := mallory.hear().GetOpenRefused(); told.GetCode() != conecv1.Code_CODE_FORBIDDEN {
			w.Errorf("mallory opens over the relay: %v", told)
		}
		mallory.say(open(2, "carol"))
		offer := carol.hear().GetChannelOffered().GetIntroduction()
		accepted := make(chan error, 1)
		go func() {
			_, err := carol.tryConnect(offer)
			accepted <- err
		}()
		intro := mallory.hear().GetChannelIntroduced().GetIntroduction()
		if !offer.GetDirectOnly() || !intro.GetDirectOnly() {
			w.Error("the two are not told to keep off the relay")
		}
		before := w.coord.Stats().Relay.Forwarded.Bytes
		conn, _ := mallory.connect(intro)
		if err := <-accepted; err != nil {
			w.Fatal(err)
		}
		dropped := w.coord.Stats().Relay.Dropped.RateLimited
		for range 8 { // each as much as it may without credit
			stream, err := conn.OpenStream(w.ctx, &conecv1.OpenStream{Purpose: "contraband"})
			if err != nil {
				w.Fatal(err)
			}
			if err := stream.Send(w.ctx, make([]byte, 60<<10)); err != nil {
				w.Fatal(err)
			}
		}
		w.eventually("packets beyond what the route may carry", func() bool { return w.coord.Stats().Relay.Dropped.RateLimited > dropped+3 })
		const most = 2 * 64 << 10
		if got := w.coord.Stats().Relay.Forwarded.Bytes - before; got > most {
			w.Errorf("%d bytes over the relay, at most %d may", got, most)
		}
		conn.Close(messages.ErrCanceled)
		b.unharmed()
	})
}

// TestFloodOfIntroductions asks for channels and takes them back, as fast as it goes.
func TestFloodOfIntroductions(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.OpenRate = 20 })
		b := w.bystanders()
		mallory := w.rawClient("mallory")
		before := w.coord.Stats().Introductions
		const flood = 1000
		for i := range uint64(flood) {
			mallory.say(open(2*i+1, "bob"))
			mallory.say(cancelOpen(2*i + 1))
			mallory.say(&conecv1.Control{Said: &conecv1.Control_IntroducePeers{
				IntroducePeers: &conecv1.IntroducePeers{Request: 2*i + 2, One: "alice", Other: "bob"},
			}})
			mallory.say(cancelOpen(2*i + 2))
		}
		mallory.say(open(2*flood+1, "nobody"))
		refused, last := 0, false
		for !last {
			switch said := mallory.hear().GetSaid().(type) {
			case *conecv1.Control_OpenRefused:
				last = said.OpenRefused.GetRequest() == 2*flood+1
				if said.OpenRefused.GetCode() == conecv1.Code_CODE_LIMIT {
					refused++
				}
			case *conecv1.Control_PeersIntroduced:
				if said.PeersIntroduced.GetCode() == conecv1.Code_CODE_LIMIT {
					refused++
				}
			}
		}
		made := w.coord.Stats().Introductions - before
		if made < 50 || made > 600 || refused < flood {
			w.Errorf("%d introductions were made, %d refused", made, refused)
		}
		b.unharmed()
	})
}

// TestJoinToken attaches by hand with tokens of all kinds.
func TestJoinToken(t *testing.T) {
	everywhere(t, func(w *world) {
		rules, err := policy.Parse("policy.yaml", []byte("attach: [{name: '*', tokens: the right join token}]\n"), nil)
		if err != nil {
			w.Fatal(err)
		}
		w.begin(func(c *coord.Config) { c.Policy = rules })
		for token, want := range map[string]error{
			"the right join token":   nil,
			"the right join toke":    messages.ErrForbidden,
			"":                       messages.ErrForbidden,
			strings.Repeat("x", 256): messages.ErrLimit,
		} {
			identity, err := netio.NewIdentity("mallory", time.Now())
			if err != nil {
				w.Fatal(err)
			}
			raw := w.dial(identity)
			said := attach("mallory")
			said.GetAttach().Token = token
			raw.say(said)
			if want == nil {
				if raw.hear().GetAttached() == nil {
					w.Error("the right token is not good enough")
				}
				raw.conn.Close(messages.ErrClosed)
				w.attached(0)
				continue
			}
			if err := raw.heardEnd(); !errors.Is(err, want) {
				w.Errorf("token of %d bytes: %v, want %v", len(token), err, want)
			}
		}
	})
}
