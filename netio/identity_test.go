package netio_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// bubbleStart is when the time in a bubble begins.
var bubbleStart = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// selfSigned makes an identity that is valid in a bubble, outside of it.
func selfSigned(t *testing.T, name string) *netio.Identity {
	t.Helper()
	id, err := netio.NewIdentity(name, bubbleStart)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newAuthority(t *testing.T) *netio.Identity {
	t.Helper()
	authority, err := netio.NewAuthority("test authority", bubbleStart)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func issue(t *testing.T, authority *netio.Identity, name string, addresses ...netip.Addr) *netio.Identity {
	t.Helper()
	id, err := authority.Issue(name, bubbleStart, addresses...)
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

// years returns a clock that is wrong by so many years.
func years(n int) func() time.Time {
	return func() time.Time { return time.Now().AddDate(n, 0, 0) }
}

// checkUntrusted looks at how a connection that was dialed ended.
func checkUntrusted(t *testing.T, err error, why string, remote bool) {
	t.Helper()
	switch {
	case why == "":
		if err != nil {
			t.Errorf("not trusted: %v", err)
		}
	case !errors.Is(err, messages.ErrUntrusted) || !strings.Contains(err.Error(), why) || netio.IsRemote(err) != remote:
		t.Errorf("got %v (remote %v), want one that says %q (remote %v)", err, netio.IsRemote(err), why, remote)
	}
}

func TestCoordinatorTrust(t *testing.T) {
	authority, stranger := newAuthority(t), newAuthority(t)
	issued := issue(t, authority, "coord.example", netip.MustParseAddr("192.0.2.1"))
	self := selfSigned(t, "coord.example")
	roots, fingerprint := rootsOf(authority), netio.Fingerprint
	for _, c := range []struct {
		name string
		id   *netio.Identity
		know netio.Coordinator
		now  func() time.Time // the client's clock
		why  string           // empty: trusted
	}{
		{"by name", issued, netio.Coordinator{Host: "coord.example", Roots: roots}, nil, ""},
		{"by address", issued, netio.Coordinator{Host: "192.0.2.1", Roots: roots}, nil, ""},
		{"by fingerprint", self, netio.Coordinator{Fingerprint: fingerprint(self.Chain()[0])}, nil, ""},
		{"by authority's fingerprint", issued, netio.Coordinator{Host: "coord.example", Fingerprint: fingerprint(authority.Chain()[0])}, nil, ""},
		{"by authority's fingerprint, other name", issued, netio.Coordinator{Host: "other.example", Fingerprint: fingerprint(authority.Chain()[0])}, nil, "not other.example"},
		{"client of the pinned authority", issue(t, authority, "mallory"), netio.Coordinator{Host: "coord.example", Fingerprint: fingerprint(authority.Chain()[0])}, nil, "not coord.example"},
		{"other name", issued, netio.Coordinator{Host: "other.example", Roots: roots}, nil, "not other.example"},
		{"other address", issued, netio.Coordinator{Host: "192.0.2.2", Roots: roots}, nil, "not 192.0.2.2"},
		{"other authority", issued, netio.Coordinator{Host: "coord.example", Roots: rootsOf(stranger)}, nil, "unknown authority"},
		{"self-signed", self, netio.Coordinator{Host: "coord.example", Roots: roots}, nil, "unknown authority"},
		{"system's authorities", issued, netio.Coordinator{Host: "coord.example"}, nil, "certificate"},
		{"other fingerprint", self, netio.Coordinator{Fingerprint: fingerprint(issued.Chain()[0])}, nil, "fingerprint"},
		{"other authority's fingerprint", issued, netio.Coordinator{Fingerprint: fingerprint(stranger.Chain()[0])}, nil, "fingerprint"},
		{"expired", issued, netio.Coordinator{Host: "coord.example", Roots: roots}, years(11), "expired"},
		{"not yet valid", issued, netio.Coordinator{Host: "coord.example", Roots: roots}, years(-1), "not yet valid"},
		{"expired, by fingerprint", self, netio.Coordinator{Fingerprint: fingerprint(self.Chain()[0])}, years(11), "expired at"},
		{"not yet valid, by fingerprint", self, netio.Coordinator{Fingerprint: fingerprint(self.Chain()[0])}, years(-1), "valid from"},
		{"expired, by authority's fingerprint", issued, netio.Coordinator{Host: "coord.example", Fingerprint: fingerprint(authority.Chain()[0])}, years(11), "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				newCoordinator(t, n.link("10.0.0.9:9"), c.id, nil)
				a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), &netio.Config{Now: c.now})
				_, err := a.DialHome(within(t), netip.MustParseAddrPort("10.0.0.9:9"), c.know)
				checkUntrusted(t, err, c.why, false)
			})
		})
	}
}

func TestClientTrust(t *testing.T) {
	authority, stranger := newAuthority(t), newAuthority(t)
	roots := rootsOf(authority)
	for _, c := range []struct {
		name   string
		id     *netio.Identity
		config netio.Config // the coordinator's
		why    string
	}{
		{"issued", issue(t, authority, "alice"), netio.Config{ClientRoots: roots}, ""},
		{"self-signed where all may come", selfSigned(t, "alice"), netio.Config{}, ""},
		{"self-signed", selfSigned(t, "alice"), netio.Config{ClientRoots: roots}, "unknown authority"},
		{"other authority", issue(t, stranger, "alice"), netio.Config{ClientRoots: roots}, "unknown authority"},
		{"expired", issue(t, authority, "alice"), netio.Config{ClientRoots: roots, Now: years(11)}, "expired"},
		{"self-signed and expired", selfSigned(t, "alice"), netio.Config{Now: years(11)}, "expired at"},
		{"self-signed and not yet valid", selfSigned(t, "alice"), netio.Config{Now: years(-1)}, "valid from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				id := newIdentity(t, "localhost")
				newCoordinator(t, n.link("10.0.0.9:9"), id, &c.config)
				a := newEnd(t, n.link("10.0.0.1:1"), c.id, nil)
				checkUntrusted(t, refusal(a.DialHome(within(t), netip.MustParseAddrPort("10.0.0.9:9"), pinned(id))), c.why, true)
			})
		})
	}
}

func TestPeerTrust(t *testing.T) {
	for _, c := range []struct {
		name   string
		a, b   *netio.Config
		asA    string // whose certificate was introduced to b as alice's
		asB    string // and to a as bob's
		why    string // empty: trusted
		remote bool
	}{
		{"introduced", nil, nil, "alice", "bob", "", false},
		{"not the introduced one", nil, nil, "alice", "alice", `"bob" is not the introduced one`, false},
		{"not the introduced one at the other side", nil, nil, "bob", "bob", "bad certificate", true},
		{"expired", &netio.Config{Now: years(11)}, nil, "alice", "bob", "expired at 20", false},
		{"not yet valid", &netio.Config{Now: years(-1)}, nil, "alice", "bob", "valid from 1999-12-31T23:00:00Z", false},
		{"expired at the other side", nil, &netio.Config{Now: years(11)}, "alice", "bob", "bad certificate", true},
		{"not yet valid at the other side", nil, &netio.Config{Now: years(-1)}, "alice", "bob", "bad certificate", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newEnds(t, c.a, c.b)
				ids := map[string][]byte{"alice": a.id.Chain()[0], "bob": b.id.Chain()[0]}
				await := b.Expect(b.port, "alice", ids[c.asA])
				checkUntrusted(t, refusal(a.DialChannel(within(t), a.port, "bob", ids[c.asB])), c.why, c.remote)
				if c.why == "" {
					if _, err := await(within(t)); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestNoCertificate has a peer that shows none.
func TestNoCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		newCoordinator(t, n.link("10.0.0.9:9"), newIdentity(t, "localhost"), nil)
		b := newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
		config := bareTLS(t, b.id, messages.ALPNHome)
		config.Certificates = nil
		conn, err := b.transport.Dial(within(t), udpAddr(n.links[netip.MustParseAddrPort("10.0.0.9:9")]), config, switchQUIC)
		if err == nil {
			<-conn.Context().Done()
			_, err = conn.AcceptStream(within(t))
		}
		if refused := (*quic.TransportError)(nil); !errors.As(err, &refused) || refused.ErrorCode != 0x100+116 {
			t.Errorf("got %v, want certificate required", err)
		}
	})
}

// TestVersions has peers that speak another version of the protocol.
func TestVersions(t *testing.T) {
	for _, offered := range []string{"conec-channel/2", messages.ALPNHome, "h3"} {
		synctest.Test(t, func(t *testing.T) {
			var n fakeNet
			a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
			b := newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
			joinPorts(a.port, a.link, b.port, b.link)
			config := bareTLS(t, b.id, offered)
			if _, err := b.transport.Listen(config, switchQUIC); err != nil {
				t.Fatal(err)
			}
			_, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
			if !errors.Is(err, messages.ErrVersion) || !netio.IsRemote(err) {
				t.Errorf("%s accepts: %v", offered, err)
			}
			a.Expect(a.port, "bob", b.id.Chain()[0])
			_, err = b.transport.Dial(within(t), b.port.Addr(), config, switchQUIC)
			if refused := (*quic.TransportError)(nil); !errors.As(err, &refused) || refused.ErrorCode != 0x100+120 {
				t.Errorf("%s dials: %v", offered, err)
			}
		})
	}
}

// TestVersionsBoth dials as one kind of connection what expects the other kind.
func TestVersionsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		id := newIdentity(t, "localhost")
		link := n.link("10.0.0.9:9")
		c := newCoordinator(t, link, id, nil)
		port := openPort(t, c.Switch())
		a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
		joinPorts(a.port, a.link, port, link)
		_, err := a.DialChannel(within(t), a.port, "localhost", id.Chain()[0])
		if !errors.Is(err, messages.ErrVersion) || !netio.IsRemote(err) {
			t.Error(err)
		}
		if _, err = a.DialHome(within(t), link.LocalAddr(), pinned(id)); err != nil {
			t.Error(err)
		}
	})
}

func TestIdentityRoundTrip(t *testing.T) {
	authority := newAuthority(t)
	for name, id := range map[string]*netio.Identity{
		"alice": newIdentity(t, "alice"), "bob": issue(t, authority, "bob"),
	} {
		certificate, key, err := id.PEM()
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := netio.LoadIdentity(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(loaded.Chain()) != len(id.Chain()) || !loaded.Certificate().Equal(id.Certificate()) {
			t.Errorf("%s: another certificate", name)
		}
		if got, err := netio.CertificateName(loaded.Certificate()); got != name || err != nil {
			t.Errorf("name %q, %v", got, err)
		}
		_, otherKey, err := authority.PEM()
		if err != nil {
			t.Fatal(err)
		}
		for what, parts := range map[string][2][]byte{
			"no certificate": {nil, key}, "no key": {certificate, nil}, "another key": {certificate, otherKey},
			"noise": {[]byte("noise"), []byte("noise")},
		} {
			if _, err := netio.LoadIdentity(parts[0], parts[1]); err == nil {
				t.Errorf("%s: %s is an identity", name, what)
			}
		}
	}
	if _, err := netio.FromCertificate(tls.Certificate{}); err == nil {
		t.Error("nothing is an identity")
	}
}

func TestCertificateName(t *testing.T) {
	for _, c := range []struct {
		common string
		dns    []string
		want   string // empty: an error
	}{
		{"alice", nil, "alice"},
		{"ignored", []string{"alice"}, "alice"},
		{"alice", []string{"alice", "bob"}, ""},
		{"", nil, ""},
		{"Alice", nil, ""},
		{"alice", []string{"*.example"}, ""},
		{strings.Repeat("a", 64), nil, ""},
	} {
		certificate := &x509.Certificate{DNSNames: c.dns}
		certificate.Subject.CommonName = c.common
		got, err := netio.CertificateName(certificate)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, messages.ErrNameMismatch) {
			t.Errorf("%q %q: got %q, %v", c.common, c.dns, got, err)
		}
	}
}

func TestFingerprint(t *testing.T) {
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if got := netio.Fingerprint(nil); got != empty {
		t.Error(got)
	}
	for text, ok := range map[string]bool{
		empty: true, "": false, empty[7:]: false, empty[:70]: false, empty + "00": false, "sha1:" + empty[7:]: false,
		"sha256:" + strings.Repeat("x", 64): false,
	} {
		if err := netio.CheckFingerprint(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
