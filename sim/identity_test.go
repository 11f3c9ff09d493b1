package sim_test

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// worldBegins is before the time in a bubble, so that what is made here is valid there.
var worldBegins = time.Date(2039, time.December, 31, 0, 0, 0, 0, time.UTC)

func identity(t *testing.T, by *netio.Identity, order netio.Order) *netio.Identity {
	t.Helper()
	if order.Now.IsZero() {
		order.Now = worldBegins
	}
	sign := netio.Make
	if by != nil {
		sign = by.Make
	}
	id, err := sign(&order)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func rootsOf(authorities ...*netio.Identity) *x509.CertPool {
	roots := x509.NewCertPool()
	for _, authority := range authorities {
		roots.AddCert(authority.Certificate())
	}
	return roots
}

func as(id *netio.Identity, change ...func(*client.Config)) func(*client.Config) {
	return func(config *client.Config) {
		config.Identity = id
		for _, f := range change {
			f(config)
		}
	}
}

// tryOpen opens a stream that should be refused, and looks at why.
func (w *world) tryOpen(from *program, to string, want error, why string, remote bool) {
	w.T.Helper()
	_, err := from.OpenStream(within(20*time.Second), to, nil)
	var op *messages.OpError
	if !errors.Is(err, want) || !strings.Contains(err.Error(), why) || !errors.As(err, &op) || op.Remote != remote {
		w.T.Errorf("%s opens to %s: got %v, want %v that says %q (remote %v)", from.Name(), to, err, want, why, remote)
	}
}

// refused returns the peers that a client's program was told not to trust.
func (p *program) refused() (peers []string) {
	for _, e := range p.Events() {
		if refused, ok := e.Event.(client.PeerRefused); ok {
			peers = append(peers, refused.Peer+": "+refused.Err.Error())
		}
	}
	return peers
}

// TestRotation gives a client other certificates while its channels carry messages, for the
// same key and for another one, self-signed and of an authority.
func TestRotation(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	inner := identity(t, root, netio.Order{Name: "inner", Authority: true})
	for _, c := range []struct {
		name   string
		roots  *x509.CertPool
		by     *netio.Identity
		former netio.KeyKind
	}{{"self-signed", nil, nil, netio.P256}, {"authority", rootsOf(root), inner, netio.Ed25519}} {
		t.Run(c.name, func(t *testing.T) {
			alice, bob := identity(t, c.by, netio.Order{Name: "alice"}), identity(t, c.by, netio.Order{Name: "bob", Key: c.former})
			next := identity(t, c.by, netio.Order{Name: "bob", Key: netio.Ed25519})
			inWorldWith(t, 1, func(config *coord.Config) { config.ClientRoots = c.roots }, func(w *world) {
				seen := make(chan string, 8)
				a := w.client("alice", near, as(alice, func(config *client.Config) {
					config.PeerRoots = c.roots
					config.Authorize = func(_ context.Context, r client.Request) error {
						seen <- r.Fingerprint
						return nil
					}
				}))
				b := w.client("bob", near, as(bob))
				s, r := w.open(a, b, nil)
				relayedS, relayedR := w.open(a, b, &client.StreamOptions{Mode: client.RelayOnly})
				traffic := []both{w.flows(s, r, 10*time.Millisecond, 200), w.flows(relayedS, relayedR, 10*time.Millisecond, 200)}
				w.direct(time.Second, s, r)
				time.Sleep(time.Second)
				began := time.Now()
				for _, f := range traffic {
					f.measure()
				}
				w.must(b.SetIdentity(within(time.Second), next))
				if took := time.Since(began); took > direct+time.Millisecond || b.Fingerprint() != netio.Fingerprint(next.Chain()[0]) {
					w.T.Errorf("took %v, %s", took, b.Fingerprint())
				}
				time.Sleep(time.Second)
				ch, err := b.OpenChannel(within(20*time.Second), "alice", nil)
				w.must(err)
				if got := <-seen; got != b.Fingerprint() {
					w.T.Errorf("alice is introduced to %s", got)
				}
				ch.Abort()
				for _, f := range traffic {
					if gap := f.gap(); gap > 100*time.Millisecond {
						w.T.Errorf("nothing came for %v", gap)
					}
					w.check(f.end())
				}
				for _, p := range []*program{a, b} {
					if lost := slices.DeleteFunc(p.lost(began), func(c client.ChannelClosed) bool { return errors.Is(c.Err, messages.ErrReset) }); len(lost) > 0 {
						w.T.Errorf("%s: %v", p.Name(), lost)
					}
				}
				w.coordinator.Stop() // with the new key the name is bob's own again
				w.coordinator.Start()
				w.attached(30*time.Second, a, b)
				if other, err := a.OpenChannel(within(20*time.Second), "bob", nil); err != nil ||
					netio.Fingerprint(other.Certificate().Raw) != netio.Fingerprint(next.Chain()[0]) {
					w.T.Error(err)
				}
			})
		})
	}
}

// TestRotationRace opens channels in both directions while both clients change their
// certificates: each introduction is about those of its beginning, and all succeed.
func TestRotationRace(t *testing.T) {
	const turns, channels, apart = 2, 30, 6 * time.Millisecond
	var ids [turns][2]*netio.Identity
	for turn := range ids {
		ids[turn] = [2]*netio.Identity{identity(t, nil, netio.Order{Name: "alice"}), identity(t, nil, netio.Order{Name: "bob"})}
	}
	inWorld(t, 1, func(w *world) {
		programs := []*program{w.client("alice", near, nil), w.client("bob", near, nil)}
		for _, next := range ids {
			time.Sleep(2 * time.Second)
			var all sync.WaitGroup
			for i := range channels {
				all.Go(func() {
					time.Sleep(time.Duration(i) * apart)
					ch, err := programs[i%2].OpenChannel(within(20*time.Second), programs[1-i%2].Name(), nil)
					if err != nil {
						w.T.Error(err)
						return
					}
					ch.Abort()
				})
			}
			for i, p := range programs {
				all.Go(func() {
					time.Sleep(channels * apart / 2)
					w.check(p.SetIdentity(within(time.Second), next[i]))
				})
			}
			all.Wait()
		}
	})
}

// TestRotationRefused has identities that the coordinator does not take: the client stays who it is.
func TestRotationRefused(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	alice := identity(t, root, netio.Order{Name: "alice"})
	revoked := identity(t, root, netio.Order{Name: "alice"})
	inWorldWith(t, 1, func(config *coord.Config) {
		config.ClientRoots, config.Revoked = rootsOf(root), []string{netio.KeyFingerprint(revoked.Certificate())}
	}, func(w *world) {
		a := w.client("alice", near, as(alice))
		for _, c := range []struct {
			id   *netio.Identity
			want error
			why  string
		}{
			{identity(t, root, netio.Order{Name: "bob"}), messages.ErrNameMismatch, `it is for "bob"`},
			{identity(t, nil, netio.Order{Name: "alice"}), messages.ErrUntrusted, "unknown authority"},
			{identity(t, root, netio.Order{Name: "alice", Now: worldBegins.AddDate(-1, 0, 0), Validity: time.Hour}), messages.ErrUntrusted, "expired"},
			{revoked, messages.ErrUntrusted, "revoked"},
		} {
			time.Sleep(2 * time.Second)
			if err := a.SetIdentity(within(time.Second), c.id); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.why) {
				w.T.Errorf("got %v, want %v that says %q", err, c.want, c.why)
			}
		}
		if err := a.SetIdentity(within(time.Second), alice); !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("at once: %v", err)
		}
		time.Sleep(2 * time.Second)
		if a.Fingerprint() != netio.Fingerprint(alice.Chain()[0]) || w.coordinator.Stats().Attached != 1 {
			w.T.Error("alice is somebody else, or gone")
		}
		w.coordinator.Stop()
		ended := make(chan error, 1)
		go func() { ended <- a.SetIdentity(within(time.Minute), identity(t, root, netio.Order{Name: "alice"})) }()
		time.Sleep(20 * time.Second)
		select {
		case err := <-ended:
			w.T.Errorf("without a coordinator: %v", err)
		default:
		}
		w.coordinator.Start()
		w.check(<-ended)
	})
}

// TestRevocation detaches a client at once, does not let it in again, and lets it when the list says so.
func TestRevocation(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob, carol := w.client("alice", near, nil), w.client("bob", near, nil), w.client("carol", near, nil)
		s, r := w.open(alice, bob, nil)
		traffic := w.flows(s, r, 100*time.Millisecond, 200)
		key := netio.KeyFingerprint(s.Channel().Certificate())
		if key != bob.KeyFingerprint() {
			w.T.Fatal("the peer's certificate is another one")
		}
		w.must(w.coordinator.SetRevoked(within(time.Second), []string{key}))
		if stats := w.coordinator.Stats(); stats.Attached != 2 || stats.Channels != 0 {
			w.T.Errorf("%+v", stats)
		}
		w.tryOpen(carol, "bob", messages.ErrNoSuchPeer, "", false)
		time.Sleep(time.Minute)
		if stats := w.coordinator.Stats(); stats.Attached != 2 {
			w.T.Errorf("%d attached", stats.Attached)
		}
		if !slices.ContainsFunc(bob.Events(), func(e sim.Event) bool {
			d, ok := e.Event.(client.Detached)
			return ok && errors.Is(d.Err, messages.ErrUntrusted) && strings.Contains(d.Err.Error(), "revoked") && !d.Final
		}) {
			w.T.Errorf("bob was not told: %v", bob.Events())
		}
		w.check(traffic.end()) // a direct channel goes on…
		began := time.Now()
		w.must(alice.SetRevoked(within(time.Second), []string{key})) // …until its peer ends it
		time.Sleep(time.Second)
		if len(alice.lost(began)) == 0 || len(alice.refused()) != 1 {
			w.T.Errorf("%v, %v", alice.lost(began), alice.refused())
		}
		w.must(w.coordinator.SetRevoked(within(time.Second), nil))
		w.Eventually(30*time.Second, "bob is back", func() bool { return w.coordinator.Stats().Attached == 3 })
		w.greet(carol, bob)
		w.tryOpen(alice, "bob", messages.ErrUntrusted, "revoked", false)
		w.tryOpen(bob, "alice", messages.ErrUntrusted, "", true)
		if text := strings.Join(alice.refused(), "\n"); strings.Count(text, "revoked") < 3 {
			w.T.Error(text)
		}
	})
}

// TestRevokedCoordinator has a client give its coordinator up, and not come back to it.
func TestRevokedCoordinator(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice := w.client("alice", near, nil)
		w.must(alice.SetRevoked(within(time.Second), []string{w.coordinator.Fingerprint()}))
		time.Sleep(time.Minute)
		if n := w.coordinator.Stats().Attached; n != 0 {
			w.T.Errorf("%d attached", n)
		}
		w.must(alice.SetRevoked(within(time.Second), nil))
		w.attached(30*time.Second, alice)
		bob := w.NewClient(w.host("bob", near), func(config *client.Config) { config.Revoked = []string{w.coordinator.Fingerprint()} })
		if err := bob.Start(); !errors.Is(err, messages.ErrUntrusted) || !strings.Contains(err.Error(), "revoked") {
			w.T.Error(err)
		}
	})
}

// TestCoordinatorRotation changes the coordinator's certificate: who is attached stays, who
// comes sees the new one.
func TestCoordinatorRotation(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	first, second := identity(t, root, netio.Order{Hosts: []string{"203.0.113.1"}}), identity(t, root, netio.Order{Hosts: []string{"203.0.113.1"}, Key: netio.Ed25519})
	pinned := func(config *client.Config) { config.Fingerprint = netio.Fingerprint(root.Chain()[0]) }
	inWorldWith(t, 1, func(config *coord.Config) { config.Identity = first }, func(w *world) {
		alice := w.client("alice", near, pinned)
		began := time.Now()
		w.coordinator.SetIdentity(second)
		if w.coordinator.Fingerprint() != netio.Fingerprint(second.Chain()[0]) {
			w.T.Error("the certificate is the former one")
		}
		bob := w.client("bob", near, func(config *client.Config) { config.Fingerprint = netio.Fingerprint(second.Chain()[0]) })
		w.greet(alice, bob)
		for _, e := range alice.since(began) {
			if _, gone := e.Event.(client.Detached); gone {
				w.T.Error("alice was detached")
			}
		}
		late := w.NewClient(w.host("carol", near), func(config *client.Config) { config.Fingerprint = netio.Fingerprint(first.Chain()[0]) })
		if err := late.Start(); !errors.Is(err, messages.ErrUntrusted) {
			w.T.Error(err)
		}
	})
}

// TestExpectPeer pins a peer while it is connected, and at the side that accepts.
func TestExpectPeer(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		s, _ := w.open(alice, bob, nil)
		w.must(bob.ExpectPeer(within(time.Second), "alice", alice.KeyFingerprint()))
		w.must(alice.ExpectPeer(within(time.Second), "bob", bob.Fingerprint()))
		time.Sleep(time.Second)
		select {
		case <-s.Channel().Done():
			w.T.Error("the expected peer was cut off")
		default:
		}
		w.must(bob.ExpectPeer(within(time.Second), "alice", bob.Fingerprint()))
		<-s.Channel().Done()
		w.tryOpen(alice, "bob", messages.ErrUntrusted, "", true)
		w.tryOpen(bob, "alice", messages.ErrUntrusted, "expected is "+bob.Fingerprint(), false)
		if text := strings.Join(bob.refused(), "\n"); !strings.Contains(text, alice.Fingerprint()) {
			w.T.Error(text)
		}
		if err := bob.ExpectPeer(within(time.Second), "alice", "x"); err == nil {
			w.T.Error("no fingerprint is one")
		}
	})
}

// TestKnownPeers has somebody else take a name that was free for a while: who has met the first
// one is not deceived, at neither end of a channel.
func TestKnownPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	inWorld(t, 1, func(w *world) {
		alice := w.client("alice", near, func(config *client.Config) { config.KnownPeers = path })
		bob := &program{w.Client(w.Host("bob", w.Internet(), near, addr("10.0.9.8:1").Addr()), nil), w}
		w.greet(alice, bob)
		w.greet(alice, alice) // of itself it writes nothing down
		text, err := os.ReadFile(path)
		if string(text) != "bob "+bob.KeyFingerprint()+"\n" || err != nil {
			w.T.Errorf("%s, %v", text, err)
		}
		w.must(bob.Stop())
		time.Sleep(time.Second)
		mallory := &program{w.Client(w.Host("mallory", w.Internet(), near, addr("10.0.9.9:1").Addr()), func(config *client.Config) {
			config.Name = "bob"
			config.Identity = identity(t, nil, netio.Order{Name: "bob"})
		}), w}
		w.tryOpen(alice, "bob", messages.ErrUntrusted, `THE KEY OF "bob" HAS CHANGED`, false)
		w.tryOpen(mallory, "alice", messages.ErrUntrusted, "", true)
		if _, err := mallory.OpenChannel(within(20*time.Second), "alice", nil); err == nil || strings.Contains(err.Error(), path) {
			w.T.Errorf("mallory hears %v", err)
		}
		if text := strings.Join(alice.refused(), "\n"); strings.Count(text, "remove line 1 of "+path) < 2 {
			w.T.Error(text)
		}
		w.must(os.WriteFile(path, nil, 0o600))
		w.greet(mallory, alice) // as the error said, the new key is taken now
	})
}
