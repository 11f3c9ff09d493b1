package coord

import (
	"time"

	"github.com/conec-go/conec/netio"
)

// Identity is a key and the certificate that ties it to names: a coordinator's, or
// that of an authority that vouches for others.
type Identity = netio.Identity

// LoadIdentity reads a PEM certificate chain, leaf first, and its PEM key.
func LoadIdentity(certificatePEM, keyPEM []byte) (*Identity, error) {
	return netio.LoadIdentity(certificatePEM, keyPEM)
}

// NewAuthority makes a certificate authority of its own. [Identity.IssueHosts]
// makes coordinators' certificates with it, [Identity.Issue] clients'.
func NewAuthority(name string, now time.Time) (*Identity, error) {
	return netio.NewAuthority(name, now)
}
