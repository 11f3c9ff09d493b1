package suite_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// A client attaches, is counted, and is gone when it closes. (Seed test 1.)
func TestAttach(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events := newRecorder()
		alice := w.client("alice", events.config)
		w.attached(1)
		if got := await[client.Attached](w, events); got.Observed != w.addr(alice).String() {
			w.Errorf("observed at %s, want %s", got.Observed, w.addr(alice))
		}
		w.close(alice)
		w.attached(0)
		if stats := w.coord.Stats(); stats.Relay.Clients != 0 {
			w.Errorf("the relay still has %d clients", stats.Relay.Clients)
		}
	})
}

// A name is its holder's until that closes; the holder notices nothing of others
// that want it. (Seed test 2.)
func TestNameTaken(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, nil)

		_, err := w.connect("alice")
		wantError(w.T, err, messages.ErrNameTaken, true,
			`attach to "`+w.config.Addr+`": by the other side: name is taken: "alice"`)
		w.attached(2)
		w.both(here, there)
		w.stream(bob, alice, nil)

		w.close(alice)
		w.attached(1)
		w.both(w.stream(w.client("alice"), bob, nil))
	})
}

// Whoever has the key takes its own name over at once; the former attachment is
// told and stays away, so that the two do not take turns.
func TestTakeover(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		identity, err := netio.NewIdentity("alice", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		with := func(c *client.Config) { c.Identity = identity }
		events := newRecorder()
		former := w.client("alice", with, events.config)

		latter := w.client("alice", with)
		detached := await[client.Detached](w, events)
		if !detached.Final || !errors.Is(detached.Err, messages.ErrSuperseded) {
			w.Errorf("the former attachment was told %+v, want final and superseded", detached)
		}
		bob := w.client("bob")
		w.both(w.stream(bob, latter, nil))
		w.both(w.stream(latter, bob, nil))

		_, err = former.OpenStream(w.ctx, "bob", nil)
		if !errors.Is(err, messages.ErrSuperseded) || !errors.Is(err, net.ErrClosed) {
			w.Errorf("the former attachment opens a stream: %v, want superseded", err)
		}
		w.attached(2)
	})
}

// An idle client stays attached far longer than nothing may be heard from it.
// (Seed test 22.)
func TestKeepAlive(t *testing.T) {
	everywhere(t, func(w *world) {
		const idle = time.Second
		w.begin(func(c *coord.Config) { c.IdleTimeout, c.KeepAlive = idle, -1 })
		events := newRecorder()
		alice := w.client("alice", events.config, func(c *client.Config) { c.IdleTimeout, c.KeepAlive = idle, idle/5 })
		w.client("bob", func(c *client.Config) { c.IdleTimeout, c.KeepAlive = idle, -1 })
		w.attached(2)
		// The control case: without keepalive the connection is given up. The client
		// comes back at once, so it is the counter of connections that tells.
		deaf := newRecorder()
		w.client("carol", deaf.config, func(c *client.Config) { c.IdleTimeout, c.KeepAlive = idle, -1 })
		await[client.Detached](w, deaf)
		await[client.Attached](w, deaf)
		await[client.Detached](w, deaf)

		await[client.Attached](w, events)
		select {
		case event := <-events:
			w.Errorf("idle client was told %+v", event)
		default:
		}
		if _, err := alice.OpenStream(w.ctx, "alice", nil); err != nil {
			w.Error(err)
		}
	}, slow("takes seconds")...)
}

// A client comes in only under the name that its certificate is for.
func TestCertificateForAnotherName(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events := newRecorder()
		mallory, err := netio.NewIdentity("mallory", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		_, err = w.connect("alice", events.config, func(c *client.Config) { c.Identity = mallory })
		if !errors.Is(err, messages.ErrNameMismatch) || !strings.Contains(err.Error(), "mallory") {
			w.Errorf("own check: %v, want name mismatch", err)
		}
		// Past its own check, which a hostile client does not have.
		raw := w.dial(mallory)
		raw.say(attach("alice"))
		err = raw.heardEnd()
		if !errors.Is(err, messages.ErrNameMismatch) || !netio.IsRemote(err) {
			w.Errorf("the coordinator's check: %v, want name mismatch", err)
		}
		if stats := w.coord.Stats(); stats.Attached != 0 || stats.Refused != 1 {
			w.Errorf("%d attached, %d refused; want 0 and 1", stats.Attached, stats.Refused)
		}
		w.client("alice")
	})
}

// With an authority, only clients that it vouches for come in.
func TestClientAuthority(t *testing.T) {
	everywhere(t, func(w *world) {
		authority, err := netio.NewAuthority("clients", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(authority.Certificate())
		w.begin(func(c *coord.Config) { c.ClientRoots = pool })
		issue := func(name string, at time.Time) func(*client.Config) {
			identity, err := authority.Issue(name, at)
			if err != nil {
				w.Fatal(err)
			}
			return func(c *client.Config) { c.Identity = identity }
		}
		longAgo := time.Now().AddDate(-20, 0, 0)
		for name, change := range map[string]func(*client.Config){
			"self-signed": func(*client.Config) {},
			"expired":     issue("alice", longAgo),
		} {
			_, err := w.connect("alice", change)
			if !errors.Is(err, messages.ErrUntrusted) {
				w.Errorf("%s: %v, want untrusted", name, err)
			}
		}
		w.attached(0)
		alice, bob := w.client("alice", issue("alice", time.Now())), w.client("bob", issue("bob", time.Now()))
		w.both(w.stream(alice, bob, nil))
	})
}

// A client attaches only to the coordinator that it was told to trust.
func TestUntrustedCoordinator(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		other, err := netio.NewAuthority("other", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(other.Certificate())
		for name, change := range map[string]func(*client.Config){
			"fingerprint": func(c *client.Config) { c.Fingerprint = netio.Fingerprint(other.Chain()[0]) },
			"roots":       func(c *client.Config) { c.Fingerprint, c.Roots = "", roots },
			"system":      func(c *client.Config) { c.Fingerprint = "" },
			"expired":     func(c *client.Config) { c.Now = func() time.Time { return time.Now().AddDate(20, 0, 0) } },
		} {
			_, err := w.connect("alice", change)
			var op *messages.OpError
			if !errors.Is(err, messages.ErrUntrusted) || !errors.As(err, &op) || op.Remote || op.Peer != w.config.Addr {
				w.Errorf("%s: %v, want untrusted, found by this side, naming the coordinator", name, err)
			}
		}
		w.attached(0)
	})
}

// The development certificate is for "localhost", and its authority is trusted if
// it is among the roots.
func TestRoots(t *testing.T) {
	const onlyLocal = "localhost is this machine, where the coordinator is not"
	everywhere(t, func(w *world) {
		w.begin()
		chain := w.config.Identity.Chain()
		authority, err := x509.ParseCertificate(chain[len(chain)-1])
		if err != nil {
			w.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(authority)
		_, port, err := net.SplitHostPort(w.config.Addr)
		if err != nil {
			w.Fatal(err)
		}
		w.client("alice", func(c *client.Config) {
			c.Fingerprint, c.Roots, c.Coordinator = "", roots, net.JoinHostPort("localhost", port)
		})
		_, err = w.connect("bob", func(c *client.Config) { c.Fingerprint, c.Roots = "", roots })
		if !errors.Is(err, messages.ErrUntrusted) {
			w.Errorf("by an address that is not in the certificate: %v, want untrusted", err)
		}
	}, except(virtual, onlyLocal), except(netns, onlyLocal))
}

// Clients that prove their address first attach all the same.
func TestStatelessRetry(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.StatelessRetry = true })
		w.both(w.stream(w.client("alice"), w.client("bob"), nil))
	})
}

// Nobody listens: Connect waits as long as it may.
func TestNoCoordinator(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		w.stop()
		ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
		defer cancel()
		w.ctx = ctx
		_, err := w.connect("alice")
		wantError(w.T, err, context.DeadlineExceeded, false, `attach to "`+w.config.Addr+`": context deadline exceeded`)
	})
}

// Clients find out that there is no NAT before them, by the coordinator's second port; a coordinator that has none leaves them in
// the dark.
func TestAlternate(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice")
		w.eventually("alice's mapping", func() bool { return alice.NAT().Mapping == client.NoMapping })
	})
	for at, want := range map[string]client.Mapping{"127.0.0.1:0": client.NoMapping, "none": client.MappingUnknown} {
		c, err := coord.Start(t.Context(), &coord.Config{Addr: "127.0.0.1:0", Alternate: at})
		if err != nil {
			t.Fatal(err)
		}
		cl, err := client.Connect(t.Context(), &client.Config{
			Name: "alice", Coordinator: c.Addr().String(), Fingerprint: c.Fingerprint(), Bind: "127.0.0.1:0",
		})
		if err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); cl.NAT().Mapping != want && time.Since(began) < 10*time.Second; {
			<-time.After(time.Millisecond)
		}
		if nat := cl.NAT(); nat.Mapping != want || nat.Alternate.IsValid() != (want == client.NoMapping) {
			t.Errorf("alternate %s: found %+v, want %v", at, nat, want)
		}
		cl.Abort()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := coord.Start(t.Context(), &coord.Config{Addr: "127.0.0.1:0", Alternate: "192.0.2.1:0"}); err == nil {
		t.Error("a coordinator started without the second address that it was told to have")
	}
}
