package netio

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Limits of datagrams over TCP.
const (
	tcpHeader      = 2        // the length before each datagram
	maxTCPDatagram = 1500     // larger ones come from no QUIC of ours
	tcpReadBuffer  = 16 << 10 // per connection, and the most that one read yields: a TLS record
	tcpKeepBuffer  = 64 << 10 // what a connection that writes little may hold on to

	tcpQueueBytes   = 256 << 10 // that wait for a connection to take them; beyond, datagrams are dropped
	tcpIdleTimeout  = 45 * time.Second
	tcpWriteTimeout = 20 * time.Second // for the other side to take what was written
	tcpFlushTimeout = time.Second      // for the last words
)

// tcpConn carries datagrams over one TLS connection: each with its length, in 2
// bytes, before it. One goroutine reads, one writes what others have put into the
// queue: nobody else waits for the connection, and frames do not mix.
type tcpConn struct {
	raw  net.Conn // under TLS: closing it waits for nothing
	conn net.Conn
	in   *bufio.Reader
	idle time.Duration

	reading chan struct{} // holds one while somebody reads

	mu      sync.Mutex // guards the fields below
	queue   []byte     // frames that wait
	limit   int        // bytes of queue
	closed  bool
	ready   chan struct{} // there is something to write, or nothing more will come
	written chan struct{} // closed when the writer has ended
}

// newTCPConn carries datagrams over conn, which is raw with TLS around it.
func newTCPConn(raw, conn net.Conn) *tcpConn {
	limitUnsent(raw)
	return &tcpConn{
		raw: raw, conn: conn, in: bufio.NewReaderSize(conn, tcpReadBuffer), idle: tcpIdleTimeout,
		reading: make(chan struct{}, 1), limit: tcpQueueBytes, ready: make(chan struct{}, 1), written: make(chan struct{}),
	}
}

// await waits until a whole datagram is there.
func (c *tcpConn) await() error {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if err := c.conn.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return err
	}
	head, err := c.in.Peek(tcpHeader)
	if err != nil {
		return err
	}
	size, err := tcpSize(head)
	if err != nil {
		return err
	}
	_, err = c.in.Peek(tcpHeader + size)
	return err
}

// tcpSize is the size of the datagram after this header.
func tcpSize(head []byte) (int, error) {
	size := int(binary.BigEndian.Uint16(head))
	if size == 0 || size > maxTCPDatagram {
		return 0, fmt.Errorf("%w: datagram of %d bytes over TCP", ErrMalformed, size)
	}
	return size, nil
}

// take fills in what has come, after await: as many datagrams as a batch can hold, all
// of one size but for a last one that is smaller.
func (c *tcpConn) take(b *Batch) {
	if len(b.Buf) < tcpReadBuffer {
		b.Buf = make([]byte, tcpReadBuffer)
	}
	b.N, b.Segment = 0, 0
	for {
		head, err := c.in.Peek(min(tcpHeader, c.in.Buffered()))
		if err != nil || len(head) < tcpHeader {
			return
		}
		size, err := tcpSize(head)
		if err != nil || c.in.Buffered() < tcpHeader+size || b.N > 0 && size > b.Segment {
			return // await deals with it
		}
		frame, err := c.in.Peek(tcpHeader + size)
		if err != nil {
			return
		}
		b.N += copy(b.Buf[b.N:], frame[tcpHeader:])
		_, _ = c.in.Discard(len(frame)) // it is there
		if b.Segment == 0 {
			b.Segment = size
		}
		if size < b.Segment {
			return
		}
	}
}

// put queues datagrams. It does not block: what the queue has no room for is dropped,
// which QUIC sees as loss.
func (c *tcpConn) put(p Packets) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	segment := p.Segment
	if segment <= 0 {
		segment = len(p.Data)
	}
	for data := p.Data; len(data) > 0; {
		part := data[:min(segment, len(data))]
		data = data[len(part):]
		size := len(p.Header) + len(part)
		switch {
		case size > maxTCPDatagram:
			err = syscall.EMSGSIZE
		case len(c.queue)+tcpHeader+size > c.limit:
			err = syscall.EAGAIN
		default:
			c.queue = binary.BigEndian.AppendUint16(c.queue, uint16(size))
			c.queue = append(append(c.queue, p.Header...), part...)
		}
	}
	c.signal()
	return err
}

func (c *tcpConn) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// write is a pump: it writes what is queued until the connection is closed or breaks.
func (c *tcpConn) write() {
	defer close(c.written)
	var done []byte // written before, its memory is used again
	for range c.ready {
		c.mu.Lock()
		next, closed := c.queue, c.closed
		c.queue = done[:0]
		c.mu.Unlock()
		timeout := tcpWriteTimeout
		if closed {
			timeout = tcpFlushTimeout
		}
		if len(next) > 0 {
			_ = c.conn.SetWriteDeadline(time.Now().Add(timeout)) // fails only on a closed one, like the write
			if _, err := c.conn.Write(next); err != nil {
				c.cut()
				return
			}
		}
		if closed {
			return
		}
		if done = next; cap(done) > tcpKeepBuffer {
			done = nil
		}
	}
}

// close ends the connection once what is queued was written, and the other side has
// ended it, too: a connection that is closed with something unread is reset, and the
// other side's system throws our last words away. It takes a second at most.
func (c *tcpConn) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.signal()
	late := time.AfterFunc(tcpFlushTimeout, func() { _ = c.raw.Close() })
	<-c.written
	if conn, ok := c.conn.(*tls.Conn); ok {
		_ = conn.CloseWrite() // a broken one ends the reading
	}
	c.reading <- struct{}{} // who reads now goes on until nothing comes
	_, _ = io.Copy(io.Discard, c.conn)
	<-c.reading
	late.Stop()
	_ = c.raw.Close()
}

// cut ends the connection at once.
func (c *tcpConn) cut() {
	c.mu.Lock()
	c.closed, c.queue = true, nil
	c.mu.Unlock()
	_ = c.raw.Close()
	c.signal()
}
