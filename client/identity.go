package client

import (
	"fmt"
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

// OpenIdentityFile reads a PEM file with a key, and its certificate chain if there is one.
// If it is not there, it is made, with a self-signed certificate for name and mode 0600; if
// others than its owner may read it, that is an error.
func OpenIdentityFile(path, name string, now time.Time) (*Identity, error) {
	return netio.OpenIdentityFile(path, name, now)
}

// identify returns who the client is, and makes an identity if there is none.
func (c *Config) identify() (*netio.Identity, error) {
	identity, err := c.Identity, error(nil)
	switch {
	case c.IdentityFile != "":
		if identity, err = netio.OpenIdentityFile(c.IdentityFile, c.Name, c.Now()); err == nil {
			if err = checkIdentity(identity, c.Name); err != nil {
				err = fmt.Errorf("identity file: %s: %w", c.IdentityFile, err)
			}
		}
	case identity == nil:
		if identity, err = netio.NewIdentity(c.Name, c.Now()); err != nil {
			err = fmt.Errorf("make certificate: %w", err)
		}
	}
	return identity, err
}
