package netio_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// pemKey writes a key in one of the forms that programs use.
func pemKey(t *testing.T, form string, key any) []byte {
	t.Helper()
	var der []byte
	var err error
	switch form {
	case "PRIVATE KEY":
		der, err = x509.MarshalPKCS8PrivateKey(key)
	case "EC PRIVATE KEY":
		der, err = x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	case "RSA PRIVATE KEY":
		der = x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: form, Bytes: der})
}

// TestKeyForms loads keys of all usual kinds and forms, with a certificate and alone.
func TestKeyForms(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	for _, c := range []struct {
		name string
		text []byte
		kind string
	}{
		{"P-256, PKCS 8", pemKey(t, "PRIVATE KEY", p256), "ECDSA P-256"},
		{"P-256, SEC 1", pemKey(t, "EC PRIVATE KEY", p256), "ECDSA P-256"},
		{"P-256, SEC 1 as openssl writes it", append(parameters, pemKey(t, "EC PRIVATE KEY", p256)...), "ECDSA P-256"},
		{"P-384, SEC 1", pemKey(t, "EC PRIVATE KEY", p384), "ECDSA P-384"},
		{"Ed25519", pemKey(t, "PRIVATE KEY", ed), "Ed25519"},
		{"RSA, PKCS 8", pemKey(t, "PRIVATE KEY", rsa2048), "RSA 2048"},
		{"RSA, PKCS 1", pemKey(t, "RSA PRIVATE KEY", rsa2048), "RSA 2048"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			write(t, path, c.text, 0o600)
			alone, err := netio.OpenIdentityFile(path, "alice", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if name, err := netio.CertificateName(alone.Certificate()); name != "alice" || netio.DescribeKey(alone.Certificate()) != c.kind {
				t.Errorf("%q, %s, %v", name, netio.DescribeKey(alone.Certificate()), err)
			}
			certificate, _, err := alone.PEM()
			if err != nil {
				t.Fatal(err)
			}
			both, err := netio.LoadIdentity(certificate, c.text)
			if err != nil || !both.Certificate().Equal(alone.Certificate()) {
				t.Error(err)
			}
		})
	}
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, text, mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// TestIdentityFile makes a file once, and has it the same afterwards.
func TestIdentityFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "alice.pem")
	ids := make([]*netio.Identity, 8)
	errs := make([]error, len(ids))
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() { ids[i], errs[i] = netio.OpenIdentityFile(path, "alice", time.Now()) })
	}
	all.Wait()
	for i, id := range ids {
		if errs[i] != nil || !id.Certificate().Equal(ids[0].Certificate()) {
			t.Fatalf("%d: %v, %v", i, id, errs[i])
		}
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := netio.WriteKeyFile(path, nil, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := netio.OpenIdentityFile(path, "alice", time.Now()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestIdentityFileWrong(t *testing.T) {
	id := newIdentity(t, "alice")
	certificate, _, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := newIdentity(t, "alice").PEM()
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("secret")})
	for name, c := range map[string]struct {
		text []byte
		why  string
	}{
		"empty":                    {nil, "no PEM private key"},
		"noise":                    {[]byte("noise"), "no PEM private key"},
		"certificate alone":        {certificate, "private key"},
		"key of another":           {append(certificate, otherKey...), "does not match"},
		"encrypted":                {encrypted, "encrypted"},
		"encrypted, certificate":   {append(certificate, encrypted...), "encrypted"},
		"encrypted, old form":      {[]byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"), "encrypted"},
		"too large":                {make([]byte, 1<<20+1), "more than"},
		"key that is none":         {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("noise")}), "asn1"},
		"a public key, not a key":  {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("noise")}), "no PEM private key"},
		"certificate that is none": {append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("noise")}), otherKey...), "malformed"},
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		write(t, path, c.text, 0o600)
		if _, err := netio.OpenIdentityFile(path, "alice", time.Now()); err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want one that says %q", name, err, c.why)
		}
	}
}
