package coord

import (
	"crypto/x509"
	"time"

	"github.com/conec-go/conec/netio"
)

// Certificates for tests and small deployments. An authority is made with [NewAuthority], what
// it issues with its methods: [Identity.Make] says most, [Identity.IssueHosts] makes a
// coordinator's, [Identity.Issue] one that serves both. The command is conec cert.

// Identity is a key and the certificate that ties it to names: a coordinator's, or
// that of an authority that vouches for others.
type Identity = netio.Identity

// Order says what certificate is to be made.
type Order = netio.Order

// KeyKind says what kind of key is made.
type KeyKind = netio.KeyKind

// The kinds of keys that are made.
const (
	P256    = netio.P256
	Ed25519 = netio.Ed25519
)

// LoadIdentity reads a PEM certificate chain, leaf first, and its PEM key; both may be the
// same text.
func LoadIdentity(certificatePEM, keyPEM []byte) (*Identity, error) {
	return netio.LoadIdentity(certificatePEM, keyPEM)
}

// NewAuthority makes a certificate authority of its own. [Identity.IssueHosts]
// makes coordinators' certificates with it, [Identity.Issue] clients'.
func NewAuthority(name string, now time.Time) (*Identity, error) {
	return netio.NewAuthority(name, now)
}

// Make makes what is ordered, signed by its own key: an authority, or a client that nobody
// vouches for.
func Make(order *Order) (*Identity, error) { return netio.Make(order) }

// Fingerprint returns that of a certificate, "sha256:" and 64 hex digits.
func Fingerprint(certificate *x509.Certificate) string { return netio.Fingerprint(certificate.Raw) }

// KeyFingerprint returns that of a certificate's key, which stays the same when the certificate is renewed for the key.
func KeyFingerprint(certificate *x509.Certificate) string { return netio.KeyFingerprint(certificate) }

// DescribeKey names the kind of a certificate's key: "ECDSA P-256", "Ed25519", "RSA 2048".
func DescribeKey(certificate *x509.Certificate) string { return netio.DescribeKey(certificate) }

// CertificateName returns the client that a certificate is for. It must be the only
// alternative name, or the common name if there is none, and follow the rules for names.
func CertificateName(certificate *x509.Certificate) (string, error) {
	return netio.CertificateName(certificate)
}

// VerifyClient checks a client's chain, leaf first, as a coordinator does: against
// authorities, or if there are none, for its validity period.
func VerifyClient(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	_, err := netio.VerifyClient(chain, roots, now)
	return err
}

// VerifyCoordinator checks a coordinator's chain, leaf first, as a client does that dials
// host and trusts the authorities.
func VerifyCoordinator(chain []*x509.Certificate, host string, roots *x509.CertPool, now time.Time) error {
	return netio.VerifyCoordinator(chain, netio.Coordinator{Host: host, Roots: roots}, now)
}

// ReadKeyFile reads a file with a private key; one that others may read is an error.
func ReadKeyFile(path string) ([]byte, error) { return netio.ReadKeyFile(path) }

// WriteKeyFile writes a file as a whole, with mode 0600. If there is one already, it fails
// with [io/fs.ErrExist], or replaces it.
func WriteKeyFile(path string, text []byte, replace bool) error {
	return netio.WriteKeyFile(path, text, replace)
}
