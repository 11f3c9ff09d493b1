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
// QUIC at the side that was dialed knows the peer by three addresses; the mark of each datagram says which, in both directions. The
// connection is made between the first ones. Right afterwards the side that dialed has the two others validated, and goes from
// one to the other from then on. So an epoch begins without asking anybody: what would be asked would be lost where the new path
// takes no packets of the size that QUIC has found on the former one. Unless the peer has followed, nothing of the epoch has
// come there; then the next one begins at the same address, which is still new to the peer.

const (
	marks          = 3
	validatingSize = 1200 // bytes to which QUIC pads the packets that validate an address (RFC 9000 section 8.2.1)
)

// Errors of epochs.
var (
	errNotDialed   = errors.New("only the side that dialed begins an epoch")
	errNotPrepared = errors.New("the epoch has not been prepared")
)

// epochs are those of a connection that was dialed.
type epochs struct {
	mu    sync.Mutex
	paths [marks]*quic.Path // by mark: validated, or nil
	now   int               // mark of the last one that began
}

// PrepareEpochs has QUIC validate what all epochs need, one address after the other. It blocks until the peer has answered or ctx
// ends; in that case the first epoch may be prepared already. It does nothing if that has been done. Only the side that dialed may
// call it.
func (c *Conn) PrepareEpochs(ctx context.Context) error {
	if c.epochs == nil {
		return errNotDialed
	}
	for mark := 1; mark < marks; mark++ {
		if err := c.prepareEpoch(ctx, mark); err != nil {
			return fmt.Errorf("prepare epochs: %w", err)
		}
	}
	return nil
}

// prepareEpoch validates the address with a mark, unless it is.
func (c *Conn) prepareEpoch(ctx context.Context, mark int) error {
	e := c.epochs
	e.mu.Lock()
	known := e.paths[mark] != nil
	e.mu.Unlock()
	if known {
		return nil
	}
	tr, err := c.transport.quicFrom(mark)
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
	if e.paths[mark] != nil { // another call was faster
		return path.Close()
	}
	e.paths[mark] = path
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
	next := e.now
	if int(c.port.followed.Load()) == e.now {
		next = 1 + e.now%(marks-1)
	}
	path := e.paths[next]
	if path == nil {
		return errNotPrepared
	}
	if c.raw.Context().Err() != nil {
		return fmt.Errorf("begin epoch: %w", context.Cause(c.raw.Context()))
	}
	if err := path.Switch(); err != nil {
		return fmt.Errorf("begin epoch: %w", err)
	}
	e.now = next
	return nil
}

// quicFrom returns the transport whose packets have a mark, which is not 0. It is made when it is first needed.
func (t *Transport) quicFrom(mark int) (*quic.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, messages.ErrClosed
	}
	if t.later[mark-1] == nil {
		t.later[mark-1] = &quic.Transport{Conn: &epochConn{Switch: t.sw, mark: mark}}
	}
	return t.later[mark-1], nil
}

// epochConn is the switch as QUIC sees it in later epochs. What is written there looks to the peer as if it came from another
// address. Nothing is read there: what comes for the connection is heard at the switch itself.
type epochConn struct {
	*Switch
	mark     int
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
	if err := c.write(b, oob, addr, c.mark); err != nil {
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
