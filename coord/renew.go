package coord

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// renewAgain is how long after a renewal, or an attempt, a client may try another: signatures
// take time to check, and all clients wait meanwhile.
const renewAgain = time.Second

// credentials are what peers are told of a client's certificate. They are not changed: an
// introduction tells both ends of the same ones, though the client renews its own meanwhile.
type credentials struct {
	certificate []byte              // DER
	hash        []byte              // SHA-256 of it
	chain       [][]byte            // between it and the authority
	authority   []byte              // empty if the coordinator asks for none
	vouched     []*x509.Certificate // all of them
}

// credentials makes those of a chain that was verified, leaf first.
func (c *coordinator) credentials(vouched []*x509.Certificate) *credentials {
	shows := &credentials{certificate: vouched[0].Raw, hash: netio.Hash(vouched[0]), vouched: vouched}
	above := vouched[1:]
	if c.config.ClientRoots != nil {
		shows.authority = vouched[len(vouched)-1].Raw
		above = above[:max(len(above)-1, 0)]
	}
	for _, certificate := range above {
		shows.chain = append(shows.chain, certificate.Raw)
	}
	return shows
}

// subject says who a client is, if it may have a name with a certificate that its authorities
// were found to vouch for.
func (c *coordinator) subject(h *home, name string, vouched []*x509.Certificate, token string) (*policy.Subject, error) {
	issued, err := netio.CertificateName(vouched[0])
	if err != nil {
		return nil, err
	}
	if issued != name {
		return nil, fmt.Errorf("%w: it is for %q, not %q", messages.ErrNameMismatch, issued, name)
	}
	if err := c.revoked.Check(vouched...); err != nil {
		return nil, err
	}
	subject := &policy.Subject{Name: name, Certificate: vouched[0], Intermediates: vouched[1:], Token: token}
	return subject, c.admit(h, subject)
}

// renew takes a client's new certificate, which has to pass all that attaching asks for. The
// home channel proves the key that the name belongs to so far, the signature the one that it
// belongs to from now on.
func (c *coordinator) renew(h *home, msg *conecv1.RenewIdentity) []say {
	err := c.tryRenew(h, msg)
	if err != nil {
		c.config.Logger.Info("certificate refused", "peer", h.client.name, "err", err)
	} else {
		c.config.Logger.Info("certificate renewed", "peer", h.client.name, "fingerprint", netio.Fingerprint(h.client.shows.certificate))
	}
	code, reason := messages.ToCode(err)
	return []say{{h.client.id, &conecv1.Control{Said: &conecv1.Control_IdentityRenewed{IdentityRenewed: &conecv1.IdentityRenewed{
		Code: code, Reason: reason,
	}}}}}
}

func (c *coordinator) tryRenew(h *home, msg *conecv1.RenewIdentity) error {
	now := time.Now()
	if now.Before(h.client.renewed.Add(renewAgain)) {
		return fmt.Errorf("%w: one renewal in %v", messages.ErrLimit, renewAgain)
	}
	h.client.renewed = now
	if n := len(msg.GetChain()); n == 0 || n > netio.MaxChain {
		return fmt.Errorf("%w: certificate chain of %d certificates", messages.ErrLimit, n)
	}
	var chain []*x509.Certificate
	for _, der := range msg.GetChain() {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
		}
		chain = append(chain, certificate)
	}
	if err := h.conn.CheckProof(chain[0], msg.GetProof()); err != nil {
		return err
	}
	vouched, err := netio.VerifyClient(chain, c.config.ClientRoots, c.config.Now())
	if err != nil {
		return err
	}
	subject, err := c.subject(h, h.client.name, vouched, h.client.subject.Token)
	if err != nil {
		return err
	}
	h.client.subject, h.client.key, h.client.shows = *subject, chain[0].RawSubjectPublicKeyInfo, c.credentials(vouched)
	c.presence.renew(h.client)
	return nil
}
