package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

var trustNow = time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)

func made(t *testing.T, by *netio.Identity, order netio.Order) *netio.Identity {
	t.Helper()
	if order.Now.IsZero() {
		order.Now = trustNow
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

func pool(authorities ...*netio.Identity) *x509.CertPool {
	roots := x509.NewCertPool()
	for _, authority := range authorities {
		roots.AddCert(authority.Certificate())
	}
	return roots
}

// intro is what a coordinator says of a peer: its chain without the authority, and that.
func intro(peer string, id, authority *netio.Identity) *conecv1.Introduction {
	chain := id.Chain()
	msg := &conecv1.Introduction{Peer: peer, Certificate: chain[0], Chain: chain[1:]}
	if authority != nil {
		msg.Authority = authority.Certificate().Raw
		msg.Chain = chain[1 : len(chain)-1]
	}
	return msg
}

// TestTrust has a coordinator that says what it wants about a peer.
func TestTrust(t *testing.T) {
	root, stranger := made(t, nil, netio.Order{Name: "root", Authority: true}), made(t, nil, netio.Order{Name: "root", Authority: true})
	inner := made(t, root, netio.Order{Name: "inner", Authority: true})
	own := made(t, nil, netio.Order{Name: "alice"})
	self, again := made(t, nil, netio.Order{Name: "bob"}), made(t, nil, netio.Order{Name: "bob"})
	bob, carol := made(t, inner, netio.Order{Name: "bob"}), made(t, inner, netio.Order{Name: "carol"})
	forged := made(t, stranger, netio.Order{Name: "bob"})
	old := made(t, inner, netio.Order{Name: "bob", Now: trustNow.AddDate(-1, 0, 0), Validity: 24 * time.Hour})
	for _, c := range []struct {
		name   string
		config Config
		intro  *conecv1.Introduction
		why    string // empty: trusted
	}{
		{"self-signed", Config{}, intro("bob", self, nil), ""},
		{"name of another", Config{}, intro("bob", carol, nil), `introduces "bob" with a certificate for "carol"`},
		{"for nobody", Config{}, intro("bob", root, nil), `introduces "bob" with a certificate for "root"`},
		{"for several", Config{}, intro("bob", made(t, nil, netio.Order{Hosts: []string{"bob", "carol"}}), nil), "for nobody"},
		{"this client itself", Config{}, intro("alice", own, nil), ""},
		{"this client with another key", Config{}, intro("alice", made(t, nil, netio.Order{Name: "alice"}), nil), "which is this client, with another certificate"},

		{"pinned certificate", Config{Peers: map[string]string{"bob": netio.Fingerprint(self.Chain()[0])}}, intro("bob", self, nil), ""},
		{"pinned key", Config{Peers: map[string]string{"bob": netio.KeyFingerprint(self.Certificate())}}, intro("bob", self, nil), ""},
		{"pinned, another", Config{Peers: map[string]string{"bob": netio.KeyFingerprint(self.Certificate())}}, intro("bob", again, nil), "expected is sha256:"},
		{"another is pinned", Config{Peers: map[string]string{"carol": netio.KeyFingerprint(self.Certificate())}}, intro("bob", again, nil), ""},

		{"own roots", Config{PeerRoots: pool(root)}, intro("bob", bob, root), ""},
		{"own roots, coordinator names none", Config{PeerRoots: pool(root)}, intro("bob", bob, nil), ""},
		{"own roots, self-signed", Config{PeerRoots: pool(root)}, intro("bob", self, nil), "unknown authority"},
		{"own roots, another authority", Config{PeerRoots: pool(root)}, intro("bob", forged, stranger), "unknown authority"},
		{"own roots, peer named after another", Config{PeerRoots: pool(root)}, intro("bob", carol, root), `for "carol"`},
		{"own roots, expired", Config{PeerRoots: pool(root)}, intro("bob", old, root), "expired"},
		{"named authority", Config{}, intro("bob", bob, root), ""},
		{"named authority, self-signed", Config{}, &conecv1.Introduction{Peer: "bob", Certificate: self.Chain()[0], Authority: root.Chain()[0]}, "unknown authority"},
		{"another authority is named: only own roots would help", Config{}, intro("bob", forged, stranger), ""},

		{"revoked", Config{Revoked: []string{netio.Fingerprint(bob.Chain()[0])}}, intro("bob", bob, root), "revoked"},
		{"revoked key", Config{Revoked: []string{netio.KeyFingerprint(self.Certificate())}}, intro("bob", self, nil), "revoked"},
		{"revoked authority between", Config{PeerRoots: pool(root), Revoked: []string{netio.Fingerprint(inner.Chain()[0])}}, intro("bob", bob, root), "revoked"},
		{"revoked and pinned", Config{
			Peers: map[string]string{"bob": netio.KeyFingerprint(self.Certificate())}, Revoked: []string{netio.KeyFingerprint(self.Certificate())},
		}, intro("bob", self, nil), "revoked"},

		{"no certificate", Config{}, &conecv1.Introduction{Peer: "bob"}, "introduction"},
		{"noise for a chain", Config{}, &conecv1.Introduction{Peer: "bob", Certificate: self.Chain()[0], Chain: [][]byte{{1}}}, "introduction"},
		{"noise for an authority", Config{}, &conecv1.Introduction{Peer: "bob", Certificate: self.Chain()[0], Authority: []byte{1}}, "introduction"},
		{"long chain", Config{}, &conecv1.Introduction{Peer: "bob", Certificate: self.Chain()[0], Chain: make([][]byte, netio.MaxChain)}, "limit"},
	} {
		c.config.Name, c.config.Now = "alice", func() time.Time { return trustNow }
		trust := newTrust(&c.config, func(hash []byte) bool { return string(hash) == string(netio.Hash(own.Certificate())) })
		got, err := trust.introduced(c.intro)
		switch {
		case c.why == "" && (err != nil || string(got.Raw) != string(c.intro.GetCertificate())):
			t.Errorf("%s: %v", c.name, err)
		case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: got %v, want one that says %q", c.name, err, c.why)
		}
	}
}

// TestTrustChanges pins and revokes after a peer was introduced, before it has connected.
func TestTrustChanges(t *testing.T) {
	bob := made(t, nil, netio.Order{Name: "bob"}).Certificate()
	trust := newTrust(&Config{Name: "alice", Now: time.Now}, nil)
	if err := trust.proven("bob", bob); err != nil {
		t.Error(err)
	}
	trust.expect("bob", netio.Fingerprint(nil))
	if err := trust.proven("bob", bob); !errors.Is(err, messages.ErrUntrusted) {
		t.Errorf("pinned: %v", err)
	}
	trust.expect("bob", netio.Fingerprint(bob.Raw))
	revoked, _ := netio.NewRevoked([]string{netio.Fingerprint(bob.Raw)})
	trust.setRevoked(revoked)
	if err := trust.proven("bob", bob); !errors.Is(err, messages.ErrUntrusted) {
		t.Errorf("revoked: %v", err)
	}
	trust.setRevoked(nil)
	if err := trust.proven("bob", bob); err != nil {
		t.Error(err)
	}
}

func TestTrustConfig(t *testing.T) {
	good := Config{Name: "alice", Coordinator: "localhost"}
	for want, change := range map[string]func(*Config){
		"Identity and IdentityFile: give one": func(c *Config) {
			c.IdentityFile, c.Identity = "x", made(t, nil, netio.Order{Name: "alice"})
		},
		`Identity: certificate is for another name: it is for "bob"`: func(c *Config) { c.Identity = made(t, nil, netio.Order{Name: "bob"}) },
		`Peers: "Bob": invalid name`:                                 func(c *Config) { c.Peers = map[string]string{"Bob": netio.Fingerprint(nil)} },
		`Peers: "bob": fingerprint "x"`:                              func(c *Config) { c.Peers = map[string]string{"bob": "x"} },
		`Revoked: fingerprint "x"`:                                   func(c *Config) { c.Revoked = []string{"x"} },
	} {
		config := good
		change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestConfigPrints: no key in what a program prints of its configuration.
func TestConfigPrints(t *testing.T) {
	id := made(t, nil, netio.Order{Name: "alice", Key: netio.Ed25519})
	_, text, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	config := &Config{Name: "alice", Identity: id}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, what := range []any{config, *config} {
			got := fmt.Sprintf(verb, what)
			for _, secret := range keyForms(t, text) {
				if strings.Contains(got, secret) {
					t.Errorf("%s prints the key", verb)
				}
			}
			if !strings.Contains(got, netio.Fingerprint(id.Chain()[0])) {
				t.Errorf("%s: %s", verb, got)
			}
		}
	}
}
