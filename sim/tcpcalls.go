package sim

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// What a program does with a TCP connection.

// opened waits until the connection is open.
func (c *tcpConn) opened(ctx context.Context) error {
	for {
		c.host.network.mu.Lock()
		done, err := c.state >= established, c.err
		c.host.network.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-c.changed:
		case <-ctx.Done():
			c.host.network.mu.Lock()
			c.abort(false)
			c.host.network.mu.Unlock()
			return ctx.Err()
		}
	}
}

// Read waits for data, the other side's end, or the deadline.
func (c *tcpConn) Read(b []byte) (int, error) {
	for {
		n, over, err := c.read(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		select {
		case <-c.readable:
		case <-over:
		}
	}
}

func (c *tcpConn) read(b []byte) (n int, over <-chan struct{}, err error) {
	c.host.network.mu.Lock()
	defer c.host.network.mu.Unlock()
	switch {
	case c.closed:
		err = net.ErrClosed
	case c.reads.passed():
		err = os.ErrDeadlineExceeded
	case len(c.received) > 0:
		n = copy(b, c.received)
		if c.received = c.received[n:]; len(c.received) == 0 {
			c.received = nil
		}
		if room := tcpBuffer - len(c.received); c.state == established && room-c.told >= tcpBuffer/2 {
			c.sent(c.next, tcpSegment{})
		}
	case c.ended:
		err = io.EOF
	case c.state == tcpOver:
		err = c.err
		if err == nil {
			err = io.EOF
		}
	}
	if err != nil || len(c.received) > 0 {
		raise(c.readable) // for whoever else waits
	}
	return n, c.reads.over, err
}

// Write waits until all of it waits to be sent.
func (c *tcpConn) Write(b []byte) (written int, err error) {
	for {
		n, over, err := c.write(b[written:])
		if written += n; written == len(b) || err != nil {
			return written, err
		}
		select {
		case <-c.writable:
		case <-over:
		}
	}
}

func (c *tcpConn) write(b []byte) (n int, over <-chan struct{}, err error) {
	c.host.network.mu.Lock()
	defer c.host.network.mu.Unlock()
	switch {
	case c.closed, c.closing:
		err = net.ErrClosed
	case c.state == tcpOver && c.err == nil:
		err = syscall.EPIPE
	case c.state == tcpOver:
		err = c.err
	case c.writes.passed():
		err = os.ErrDeadlineExceeded
	default:
		n = min(len(b), tcpBuffer-len(c.buffer))
		c.buffer = append(c.buffer, b[:n]...)
		c.push()
	}
	if err != nil || len(c.buffer) < tcpBuffer {
		raise(c.writable)
	}
	return n, c.writes.over, err
}

// Close sends what waits, and then tells the other side. It does not block; what comes
// from now on is lost.
func (c *tcpConn) Close() error {
	n := c.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed, c.closing, c.received = true, true, nil
	c.reads.set(time.Time{})
	c.writes.set(time.Time{})
	raise(c.readable)
	raise(c.writable)
	if c.state == synReceived || c.state == synSent {
		c.abort(true)
		return nil
	}
	c.push()
	if c.state == established && c.inFlight() == 0 && c.ended {
		c.end(nil)
	}
	return nil
}

// LocalAddr and RemoteAddr are its ends.
func (c *tcpConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *tcpConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines.
func (c *tcpConn) SetDeadline(at time.Time) error {
	return c.deadline(at, &c.reads, &c.writes)
}

// SetReadDeadline makes Read fail from then on, also one that waits.
func (c *tcpConn) SetReadDeadline(at time.Time) error { return c.deadline(at, &c.reads) }

// SetWriteDeadline makes Write fail from then on, also one that waits.
func (c *tcpConn) SetWriteDeadline(at time.Time) error { return c.deadline(at, &c.writes) }

func (c *tcpConn) deadline(at time.Time, all ...*expiry) error {
	n := c.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	for _, e := range all {
		e.set(at)
	}
	raise(c.readable) // whoever waits has another deadline to wait for
	raise(c.writable)
	return nil
}
