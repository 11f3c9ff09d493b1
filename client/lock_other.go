//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package client

import (
	"errors"
	"fmt"
	"runtime"
)

// lockFile can not lock: the file is read, and nobody is added.
func lockFile(string) (unlock func(), err error) {
	return nil, fmt.Errorf("lock: %w on %s", errors.ErrUnsupported, runtime.GOOS)
}
