package client

import (
	"time"

	"github.com/conec-go/conec/netio"
)

// Identity is a key and the certificate that ties it to a client's name.
type Identity = netio.Identity

// LoadIdentity reads a PEM certificate chain, leaf first, and its PEM key.
func LoadIdentity(certificatePEM, keyPEM []byte) (*Identity, error) {
	return netio.LoadIdentity(certificatePEM, keyPEM)
}

// NewIdentity makes a fresh key and a self-signed certificate for name. Who keeps
// it ([Identity.PEM]) keeps the name across restarts; see Config.Identity.
func NewIdentity(name string, now time.Time) (*Identity, error) {
	return netio.NewIdentity(name, now)
}
