package client

import (
	"crypto/hpke"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// sealPeer is a member of a sealed group, as it has shown itself.
type sealPeer struct {
	name        string
	certificate *x509.Certificate
	key         hpke.PublicKey // nil: it receives nothing
	err         error          // why it is not trusted
}

// makeSeal makes an HPKE key, and what to say of oneself to join a sealed group.
func makeSeal(group string, identity *netio.Identity, receives bool) (hpke.PrivateKey, []byte, error) {
	seal := &conecv1.SealedMember{Certificates: identity.Chain()}
	private, err := shareKEM().GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	if receives {
		seal.Key = private.PublicKey().Bytes()
	}
	if seal.Signature, err = identity.Sign(append(place{group: group}.bind(sealsMember), seal.GetKey()...)); err != nil {
		return nil, nil, err
	}
	body, err := proto.Marshal(seal)
	if err == nil && len(body) > messages.MaxSeal {
		err = fmt.Errorf("%w: key and certificates of %d bytes, at most %d", messages.ErrLimit, len(body), messages.MaxSeal)
	}
	return private, body, err
}

// checkSeal checks what a member says of itself. trust says whether certificates are good for
// a name.
func checkSeal(group string, member *conecv1.GroupMember, trust func(name string, chain [][]byte) error) *sealPeer {
	p := &sealPeer{name: member.GetName()}
	seal := &conecv1.SealedMember{}
	if err := proto.Unmarshal(member.GetSeal(), seal); err != nil || len(seal.GetCertificates()) == 0 {
		p.err = untrustedMember(errors.New("no certificate"))
		return p
	}
	certificate, err := x509.ParseCertificate(seal.GetCertificates()[0])
	if err == nil {
		err = trust(p.name, seal.GetCertificates())
	}
	if err == nil {
		err = netio.CheckSignature(certificate, append(place{group: group}.bind(sealsMember), seal.GetKey()...), seal.GetSignature())
	}
	if err == nil && member.GetReceives() {
		p.key, err = shareKEM().NewPublicKey(seal.GetKey())
	}
	if err != nil {
		p.key, p.err = nil, untrustedMember(err)
		return p
	}
	p.certificate = certificate
	return p
}

func untrustedMember(err error) error {
	if errors.Is(err, messages.ErrUntrusted) {
		return err
	}
	return fmt.Errorf("%w: %w", messages.ErrUntrusted, err)
}

// trusts reports whether certificates, leaf first, are good for a peer's name: what the client
// asks of a peer with whom it has a channel. It may block on the file of known peers.
func (cl *Client) trusts(name string, chain [][]byte) error {
	certificate, err := cl.trust.introduced(&conecv1.Introduction{Peer: name, Certificate: chain[0], Chain: chain[1:]})
	if err == nil {
		err = netio.CheckPeriod(certificate, cl.config.Now())
	}
	if err == nil {
		err = cl.trust.remembered(name, certificate)
	}
	return err
}
