package netio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

const (
	unordered = conecv1.DeliveryMode_DELIVERY_MODE_UNORDERED
	sequenced = conecv1.DeliveryMode_DELIVERY_MODE_SEQUENCED
	lossy     = conecv1.DeliveryMode_DELIVERY_MODE_LOSSY
)

func delivery(mode conecv1.DeliveryMode) *conecv1.OpenStream {
	return &conecv1.OpenStream{Purpose: "test", Delivery: &conecv1.Delivery{Mode: mode}}
}

// TestUnorderedSizes sends messages of all sizes, more than any window, both ways at once.
func TestUnorderedSizes(t *testing.T) {
	for _, count := range []int{0, 1, 20_000} {
		synctest.Test(t, func(t *testing.T) {
			ca, cb := connectEnds(t, nil, nil)
			a, b := openStreamAs(t, ca, cb, delivery(unordered))
			ctx := within(t)
			size := func(i int) int {
				switch {
				case i%10_000 == 9_999:
					return 3 << 20
				case i%100 == 99:
					return 50_000
				}
				return 8 + i%300
			}
			results := make(chan error, 2)
			go func() {
				for i := range count {
					message := make([]byte, size(i))
					binary.BigEndian.PutUint64(message, uint64(i))
					if err := a.Send(ctx, message); err != nil {
						results <- err
						return
					}
				}
				a.CloseSend()
				results <- nil
			}()
			seen := make([]bool, count)
			for n := 0; ; n++ {
				message, err := b.Receive(ctx)
				if errors.Is(err, io.EOF) && n == count {
					break
				}
				if err != nil {
					t.Fatalf("message %d: %v, stats %+v", n, err, b.Stats())
				}
				i := binary.BigEndian.Uint64(message)
				if len(message) != size(int(i)) || seen[i] {
					t.Fatalf("message %d has %d bytes, or came before", i, len(message))
				}
				seen[i] = true
			}
			if err := <-results; err != nil {
				t.Error(err)
			}
			b.CloseSend()
			<-a.Ended()
			<-b.Ended()
		})
	}
}

// modes are all but the ordered one.
var modes = []conecv1.DeliveryMode{unordered, sequenced, lossy}

// everyMode runs a test on a stream of each mode, in a bubble of its own.
func everyMode(t *testing.T, test func(t *testing.T, mode conecv1.DeliveryMode, ca, cb *netio.Conn, a, b *netio.Stream)) {
	t.Helper()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, cb := connectEnds(t, nil, nil)
				openStream(t, ca, cb) // as a control stream is there
				a, b := openStreamAs(t, ca, cb, delivery(mode))
				test(t, mode, ca, cb, a, b)
			})
		})
	}
}

func mustSend(t *testing.T, s *netio.Stream, messages ...string) {
	t.Helper()
	for _, message := range messages {
		if err := s.Send(within(t), []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLooseHalfClose(t *testing.T) {
	everyMode(t, func(t *testing.T, _ conecv1.DeliveryMode, _, _ *netio.Conn, a, b *netio.Stream) {
		t.Helper()
		ctx := within(t)
		if _, err := b.TryReceive(); !errors.Is(err, messages.ErrWouldBlock) {
			t.Error(err)
		}
		mustSend(t, a, "", "last")
		a.CloseSend()
		if err := a.Send(ctx, nil); !errors.Is(err, net.ErrClosed) || netio.IsRemote(err) {
			t.Error(err)
		}
		got := map[string]bool{}
		for range 2 {
			message, err := b.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got[string(message)] = true
		}
		if !got[""] || !got["last"] {
			t.Error(got)
		}
		<-b.ReceiveEnded()
		for range 2 {
			if _, err := b.Receive(ctx); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if _, err := b.TryReceive(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		mustSend(t, b, "answer")
		b.CloseSend()
		if message, err := a.ReceiveInto(ctx, make([]byte, 100)); string(message) != "answer" || err != nil {
			t.Error(string(message), err)
		}
		<-a.Ended()
		<-b.Ended()
		<-a.SendEnded()
		if stats := a.Stats(); stats != (netio.DeliveryStats{Sent: 2, Delivered: 1}) {
			t.Errorf("%+v", stats)
		}
		if stats := b.Stats(); stats != (netio.DeliveryStats{Sent: 1, Delivered: 2}) {
			t.Errorf("%+v", stats)
		}
	})
}

// TestLooseClose closes one side: what it sent still arrives, the other side's sends fail.
func TestLooseClose(t *testing.T) {
	everyMode(t, func(t *testing.T, _ conecv1.DeliveryMode, _, _ *netio.Conn, a, b *netio.Stream) {
		t.Helper()
		mustSend(t, b, "not wanted")
		mustSend(t, a, "last")
		synctest.Wait()
		a.Close()
		if _, err := a.Receive(within(t)); !errors.Is(err, messages.ErrClosed) || netio.IsRemote(err) {
			t.Error(err)
		}
		synctest.Wait()
		if err := b.Send(within(t), []byte("x")); !errors.Is(err, messages.ErrClosed) || !netio.IsRemote(err) {
			t.Errorf("send after the other side's close: %v", err)
		}
		if err := b.TrySend([]byte("x")); !errors.Is(err, messages.ErrClosed) {
			t.Error(err)
		}
		if message, err := b.Receive(within(t)); string(message) != "last" || err != nil {
			t.Error(string(message), err)
		}
		if _, err := b.Receive(within(t)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		<-a.Ended() // b has nothing more to say
		<-b.Ended()
	})
}

func TestLooseReset(t *testing.T) {
	everyMode(t, func(t *testing.T, _ conecv1.DeliveryMode, ca, cb *netio.Conn, a, b *netio.Stream) {
		t.Helper()
		mustSend(t, a, "arrived")
		synctest.Wait()
		a.Reset(&messages.ResetError{Code: 7})
		synctest.Wait()
		if message, err := b.Receive(within(t)); string(message) != "arrived" || err != nil {
			t.Error(string(message), err)
		}
		for _, call := range []func() error{
			func() error { _, err := b.Receive(within(t)); return err },
			func() error { return b.Send(within(t), nil) },
		} {
			err := call()
			var reset *messages.ResetError
			if !errors.Is(err, messages.ErrReset) || !errors.As(err, &reset) || reset.Code != 7 || !netio.IsRemote(err) {
				t.Error(err)
			}
		}
		if _, err := a.Receive(within(t)); !errors.Is(err, messages.ErrReset) || netio.IsRemote(err) {
			t.Error(err)
		}
		<-a.Ended()
		<-b.Ended()
		openStream(t, ca, cb)
	})
}

// TestLooseConnectionEnds ends the connection under streams that wait.
func TestLooseConnectionEnds(t *testing.T) {
	everyMode(t, func(t *testing.T, _ conecv1.DeliveryMode, ca, _ *netio.Conn, a, b *netio.Stream) {
		t.Helper()
		mustSend(t, a, "arrived")
		synctest.Wait()
		received := make(chan error, 1)
		go func() {
			_, err := a.Receive(within(t))
			received <- err
		}()
		synctest.Wait()
		ca.Close(messages.ErrShutdown)
		if err := <-received; !errors.Is(err, messages.ErrShutdown) {
			t.Error(err)
		}
		<-a.Ended()
		<-b.Ended()
		if message, err := b.Receive(within(t)); string(message) != "arrived" || err != nil {
			t.Error(string(message), err)
		}
		if _, err := b.Receive(within(t)); !errors.Is(err, messages.ErrShutdown) || !netio.IsRemote(err) {
			t.Error(err)
		}
		if err := a.Send(within(t), nil); !errors.Is(err, messages.ErrShutdown) {
			t.Error(err)
		}
	})
}

func TestOneWay(t *testing.T) {
	for _, mode := range append([]conecv1.DeliveryMode{0}, modes...) {
		synctest.Test(t, func(t *testing.T) {
			ca, cb := connectEnds(t, nil, nil)
			open := delivery(mode)
			if open.OneWay = true; mode == 0 {
				open.Delivery = nil
			}
			a, b := openStreamAs(t, ca, cb, open)
			if err := b.Send(within(t), nil); !errors.Is(err, messages.ErrClosed) {
				t.Errorf("%v: the acceptor sends: %v", mode, err)
			}
			if _, err := a.Receive(within(t)); !errors.Is(err, io.EOF) {
				t.Errorf("%v: the opener receives: %v", mode, err)
			}
			mustSend(t, a, "there")
			if message, err := b.Receive(within(t)); string(message) != "there" || err != nil {
				t.Error(string(message), err)
			}
			a.CloseSend()
			if _, err := b.Receive(within(t)); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			<-a.Ended()
			<-b.Ended()
		})
	}
}

// TestDatagramSize sends what does not fit, and goes on.
func TestDatagramSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStreamAs(t, ca, cb, delivery(lossy))
		var size *messages.SizeError
		for _, send := range []func([]byte) error{func(m []byte) error { return a.Send(within(t), m) }, a.TrySend} {
			err := send(make([]byte, 5000))
			if !errors.As(err, &size) || size.Size != 5000 || size.Limit < 1100 || !errors.Is(err, messages.ErrTooLarge) {
				t.Fatal(err)
			}
			for _, fits := range []int{1100, size.Limit} {
				if err := send(make([]byte, fits)); err != nil {
					t.Errorf("%d bytes: %v", fits, err)
				}
				if message, err := b.Receive(within(t)); len(message) != fits || err != nil {
					t.Errorf("%d bytes: got %d, %v", fits, len(message), err)
				}
			}
			if err := send(make([]byte, size.Limit+1)); !errors.Is(err, messages.ErrTooLarge) {
				t.Error(err)
			}
		}
	})
}

// TestUnreadDatagrams has one reader that does not read: it loses its oldest messages, and nobody else's are lost.
func TestUnreadDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := &netio.Config{Limits: netio.Limits{ReceiveBuffer: 100 * (64 + 8)}}
		ca, cb := connectEnds(t, config, config)
		unread, idle := openStreamAs(t, ca, cb, delivery(lossy))
		used, busy := openStreamAs(t, ca, cb, delivery(lossy))
		const count = 1000
		for i := range uint64(count) {
			message := binary.BigEndian.AppendUint64(nil, i)
			for _, s := range []*netio.Stream{unread, used} {
				if err := s.Send(within(t), message); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := busy.Receive(within(t)); err != nil || binary.BigEndian.Uint64(got) != i {
				t.Fatal(i, got, err)
			}
		}
		unread.CloseSend()
		<-idle.ReceiveEnded()
		for i := uint64(count - 100); i < count; i++ {
			if got, err := idle.Receive(within(t)); err != nil || binary.BigEndian.Uint64(got) != i {
				t.Fatal(i, got, err)
			}
		}
		if _, err := idle.Receive(within(t)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if stats := idle.Stats(); stats.Dropped != count-100 || stats.Delivered != 100 || stats.Lost != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// TestUnreadUnordered fills streams that nobody reads: their senders block, and nobody else.
func TestUnreadUnordered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		used, usedIn := openStreamAs(t, ca, cb, delivery(unordered))
		ordered, orderedIn := openStream(t, ca, cb)
		const streams, size = 20, 10_000
		unread, sent := make([]*netio.Stream, streams), make([]int, streams)
		for i := range unread {
			var out *netio.Stream
			out, unread[i] = openStreamAs(t, ca, cb, delivery(unordered))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			for ; out.Send(ctx, make([]byte, size)) == nil; sent[i]++ {
			}
			cancel()
			if held := sent[i] * size; held < 500_000 || held > 1<<19+2*size { // both buffers
				t.Fatalf("stream %d took %d bytes", i, held)
			}
			if err := out.TrySend(make([]byte, size)); !errors.Is(err, messages.ErrWouldBlock) {
				t.Fatal(err)
			}
			out.CloseSend()
		}
		for range 200 {
			for _, pair := range [][2]*netio.Stream{{used, usedIn}, {ordered, orderedIn}} {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if err := pair[0].Send(ctx, make([]byte, 20_000)); err != nil {
					t.Fatalf("unread streams stop another one: %v", err)
				}
				if got, err := pair[1].Receive(ctx); len(got) != 20_000 || err != nil {
					t.Fatalf("unread streams stop another one: %v", err)
				}
				cancel()
			}
		}
		for i, in := range unread {
			got := 0
			for ; ; got++ {
				if _, err := in.Receive(within(t)); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if got != sent[i] {
				t.Errorf("stream %d: %d messages accepted, %d received", i, sent[i], got)
			}
		}
	})
}
