package messages

import (
	"context"
	"errors"
	"net"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Errors that a caller may decide on. Those that mean "it is over" also match
// [net.ErrClosed]; ErrTimeout also matches [context.DeadlineExceeded].
var (
	// ErrClosed: ended in order, by this side or the other.
	ErrClosed error = &sentinel{"closed", net.ErrClosed}
	// ErrProtocol: the other side broke the protocol.
	ErrProtocol error = &sentinel{"protocol violation", nil}
	// ErrVersion: the sides do not speak the same version of the protocol.
	ErrVersion error = &sentinel{"no common protocol version", nil}
	// ErrInternal: a fault inside the other program.
	ErrInternal error = &sentinel{"internal fault", nil}
	// ErrNameInvalid: see [CheckName].
	ErrNameInvalid error = &sentinel{"invalid name", nil}
	// ErrNameTaken: a client with another key has the name now.
	ErrNameTaken error = &sentinel{"name is taken", nil}
	// ErrNameMismatch: the certificate was issued for another name.
	ErrNameMismatch error = &sentinel{"certificate is for another name", nil}
	// ErrUntrusted: the certificate is not trusted, expired, or not the expected one.
	ErrUntrusted error = &sentinel{"certificate not trusted", nil}
	// ErrNoSuchPeer: no client of that name is attached.
	ErrNoSuchPeer error = &sentinel{"no such peer", nil}
	// ErrRefused: the other side does not want it.
	ErrRefused error = &sentinel{"refused", nil}
	// ErrNotAccepting: the other side accepts no channels.
	ErrNotAccepting error = &sentinel{"peer accepts no channels", nil}
	// ErrLimit: a limit was reached.
	ErrLimit error = &sentinel{"limit reached", nil}
	// ErrBusy: too many streams or channels wait to be accepted at the other side.
	ErrBusy error = &sentinel{"peer is busy", nil}
	// ErrCanceled: the side that asked no longer wants it.
	ErrCanceled error = &sentinel{"canceled", context.Canceled}
	// ErrTimeout: it took too long.
	ErrTimeout error = &sentinel{"timed out", context.DeadlineExceeded}
	// ErrTooLarge: a message is larger than allowed; the stream stays usable.
	ErrTooLarge error = &sentinel{"message too large", nil}
	// ErrUnreachable: no path leads to the other side.
	ErrUnreachable error = &sentinel{"unreachable", nil}
	// ErrSuperseded: a newer attachment with the same key took the name over.
	ErrSuperseded error = &sentinel{"superseded by a newer attachment", net.ErrClosed}
	// ErrShutdown: the program at the other side is shutting down.
	ErrShutdown error = &sentinel{"peer is shutting down", net.ErrClosed}
	// ErrReset: the program at the other side reset the stream.
	ErrReset error = &sentinel{"reset by peer", net.ErrClosed}
	// ErrNoSuchActor: no actor of that name is exported.
	ErrNoSuchActor error = &sentinel{"no such actor", nil}
	// ErrNotResumable: the stream was not opened as a resumable one. It is not on the wire.
	ErrNotResumable error = &sentinel{"stream is not resumable", nil}
	// ErrNoSuchStream: the other process does not know the resumable stream.
	ErrNoSuchStream error = &sentinel{"no such stream", nil}
	// ErrNoSuchGroup: nobody has brought a group of that name to life.
	ErrNoSuchGroup error = &sentinel{"no such group", nil}
	// ErrForbidden: the coordinator's policy does not allow it.
	ErrForbidden error = &sentinel{"not allowed", nil}
	// ErrKicked: who runs the coordinator has ended the attachment; the client may come back.
	ErrKicked error = &sentinel{"kicked", net.ErrClosed}
	// ErrBanned: who runs the coordinator keeps the client away.
	ErrBanned error = &sentinel{"banned", nil}
)

// sentinel is an error that may also match a broader one.
type sentinel struct {
	text string
	is   error
}

// Error returns the text.
func (s *sentinel) Error() string { return s.text }

// Is reports whether target is the broader error.
func (s *sentinel) Is(target error) bool { return s.is != nil && target == s.is }

// codes pairs every wire code with its error.
var codes = map[conecv1.Code]error{
	conecv1.Code_CODE_CLOSED:         ErrClosed,
	conecv1.Code_CODE_PROTOCOL:       ErrProtocol,
	conecv1.Code_CODE_VERSION:        ErrVersion,
	conecv1.Code_CODE_INTERNAL:       ErrInternal,
	conecv1.Code_CODE_NAME_INVALID:   ErrNameInvalid,
	conecv1.Code_CODE_NAME_TAKEN:     ErrNameTaken,
	conecv1.Code_CODE_NAME_MISMATCH:  ErrNameMismatch,
	conecv1.Code_CODE_UNTRUSTED:      ErrUntrusted,
	conecv1.Code_CODE_NO_SUCH_PEER:   ErrNoSuchPeer,
	conecv1.Code_CODE_REFUSED:        ErrRefused,
	conecv1.Code_CODE_NOT_ACCEPTING:  ErrNotAccepting,
	conecv1.Code_CODE_LIMIT:          ErrLimit,
	conecv1.Code_CODE_BUSY:           ErrBusy,
	conecv1.Code_CODE_CANCELED:       ErrCanceled,
	conecv1.Code_CODE_TIMEOUT:        ErrTimeout,
	conecv1.Code_CODE_TOO_LARGE:      ErrTooLarge,
	conecv1.Code_CODE_UNREACHABLE:    ErrUnreachable,
	conecv1.Code_CODE_SUPERSEDED:     ErrSuperseded,
	conecv1.Code_CODE_SHUTDOWN:       ErrShutdown,
	conecv1.Code_CODE_RESET:          ErrReset,
	conecv1.Code_CODE_NO_SUCH_ACTOR:  ErrNoSuchActor,
	conecv1.Code_CODE_NO_SUCH_STREAM: ErrNoSuchStream,
	conecv1.Code_CODE_NO_SUCH_GROUP:  ErrNoSuchGroup,
	conecv1.Code_CODE_FORBIDDEN:      ErrForbidden,
	conecv1.Code_CODE_KICKED:         ErrKicked,
	conecv1.Code_CODE_BANNED:         ErrBanned,
}

// FromCode makes an error of a code and the text that came with it. The error
// matches the code's sentinel. An unknown code keeps its number and text.
func FromCode(code conecv1.Code, reason string) error {
	sentinel := codes[code]
	if reset := fromReset(code); reset != nil {
		return reset
	}
	if sentinel == nil {
		return &CodeError{Code: code, Reason: reason}
	}
	if reason == "" || reason == sentinel.Error() {
		return sentinel
	}
	return &CodeError{Code: code, Reason: reason, sentinel: sentinel}
}

// ToCode is the reverse of [FromCode]: what to put on the wire for err. An error
// that no code stands for is CODE_INTERNAL with the error's text. A nil error
// is CODE_UNSPECIFIED.
func ToCode(err error) (conecv1.Code, string) {
	if err == nil {
		return conecv1.Code_CODE_UNSPECIFIED, ""
	}
	if coded, ok := errors.AsType[*CodeError](err); ok {
		return coded.Code, Clip(coded.Reason, MaxReason)
	}
	if reset, ok := errors.AsType[*ResetError](err); ok {
		return resetCodes + conecv1.Code(reset.Code), ""
	}
	if found, ok := errors.AsType[*sentinel](err); ok {
		for code, candidate := range codes {
			if errors.Is(candidate, found) {
				return code, Clip(reasonBeside(err, found), MaxReason)
			}
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return conecv1.Code_CODE_TIMEOUT, ""
	case errors.Is(err, context.Canceled):
		return conecv1.Code_CODE_CANCELED, ""
	case errors.Is(err, net.ErrClosed):
		return conecv1.Code_CODE_CLOSED, ""
	}
	return conecv1.Code_CODE_INTERNAL, Clip(err.Error(), MaxReason)
}

// reasonBeside returns the text of err unless the sentinel says it all.
func reasonBeside(err error, found *sentinel) string {
	if text := err.Error(); text != found.text {
		return text
	}
	return ""
}
