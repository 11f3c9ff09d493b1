package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"github.com/conec-go/conec/messages"
)

// The switch moves a channel without QUIC noticing. What QUIC has learned of the former path is wrong then: round-trip
// time, congestion window, packet size. So a channel has epochs, and QUIC sees a new one as a migration to another address
// (RFC 9000 section 9): the side that dialed validates and switches, the other one follows, and both begin anew. That
// never decides where packets go, so it may fail, or come late.

// errNotDialed is told to a side that can not begin an epoch.
var errNotDialed = errors.New("only the side that dialed begins an epoch")

// epochs are those of a connection that was dialed.
type epochs struct {
	now  int        // 0 if even, 1 if odd
	path *quic.Path // of now, nil for the first
	next *quic.Path // validated; nil: not prepared
}

// PrepareEpoch has QUIC validate what the next epoch needs, so that it can begin at once. It blocks until the peer has
// answered or ctx ends; in that case nothing has changed. Only the side that dialed may call it, and one goroutine at a time
// this or BeginEpoch.
func (c *Conn) PrepareEpoch(ctx context.Context) error {
	e := c.epochs
	if e == nil {
		return errNotDialed
	}
	if e.next != nil {
		return nil
	}
	tr, err := c.transport.quicOf(1 - e.now)
	if err != nil {
		return err
	}
	path, err := c.raw.AddPath(tr)
	if err != nil {
		return fmt.Errorf("prepare epoch: %w", err)
	}
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.raw.Context(), cancel)()
	if err = path.Probe(probing); err != nil {
		_ = path.Close() // it is not in use
		return fmt.Errorf("prepare epoch: %w", overOrContext(ctx, err))
	}
	e.next = path
	return nil
}

// BeginEpoch tells QUIC, at both ends, that the channel's packets take another path than before. It blocks, like
// PrepareEpoch, if that was not prepared. The peer's QUIC follows when it hears anything afterwards, so something should be said then.
func (c *Conn) BeginEpoch(ctx context.Context) error {
	if err := c.PrepareEpoch(ctx); err != nil {
		return err
	}
	e := c.epochs
	former, path := e.path, e.next
	e.next = nil
	if err := path.Switch(); err != nil {
		_ = path.Close() // it is not in use
		return fmt.Errorf("begin epoch: %w", err)
	}
	e.path, e.now = path, 1-e.now
	if former != nil {
		_ = former.Close() // it is in use no more
	}
	c.port.ForgetSizes()
	return nil
}

// quicOf returns the transport that QUIC uses in even (0) or odd (1) epochs. The second one is made when it is first
// needed.
func (t *Transport) quicOf(epoch int) (*quic.Transport, error) {
	if epoch == 0 {
		return t.quic, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, messages.ErrClosed
	}
	if t.odd == nil {
		t.odd = &quic.Transport{Conn: &oddConn{Switch: t.sw}}
	}
	return t.odd, nil
}

// oddConn is the switch as QUIC sees it in odd epochs. What is written there looks to the peer as if it came from another
// address. Nothing is read there: what comes for the connection is heard at the switch itself.
type oddConn struct {
	*Switch
	deadline deadline
	quiet    atomic.Bool // see SyscallConn of Switch
}

// SyscallConn is that of the switch, once QUIC has done without it.
func (c *oddConn) SyscallConn() (syscall.RawConn, error) {
	if !c.quiet.Load() {
		return nil, errors.ErrUnsupported
	}
	return c.Switch.SyscallConn()
}

// SetReadBuffer does nothing: the switch's own have been set.
func (c *oddConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is SetReadBuffer.
func (c *oddConn) SetWriteBuffer(int) error {
	c.quiet.Store(true)
	return nil
}

// ReadBatch waits until the deadline, or until the switch is closed.
func (c *oddConn) ReadBatch([]ipv4.Message, int) (int, error) {
	select {
	case <-c.deadline.expired():
		return 0, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// ReadMsgUDP is ReadBatch.
func (c *oddConn) ReadMsgUDP([]byte, []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	_, err = c.ReadBatch(nil, 0)
	return 0, 0, 0, nil, err
}

// ReadFrom is ReadBatch.
func (c *oddConn) ReadFrom([]byte) (int, net.Addr, error) {
	_, err := c.ReadBatch(nil, 0)
	return 0, nil, err
}

// WriteMsgUDP sends packets of an odd epoch.
func (c *oddConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if err := c.write(b, oob, addr, 1); err != nil {
		return 0, 0, err
	}
	return len(b), len(oob), nil
}

// WriteTo sends one packet of an odd epoch.
func (c *oddConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	n, _, err := c.WriteMsgUDP(b, nil, udp)
	return n, err
}

// SetReadDeadline makes ReadBatch return at t.
func (c *oddConn) SetReadDeadline(t time.Time) error {
	c.deadline.set(t)
	return nil
}

// SetDeadline is SetReadDeadline.
func (c *oddConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close does nothing: the switch is closed by who owns it.
func (c *oddConn) Close() error { return nil }

// epochOf is 0 for a datagram of an even epoch, 1 for one of an odd one.
func epochOf(kind byte) int { return int(kind&epochBit) / epochBit }
