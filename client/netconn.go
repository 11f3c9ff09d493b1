package client

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxPiece is the size in bytes of the messages that a net.Conn's writes are cut into.
const maxPiece = 64 << 10

// NetConn makes a net.Conn of a stream, for what speaks bytes instead of messages:
// the borders of messages are not kept. Its addresses are the names of the two
// sides. It also has CloseWrite, which ends the sending direction as
// [Stream.CloseSend] does. Who uses it must not use the stream beside it.
func NetConn(s *Stream) net.Conn {
	return &netConn{stream: s, reading: newDeadline(), writing: newDeadline()}
}

type netConn struct {
	stream           *Stream
	reading, writing *deadline

	mu   sync.Mutex // held by the one reader
	rest []byte     // of the last message
}

// nameAddr is the address of one side of a stream.
type nameAddr string

// Network returns "conec".
func (nameAddr) Network() string { return "conec" }

// String returns the name.
func (a nameAddr) String() string { return string(a) }

// Read reads bytes of the messages. It blocks until there are some, the peer has
// ended its direction (io.EOF), or the read deadline passes.
func (c *netConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading.Err() != nil {
		return 0, os.ErrDeadlineExceeded
	}
	for len(c.rest) == 0 && len(p) > 0 {
		message, err := c.stream.Receive(c.reading.now())
		if err != nil {
			return 0, plainEnd(err)
		}
		c.rest = message
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write sends p as messages of at most 64 KiB. It blocks while the stream's buffer is
// full, until the write deadline passes.
func (c *netConn) Write(p []byte) (n int, err error) {
	if c.writing.Err() != nil {
		return 0, os.ErrDeadlineExceeded
	}
	for n < len(p) || len(p) == 0 {
		piece := p[n:min(len(p), n+maxPiece)]
		if err := c.stream.Send(c.writing.now(), piece); err != nil {
			return n, plainEnd(err)
		}
		if n += len(piece); len(p) == 0 {
			break
		}
	}
	return n, nil
}

// plainEnd returns what users of a net.Conn compare with ==.
func plainEnd(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return err
}

// Close ends the stream; what was written still arrives.
func (c *netConn) Close() error {
	c.stream.Close()
	return nil
}

// CloseWrite ends the sending direction: the peer reads what was written and then
// io.EOF.
func (c *netConn) CloseWrite() error {
	c.stream.CloseSend()
	return nil
}

func (c *netConn) LocalAddr() net.Addr  { return nameAddr(c.stream.channel.cl.Name()) }
func (c *netConn) RemoteAddr() net.Addr { return nameAddr(c.stream.Peer()) }

func (c *netConn) SetDeadline(t time.Time) error {
	c.reading.set(t)
	c.writing.set(t)
	return nil
}

func (c *netConn) SetReadDeadline(t time.Time) error {
	c.reading.set(t)
	return nil
}

func (c *netConn) SetWriteDeadline(t time.Time) error {
	c.writing.set(t)
	return nil
}

// deadline is a deadline that may be moved while somebody waits for it.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{} // closed when the deadline has passed
}

func newDeadline() *deadline { return &deadline{done: make(chan struct{})} }

// set moves the deadline. The zero time is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // the timer has fired: let it finish
	}
	d.timer = nil
	if d.passed() {
		d.done = make(chan struct{})
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		close(d.done)
	default:
		done := d.done
		d.timer = time.AfterFunc(wait, func() { close(done) })
	}
}

func (d *deadline) passed() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Err returns os.ErrDeadlineExceeded if the deadline has passed.
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// now returns a context that ends with the deadline in force, also if it is moved
// while it has not passed.
func (d *deadline) now() deadlineContext {
	d.mu.Lock()
	defer d.mu.Unlock()
	return deadlineContext{d.done}
}

// deadlineContext is a context.Context that ends when its channel is closed.
type deadlineContext struct{ done chan struct{} }

// Deadline returns none: it may be moved.
func (deadlineContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel.
func (c deadlineContext) Done() <-chan struct{} { return c.done }

// Value returns nil.
func (deadlineContext) Value(any) any { return nil }

// Err returns os.ErrDeadlineExceeded once the channel is closed.
func (c deadlineContext) Err() error {
	select {
	case <-c.done:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}
