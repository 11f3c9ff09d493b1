//go:build !linux && !darwin && !windows

package netio

import (
	"errors"
	"net"
)

// bindToInterface can not be done here.
func bindToInterface(uintptr, bool, *net.Interface) error { return errors.ErrUnsupported }
