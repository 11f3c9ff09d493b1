package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"github.com/conec-go/conec/messages"
)

// The switch moves a channel without QUIC noticing. What QUIC has learned of the former path is wrong then: round-trip
// time, congestion window, packet size. So a channel has epochs, and QUIC sees a new one as a migration to another address
// (RFC 9000 section 9): the side that dialed switches, the other one validates and follows, and both begin anew. That
// never decides where packets go, so it may come late.
//
// QUIC knows the peer by three addresses. The connection is made between the first ones. Right afterwards the side that dialed
// has the two others validated, and goes from one to the other from then on. So an epoch begins without asking anybody: what
// would be asked would be lost where the new path takes no packets of the size that QUIC has found on the former one.

// Errors of epochs.
var (
	errNotDialed   = errors.New("only the side that dialed begins an epoch")
	errNotPrepared = errors.New("the first epoch has not been prepared")
)

// epochs are those of a connection that was dialed.
type epochs struct {
	mu    sync.Mutex
	paths [epochAddrs - 1]*quic.Path // validated, or nil
	next  int                        // the one for the next epoch
}

// PrepareEpochs has QUIC validate what all epochs need. It blocks until the peer has answered or ctx ends; in that case the
// first epoch may be prepared already. It does nothing if that has been done. Only the side that dialed may call it.
func (c *Conn) PrepareEpochs(ctx context.Context) error {
	e := c.epochs
	if e == nil {
		return errNotDialed
	}
	for i := range e.paths {
		if err := c.prepareEpoch(ctx, i); err != nil {
			return fmt.Errorf("prepare epochs: %w", err)
		}
	}
	return nil
}

// prepareEpoch validates address i+1, unless it is.
func (c *Conn) prepareEpoch(ctx context.Context, i int) error {
	e := c.epochs
	e.mu.Lock()
	known := e.paths[i] != nil
	e.mu.Unlock()
	if known {
		return nil
	}
	tr, err := c.transport.quicFrom(i + 1)
	if err != nil {
		return err
	}
	path, err := c.raw.AddPath(tr)
	if err != nil {
		return err
	}
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.raw.Context(), cancel)()
	if err = path.Probe(probing); err != nil {
		_ = path.Close() // it is not in use
		return overOrContext(ctx, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paths[i] != nil { // another call was faster
		return path.Close()
	}
	e.paths[i] = path
	return nil
}

// BeginEpoch tells QUIC, at both ends, that the channel's packets take another path than before. The peer's QUIC follows when it
// hears anything afterwards, so something should be said then. It fails if the connection is over, or before it was prepared.
func (c *Conn) BeginEpoch() error {
	e := c.epochs
	if e == nil {
		return errNotDialed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	path := e.paths[e.next]
	if path == nil {
		return errNotPrepared
	}
	if c.raw.Context().Err() != nil {
		return fmt.Errorf("begin epoch: %w", context.Cause(c.raw.Context()))
	}
	if err := path.Switch(); err != nil {
		return fmt.Errorf("begin epoch: %w", err)
	}
	e.next = (e.next + 1) % len(e.paths)
	c.port.ForgetSizes()
	return nil
}

// quicFrom returns the transport whose packets come from an address of their ports. Those of later epochs are made when
// they are first needed.
func (t *Transport) quicFrom(addr int) (*quic.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, messages.ErrClosed
	}
	if t.later[addr-1] == nil {
		t.later[addr-1] = &quic.Transport{Conn: &epochConn{Switch: t.sw, addr: addr}}
	}
	return t.later[addr-1], nil
}

// epochConn is the switch as QUIC sees it in later epochs. What is written there looks to the peer as if it came from another
// address. Nothing is read there: what comes for the connection is heard at the switch itself.
type epochConn struct {
	*Switch
	addr     int
	deadline deadline
	quiet    atomic.Bool // see SyscallConn of Switch
}

// SyscallConn is that of the switch, once QUIC has done without it.
func (c *epochConn) SyscallConn() (syscall.RawConn, error) {
	if !c.quiet.Load() {
		return nil, errors.ErrUnsupported
	}
	return c.Switch.SyscallConn()
}

// SetReadBuffer does nothing: the switch's own have been set.
func (c *epochConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is SetReadBuffer.
func (c *epochConn) SetWriteBuffer(int) error {
	c.quiet.Store(true)
	return nil
}

// ReadBatch waits until the deadline, or until the switch is closed.
func (c *epochConn) ReadBatch([]ipv4.Message, int) (int, error) {
	select {
	case <-c.deadline.expired():
		return 0, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// ReadMsgUDP is ReadBatch.
func (c *epochConn) ReadMsgUDP([]byte, []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	_, err = c.ReadBatch(nil, 0)
	return 0, 0, 0, nil, err
}

// ReadFrom is ReadBatch.
func (c *epochConn) ReadFrom([]byte) (int, net.Addr, error) {
	_, err := c.ReadBatch(nil, 0)
	return 0, nil, err
}

// WriteMsgUDP sends packets from the address.
func (c *epochConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if err := c.write(b, oob, addr, c.addr); err != nil {
		return 0, 0, err
	}
	return len(b), len(oob), nil
}

// WriteTo sends one packet from the address.
func (c *epochConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	n, _, err := c.WriteMsgUDP(b, nil, udp)
	return n, err
}

// SetReadDeadline makes ReadBatch return at t.
func (c *epochConn) SetReadDeadline(t time.Time) error {
	c.deadline.set(t)
	return nil
}

// SetDeadline is SetReadDeadline.
func (c *epochConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close does nothing: the switch is closed by who owns it.
func (c *epochConn) Close() error { return nil }
