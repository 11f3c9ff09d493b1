package netio

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Limits of a client's certificate with those that vouch for it: introductions carry them.
const (
	MaxChain      = 6
	MaxChainBytes = 16 << 10
)

// CertificateName returns the client name that a certificate is for: its only DNS name, or
// the common name if it has no alternative name at all. A certificate with any other
// alternative name, be it another DNS name, a wildcard, an address, a URI, is for no client.
func CertificateName(certificate *x509.Certificate) (string, error) {
	name := certificate.Subject.CommonName
	others := len(certificate.IPAddresses) + len(certificate.EmailAddresses) + len(certificate.URIs)
	switch {
	case len(certificate.DNSNames) == 1 && others == 0:
		name = certificate.DNSNames[0]
	case len(certificate.DNSNames)+others > 0:
		return "", fmt.Errorf("%w: it has %d names, a client has one", messages.ErrNameMismatch, len(certificate.DNSNames)+others)
	}
	if err := messages.CheckName(name); err != nil {
		return "", fmt.Errorf("%w: %w", messages.ErrNameMismatch, err)
	}
	return name, nil
}

// Fingerprint returns "sha256:" and the hash of the DER certificate in hex.
func Fingerprint(der []byte) string {
	hash := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(hash[:])
}

// KeyFingerprint returns "sha256:" and the hash of the certificate's public key (its DER
// SubjectPublicKeyInfo, RFC 5280) in hex. It stays the same when the certificate is renewed
// for the same key. Wherever a fingerprint is asked for, this one serves as well.
func KeyFingerprint(certificate *x509.Certificate) string {
	return Fingerprint(certificate.RawSubjectPublicKeyInfo)
}

// Hash returns the SHA-256 hash of a certificate, by which introductions name it.
func Hash(certificate *x509.Certificate) []byte {
	hash := sha256.Sum256(certificate.Raw)
	return hash[:]
}

// HasFingerprint reports whether a certificate, or its key, has a fingerprint.
func HasFingerprint(certificate *x509.Certificate, fingerprint string) bool {
	fingerprint = strings.ToLower(fingerprint)
	return Fingerprint(certificate.Raw) == fingerprint || KeyFingerprint(certificate) == fingerprint
}

// CheckFingerprint reports whether text has the form that [Fingerprint] returns.
func CheckFingerprint(text string) error {
	digits, ok := strings.CutPrefix(text, "sha256:")
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("fingerprint %q: want sha256: and 64 hex digits", messages.Clip(text, 100))
	}
	return nil
}

// Revoked is a set of fingerprints, of certificates or keys, that are not trusted any more,
// whoever vouches for them. It is not changed once made.
type Revoked map[string]struct{}

// NewRevoked makes a set of fingerprints. It reports the first that is none.
func NewRevoked(fingerprints []string) (Revoked, error) {
	revoked := make(Revoked, len(fingerprints))
	for _, text := range fingerprints {
		if err := CheckFingerprint(text); err != nil {
			return nil, err
		}
		revoked[strings.ToLower(text)] = struct{}{}
	}
	return revoked, nil
}

// Check reports whether one of the certificates of a chain, or its key, is revoked.
func (r Revoked) Check(chain ...*x509.Certificate) error {
	if len(r) == 0 {
		return nil
	}
	for _, certificate := range chain {
		for _, fingerprint := range []string{Fingerprint(certificate.Raw), KeyFingerprint(certificate)} {
			if _, found := r[fingerprint]; found {
				return untrusted("revoked: %s, of %q", fingerprint, messages.Clip(certificate.Subject.CommonName, messages.MaxName))
			}
		}
	}
	return nil
}

// checkPeriod reports whether now is within the certificate's validity.
func checkPeriod(certificate *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(certificate.NotBefore):
		return untrusted("certificate is valid from %s", certificate.NotBefore.UTC().Format(time.RFC3339))
	case now.After(certificate.NotAfter):
		return untrusted("certificate expired at %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func untrusted(format string, args ...any) error {
	return messages.FromCode(conecv1.Code_CODE_UNTRUSTED, fmt.Sprintf(format, args...))
}

// verifyPinned returns a TLS check that the other side presents exactly the
// certificate that was introduced for peer.
func verifyPinned(peer string, der []byte, now func() time.Time) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		if !bytes.Equal(leaf.Raw, der) {
			return untrusted("certificate of %q is not the introduced one", peer)
		}
		return checkPeriod(leaf, now())
	}
}

// VerifyClient checks a client's chain, leaf first: against roots, or if there are none, for
// the validity period only: then the name belongs to whoever holds the key. It returns the
// chain that leads to one of the roots, which is the last of it, or without roots the chain
// itself. Certificates for TLS clients, for TLS servers, and for any use will do.
func VerifyClient(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) ([]*x509.Certificate, error) {
	size := 0
	for _, certificate := range chain {
		size += len(certificate.Raw)
	}
	if len(chain) > MaxChain || size > MaxChainBytes {
		return nil, fmt.Errorf("%w: certificate chain of %d certificates with %d bytes, at most %d with %d",
			messages.ErrLimit, len(chain), size, MaxChain, MaxChainBytes)
	}
	if roots == nil {
		return chain, checkPeriod(chain[0], now)
	}
	return verifyChain(chain, x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
}

// VerifyCoordinator checks a coordinator's chain, leaf first: none of its certificates is
// revoked, and the certificate has the fingerprint; or an authority in the chain has it and
// vouches for host; or without a fingerprint, the chain leads from host to roots (the
// system's if nil).
func VerifyCoordinator(chain []*x509.Certificate, coordinator Coordinator, now time.Time) error {
	if err := coordinator.Revoked.Check(chain...); err != nil {
		return err
	}
	options := x509.VerifyOptions{
		Roots: coordinator.Roots, CurrentTime: now, DNSName: coordinator.Host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if coordinator.Fingerprint == "" {
		_, err := verifyChain(chain, options)
		return err
	}
	for _, certificate := range chain {
		if !HasFingerprint(certificate, coordinator.Fingerprint) {
			continue
		}
		if certificate.Equal(chain[0]) {
			return checkPeriod(certificate, now)
		}
		options.Roots = x509.NewCertPool() // the authority may vouch for others too, so the name counts
		options.Roots.AddCert(certificate)
		_, err := verifyChain(chain, options)
		return err
	}
	return untrusted("the coordinator's certificate has not the expected fingerprint")
}

// verifyCoordinator returns a client's TLS check of its coordinator.
func verifyCoordinator(coordinator Coordinator, now func() time.Time) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		return VerifyCoordinator(state.PeerCertificates, coordinator, now())
	}
}

func verifyChain(chain []*x509.Certificate, options x509.VerifyOptions) ([]*x509.Certificate, error) {
	options.Intermediates = x509.NewCertPool()
	for _, certificate := range chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	chains, err := chain[0].Verify(options)
	if err != nil {
		return nil, untrusted("%v", err)
	}
	return chains[0], nil
}
