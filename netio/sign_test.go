package netio_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// TestSign has keys of all kinds sign, and an attacker change what is signed.
func TestSign(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	keys := map[string]crypto.Signer{"ed25519": edwards}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		key, failed := ecdsa.GenerateKey(curve, rand.Reader)
		err = errors.Join(err, failed)
		keys[name] = key
	}
	key, failed := rsa.GenerateKey(rand.Reader, 2048)
	keys["rsa"] = key
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	text := []byte("a text")
	other, err := netio.NewIdentity("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range keys {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(name, err)
		}
		identity, err := netio.FromCertificate(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
		if err != nil {
			t.Fatal(name, err)
		}
		signature, err := identity.Sign(text)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := netio.CheckSignature(identity.Certificate(), text, signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		flipped := slices.Clone(signature)
		flipped[len(flipped)-1] ^= 1
		for what, err := range map[string]error{
			"another text":        netio.CheckSignature(identity.Certificate(), []byte("b text"), signature),
			"another signature":   netio.CheckSignature(identity.Certificate(), text, flipped),
			"no signature":        netio.CheckSignature(identity.Certificate(), text, nil),
			"another certificate": netio.CheckSignature(other.Certificate(), text, signature),
		} {
			if !errors.Is(err, messages.ErrUntrusted) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}
