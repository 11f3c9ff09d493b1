package suite_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/conec-go/conec/client"
)

// A stream as a net.Conn passes the tests that Go's own connections pass.
func TestNetConn(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		nettest.TestConn(w.T, func() (a, b net.Conn, stop func(), err error) {
			out, err := alice.OpenStream(w.ctx, "bob", nil)
			if err != nil {
				return nil, nil, nil, err
			}
			in, err := bob.AcceptStream(w.ctx)
			if err != nil {
				return nil, nil, nil, err
			}
			a, b = client.NetConn(out), client.NetConn(in)
			return a, b, func() {
				_ = a.Close()
				_ = b.Close()
			}, nil
		})
	}, except(virtual, "nettest has subtests, and a bubble can have none"))
}

// The borders of messages do not show, and each direction ends by itself.
func TestNetConnHalfClose(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		out, in := w.stream(alice, bob, nil)
		a, b := client.NetConn(out), client.NetConn(in)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		go func() {
			_, _ = a.Write(sent)
			_ = a.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			w.Errorf("read %d bytes, %v, want %d", len(got), err, len(sent))
		}
		if _, err := b.Write([]byte("thanks")); err != nil {
			w.Fatal(err)
		}
		_ = b.Close()
		if got, err := io.ReadAll(a); err != nil || string(got) != "thanks" {
			w.Errorf("read %q, %v", got, err)
		}
		if got := a.RemoteAddr(); got.Network() != "conec" || got.String() != "bob" || a.LocalAddr().String() != "alice" {
			w.Errorf("addresses are %v and %v", a.LocalAddr(), got)
		}
	})
}
