package sim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/conec-go/conec/sim"
)

// tcpWire is two hosts, one behind a gateway, and a listener.
type tcpWire struct {
	*testing.T
	net      *sim.Network
	here     *sim.Host
	there    *sim.Host
	listener net.Listener
}

// overTCP plays a scenario on virtual time.
func overTCP(t *testing.T, line sim.Line, scenario func(w *tcpWire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTCPWire(t, line)
		defer w.net.Close()
		scenario(w)
	})
}

func newTCPWire(t *testing.T, line sim.Line) *tcpWire {
	t.Helper()
	w := &tcpWire{T: t, net: sim.NewNetwork(1)}
	nat := sim.Symmetric()
	nat.NoUDP = true
	gateway, err := w.net.Gateway("gateway", w.net.Internet(), nat, line)
	w.must(err)
	w.here, err = w.net.Host("here", gateway, sim.Line{})
	w.must(err)
	w.there, err = w.net.Host("there", w.net.Internet(), line)
	w.must(err)
	w.listener, err = w.there.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 443))
	w.must(err)
	return w
}

func (w *tcpWire) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// connect opens a connection, and returns both ends.
func (w *tcpWire) connect() (here, there net.Conn) {
	w.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := w.listener.Accept()
		if err != nil {
			w.Error(err)
		}
		accepted <- c
	}()
	here, err := w.dial(time.Minute)
	w.must(err)
	return here, <-accepted
}

func (w *tcpWire) dial(limit time.Duration) (net.Conn, error) {
	return w.here.DialTCP(within(limit), "tcp", netip.AddrPortFrom(w.there.Addr(), 443).String())
}

// Everything arrives in order in both directions at once, whatever lines do to segments, and as fast as the line lets it.
func TestTCPTransfer(t *testing.T) {
	for name, test := range map[string]struct {
		line  sim.Line
		size  int
		limit time.Duration
	}{
		"good":      {sim.Line{Latency: 10 * time.Millisecond}, 10 << 20, 5 * time.Second},
		"slow":      {sim.Line{Latency: 20 * time.Millisecond, Rate: 500_000}, 2 << 20, 10 * time.Second},
		"lossy":     {sim.Line{Latency: 10 * time.Millisecond, Loss: 0.03}, 2 << 20, 45 * time.Second},
		"bad":       {sim.Line{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05, Corrupt: 0.02}, 1 << 20, 45 * time.Second},
		"very slow": {sim.Line{Latency: 300 * time.Millisecond, Rate: 20_000}, 100 << 10, 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			overTCP(t, test.line, func(w *tcpWire) {
				here, there := w.connect()
				began := time.Now()
				sums := make(chan [2][32]byte, 2)
				transfer := func(from, to net.Conn, seed uint64) {
					data := make([]byte, test.size)
					random := rand.New(rand.NewPCG(seed, 0))
					for i := range data {
						data[i] = byte(random.Uint32())
					}
					go func() {
						for rest := data; len(rest) > 0; {
							n := min(1+random.IntN(20_000), len(rest))
							if _, err := from.Write(rest[:n]); err != nil {
								w.Error(err)
								return
							}
							rest = rest[n:]
						}
					}()
					got := make([]byte, test.size)
					if _, err := io.ReadFull(to, got); err != nil {
						w.Error(err)
					}
					sums <- [2][32]byte{sha256.Sum256(data), sha256.Sum256(got)}
				}
				go transfer(here, there, 1)
				go transfer(there, here, 2)
				for range 2 {
					if pair := <-sums; pair[0] != pair[1] {
						w.Error("other data has arrived")
					}
				}
				took := time.Since(began)
				if w.Logf("took %v", took); took > test.limit {
					w.Errorf("took %v, want %v", took, test.limit)
				}
				w.must(here.Close())
				if n, err := there.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					w.Errorf("read %d bytes after the end, %v", n, err)
				}
				w.must(there.Close())
			})
		})
	}
}

// What is written before Close arrives, and a reader that pauses stops the writer, not the connection.
func TestTCPPauses(t *testing.T) {
	overTCP(t, sim.Line{Latency: 10 * time.Millisecond, Loss: 0.02}, func(w *tcpWire) {
		here, there := w.connect()
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		wrote := make(chan error, 1)
		go func() {
			_, err := here.Write(data)
			wrote <- errors.Join(err, here.Close())
		}()
		time.Sleep(5 * time.Minute)
		select {
		case err := <-wrote:
			w.Fatalf("1 MiB was written though nobody reads: %v", err)
		default:
		}
		got, err := io.ReadAll(there)
		w.must(err)
		w.must(<-wrote)
		if !bytes.Equal(got, data) {
			w.Errorf("%d bytes came, or others, want %d", len(got), len(data))
		}
		w.must(there.Close())
	})
}

// What goes wrong is told as an operating system tells it.
func TestTCPErrors(t *testing.T) {
	overTCP(t, sim.Line{Latency: 10 * time.Millisecond}, func(w *tcpWire) {
		if _, err := w.here.DialTCP(within(time.Minute), "tcp", netip.AddrPortFrom(w.there.Addr(), 444).String()); !errors.Is(err, syscall.ECONNREFUSED) {
			w.Error("a port that nobody listens on:", err)
		}
		if _, err := w.there.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 443)); !errors.Is(err, syscall.EADDRINUSE) {
			w.Error("a port that is taken:", err)
		}
		if _, err := w.there.DialTCP(within(time.Minute), "tcp", netip.AddrPortFrom(w.here.Addr(), 443).String()); err == nil {
			w.Error("somebody behind a gateway was reached")
		}
		here, there := w.connect()
		w.must(here.SetReadDeadline(time.Now().Add(time.Second)))
		began := time.Now()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			w.Errorf("after %v: %v", time.Since(began), err)
		}
		w.must(here.SetReadDeadline(time.Time{}))

		w.must(w.there.SetLine(sim.Line{Latency: time.Second}))
		late := make(chan error, 1)
		go func() {
			c, err := w.dial(time.Minute)
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			late <- err
		}()
		time.Sleep(1500 * time.Millisecond) // the SYN has come, the answer is on its way
		w.must(w.listener.Close())
		if err := <-late; !errors.Is(err, syscall.ECONNRESET) {
			w.Error("a listener that closes meanwhile:", err)
		}
		w.must(w.there.SetLine(sim.Line{Latency: 10 * time.Millisecond}))
		var err error
		w.listener, err = w.there.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 443))
		w.must(err)

		heal := w.net.Add(sim.Block(w.here, w.there))
		if _, err := w.dial(3 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
			w.Error("dialed through a wall:", err)
		}
		if _, err := w.dial(time.Hour); !errors.Is(err, syscall.ETIMEDOUT) {
			w.Error("dialed through a wall, for long:", err)
		}
		_, err = here.Write([]byte("lost"))
		w.must(err)
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			w.Error("nobody answers:", err)
		}
		heal()
		_, err = there.Write([]byte("who?"))
		w.must(err)
		if _, err := there.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			w.Error("the other side has given up:", err)
		}
		here, there = w.connect()
		w.there.Crash()
		if _, err := there.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			w.Error("crashed:", err)
		}
		if _, err := w.listener.Accept(); !errors.Is(err, net.ErrClosed) {
			w.Error("crashed:", err)
		}
		w.listener, err = w.there.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 443))
		w.must(err)
		_, err = here.Write([]byte("who?"))
		w.must(err)
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			w.Error("the other side was started anew:", err)
		}
		if err := here.Close(); err != nil {
			w.Error(err)
		}
		if _, err := here.Write(nil); !errors.Is(err, net.ErrClosed) {
			w.Error("written to a closed connection:", err)
		}
	})
}

// TestTCPConn tests it as a net.Conn, on real time.
func TestTCPConn(t *testing.T) {
	nettest.TestConn(t, func() (here, there net.Conn, stop func(), err error) {
		w := newTCPWire(t, sim.Line{Latency: 50 * time.Microsecond})
		here, there = w.connect()
		return here, there, func() {
			_, _ = here.Close(), there.Close() // the test may have done that
			w.net.Close()
		}, nil
	})
}
