package netio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

func TestFromQUIC(t *testing.T) {
	own := errors.New("ours")
	for _, c := range []struct {
		name   string
		err    error
		want   error
		remote bool
	}{
		{"application, remote", &quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(conecv1.Code_CODE_NAME_TAKEN), ErrorMessage: "x"}, messages.ErrNameTaken, true},
		{"application, local", &quic.ApplicationError{ErrorCode: quic.ApplicationErrorCode(conecv1.Code_CODE_SHUTDOWN)}, messages.ErrShutdown, false},
		{"reset", &quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(conecv1.Code_CODE_RESET)}, messages.ErrReset, true},
		{"own reset", &quic.StreamError{ErrorCode: quic.StreamErrorCode(conecv1.Code_CODE_RESET)}, messages.ErrReset, false},
		{"wrapped reset", fmt.Errorf("write: %w", &quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(conecv1.Code_CODE_BUSY)}), messages.ErrBusy, true},
		{"no common ALPN", &quic.TransportError{Remote: true, ErrorCode: alertNoApplication}, messages.ErrVersion, true},
		{"no common ALPN, found here", &quic.TransportError{ErrorCode: alertNoApplication}, messages.ErrVersion, false},
		{"no common TLS", &quic.TransportError{Remote: true, ErrorCode: alertProtocol}, messages.ErrVersion, true},
		{"no common QUIC", &quic.VersionNegotiationError{}, messages.ErrVersion, true},
		{"bad certificate", &quic.TransportError{Remote: true, ErrorCode: alertBadCert}, messages.ErrUntrusted, true},
		{"expired certificate", &quic.TransportError{Remote: true, ErrorCode: cryptoErrors + 45}, messages.ErrUntrusted, true},
		{"unknown authority", &quic.TransportError{Remote: true, ErrorCode: alertUnknownCA}, messages.ErrUntrusted, true},
		{"no certificate", &quic.TransportError{Remote: true, ErrorCode: alertCertRequired}, messages.ErrUntrusted, true},
		{"not expected", &quic.TransportError{Remote: true, ErrorCode: alertInternal}, messages.ErrRefused, true},
		{"TLS fault here", &quic.TransportError{ErrorCode: alertInternal}, messages.ErrProtocol, false},
		{"refused", &quic.TransportError{Remote: true, ErrorCode: quic.ConnectionRefused}, messages.ErrRefused, true},
		{"flow control broken", &quic.TransportError{ErrorCode: quic.FlowControlError}, messages.ErrProtocol, false},
		{"idle", &quic.IdleTimeoutError{}, messages.ErrUnreachable, false},
		{"no handshake", &quic.HandshakeTimeoutError{}, messages.ErrUnreachable, false},
		{"stateless reset", &quic.StatelessResetError{}, messages.ErrUnreachable, true},
		{"transport closed", quic.ErrTransportClosed, messages.ErrClosed, false},
		{"listener closed", quic.ErrServerClosed, messages.ErrClosed, false},
		{"another", own, own, false},
		{"end", io.EOF, io.EOF, false},
		{"nothing", nil, nil, false},
	} {
		got := fromQUIC(c.err)
		if !errors.Is(got, c.want) || IsRemote(got) != c.remote {
			t.Errorf("%s: %v (remote %v)", c.name, got, IsRemote(got))
		}
	}
}

func TestIsOurs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("%w: x", messages.ErrProtocol), true},
		{fmt.Errorf("%w: x", messages.ErrTooLarge), true},
		{remoteError{messages.ErrProtocol}, false},
		{messages.ErrClosed, false},
		{io.EOF, false},
		{nil, false},
	} {
		if got := isOurs(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestOverOrContext(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	closed := &quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(conecv1.Code_CODE_SHUTDOWN)}
	for _, c := range []struct {
		name string
		over bool // the context was canceled
		err  error
		want error
	}{
		{"canceled, and closed by that", true, net.ErrClosed, context.Canceled},
		{"canceled", true, fmt.Errorf("x: %w", context.Canceled), context.Canceled},
		{"not canceled", false, closed, messages.ErrShutdown},
		{"canceled, and something else", true, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
	} {
		ctx := t.Context()
		if c.over {
			ctx = canceled
		}
		if got := overOrContext(ctx, c.err); !errors.Is(got, c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestIsRemote(t *testing.T) {
	err := remoteIf(true, messages.ErrRefused)
	if !IsRemote(err) || !IsRemote(fmt.Errorf("open: %w", err)) || !errors.Is(err, messages.ErrRefused) || err.Error() != "refused" {
		t.Error(err)
	}
	if IsRemote(remoteIf(false, messages.ErrRefused)) || IsRemote(nil) {
		t.Error("not remote")
	}
}
