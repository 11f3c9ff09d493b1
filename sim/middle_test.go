package sim_test

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// middle is what a malicious coordinator needs to sit between alice and bob: it runs twice,
// with one certificate, so that both take it for theirs; and with alice it has a client that
// is called bob, with bob one that is called alice. All of that is the production code.
type middle struct {
	alice, bob         *program
	forBob, towardsBob *program // its own: alice's bob, and bob's alice
	heard              chan string
}

// sit makes the clients attach to the malicious coordinator.
func (w *world) sit(second *sim.Coordinator, bob, alice *netio.Identity, changeAlice, changeBob func(*client.Config)) *middle {
	w.T.Helper()
	m := &middle{heard: make(chan string, 16)}
	attach := func(host, name string, id *netio.Identity, to *sim.Coordinator, change func(*client.Config)) *program {
		return w.client(host, near, func(config *client.Config) {
			config.Name, config.Identity = name, id
			if id == nil {
				config.Identity = identity(w.T, nil, netio.Order{Name: name})
			}
			if to != nil {
				config.Coordinator = to.Host().Addr().String()
			}
			if change != nil {
				change(config)
			}
		})
	}
	m.forBob = attach("mallory-1", "bob", bob, nil, nil)
	m.towardsBob = attach("mallory-2", "alice", alice, second, nil)
	m.alice = attach("alice", "alice", nil, nil, changeAlice)
	m.bob = attach("bob", "bob", nil, second, changeBob)
	w.Go(m.forward)
	return m
}

// forward passes on what alice says to bob, after having read it.
func (m *middle) forward() {
	for {
		in, err := m.forBob.Current().AcceptStream(context.Background())
		if err != nil {
			return
		}
		out, err := m.towardsBob.Current().OpenStream(context.Background(), "bob", nil)
		if err != nil {
			in.Reset()
			continue
		}
		for message, err := range in.Messages(context.Background()) {
			if err != nil {
				break
			}
			m.heard <- string(message)
			if out.Send(context.Background(), append([]byte("not "), message...)) != nil {
				break
			}
		}
		out.Close()
	}
}

// succeeds has alice talk to bob, with somebody in the middle.
func (m *middle) succeeds(w *world) {
	w.T.Helper()
	s, err := m.alice.OpenStream(within(20*time.Second), "bob", nil)
	w.must(err)
	w.must(s.Send(within(time.Second), []byte("guilty")))
	r, err := m.bob.AcceptStream(within(20 * time.Second))
	w.must(err)
	got, err := r.Receive(within(20 * time.Second))
	if read := <-m.heard; string(got) != "not guilty" || err != nil || read != "guilty" || r.Peer() != "alice" {
		w.T.Errorf("bob hears %q of %q, %v; in the middle %q", got, r.Peer(), err, read)
	}
	here, err := s.Channel().Words()
	w.must(err)
	there, err := r.Channel().Words()
	w.must(err)
	if here == there {
		w.T.Errorf("the words are the same: %s", here)
	}
}

// TestMaliciousCoordinator shows in which modes a coordinator can sit in the middle.
func TestMaliciousCoordinator(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	evil := identity(t, nil, netio.Order{Name: "root", Authority: true})
	alice, bob := identity(t, root, netio.Order{Name: "alice"}), identity(t, root, netio.Order{Name: "bob"})
	evilAlice, evilBob := identity(t, evil, netio.Order{Name: "alice"}), identity(t, evil, netio.Order{Name: "bob"})
	known := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(known, []byte("bob "+netio.KeyFingerprint(bob.Certificate())+"\nalice "+netio.KeyFingerprint(alice.Certificate())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := func(config *client.Config) { config.PeerRoots = rootsOf(root) }
	pin := func(peer, fingerprint string) func(*client.Config) {
		return func(config *client.Config) { config.Peers = map[string]string{peer: fingerprint} }
	}
	remember := func(config *client.Config) { config.KnownPeers = known }
	type attack struct {
		name                   string
		asks                   *x509.CertPool // what the coordinator asks of clients, and names to peers
		changeAlice, changeBob func(*client.Config)
		alice, bob             *netio.Identity // those that the coordinator shows
		refuses                string          // who finds out: alice, bob or nobody
		why                    string
	}
	for _, c := range []attack{
		{name: "self-signed"},
		{name: "it names an authority of its own", asks: rootsOf(root, evil), changeAlice: as(alice), changeBob: as(bob), alice: evilAlice, bob: evilBob},
		{name: "alice has roots", changeAlice: as(alice, roots), changeBob: as(bob), refuses: "alice", why: "unknown authority"},
		{name: "alice has roots, another authority", changeAlice: as(alice, roots), changeBob: as(bob), alice: evilAlice, bob: evilBob, refuses: "alice", why: "unknown authority"},
		{name: "bob has roots", changeAlice: as(alice), changeBob: as(bob, roots), refuses: "bob", why: "unknown authority"},
		{name: "alice has pinned bob", changeAlice: pin("bob", netio.KeyFingerprint(bob.Certificate())), changeBob: as(bob), refuses: "alice", why: "expected is sha256:"},
		{name: "bob has pinned alice", changeAlice: as(alice), changeBob: pin("alice", netio.Fingerprint(alice.Chain()[0])), refuses: "bob", why: "expected is sha256:"},
		{name: "alice knows bob", changeAlice: remember, changeBob: as(bob), refuses: "alice", why: `THE KEY OF "bob" HAS CHANGED`},
		{name: "bob knows alice", changeAlice: as(alice), changeBob: remember, refuses: "bob", why: `THE KEY OF "alice" HAS CHANGED`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hosts *netio.Identity
			asking := func(config *coord.Config) {
				if hosts != nil {
					config.Identity = hosts
				}
				hosts, config.ClientRoots = config.Identity, c.asks
			}
			inWorldWith(t, 1, asking, func(w *world) {
				second := w.Coordinator(w.Host("second", w.Internet(), near, addr("203.0.113.2:1").Addr()), asking)
				m := w.sit(second, c.bob, c.alice, c.changeAlice, c.changeBob)
				switch c.refuses {
				case "":
					m.succeeds(w)
				case "alice":
					w.tryOpen(m.alice, "bob", messages.ErrUntrusted, c.why, false)
				case "bob":
					s, err := m.alice.OpenStream(within(20*time.Second), "bob", nil)
					w.must(err) // with the middle
					if _, err := s.Receive(within(20 * time.Second)); !errors.Is(err, messages.ErrReset) {
						w.T.Errorf("the middle goes on: %v", err)
					}
					if text := strings.Join(m.bob.refused(), "\n"); !strings.Contains(text, c.why) {
						w.T.Errorf("bob was told %q, want %q", text, c.why)
					}
				}
				if c.refuses != "" && len(m.heard) > 0 {
					w.T.Errorf("the middle has heard %q", <-m.heard)
				}
			})
		})
	}
}

// TestWords: without anybody in the middle both sides have the same words, on whatever path.
func TestWords(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		s, r := w.open(alice, bob, nil)
		here, err := s.Channel().Words()
		w.must(err)
		w.direct(time.Second, s, r)
		there, err := r.Channel().Words()
		w.must(err)
		if here != there || len(strings.Fields(here)) != 6 {
			w.T.Errorf("%q and %q", here, there)
		}
		s2, _ := w.open(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
		if other, err := s2.Channel().Words(); other == here || err != nil {
			w.T.Errorf("another channel has %q, %v", other, err)
		}
		ch := s2.Channel()
		ch.Abort()
		<-ch.Done()
		w.Eventually(time.Second, "the channel is over", func() bool {
			_, err := ch.Words()
			return errors.Is(err, messages.ErrClosed)
		})
	})
}

// TestAuthorities is a coordinator that asks for certificates: who has none, or another's, is
// refused and not counted; who has one is introduced with what vouches for it.
func TestAuthorities(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	inner := identity(t, root, netio.Order{Name: "inner", Authority: true, Key: netio.Ed25519})
	stranger := identity(t, nil, netio.Order{Name: "root", Authority: true})
	revoked := identity(t, inner, netio.Order{Name: "alice"})
	inWorldWith(t, 1, func(config *coord.Config) {
		config.ClientRoots, config.Revoked = rootsOf(root), []string{netio.Fingerprint(revoked.Chain()[0])}
	}, func(w *world) {
		from := w.Host("alice", w.Internet(), near, addr("10.0.9.9:1").Addr())
		for _, c := range []struct {
			name string
			id   *netio.Identity
			want error
			why  string
		}{
			{"self-signed", identity(t, nil, netio.Order{Name: "alice"}), messages.ErrUntrusted, "unknown authority"},
			{"another authority", identity(t, stranger, netio.Order{Name: "alice"}), messages.ErrUntrusted, "unknown authority"},
			{"expired", identity(t, inner, netio.Order{Name: "alice", Now: worldBegins.AddDate(-1, 0, 0), Validity: time.Hour}), messages.ErrUntrusted, "expired"},
			{"not yet valid", identity(t, inner, netio.Order{Name: "alice", Now: worldBegins.AddDate(1, 0, 0)}), messages.ErrUntrusted, "not yet valid"},
			{"revoked", revoked, messages.ErrUntrusted, "revoked"},
		} {
			err := w.attachAs(from, "alice", c.id)
			var op *messages.OpError
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.why) || !errors.As(err, &op) || !op.Remote {
				w.T.Errorf("%s: got %v, want %v that says %q", c.name, err, c.want, c.why)
			}
			if n := w.coordinator.Stats().Attached; n != 0 {
				w.T.Errorf("%s: %d attached", c.name, n)
			}
		}
		a := w.client("one", near, as(identity(t, inner, netio.Order{Name: "one"})))
		b := w.client("two", near, as(identity(t, root, netio.Order{Name: "two", Key: netio.Ed25519}), func(config *client.Config) { config.PeerRoots = rootsOf(root) }))
		s, r := w.open(a, b, nil)
		w.direct(time.Second, s, r)
		w.greet(b, a)
		c := w.client("three", near, as(identity(t, inner, netio.Order{Name: "three"}), func(config *client.Config) { config.PeerRoots = rootsOf(stranger) }))
		w.tryOpen(c, "one", messages.ErrUntrusted, "unknown authority", false)
		w.tryOpen(a, "three", messages.ErrUntrusted, "", true)
		if err := w.attachAs(from, "one", identity(t, inner, netio.Order{Name: "one"})); !errors.Is(err, messages.ErrNameTaken) {
			w.T.Errorf("a second certificate for a name: %v", err)
		}
	})
}

// attachAs tries to attach, and leaves if that works.
func (w *world) attachAs(h *sim.Host, name string, id *netio.Identity) error {
	c := w.NewClient(h, func(config *client.Config) { config.Name, config.Identity = name, id })
	if err := c.Start(); err != nil {
		return err
	}
	return errors.Join(errors.New("attached"), c.Stop())
}
