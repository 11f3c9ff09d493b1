package messages

import (
	"errors"
	"fmt"
	"net"
)

// ErrInDoubt is matched by every [DoubtError]. It matches [net.ErrClosed].
var ErrInDoubt error = &sentinel{"messages in doubt", net.ErrClosed}

// DoubtError is why a stream is over before all that was sent has been confirmed.
// It matches [ErrInDoubt], [net.ErrClosed], and what Err does.
type DoubtError struct {
	// Confirmed is how many messages are with the other side for sure, or were given up
	// because of their deadline: the first.
	Confirmed uint64
	// InDoubt is how many more were sent. Some of them may be there, too: on an ordered
	// stream the first of them.
	InDoubt uint64
	// Err is why the stream is over.
	Err error
}

// Error reads like: no such stream: 7 messages confirmed, 3 in doubt.
func (d *DoubtError) Error() string {
	return fmt.Sprintf("%v: %d messages confirmed, %d in doubt", d.Err, d.Confirmed, d.InDoubt)
}

// Unwrap returns Err.
func (d *DoubtError) Unwrap() error { return d.Err }

// Is reports whether target is [ErrInDoubt] or what that matches.
func (d *DoubtError) Is(target error) bool { return errors.Is(ErrInDoubt, target) }
