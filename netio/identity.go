package netio

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Identity is a key and the certificate that ties it to a name. It prints as name
// and fingerprint, whatever the verb: never the key.
type Identity struct {
	certificate tls.Certificate
}

// LoadIdentity reads a PEM certificate chain, leaf first, and its PEM key: PKCS #8,
// SEC 1 (EC PRIVATE KEY) or PKCS #1, of Ed25519, ECDSA or RSA, not encrypted. Both may be
// the same text. Blocks of other kinds are passed over.
func LoadIdentity(certificatePEM, keyPEM []byte) (*Identity, error) {
	if encrypted(keyPEM) {
		return nil, errors.New("identity: the key is encrypted; decrypt it, for example with openssl pkey, into a file that only its owner may read")
	}
	certificate, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return FromCertificate(certificate)
}

// encrypted reports whether a PEM key needs a password.
func encrypted(text []byte) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}

// FromCertificate makes an identity of a certificate chain with its key.
func FromCertificate(certificate tls.Certificate) (*Identity, error) {
	signer, ok := certificate.PrivateKey.(crypto.Signer)
	if len(certificate.Certificate) == 0 || !ok {
		return nil, errors.New("identity: needs a certificate and its private key")
	}
	if certificate.Leaf == nil {
		leaf, err := x509.ParseCertificate(certificate.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		certificate.Leaf = leaf
	}
	if own, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(certificate.Leaf.PublicKey) {
		return nil, errors.New("identity: the private key is not that of the certificate")
	}
	return &Identity{certificate: certificate}, nil
}

// Certificate returns the leaf certificate.
func (i *Identity) Certificate() *x509.Certificate { return i.certificate.Leaf }

// Chain returns the DER certificates, leaf first.
func (i *Identity) Chain() [][]byte { return i.certificate.Certificate }

// PEM returns the certificate chain and the key in PEM form. The key must not be
// logged and belongs into a file that only its owner may read.
func (i *Identity) PEM() (certificate, key []byte, err error) {
	for _, der := range i.certificate.Certificate {
		certificate = append(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.certificate.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Format implements [fmt.Formatter] for all verbs: what is printed by chance, as part of a
// configuration or with a wrong verb, must not be the key.
func (i Identity) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(i.describe())) }

// LogValue implements [slog.LogValuer].
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.describe()) }

func (i Identity) describe() string {
	leaf := i.certificate.Leaf
	if leaf == nil {
		return "identity of nobody"
	}
	name := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 {
		name = strings.Join(leaf.DNSNames, " ")
	}
	return fmt.Sprintf("identity of %q, certificate %s", name, Fingerprint(leaf.Raw))
}

// signer is the key. [FromCertificate] has checked that it is one.
func (i *Identity) signer() crypto.Signer {
	signer, _ := i.certificate.PrivateKey.(crypto.Signer)
	return signer
}

// isOf reports whether the certificate has this SHA-256 hash.
func (i *Identity) isOf(hash []byte) bool {
	return bytes.Equal(Hash(i.certificate.Leaf), hash)
}

// resetKey derives a key for QUIC's stateless resets (RFC 9000 section 10.3)
// that stays the same when the program restarts with the same identity.
func (i *Identity) resetKey() (key [32]byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.certificate.PrivateKey)
	if err != nil {
		return key, err
	}
	return sha256.Sum256(append([]byte("conec stateless reset\x00"), der...)), nil
}
