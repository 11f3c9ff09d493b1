package netio_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// manyKinds are streams of every kind of carrier.
func manyKinds() []*conecv1.OpenStream {
	return []*conecv1.OpenStream{{Purpose: "test"}, delivery(unordered), delivery(sequenced), delivery(lossy)}
}

// heap is what is in use after a collection.
func heap() int64 {
	for range 3 { // what pools hold is gone after the second
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestThousandStreams opens 1,000 streams, of which 50 are filled and never read: the others are not slower than without
// these, and memory stays within its bound. Then all are reset, which also those notice whose programs read nothing.
func TestThousandStreams(t *testing.T) {
	all, unread := 1000, 50
	if testing.Short() {
		all, unread = 200, 10
	}
	var took [2]time.Duration
	for i, fills := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ca, cb := connectEnds(t, nil, nil)
			kinds := manyKinds()
			outs, ins := make([]*netio.Stream, all), make([]*netio.Stream, all)
			for i := range outs {
				outs[i], ins[i] = openStreamAs(t, ca, cb, kinds[i%len(kinds)])
			}
			before := heap()
			isFilled := func(i int) bool { return fills && i%(all/unread) == 0 }
			for i := range outs {
				if !isFilled(i) {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				for outs[i].Stats().Sent < 2000 && outs[i].Send(ctx, make([]byte, 1000)) == nil { // more than fits
				}
				cancel()
			}
			const each = 256<<10 + 256<<10 + 64<<10 // may wait to be sent and to be received, and what holds that
			if grown := heap() - before; grown > int64(unread*each) {
				t.Errorf("%d bytes of memory for %d streams that nobody reads", grown, unread)
			}
			start := time.Now()
			for range 3 {
				for i := range outs {
					if isFilled(i) {
						continue
					}
					if err := outs[i].Send(within(t), varints(uint64(i))); err != nil {
						t.Fatal(i, err)
					}
					if got, err := ins[i].Receive(within(t)); err != nil || string(got) != string(varints(uint64(i))) {
						t.Fatal(i, got, err)
					}
				}
			}
			took[btoi(fills)] = time.Since(start)
			for i := range outs {
				outs[i].Reset(messages.ErrReset)
			}
			for i := range outs {
				<-outs[i].Ended()
				<-ins[i].Ended()
			}
			synctest.Wait()
			if n := ca.Streams() + cb.Streams(); n != 0 {
				t.Errorf("run %d: %d streams are left", i, n)
			}
		})
	}
	if took[1] > took[0]+took[0]/10 {
		t.Errorf("streams take %v beside others that nobody reads, and %v without", took[1], took[0])
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestHundredThousandStreams opens and closes streams of all kinds, resumable ones too: what is held does not grow.
func TestHundredThousandStreams(t *testing.T) {
	count := 100_000
	if testing.Short() {
		count = 2000
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, nil, nil)
		ca, cb := connect(t, a, b)
		kinds := manyKinds()
		var early int64
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Hour)
		defer cancel()
		for i := range count {
			message := varints(uint64(i))
			if i%5 == 4 {
				resumableOnce(ctx, t, a, b, ca, cb, message)
			} else {
				out, in := openStreamIn(ctx, t, ca, cb, kinds[i%5])
				exchangeOnce(ctx, t, out, in, message)
				<-out.Ended()
				<-in.Ended()
			}
			if i == count/10 {
				synctest.Wait()
				early = heap()
			}
		}
		synctest.Wait()
		if grown := heap() - early; grown > 1<<20 {
			t.Errorf("%d bytes of memory after %d streams more", grown, count*9/10)
		}
		if n := ca.Streams() + cb.Streams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
		for _, e := range []*end{a, b} {
			if held := e.Held(); held != 0 {
				t.Errorf("%d bytes of peers' memory are still taken", held)
			}
		}
	})
}

// endOfStream is what streams of all kinds have.
type endOfStream interface {
	Send(ctx context.Context, message []byte) error
	Receive(ctx context.Context) ([]byte, error)
	Close()
}

// exchangeOnce sends a message and closes both sides.
func exchangeOnce(ctx context.Context, t *testing.T, out, in endOfStream, message []byte) {
	t.Helper()
	if err := out.Send(ctx, message); err != nil {
		t.Fatal(err)
	}
	if got, err := in.Receive(ctx); err != nil || string(got) != string(message) {
		t.Fatal(got, err)
	}
	out.Close()
	in.Close()
}

// resumableOnce opens and closes a resumable stream.
func resumableOnce(ctx context.Context, t *testing.T, a, b *end, ca, cb *netio.Conn, message []byte) {
	t.Helper()
	r := &rig{t: t, a: a, b: b, ra: newLasting(a, 'a', 1<<20), rb: newLasting(b, 'b', 1<<20), ca: ca, cb: cb}
	r.attachIn(ctx)
	exchangeOnce(ctx, t, r.ra, r.rb, message)
	<-r.ra.Ended()
	<-r.rb.Ended()
}

// TestPeerMemory has a peer that sends as much as it may on streams that nobody reads: no more comes than the budget of a
// peer allows, streams for which nothing is left are refused, and when the others end there is room again.
func TestPeerMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const memory = 8 << 20
		small := &netio.Config{Limits: netio.Limits{MaxMessage: 1 << 20}, PeerMemory: memory}
		a, b := newEnds(t, nil, small)
		ca, cb := connect(t, a, b)
		var outs, ins []*netio.Stream
		before := heap()
		for i := 0; ; i++ {
			out, err := ca.OpenStream(within(t), manyKinds()[i%4])
			if err != nil {
				t.Fatal(err)
			}
			in, err := cb.AcceptStream(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = in.AwaitOpen(within(t)); err != nil {
				if !errors.Is(err, messages.ErrLimit) {
					t.Fatal(err)
				}
				if err = out.AwaitAnswer(within(t)); !errors.Is(err, messages.ErrLimit) || !netio.IsRemote(err) {
					t.Errorf("the opener is told %v", err)
				}
				break
			}
			if err = errors.Join(in.Accept(), out.AwaitAnswer(within(t))); err != nil {
				t.Fatal(err)
			}
			outs, ins = append(outs, out), append(ins, in)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			for n := 0; n < 2<<20 && out.Send(ctx, make([]byte, 1000)) == nil; n += 1000 {
			}
			cancel()
		}
		if want := memory / 4 / (64 << 10); len(outs) != want {
			t.Errorf("%d streams, want %d", len(outs), want)
		}
		if held := b.Held(); held > memory || held < memory/4 {
			t.Errorf("%d bytes are taken, there are %d", held, memory)
		}
		const waiting = 256<<10 + 64<<10 // at the sender, and what holds that
		if grown := heap() - before; grown > int64(memory+len(outs)*waiting) {
			t.Errorf("%d bytes of memory", grown)
		}
		for i, in := range ins {
			in.Reset(messages.ErrReset)
			<-outs[i].Ended()
		}
		synctest.Wait()
		out, in := openStream(t, ca, cb)
		exchangeOnce(within(t), t, out, in, make([]byte, 1<<20))
	})
}

// TestLargeUnread: a large message comes although many streams are full and unread.
func TestLargeUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		small := &netio.Config{Limits: netio.Limits{MaxMessage: 1 << 20}, PeerMemory: 8 << 20}
		ca, cb := connectEnds(t, small, small)
		for i := range 20 {
			out, _ := openStream(t, ca, cb)
			for out.TrySend(fmt.Append(nil, i, make([]byte, 50_000))) == nil {
				synctest.Wait()
			}
		}
		for range 3 {
			out, in := openStream(t, ca, cb)
			exchangeOnce(within(t), t, out, in, make([]byte, 1<<20))
		}
	})
}
