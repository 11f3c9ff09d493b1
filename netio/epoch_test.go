package netio_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// epochLink counts what a link sends directly, by the mark. It delays it, if told to, drops what is larger than it takes, or
// everything.
type epochLink struct {
	netio.Link
	delay  time.Duration
	sent   [3]atomic.Int64
	narrow atomic.Bool // it takes QUIC packets of 1,250 bytes
	cut    atomic.Bool
}

func (l *epochLink) Write(to netip.AddrPort, p netio.Packets, wait bool) error {
	if l.cut.Load() {
		return nil
	}
	if len(p.Header) > 0 && p.Header[0]%8 == 1 {
		l.sent[(p.Header[0]-33)/8].Add(1)
	}
	if l.delay == 0 {
		return l.Link.Write(to, p, wait)
	}
	size := len(p.Data)
	if p.Segment > 0 {
		size = p.Segment
	}
	for part := range slices.Chunk(p.Data, size) {
		if l.narrow.Load() && len(part) > 1250 {
			continue
		}
		p := netio.Packets{Header: slices.Clone(p.Header), Data: slices.Clone(part), ECN: p.ECN, Local: p.Local}
		time.AfterFunc(l.delay, func() { _ = l.Link.Write(to, p, wait) })
	}
	return nil
}

// Epochs begin under traffic in both directions: nothing is lost, and each time what the side that dialed sends bears
// another mark than before, and what the other side sends follows.
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
					sent <- i
					return
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
		there, back := &dialing.sent[2-epoch%2], &accepting.sent[2-epoch%2]
		sent, followed := there.Load(), back.Load()
		begin := func() {
			if err := ca.BeginEpoch(); err != nil {
				t.Fatal(epoch, err)
			}
		}
		begin()
		awaitSwitch(t, func() bool {
			if there.Load() == sent { // it was not known yet that the peer has followed to the last one
				begin()
			}
			return there.Load() > sent+20 && back.Load() > followed+20
		})
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
}

// When an epoch begins, both ends send packets again that any path takes, also if nothing of the one before has arrived. The
// path takes only such packets from then on, so nothing would come otherwise.
func TestEpochOfANarrowPath(t *testing.T) {
	for _, test := range []struct {
		name   string
		before int // epochs before the one that narrows
		lost   bool
	}{{name: "the first"}, {name: "the second", before: 1}, {name: "the third", before: 2}, {name: "after a lost one", before: 1, lost: true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dialing := &epochLink{Link: listenLoopback(t), delay: 20 * time.Millisecond}
			accepting := &epochLink{Link: listenLoopback(t), delay: 20 * time.Millisecond}
			a, b := newEnd(t, dialing, newIdentity(t, "alice"), nil), newEnd(t, accepting, newIdentity(t, "bob"), nil)
			joinPorts(a.port, a.link, b.port, b.link)
			ca, cb := connect(t, a, b)
			if err := ca.PrepareEpochs(within(t)); err != nil {
				t.Fatal(err)
			}
			out, in := openStream(t, ca, cb)
			var came atomic.Int64
			go func() {
				for in.Send(t.Context(), make([]byte, 20_000)) == nil {
				}
			}()
			go func() {
				for _, err := out.Receive(t.Context()); err == nil; _, err = out.Receive(t.Context()) {
					came.Add(1)
				}
			}()
			begin := func() {
				if err := ca.BeginEpoch(); err != nil {
					t.Error(err)
				}
				if err := out.Send(t.Context(), []byte("moved")); err != nil {
					t.Error(err)
				}
			}
			widened := func() bool { return b.port.Stats().LargestOut > 1400 }
			awaitSwitch(t, widened)
			for range test.before {
				begin()
				awaitSwitch(t, func() bool { return !widened() })
				awaitSwitch(t, widened)
			}
			if test.lost {
				dialing.cut.Store(true)
				begin()
				<-time.After(150 * time.Millisecond)
				dialing.cut.Store(false)
			}
			dialing.narrow.Store(true)
			accepting.narrow.Store(true)
			begin()
			awaitSwitch(t, func() bool { return !widened() })
			before := came.Load()
			awaitSwitch(t, func() bool { return came.Load() > before+50 })
			if widened() {
				t.Errorf("the side that was dialed sends packets of %d bytes", b.port.Stats().LargestOut)
			}
		})
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
