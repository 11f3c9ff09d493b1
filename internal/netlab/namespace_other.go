//go:build !linux

package netlab

import (
	"errors"
	"fmt"
)

// namespace stands in where there are none.
type namespace struct{}

func newNamespace() (*namespace, error) {
	return nil, fmt.Errorf("network namespaces: %w", errors.ErrUnsupported)
}

func (*namespace) do(func() error) error { return errors.ErrUnsupported }
func (*namespace) path() string          { return "" }
func (*namespace) close()                {}
