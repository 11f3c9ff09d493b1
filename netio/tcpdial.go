package netio

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/conec-go/conec/messages"
)

// maxProxyAnswer limits the head of a proxy's answer, in bytes.
const maxProxyAnswer = 64 << 10

// TCPDial says how to reach a coordinator over TCP.
type TCPDial struct {
	// Addr is where its TCP listener is, "host:port".
	Addr string
	// As are the addresses of its UDP socket. The switch knows it by the one with the same IP address as Addr turns out
	// to have, or by the first.
	As []netip.AddrPort
	// Coordinator says how to know it, as on the home channel.
	Coordinator Coordinator
	// Proxy is an HTTP proxy to go through by CONNECT, with the user and password that
	// its URL has. If nil, none.
	Proxy *url.URL
	// Dial opens TCP connections. If nil, net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// DialTCP connects to a coordinator over TLS and TCP. The certificates are checked as
// on a home channel. It blocks until the TLS handshake is done or ctx ends. The
// link carries the same datagrams as a UDP socket; whoever adds it to the switch has given
// it away.
func (t *Transport) DialTCP(ctx context.Context, how TCPDial) (*TCPLink, error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.HandshakeTimeout)
	defer cancel()
	raw, err := how.open(ctx)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	config := t.baseTLS(messages.ALPNTCP, t.Identity)
	config.ServerName = how.Coordinator.Host
	config.InsecureSkipVerify = true // VerifyConnection checks instead, pinned certificates too
	config.VerifyConnection = verifyCoordinator(how.Coordinator, t.config.Now)
	conn := tls.Client(raw, config)
	err = conn.HandshakeContext(ctx)
	if err == nil {
		err = checkTCP(conn.ConnectionState())
	}
	if err != nil {
		_ = raw.Close()
		return nil, unreachable(ctx, err)
	}
	as := how.As[0]
	for _, addr := range how.As {
		if unmap(addr).Addr() == tcpAddrPort(raw.RemoteAddr()).Addr() {
			as = addr
		}
	}
	t.sw.AllowRaw(as)
	return newTCPLink(raw, conn, as), nil
}

// checkTCP says that the other side speaks something else. Who does not know the
// protocol may just not answer that it was offered.
func checkTCP(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != messages.ALPNTCP {
		return fmt.Errorf("%w: %q over TLS, want %q", messages.ErrVersion, state.NegotiatedProtocol, messages.ALPNTCP)
	}
	return nil
}

// unreachable says that there is no way to the coordinator, unless that is the answer
// to something else.
func unreachable(ctx context.Context, err error) error {
	var own *messages.CodeError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &own):
		return own
	case errors.Is(err, messages.ErrVersion):
		return err
	}
	return fmt.Errorf("%w: %w", messages.ErrUnreachable, err)
}

// open opens the TCP connection, through the proxy if there is one.
func (d TCPDial) open(ctx context.Context) (net.Conn, error) {
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	if d.Proxy == nil {
		return dial(ctx, "tcp", d.Addr)
	}
	if d.Proxy.Scheme != "http" {
		return nil, fmt.Errorf("proxy %s: %q is not supported: want http", d.Proxy.Host, messages.Clip(d.Proxy.Scheme, messages.MaxName))
	}
	port := d.Proxy.Port()
	if port == "" {
		port = "80"
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(d.Proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", d.Proxy.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = connectThrough(conn, d.Proxy, d.Addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", d.Proxy.Host, err)
	}
	return conn, nil
}

// connectThrough asks a proxy for a connection to addr (RFC 9110 section 9.3.6).
func connectThrough(conn net.Conn, proxy *url.URL, addr string) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+basic)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	answer, err := http.ReadResponse(in, request)
	if err != nil {
		return err
	}
	switch { // its body is the connection: closing that would wait for the end
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return errors.New("wants a user and a password in its URL, or others")
	case answer.StatusCode/100 != 2:
		return fmt.Errorf("refuses to connect to %s: %s", addr, messages.Clip(answer.Status, messages.MaxReason))
	case in.Buffered() > 0:
		return errors.New("sends what nobody asked for")
	}
	return nil
}
