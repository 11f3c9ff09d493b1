package client

import (
	"crypto/x509"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// trust says which certificates a client takes for its peers', whatever the coordinator says.
// Safe for concurrent use.
type trust struct {
	name  string
	roots *x509.CertPool // nil: those that the coordinator names
	now   func() time.Time
	own   func(hash []byte) bool // whether a certificate is, or was, the client's
	known *knownPeers            // nil: none are remembered

	mu      sync.Mutex
	peers   map[string]string // fingerprints, by name
	revoked netio.Revoked
}

// newTrust makes what a valid configuration says.
func newTrust(config *Config, own func(hash []byte) bool) *trust {
	t := &trust{name: config.Name, roots: config.PeerRoots, now: config.Now, own: own, peers: maps.Clone(config.Peers)}
	if t.peers == nil {
		t.peers = map[string]string{}
	}
	t.revoked, _ = netio.NewRevoked(config.Revoked)
	if config.KnownPeers != "" {
		t.known = &knownPeers{path: config.KnownPeers}
	}
	return t
}

func (t *trust) revocations() netio.Revoked {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoked
}

func (t *trust) setRevoked(revoked netio.Revoked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = revoked
}

func (t *trust) expect(peer, fingerprint string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers[peer] = fingerprint
}

func (t *trust) pinned(peer string) (fingerprint string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fingerprint, ok = t.peers[peer]
	return fingerprint, ok
}

// introduced checks the certificate that the coordinator names as a peer's. That the peer has
// its key, and that it is valid now, the handshake shows.
func (t *trust) introduced(intro *conecv1.Introduction) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(intro.GetCertificate())
	if err != nil {
		return nil, fmt.Errorf("%w: introduction: %w", messages.ErrProtocol, err)
	}
	chain := []*x509.Certificate{certificate}
	above := intro.GetChain()
	if len(above) >= netio.MaxChain {
		return nil, fmt.Errorf("%w: introduction with %d certificates", messages.ErrLimit, len(above)+1)
	}
	for _, der := range above {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: introduction: %w", messages.ErrProtocol, err)
		}
		chain = append(chain, parsed)
	}
	peer := intro.GetPeer()
	name, err := netio.CertificateName(certificate)
	switch {
	case err != nil:
		return nil, untrusted("the coordinator introduces %q with a certificate for nobody: %v", peer, err)
	case name != peer:
		return nil, untrusted("the coordinator introduces %q with a certificate for %q", peer, name)
	}
	roots := t.roots
	if der := intro.GetAuthority(); roots == nil && len(der) > 0 {
		authority, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: introduction: %w", messages.ErrProtocol, err)
		}
		roots = x509.NewCertPool()
		roots.AddCert(authority)
	}
	if roots != nil {
		if chain, err = netio.VerifyClient(chain, roots, t.now()); err != nil {
			return nil, fmt.Errorf("%q: %w", peer, err)
		}
	}
	if err := t.revocations().Check(chain...); err != nil {
		return nil, err
	}
	return certificate, t.pin(peer, certificate)
}

// pin compares with what is expected of a peer.
func (t *trust) pin(peer string, certificate *x509.Certificate) error {
	if peer == t.name && !t.own(netio.Hash(certificate)) {
		return untrusted("the coordinator introduces %q, which is this client, with another certificate", peer)
	}
	if want, ok := t.pinned(peer); ok && !netio.HasFingerprint(certificate, want) {
		return untrusted("%q has the key %s and the certificate %s, expected is %s",
			peer, netio.KeyFingerprint(certificate), netio.Fingerprint(certificate.Raw), want)
	}
	return nil
}

// remembered compares with what the file of known peers says. It blocks on the file.
func (t *trust) remembered(peer string, certificate *x509.Certificate) error {
	if !t.remembers(peer) {
		return nil
	}
	_, _, err := t.known.find(peer, netio.KeyFingerprint(certificate))
	return err
}

// remembers reports whether the file of known peers is about a peer.
func (t *trust) remembers(peer string) bool {
	_, pinned := t.pinned(peer)
	return !pinned && peer != t.name && t.known != nil
}

// proven checks a peer that has proven to own its certificate: the list of revoked ones and the
// pins may have changed since it was introduced, and who is not pinned is remembered. It blocks on
// the file of known peers.
func (t *trust) proven(peer string, certificate *x509.Certificate) error {
	if err := t.revocations().Check(certificate); err != nil {
		return err
	}
	if err := t.pin(peer, certificate); err != nil || !t.remembers(peer) {
		return err
	}
	return t.known.check(peer, netio.KeyFingerprint(certificate))
}

func untrusted(format string, args ...any) error {
	return messages.FromCode(conecv1.Code_CODE_UNTRUSTED, fmt.Sprintf(format, args...))
}
