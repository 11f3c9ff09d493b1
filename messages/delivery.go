package messages

import (
	"fmt"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// ErrWouldBlock means that nothing could be sent, or was there to be received, at
// once. It never comes from the other side.
var ErrWouldBlock error = &sentinel{"would block", nil}

// ErrNoDeadline means that a message was to have a deadline, and its stream has none.
// It never comes from the other side.
var ErrNoDeadline error = &sentinel{"the stream was opened without a deadline", nil}

// SizeError is why a message was not sent: it is larger than its stream takes
// now. It matches [ErrTooLarge]; the stream stays usable.
type SizeError struct {
	// Size is that of the message in bytes, Limit what the stream takes. The limit
	// of sequenced and lossy streams changes with the path.
	Size, Limit int
}

// Error reads like: message too large: 2000 bytes, limit 1156.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: %d bytes, limit %d", ErrTooLarge, e.Size, e.Limit)
}

// Unwrap returns [ErrTooLarge].
func (e *SizeError) Unwrap() error { return ErrTooLarge }

// resetCodes is the wire code of a reset with the program's code 0; the others
// follow it.
const resetCodes conecv1.Code = 1 << 16

// ResetError is why a stream is over that a program reset with a code of its own.
// It matches [ErrReset].
type ResetError struct {
	// Code is the program's.
	Code uint16
}

// Error reads like: reset by peer: code 7.
func (e *ResetError) Error() string { return fmt.Sprintf("%v: code %d", ErrReset, e.Code) }

// Unwrap returns [ErrReset].
func (e *ResetError) Unwrap() error { return ErrReset }

// fromReset returns the error of a program's own code, nil of any other.
func fromReset(code conecv1.Code) error {
	if code < resetCodes || code > resetCodes+0xffff {
		return nil
	}
	return &ResetError{Code: uint16(code - resetCodes)}
}
