//go:build !linux && !windows && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package portmap

import (
	"errors"
	"net/netip"
)

// defaultGateway does not know.
func defaultGateway() (netip.Addr, error) {
	return netip.Addr{}, errors.ErrUnsupported
}
