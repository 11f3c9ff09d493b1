package netio_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

var kinds = map[string]netio.KeyKind{"P-256": netio.P256, "Ed25519": netio.Ed25519}

// make makes what is ordered, by an authority or by itself.
func makeIdentity(t *testing.T, by *netio.Identity, order netio.Order) *netio.Identity {
	t.Helper()
	if order.Now.IsZero() {
		order.Now = bubbleStart
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

// chainOf returns an identity's certificates.
func chainOf(t *testing.T, id *netio.Identity) (chain []*x509.Certificate) {
	t.Helper()
	for _, der := range id.Chain() {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	return chain
}

// secrets returns what must not be printed of an identity's key, in the forms in which it might be.
func secrets(t *testing.T, id *netio.Identity) (forms []string) {
	t.Helper()
	_, text, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		raw, _ = key.Bytes()
		forms = append(forms, key.D.String()) //nolint:staticcheck // that is how fmt would print it
	case ed25519.PrivateKey:
		raw = key.Seed()
	}
	decimal := strings.Trim(fmt.Sprintf("%d", raw[:8]), "[]")
	return append(forms, hex.EncodeToString(raw[:8]), strings.ToUpper(hex.EncodeToString(raw[:8])), decimal,
		base64.StdEncoding.EncodeToString(raw[:9]), strings.Trim(fmt.Sprintf("%#v", raw[:8]), "[]byte{}"), string(raw[:8]))
}

// TestIdentityPrints prints identities in every way that a program may by chance.
func TestIdentityPrints(t *testing.T) {
	for name, kind := range kinds {
		id := makeIdentity(t, nil, netio.Order{Name: "alice", Key: kind})
		var out bytes.Buffer
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "d", "x", "X", "c", "b", "U", "t"} {
			fmt.Fprintf(&out, "%"+verb+"\n", id)
			fmt.Fprintf(&out, "%"+verb+"\n", *id)
			fmt.Fprintf(&out, "%"+verb+"\n", struct{ Identity *netio.Identity }{id})
			fmt.Fprintf(&out, "%"+verb+"\n", []netio.Identity{*id})
		}
		for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
			logger.Info("printed", "pointer", id, "value", *id, "in", struct{ Identity *netio.Identity }{id})
		}
		if text, err := json.Marshal(struct{ Identity *netio.Identity }{id}); err != nil {
			t.Error(err)
		} else {
			out.Write(text)
		}
		for _, secret := range secrets(t, id) {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%s: the key is printed as %q", name, secret)
			}
		}
		if want := netio.Fingerprint(id.Chain()[0]); strings.Count(out.String(), want) < 20 {
			t.Errorf("%s: the fingerprint is not printed: %s", name, out.String())
		}
	}
}

// TestVerifyClient has chains of all kinds before a coordinator's authority.
func TestVerifyClient(t *testing.T) {
	root := makeIdentity(t, nil, netio.Order{Name: "root", Authority: true, Key: netio.Ed25519})
	inner := makeIdentity(t, root, netio.Order{Name: "inner", Authority: true})
	bob := makeIdentity(t, inner, netio.Order{Name: "bob", Key: netio.Ed25519})
	hosts := makeIdentity(t, inner, netio.Order{Hosts: []string{"bob"}})
	early := makeIdentity(t, inner, netio.Order{Name: "bob", Validity: time.Minute})
	many := chainOf(t, bob)
	for len(many) <= netio.MaxChain {
		many = append(many, root.Certificate())
	}
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		after time.Duration
		why   string
	}{
		{"for clients only", chainOf(t, bob), 0, ""},
		{"without the root", chainOf(t, bob)[:2], 0, ""},
		{"for servers only", chainOf(t, hosts), 0, ""},
		{"without the intermediate", chainOf(t, bob)[:1], 0, "unknown authority"},
		{"expired", chainOf(t, early), 2 * time.Minute, "expired"},
		{"too many", many, 0, "at most 6"},
	} {
		got, err := netio.VerifyClient(c.chain, rootsOf(root), bubbleStart.Add(c.after))
		if c.why == "" && (err != nil || len(got) != 3 || !got[2].Equal(root.Certificate())) ||
			c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %d certificates, %v", c.name, len(got), err)
		}
	}
	if usage := bob.Certificate().ExtKeyUsage; len(usage) != 1 || usage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("a client's certificate is for %v", usage)
	}
	for _, order := range []netio.Order{{Name: "deeper", Authority: true, Now: bubbleStart}, {Now: bubbleStart}, {Name: "no time"}, {Name: "a", Key: 7, Now: bubbleStart}} {
		if _, err := inner.Make(&order); err == nil {
			t.Errorf("made %+v", order)
		}
	}
	if _, err := bob.Make(&netio.Order{Name: "carol", Now: bubbleStart}); err == nil {
		t.Error("a client's certificate signs others")
	}
}

// TestClientIsNoCoordinator: a client of the same authority, whose name is that of the
// coordinator's host, can not stand in for it.
func TestClientIsNoCoordinator(t *testing.T) {
	root := makeIdentity(t, nil, netio.Order{Name: "root", Authority: true})
	for _, c := range []struct {
		order netio.Order
		why   string
	}{
		{netio.Order{Hosts: []string{"coord.example"}}, ""},
		{netio.Order{Name: "coord.example"}, "incompatible key usage"},
	} {
		id := makeIdentity(t, root, c.order)
		for _, know := range []netio.Coordinator{
			{Host: "coord.example", Roots: rootsOf(root)},
			{Host: "coord.example", Fingerprint: netio.Fingerprint(root.Chain()[0])},
			{Host: "coord.example", Fingerprint: netio.KeyFingerprint(root.Certificate())},
		} {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				newCoordinator(t, n.link("10.0.0.9:9"), id, nil)
				a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
				_, err := a.DialHome(within(t), netip.MustParseAddrPort("10.0.0.9:9"), know)
				checkUntrusted(t, err, c.why, false)
			})
		}
	}
}

// TestLookAlikes has certificates whose name is almost a client's, or is not the only one.
func TestLookAlikes(t *testing.T) {
	page, _ := url.Parse("https://alice")
	for name, certificate := range map[string]*x509.Certificate{
		"upper case":         {DNSNames: []string{"Alice"}},
		"all upper case":     {DNSNames: []string{"ALICE"}},
		"Cyrillic a":         {DNSNames: []string{"аlice"}},
		"full width":         {DNSNames: []string{"ａlice"}},
		"dotless i":          {DNSNames: []string{"alıce"}},
		"Kelvin sign":        {DNSNames: []string{"\u212aate"}},
		"soft hyphen":        {DNSNames: []string{"al\u00adice"}},
		"zero width":         {DNSNames: []string{"al\u200bice"}},
		"right to left":      {DNSNames: []string{"\u202ealice"}},
		"combining":          {DNSNames: []string{"alice\u0301"}},
		"zero byte":          {DNSNames: []string{"alice\x00.example"}},
		"trailing dot":       {DNSNames: []string{"alice."}},
		"leading dot":        {DNSNames: []string{".alice"}},
		"trailing space":     {DNSNames: []string{"alice "}},
		"new line":           {DNSNames: []string{"alice\n"}},
		"wildcard":           {DNSNames: []string{"*"}},
		"wildcard label":     {DNSNames: []string{"*.alice"}},
		"two names":          {DNSNames: []string{"alice", "bob"}},
		"twice the same":     {DNSNames: []string{"alice", "alice"}},
		"an address, too":    {DNSNames: []string{"alice"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"a mail address":     {DNSNames: []string{"alice"}, EmailAddresses: []string{"alice@example"}},
		"a page":             {DNSNames: []string{"alice"}, URIs: []*url.URL{page}},
		"an address instead": {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"nothing":            {},
	} {
		certificate.Subject.CommonName = "alice" // which a DNS name, or any other, overrules
		if name == "nothing" {
			certificate.Subject.CommonName = ""
		}
		if got, err := netio.CertificateName(certificate); !errors.Is(err, messages.ErrNameMismatch) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestProof has a client prove another certificate's key over its connection, and an attacker try to.
func TestProof(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, cb := connectEnds(t, nil, nil)
				other, _ := connectEnds(t, nil, nil)
				mine, others := makeIdentity(t, nil, netio.Order{Name: "alice", Key: kind}), makeIdentity(t, nil, netio.Order{Name: "alice", Key: kind})
				prove := func(conn *netio.Conn, id *netio.Identity) []byte {
					proof, err := conn.Prove(id)
					if err != nil {
						t.Fatal(err)
					}
					return proof
				}
				if err := cb.CheckProof(mine.Certificate(), prove(ca, mine)); err != nil {
					t.Error(err)
				}
				for what, proof := range map[string][]byte{
					"another key": prove(ca, others), "another connection": prove(other, mine), "nothing": nil, "cut": prove(ca, mine)[:60],
				} {
					if err := cb.CheckProof(mine.Certificate(), proof); !errors.Is(err, messages.ErrUntrusted) {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		})
	}
}

// TestRevoked finds certificates and keys anywhere in a chain.
func TestRevoked(t *testing.T) {
	root := makeIdentity(t, nil, netio.Order{Name: "root", Authority: true})
	inner := makeIdentity(t, root, netio.Order{Name: "inner", Authority: true})
	bob, carol := makeIdentity(t, inner, netio.Order{Name: "bob"}), makeIdentity(t, inner, netio.Order{Name: "carol"})
	for _, c := range []struct {
		name        string
		fingerprint string
		bob, carol  bool
	}{
		{"nobody", netio.Fingerprint(nil), false, false},
		{"certificate", netio.Fingerprint(bob.Chain()[0]), true, false},
		{"key", strings.ToUpper(netio.KeyFingerprint(bob.Certificate())[7:]), true, false},
		{"their authority", netio.Fingerprint(inner.Chain()[0]), true, true},
	} {
		revoked, err := netio.NewRevoked([]string{"sha256:" + strings.TrimPrefix(c.fingerprint, "sha256:")})
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[*netio.Identity]bool{bob: c.bob, carol: c.carol} {
			if err := revoked.Check(chainOf(t, id)...); errors.Is(err, messages.ErrUntrusted) != want {
				t.Errorf("%s: %v: %v", c.name, id, err)
			}
		}
	}
	if _, err := netio.NewRevoked([]string{"bob"}); err == nil {
		t.Error("a name is a fingerprint")
	}
}

// TestWordsOfBothEnds: both ends of a connection have the same words, other connections others.
func TestWordsOfBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		other, _ := connectEnds(t, nil, nil)
		var said []string
		for _, conn := range []*netio.Conn{ca, cb, other} {
			words, err := conn.Words()
			if err != nil || len(strings.Fields(words)) != 6 {
				t.Errorf("%q, %v", words, err)
			}
			said = append(said, words)
		}
		if said[0] != said[1] || said[0] == said[2] {
			t.Error(said)
		}
	})
}

// TestSetIdentity changes a transport's certificate: who dials from then on sees the new one, a
// peer that was introduced to the former one still that.
func TestSetIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, nil, nil)
		first, second := b.id, newIdentity(t, "bob")
		b.SetIdentity(second)
		for _, shown := range []*netio.Identity{first, second} {
			b.port.SetIdentity(b.Was(netio.Hash(shown.Certificate())))
			await := b.expect(a)
			conn, err := a.DialChannel(within(t), a.port, "bob", shown.Chain()[0])
			if err != nil {
				t.Fatal(err)
			}
			if _, err = await(within(t)); err != nil {
				t.Fatal(err)
			}
			conn.Close(messages.ErrClosed)
		}
		if b.Was([]byte("unknown")) != nil || b.Identity() != second {
			t.Error("another identity")
		}
		for range 4 {
			b.SetIdentity(newIdentity(t, "bob"))
		}
		if b.Was(netio.Hash(first.Certificate())) != nil || b.Was(netio.Hash(second.Certificate())) == nil {
			t.Error("not the last 4 are kept")
		}
	})
}
