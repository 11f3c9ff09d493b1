package netio

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// keptIdentities is how many former identities are kept for peers that were told of them.
const keptIdentities = 4

// identities are who a transport is and was.
type identities struct {
	now atomic.Pointer[Identity]

	mu     sync.Mutex
	former []*Identity // newest first
}

func (i *identities) set(id *Identity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if was := i.now.Swap(id); was != nil {
		i.former = append([]*Identity{was}, i.former[:min(len(i.former), keptIdentities-1)]...)
	}
}

// find returns the identity whose certificate has that SHA-256 hash, nil if there is none.
func (i *identities) find(hash []byte) *Identity {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := append([]*Identity{i.now.Load()}, i.former...)
	if at := slices.IndexFunc(all, func(id *Identity) bool { return id.isOf(hash) }); at >= 0 {
		return all[at]
	}
	return nil
}

// Identity returns who this transport is now.
func (t *Transport) Identity() *Identity { return t.who.now.Load() }

// SetIdentity changes who this transport is in handshakes that begin from now on.
// Connections that are there go on. The last 4 former identities are kept for peers that
// were introduced to them.
func (t *Transport) SetIdentity(id *Identity) { t.who.set(id) }

// Was returns the identity, of now or a former one, whose certificate has that SHA-256
// hash; nil if there is none.
func (t *Transport) Was(hash []byte) *Identity { return t.who.find(hash) }

// SetIdentity says who we are to the peer behind the port: the identity whose certificate
// it was told. If nil, the transport's of the time of the handshake.
func (p *Port) SetIdentity(id *Identity) { p.who.Store(id) }

func (p *Port) identityOr(t *Transport) func() *Identity {
	return func() *Identity {
		if id := p.who.Load(); id != nil {
			return id
		}
		return t.Identity()
	}
}

// What a key signs to prove that a certificate belongs to who is at this end of a
// connection, in the form of TLS 1.3 (RFC 8446 section 4.4.3), so that no signature for one
// purpose serves another: 64 spaces, the purpose, a zero, and what is bound together: the
// connection, by its exporter, and the certificate, by its hash. RFC 9261 does the same in
// more messages.
func (c *Conn) toProve(certificate *x509.Certificate) ([]byte, error) {
	bound, err := c.ExportKey("identity")
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(certificate.Raw)
	text := strings.Repeat(" ", 64) + "conec v1 identity, client to coordinator\x00" + string(bound[:]) + string(hash[:])
	return []byte(text), nil
}

// Prove signs, with the key of an identity that this connection was not made with, that it
// belongs to who is at this end.
func (c *Conn) Prove(id *Identity) ([]byte, error) {
	text, err := c.toProve(id.Certificate())
	if err != nil {
		return nil, err
	}
	return id.Sign(text)
}

// CheckProof checks what the other side made with Prove.
func (c *Conn) CheckProof(certificate *x509.Certificate, proof []byte) error {
	text, err := c.toProve(certificate)
	if err != nil {
		return err
	}
	if err := CheckSignature(certificate, text, proof); err != nil {
		return untrusted("the key of the new certificate is not proven: %v", err)
	}
	return nil
}
