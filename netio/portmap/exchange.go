package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Pauses until a request is sent again, or given up. The first is that of RFC 6886 section 3.1, which goes on for a minute:
// there nobody had another protocol to try.
const (
	firstPause = 250 * time.Millisecond // doubles
	sends      = 3
)

// maxDatagram is more than the largest message of PCP, 1,100 bytes (RFC 6887 section 7), and than what gateways answer to a
// search.
const maxDatagram = 2 << 10

// errOther is that a message is not the answer, which may still come.
var errOther = errors.New("not the answer")

// exchange sends a request, again and again, until take has found the answer in what came, or is sure that there will be
// none: until it returns anything but errOther.
func exchange(ctx context.Context, conn *net.UDPConn, pause time.Duration, send func() error, take func(from netip.AddrPort, message []byte) error) error {
	buf := make([]byte, maxDatagram)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for range sends {
		if err := send(); err != nil {
			return unreachable(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(pause)) // a socket that is closed says so when it is read
		for ctx.Err() == nil {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return unreachable(err)
			}
			if err = take(from, buf[:n]); !errors.Is(err, errOther) {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause *= 2
	}
	return ErrNoAnswer
}

// ask is an exchange with the gateway's port of PCP and NAT-PMP.
func (at site) ask(ctx context.Context, request []byte, take func(message []byte) error) error {
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	send := func() error { _, err := conn.Write(request); return err }
	return exchange(ctx, conn, at.pause, send, func(_ netip.AddrPort, message []byte) error { return take(message) })
}

// unreachable says that the gateway does not listen, if that is what an error means.
func unreachable(err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok && errors.Is(opErr, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: nobody listens at the gateway", ErrNoAnswer)
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, err)
}
