package netio

import (
	"cmp"
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
	"fmt"
	"math/big"
	"net/netip"
	"time"
)

// Validity of certificates that conec makes. They begin a little in the past,
// because clocks differ.
const (
	certificateLead     = time.Hour
	certificateValidity = 10 * 365 * 24 * time.Hour
)

// KeyKind says what kind of key is made. Loading takes more kinds; see [LoadIdentity].
type KeyKind int

// The kinds of keys that conec makes.
const (
	// P256 is ECDSA on the curve P-256 (FIPS 186-5), which every TLS implementation has.
	P256 KeyKind = iota
	// Ed25519 is EdDSA on Curve25519 (RFC 8032).
	Ed25519
)

func (k KeyKind) generate() (crypto.Signer, error) {
	switch k {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("identity: no kind of key has number %d", int(k))
}

// DescribeKey names the kind of a certificate's key: "ECDSA P-256", "Ed25519", "RSA 2048".
func DescribeKey(certificate *x509.Certificate) string {
	switch key := certificate.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.Size()*8)
	}
	return certificate.PublicKeyAlgorithm.String()
}

// Order says what certificate is to be made. It needs Now, and a Name or Hosts.
type Order struct {
	// Name is the client that the certificate is for, or what an authority is called.
	Name string
	// Hosts are DNS names and IP addresses by which clients reach a coordinator.
	Hosts []string
	// Authority makes one that can sign others. One that is signed itself can not sign
	// further authorities.
	Authority bool
	// Key is the kind of the key that is made.
	Key KeyKind
	// Now is when the certificate is made. It is valid from an hour earlier on.
	Now time.Time
	// Validity is how long from Now on. If zero, 10 years.
	Validity time.Duration
}

// Make makes a key and a certificate that it signs itself. Nobody vouches for it but the
// coordinator that it attaches to.
func Make(order *Order) (*Identity, error) {
	key, err := order.Key.generate()
	if err != nil {
		return nil, err
	}
	return issue(nil, key, order)
}

// Make makes a key and a certificate that this identity, an authority, vouches for. A
// certificate with a Name is for clients (TLS clientAuth), one with Hosts for coordinators
// (serverAuth).
func (i *Identity) Make(order *Order) (*Identity, error) {
	switch leaf := i.Certificate(); {
	case !leaf.IsCA:
		return nil, fmt.Errorf("identity: %q is not an authority", leaf.Subject.CommonName)
	case order.Authority && leaf.MaxPathLenZero:
		return nil, fmt.Errorf("identity: %q may not sign authorities", leaf.Subject.CommonName)
	}
	key, err := order.Key.generate()
	if err != nil {
		return nil, err
	}
	return issue(i, key, order)
}

// NewIdentity is [Make] for a client of that name.
func NewIdentity(name string, now time.Time) (*Identity, error) {
	return Make(&Order{Name: name, Hosts: []string{name}, Now: now})
}

// NewAuthority is [Make] for an authority.
func NewAuthority(name string, now time.Time) (*Identity, error) {
	return Make(&Order{Name: name, Authority: true, Now: now})
}

// Issue makes an identity for name that this one, an authority, vouches for. It
// is good for TLS clients and servers; addresses are added for servers that are
// dialed by IP address.
func (i *Identity) Issue(name string, now time.Time, addresses ...netip.Addr) (*Identity, error) {
	hosts := []string{name}
	for _, address := range addresses {
		hosts = append(hosts, address.String())
	}
	return i.Make(&Order{Name: name, Hosts: hosts, Now: now})
}

// IssueHosts makes an identity that this one, an authority, vouches for, for a
// coordinator that clients reach by any of hosts: DNS names and IP addresses.
func (i *Identity) IssueHosts(hosts []string, now time.Time) (*Identity, error) {
	if len(hosts) == 0 {
		return nil, errors.New("identity: needs a host")
	}
	return i.Make(&Order{Hosts: hosts, Now: now})
}

func (o *Order) template() (*x509.Certificate, error) {
	if o.Name == "" && len(o.Hosts) == 0 || o.Now.IsZero() {
		return nil, errors.New("identity: needs a name or hosts, and the time")
	}
	template := &x509.Certificate{
		NotBefore:             o.Now.Add(-certificateLead),
		NotAfter:              o.Now.Add(cmp.Or(o.Validity, certificateValidity)),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		Subject:               pkix.Name{CommonName: o.Name},
	}
	if o.Authority {
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign
		return template, nil
	}
	hosts := o.Hosts
	if o.Name != "" {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	switch {
	case len(hosts) > 0:
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.Subject.CommonName = cmp.Or(o.Name, hosts[0])
	default:
		hosts = []string{o.Name}
	}
	for _, host := range hosts {
		if address, err := netip.ParseAddr(host); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template, nil
}

// issue signs what is ordered for key, with the authority's key, or with its own if there
// is none.
func issue(authority *Identity, key crypto.Signer, order *Order) (*Identity, error) {
	template, err := order.template()
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	parent, signer, chain := template, key, [][]byte(nil)
	if authority != nil {
		parent, signer, chain = authority.certificate.Leaf, authority.signer(), authority.certificate.Certificate
		template.MaxPathLenZero = template.IsCA
	} else if template.IsCA {
		template.MaxPathLen = 1
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return FromCertificate(tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key})
}
