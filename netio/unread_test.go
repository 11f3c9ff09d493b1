package netio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/netio"
)

// TestUnreadStreams fills streams that nobody reads and then uses another one and the control stream. The same pattern
// with bare quic-go stalls, which shows that this test can fail.
func TestUnreadStreams(t *testing.T) {
	for _, n := range []int{2, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, cb := connectEnds(t, nil, nil)
				for _, way := range [][2]*netio.Conn{{ca, cb}, {cb, ca}} {
					unreadConec(t, way[0], way[1], n)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				if err := unreadBare(t, n); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the control case does not stall (%v): the test shows nothing", err)
				}
			})
		})
	}
}

// patience is how long a write may take until it counts as stalled.
const patience = 10 * time.Second

// unreadConec is the pattern with conec: it fills n streams, and nothing else may stall.
func unreadConec(t *testing.T, from, to *netio.Conn, n int) {
	t.Helper()
	used, usedIn := openStream(t, from, to)
	accepted := make([]int, n)
	unread := make([]*netio.Stream, n)
	for i := range unread {
		var out *netio.Stream
		out, unread[i] = openStream(t, from, to)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := error(nil)
		for ; err == nil; accepted[i]++ {
			err = out.Send(ctx, make([]byte, 16<<10))
		}
		cancel()
		accepted[i]--
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("stream %d: %v", i, err)
		}
		out.CloseSend()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience) // at no latency, QUIC's delayed acks are what takes time
	defer cancel()
	for i := range 100 { // much more than any window
		if err := used.Send(ctx, make([]byte, 128<<10)); err != nil {
			t.Fatalf("%d unread streams stop another one: %d, %v", n, i, err)
		}
		if got, err := usedIn.Receive(ctx); err != nil || len(got) != 128<<10 {
			t.Fatal(len(got), err)
		}
	}
	openStream(t, from, to)
	control, controlIn := controls(t, from, to) // any stream can be the control stream
	for i := range 100 {
		if err := control.Send(attachSized(t, 50_000)); err != nil {
			t.Fatalf("%d unread streams stop the control stream: %d, %v", n, i, err)
		}
		if got, err := controlIn.Receive(); err != nil || proto.Size(got) != 50_000 {
			t.Fatal(err)
		}
	}
	for i, in := range unread { // and nothing that was accepted is lost
		got := 0
		for {
			_, err := in.Receive(within(t))
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != accepted[i] {
			t.Errorf("stream %d: %d messages accepted, %d received", i, accepted[i], got)
		}
	}
}

// unreadBare is the same with bare quic-go and its default windows. It returns what the write to a stream that is read ends with.
func unreadBare(t *testing.T, n int) error {
	t.Helper()
	var network fakeNet
	a, b := newBareEnd(t, network.link("10.0.0.1:1"), newIdentity(t, "alice")), newBareEnd(t, network.link("10.0.0.2:2"), newIdentity(t, "bob"))
	joinPorts(a.port, a.link, b.port, b.link)
	config := bareTLS(t, b.id, "bare")
	quicConfig := &quic.Config{KeepAlivePeriod: time.Second} // and nothing about windows
	listener, err := b.transport.Listen(config, quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	from, err := a.transport.Dial(within(t), a.port.Addr(), config, quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	to, err := listener.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // reads every stream but the first n
		for i := 0; ; i++ {
			s, err := to.AcceptStream(context.Background())
			if err != nil {
				return
			}
			if i >= n {
				go func() { _, _ = io.Copy(io.Discard, s) }()
			}
		}
	}()
	write := func() error {
		s, err := from.OpenStreamSync(within(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetWriteDeadline(time.Now().Add(patience))
		_, err = s.Write(make([]byte, 12<<20))
		return err
	}
	for range n {
		if err := write(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("unread: %v", err)
		}
	}
	return write()
}
