package netio

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Validity of certificates that conec makes. They begin a little in the past,
// because clocks differ.
const (
	certificateLead     = time.Hour
	certificateValidity = 10 * 365 * 24 * time.Hour
)

// Identity is a key and the certificate that ties it to a name.
type Identity struct {
	certificate tls.Certificate
}

// NewIdentity makes a fresh key and a self-signed certificate for name. Nobody
// vouches for it but the coordinator that it attaches to.
func NewIdentity(name string, now time.Time) (*Identity, error) {
	return issue(nil, certificateTemplate(name, now))
}

// LoadIdentity reads a PEM certificate chain and its PEM key.
func LoadIdentity(certificatePEM, keyPEM []byte) (*Identity, error) {
	certificate, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return FromCertificate(certificate)
}

// FromCertificate makes an identity of a certificate chain with its key.
func FromCertificate(certificate tls.Certificate) (*Identity, error) {
	if len(certificate.Certificate) == 0 || certificate.PrivateKey == nil {
		return nil, errors.New("identity: needs a certificate and its private key")
	}
	if certificate.Leaf == nil {
		leaf, err := x509.ParseCertificate(certificate.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		certificate.Leaf = leaf
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

// resetKey derives a key for QUIC's stateless resets (RFC 9000 section 10.3)
// that stays the same when the program restarts with the same identity.
func (i *Identity) resetKey() (key [32]byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.certificate.PrivateKey)
	if err != nil {
		return key, err
	}
	return sha256.Sum256(append([]byte("conec stateless reset\x00"), der...)), nil
}

// Issue makes an identity for name that this one, an authority, vouches for. It
// is good for TLS clients and servers; addresses are added for servers that are
// dialed by IP address.
func (i *Identity) Issue(name string, now time.Time, addresses ...netip.Addr) (*Identity, error) {
	template := certificateTemplate(name, now)
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, address.AsSlice())
	}
	return issue(i, template)
}

// IssueHosts makes an identity that this one, an authority, vouches for, for a
// coordinator that clients reach by any of hosts: DNS names and IP addresses.
func (i *Identity) IssueHosts(hosts []string, now time.Time) (*Identity, error) {
	if len(hosts) == 0 {
		return nil, errors.New("identity: needs a host")
	}
	template := certificateTemplate(hosts[0], now)
	template.DNSNames = nil
	for _, host := range hosts {
		if address, err := netip.ParseAddr(host); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return issue(i, template)
}

// NewAuthority makes a certificate authority of its own.
func NewAuthority(name string, now time.Time) (*Identity, error) {
	template := certificateTemplate(name, now)
	template.DNSNames = nil
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = nil
	return issue(nil, template)
}

func certificateTemplate(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-certificateLead),
		NotAfter:              now.Add(certificateValidity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

// issue signs template with the authority's key, or with its own if there is none.
func issue(authority *Identity, template *x509.Certificate) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	parent, signer, chain := template, crypto.Signer(key), [][]byte(nil)
	if authority != nil {
		own, ok := authority.certificate.PrivateKey.(crypto.Signer)
		if !ok {
			return nil, errors.New("identity: the authority's key can not sign")
		}
		signer, parent, chain = own, authority.certificate.Leaf, authority.certificate.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return FromCertificate(tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key})
}

// CertificateName returns the client name that a certificate is for: its only
// DNS name, or the common name if it has none.
func CertificateName(certificate *x509.Certificate) (string, error) {
	name := certificate.Subject.CommonName
	switch len(certificate.DNSNames) {
	case 0:
	case 1:
		name = certificate.DNSNames[0]
	default:
		return "", fmt.Errorf("%w: it has %d names, a client has one", messages.ErrNameMismatch, len(certificate.DNSNames))
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

// CheckFingerprint reports whether text has the form that [Fingerprint] returns.
func CheckFingerprint(text string) error {
	digits, ok := strings.CutPrefix(text, "sha256:")
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("fingerprint %q: want sha256: and 64 hex digits", messages.Clip(text, 100))
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

// verifyClient is the coordinator's check of a client: against roots, or if there
// are none, for the validity period only: then the name belongs to whoever holds
// the key. It comes after the handshake, because a TLS alert can not say why.
func verifyClient(state tls.ConnectionState, roots *x509.CertPool, now time.Time) error {
	if roots == nil {
		return checkPeriod(state.PeerCertificates[0], now)
	}
	return verifyChain(state, x509.VerifyOptions{Roots: roots, CurrentTime: now})
}

// verifyCoordinator returns a client's TLS check of its coordinator: the
// certificate has the fingerprint; or an authority in the chain has it and vouches
// for host; or without a fingerprint, the chain leads from host to roots (the
// system's if nil).
func verifyCoordinator(host, fingerprint string, roots *x509.CertPool, now func() time.Time) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if fingerprint == "" {
			return verifyChain(state, x509.VerifyOptions{Roots: roots, CurrentTime: now(), DNSName: host})
		}
		for _, certificate := range state.PeerCertificates {
			if Fingerprint(certificate.Raw) != fingerprint {
				continue
			}
			if certificate.Equal(state.PeerCertificates[0]) {
				return checkPeriod(certificate, now())
			}
			pinned := x509.NewCertPool() // the authority may vouch for others too, so the name counts
			pinned.AddCert(certificate)
			return verifyChain(state, x509.VerifyOptions{Roots: pinned, CurrentTime: now(), DNSName: host})
		}
		return untrusted("the coordinator's certificate has not the expected fingerprint")
	}
}

func verifyChain(state tls.ConnectionState, options x509.VerifyOptions) error {
	options.Intermediates = x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return untrusted("%v", err)
	}
	return nil
}
