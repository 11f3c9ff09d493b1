package netio

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TLS alerts (RFC 8446 section 6) as QUIC transport error codes (RFC 9001 section 4.8).
const (
	cryptoErrors       = 0x100
	alertBadCert       = cryptoErrors + 42
	alertUnknownCA     = cryptoErrors + 48
	alertCertRequired  = cryptoErrors + 116
	alertNoApplication = cryptoErrors + 120
	alertProtocol      = cryptoErrors + 70
	alertInternal      = cryptoErrors + 80
)

// remoteError marks an error as the other side's decision.
type remoteError struct{ error }

// Unwrap returns the error itself.
func (r remoteError) Unwrap() error { return r.error }

// IsRemote reports whether err was decided by the other side.
func IsRemote(err error) bool {
	var remote remoteError
	return errors.As(err, &remote)
}

// fromQUIC translates an error of quic-go; others stay as they are.
func fromQUIC(err error) error {
	var (
		application *quic.ApplicationError
		stream      *quic.StreamError
		transport   *quic.TransportError
		version     *quic.VersionNegotiationError
		idle        *quic.IdleTimeoutError
		handshake   *quic.HandshakeTimeoutError
		reset       *quic.StatelessResetError
	)
	switch {
	case errors.As(err, &application):
		return remoteIf(application.Remote, messages.FromCode(conecv1.Code(application.ErrorCode), application.ErrorMessage))
	case errors.As(err, &stream):
		return remoteIf(stream.Remote, messages.FromCode(conecv1.Code(stream.ErrorCode), ""))
	case errors.As(err, &transport):
		return fromTransport(transport)
	case errors.As(err, &version):
		return remoteIf(true, fmt.Errorf("%w: %w", messages.ErrVersion, err))
	case errors.As(err, &idle):
		return fmt.Errorf("%w: nothing heard from the other side", messages.ErrUnreachable)
	case errors.As(err, &handshake):
		return fmt.Errorf("%w: no answer to the handshake", messages.ErrUnreachable)
	case errors.As(err, &reset):
		return remoteIf(true, fmt.Errorf("%w: the other side restarted", messages.ErrUnreachable))
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed):
		return messages.ErrClosed
	}
	return err
}

// fromTransport translates errors of the QUIC transport and of TLS.
func fromTransport(err *quic.TransportError) error {
	code := uint64(err.ErrorCode)
	text := err.ErrorMessage
	var own *messages.CodeError
	switch {
	case errors.As(error(err), &own): // our own check of the certificate said why
		return own
	case code == alertNoApplication, code == alertProtocol:
		return remoteIf(err.Remote, messages.FromCode(conecv1.Code_CODE_VERSION, text))
	case code >= alertBadCert && code <= alertUnknownCA, code == alertCertRequired:
		if text == "" {
			text = err.Error()
		}
		return remoteIf(err.Remote, messages.FromCode(conecv1.Code_CODE_UNTRUSTED, text))
	case code == alertInternal && err.Remote: // all that TLS lets a transport say before it knows its peer
		return remoteIf(true, fmt.Errorf("%w: no connection is expected there", messages.ErrRefused))
	case err.ErrorCode == quic.ConnectionRefused:
		return remoteIf(err.Remote, messages.FromCode(conecv1.Code_CODE_REFUSED, text))
	}
	return remoteIf(err.Remote, fmt.Errorf("%w: %w", messages.ErrProtocol, err))
}

func remoteIf(remote bool, err error) error {
	if remote {
		return remoteError{err}
	}
	return err
}

// isOurs reports whether the error was found on this side: the other side
// broke the protocol or a limit.
func isOurs(err error) bool {
	return !IsRemote(err) && (errors.Is(err, messages.ErrProtocol) || errors.Is(err, messages.ErrTooLarge) || errors.Is(err, messages.ErrLimit))
}

// overOrContext returns the context's error rather than one that closing caused.
func overOrContext(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, ctx.Err())) {
		return ctx.Err()
	}
	return fromQUIC(err)
}

// quicCode is the code of an error as QUIC carries it, which panics with what is negative:
// a code that the other side has made up may be.
func quicCode(why error) uint64 {
	code, _ := messages.ToCode(why)
	return uint64(uint32(code))
}
