package netio_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// epochLink counts what a link sends directly from each address that QUIC knows its end by.
type epochLink struct {
	netio.Link
	sent [3]atomic.Int64
}

func (l *epochLink) Write(to netip.AddrPort, p netio.Packets, wait bool) error {
	if len(p.Header) > 0 && p.Header[0]%8 == 1 {
		l.sent[(p.Header[0]-33)/8].Add(1)
	}
	return l.Link.Write(to, p, wait)
}

// Epochs begin under traffic in both directions: nothing is lost, and each time what the side that dialed sends bears the
// mark of another address than before. The other side's never does.
func TestEpochs(t *testing.T) {
	dialing, accepting := &epochLink{Link: listenLoopback(t)}, &epochLink{Link: listenLoopback(t)}
	a, b := newEnd(t, dialing, newIdentity(t, "alice"), nil), newEnd(t, accepting, newIdentity(t, "bob"), nil)
	joinPorts(a.port, a.link, b.port, b.link)
	ca, cb := connect(t, a, b)
	if err := cb.BeginEpoch(); err == nil || cb.PrepareEpochs(t.Context()) == nil {
		t.Error("the side that was dialed began an epoch")
	}
	out, in := openStream(t, ca, cb)
	sent, came := make(chan int, 2), make(chan error, 2)
	done := make(chan struct{})
	for _, s := range []*netio.Stream{out, in} {
		go func() {
			i := 0
			for ; ; i++ {
				select {
				case <-done:
					s.CloseSend()
					sent <- i
					return
				default:
				}
				if err := s.Send(t.Context(), numbered(i)); err != nil {
					t.Error(err)
				}
			}
		}()
		go func() {
			for i := 0; ; i++ {
				got, err := s.Receive(t.Context())
				if err != nil {
					came <- err
					return
				}
				if string(got) != string(numbered(i)) {
					t.Errorf("message %d is %q", i, got)
				}
			}
		}()
	}
	for epoch := 1; epoch <= 8; epoch++ {
		if err := ca.PrepareEpochs(within(t)); err != nil { // only the first time
			t.Fatal(err)
		}
		if err := ca.BeginEpoch(); err != nil {
			t.Fatal(epoch, err)
		}
		of := &dialing.sent[2-epoch%2]
		before := of.Load()
		awaitSwitch(t, func() bool { return of.Load() > before+20 })
	}
	close(done)
	for range 2 {
		if n := <-sent; n == 0 {
			t.Error("nothing was sent")
		}
		if err := <-came; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	if accepting.sent[1].Load()+accepting.sent[2].Load() > 0 {
		t.Error("the side that was dialed marks its packets")
	}
}

// An epoch can not begin before the peer has answered once, and nothing has changed then.
func TestEpochOfASilentPeer(t *testing.T) {
	dialing := &epochLink{Link: listenLoopback(t)}
	a, b := newEnd(t, dialing, newIdentity(t, "alice"), nil), newEnd(t, listenLoopback(t), newIdentity(t, "bob"), nil)
	joinPorts(a.port, a.link, b.port, b.link)
	ca, cb := connect(t, a, b)
	path := a.port.Path()
	a.port.SetPath(netio.Path{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ca.PrepareEpochs(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("epochs were prepared without a path: %v", err)
	}
	if ca.BeginEpoch() == nil {
		t.Error("an epoch began that was not prepared")
	}
	a.port.SetPath(path)
	out, in := openStream(t, ca, cb)
	if err := out.Send(t.Context(), []byte("hi")); err != nil {
		t.Error(err)
	}
	if got, err := in.Receive(within(t)); err != nil || string(got) != "hi" {
		t.Errorf("received %q, %v", got, err)
	}
	if err := ca.PrepareEpochs(within(t)); err != nil {
		t.Error(err)
	}
	ca.Close(nil)
	if err := ca.BeginEpoch(); err == nil {
		t.Error("an epoch of a connection that is over began")
	}
}
