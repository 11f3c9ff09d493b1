package netio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// piped is a connection between two tcpConns.
func piped(t *testing.T) (here, there *tcpConn) {
	t.Helper()
	a, b := net.Pipe()
	here, there = newTCPConn(a, a), newTCPConn(b, b)
	go here.write()
	go there.write()
	t.Cleanup(func() { here.cut(); there.cut() })
	return here, there
}

// sized is a datagram of n bytes that says so.
func sized(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }

// read returns the datagrams of the next batch.
func (c *tcpConn) read(t *testing.T) (datagrams [][]byte) {
	t.Helper()
	if err := c.await(); err != nil {
		t.Fatal(err)
	}
	var b Batch
	c.take(&b)
	for data := b.Buf[:b.N]; len(data) > 0; {
		n := min(b.Segment, len(data))
		datagrams = append(datagrams, data[:n])
		data = data[n:]
	}
	return datagrams
}

// Datagrams come as they were written, whatever their sizes, several in one batch.
func TestTCPDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := piped(t)
		var want [][]byte
		for _, size := range []int{1, 7, 7, 7, 3, 1500, 1500, 2, 9, 1499} {
			want = append(want, sized(size))
			if err := here.put(Packets{Data: sized(size)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := here.put(Packets{Header: []byte("head"), Data: []byte("aaabbbc"), Segment: 3}); err != nil {
			t.Fatal(err)
		}
		want = append(want, []byte("headaaa"), []byte("headbbb"), []byte("headc"))
		var got [][]byte
		batches := 0
		for len(got) < len(want) {
			got = append(got, there.read(t)...)
			batches++
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		if batches >= len(want)-3 {
			t.Errorf("%d datagrams came in %d batches", len(want), batches)
		}
	})
}

// A connection that takes nothing holds a bounded number of bytes and drops the rest;
// what did not fit is lost as a whole.
func TestTCPQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := piped(t)
		put := 0
		for here.put(Packets{Data: sized(1000)}) == nil {
			put++
			synctest.Wait() // the writer takes the first of them and hangs
		}
		if limit := tcpQueueBytes/1002 + 1; put != limit {
			t.Errorf("%d datagrams queued, want %d", put, limit)
		}
		if err := here.put(Packets{Data: sized(1000)}); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("error %v, want EAGAIN", err)
		}
		if err := here.put(Packets{Data: sized(1501)}); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("error %v, want EMSGSIZE", err)
		}
		for got := 0; got < put; {
			for _, datagram := range there.read(t) {
				if len(datagram) != 1000 {
					t.Fatalf("a datagram of %d bytes", len(datagram))
				}
				got++
			}
		}
		if err := here.put(Packets{Data: sized(1000)}); err != nil {
			t.Errorf("error %v when there is room again", err)
		}
	})
}

// Closing writes what is queued, but does not wait for who does not read.
func TestTCPLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := piped(t)
		if err := here.put(Packets{Data: []byte("good bye")}); err != nil {
			t.Fatal(err)
		}
		go here.close()
		if got := there.read(t); len(got) != 1 || string(got[0]) != "good bye" {
			t.Errorf("got %q", got)
		}
		if err := there.await(); err == nil {
			t.Error("more came, want the end")
		}
		if err := here.put(Packets{Data: []byte("more")}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v, want closed", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		here, _ := piped(t)
		if err := here.put(Packets{Data: []byte("good bye")}); err != nil {
			t.Fatal(err)
		}
		here.close() // a bubble that hangs is a failure
	})
}

// What is no datagram is an error, and so is one that does not come whole in time.
func TestTCPNoDatagram(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  error
	}{
		"empty":         {[]byte{0, 0}, ErrMalformed},
		"too large":     {[]byte{0x05, 0xdd}, ErrMalformed}, // 1,501
		"much larger":   {[]byte("GET / HTTP/1.1\r\n\r\n"), ErrMalformed},
		"nothing":       {nil, os.ErrDeadlineExceeded},
		"half a length": {[]byte{0}, os.ErrDeadlineExceeded},
		"half":          {[]byte{0, 3, 1, 2}, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				defer a.Close()
				defer b.Close()
				go func() { _, _ = b.Write(test.bytes) }() // ends when it has been read, or closed
				if err := newTCPConn(a, a).await(); !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
			})
		})
	}
}

// FuzzTCPDatagrams compares the decoder with a simple one.
func FuzzTCPDatagrams(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 2, 'b', 'c'})
	f.Add([]byte{0, 0})
	f.Add([]byte{5, 221, 1})
	f.Add(append([]byte{5, 220}, make([]byte, 1500)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var want [][]byte
		for rest := data; len(rest) >= 2; {
			n := int(binary.BigEndian.Uint16(rest))
			if n == 0 || n > 1500 || len(rest) < 2+n {
				break
			}
			want = append(want, rest[2:2+n])
			rest = rest[2+n:]
		}
		c := newTCPConn(stored{bytes.NewReader(data)}, stored{bytes.NewReader(data)})
		var got [][]byte
		for c.await() == nil {
			var b Batch
			c.take(&b)
			if b.N == 0 || b.Segment <= 0 || b.Segment > 1500 || b.N > len(b.Buf) {
				t.Fatalf("batch of %d bytes, segment %d", b.N, b.Segment)
			}
			for part := range slices.Chunk(b.Buf[:b.N], b.Segment) {
				got = append(got, part)
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d datagrams, want %d", len(got), len(want))
		}
	})
}

// stored is a connection from which only bytes come.
type stored struct{ io.Reader }

func (stored) Write(p []byte) (int, error)      { return len(p), nil }
func (stored) Close() error                     { return nil }
func (stored) LocalAddr() net.Addr              { return nil }
func (stored) RemoteAddr() net.Addr             { return nil }
func (stored) SetDeadline(time.Time) error      { return nil }
func (stored) SetReadDeadline(time.Time) error  { return nil }
func (stored) SetWriteDeadline(time.Time) error { return nil }
