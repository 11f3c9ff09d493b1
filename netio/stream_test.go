package netio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

func TestStreamSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const largest = 3 << 20
		config := &netio.Config{Limits: netio.Limits{MaxMessage: largest}}
		ca, cb := connectEnds(t, config, config)
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		sizes := []int{0, 1, 1 << 10, 0, 64 << 10, 1 << 20, largest, 0, 1}
		for _, way := range []struct {
			name     string
			from, to *netio.Stream
		}{{"opener to acceptor", a, b}, {"acceptor to opener", b, a}} {
			sent := make(chan error, 1)
			go func() {
				for i, size := range sizes {
					if err := way.from.Send(ctx, make([]byte, largest+1)); !errors.Is(err, messages.ErrTooLarge) {
						sent <- fmt.Errorf("MaxMessage+1: %w", err)
						return
					}
					if err := way.from.Send(ctx, bytes.Repeat([]byte{byte(i + 1)}, size)); err != nil {
						sent <- err
						return
					}
				}
				way.from.CloseSend()
				sent <- nil
			}()
			for i, size := range sizes {
				got, err := way.to.Receive(ctx)
				if err != nil || len(got) != size || bytes.Count(got, []byte{byte(i + 1)}) != size && size > 0 {
					t.Fatalf("%s: message %d of %d bytes: got %d, %v", way.name, i, size, len(got), err)
				}
			}
			if _, err := way.to.Receive(ctx); !errors.Is(err, io.EOF) {
				t.Errorf("%s: after the last: %v", way.name, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		<-a.Ended()
		<-b.Ended()
	})
}

// TestStreamReceiverLimit has a receiver that allows less than the sender does.
func TestStreamReceiverLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, &netio.Config{Limits: netio.Limits{MaxMessage: 1000}})
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		for _, size := range []int{1000, 1001} {
			if err := a.Send(ctx, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := b.Receive(ctx); len(got) != 1000 || err != nil {
			t.Error(len(got), err)
		}
		if _, err := b.Receive(ctx); !errors.Is(err, messages.ErrTooLarge) || netio.IsRemote(err) {
			t.Errorf("receiver: %v", err)
		}
		if _, err := a.Receive(ctx); !errors.Is(err, messages.ErrTooLarge) || !netio.IsRemote(err) {
			t.Errorf("sender: %v", err)
		}
		<-a.Ended()
		<-b.Ended()
		if err := a.Send(ctx, nil); !errors.Is(err, messages.ErrTooLarge) || !netio.IsRemote(err) {
			t.Errorf("sender: %v", err)
		}
		openStream(t, ca, cb) // the channel is as good as before
	})
}

func TestStreamHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		if err := a.Send(ctx, []byte("last")); err != nil {
			t.Fatal(err)
		}
		a.CloseSend()
		a.CloseSend()
		if err := a.Send(ctx, []byte("later")); !errors.Is(err, net.ErrClosed) || netio.IsRemote(err) {
			t.Errorf("send after CloseSend: %v", err)
		}
		<-a.SendEnded()
		if got, err := b.Receive(ctx); string(got) != "last" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		for range 2 {
			if _, err := b.Receive(ctx); err != io.EOF { //nolint:errorlint // as a reader expects, it is not wrapped
				t.Errorf("after the last: %v", err)
			}
		}
		<-b.ReceiveEnded()
		if err := b.Send(ctx, []byte("answer")); err != nil {
			t.Errorf("the other direction: %v", err)
		}
		if got, err := a.Receive(ctx); string(got) != "answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		settle()
		select {
		case <-a.Ended():
			t.Error("ended while one direction is open")
		default:
		}
		b.Close()
		if _, err := a.Receive(ctx); !errors.Is(err, io.EOF) {
			t.Errorf("after the peer closed: %v", err)
		}
		<-a.Ended()
		<-b.Ended()
	})
}

func TestStreamClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		for i := range 100 {
			if err := errors.Join(a.Send(ctx, numbered(i)), b.Send(ctx, numbered(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := a.Receive(ctx); string(got) != "message 0" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		waiting := make(chan error, 1)
		b.CloseSend()
		settle() // all of b's messages and its end wait at a now
		a.Close()
		go func() {
			_, err := a.Receive(ctx)
			waiting <- err
		}()
		if err := <-waiting; !errors.Is(err, messages.ErrClosed) || netio.IsRemote(err) {
			t.Errorf("messages were dropped, but Receive says %v", err)
		}
		if err := a.Send(ctx, nil); !errors.Is(err, messages.ErrClosed) || netio.IsRemote(err) {
			t.Errorf("send after Close: %v", err)
		}
		for i := range 100 {
			if got, err := b.Receive(ctx); string(got) != string(numbered(i)) || err != nil {
				t.Fatalf("%d: %q, %v", i, got, err)
			}
		}
		if _, err := b.Receive(ctx); !errors.Is(err, io.EOF) {
			t.Errorf("after the last: %v", err)
		}
		<-a.Ended()
		<-b.Ended()
	})
}

// TestStreamCloseTellsSender closes one side while the other one still sends.
func TestStreamCloseTellsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		failed := make(chan error, 1)
		go func() {
			for {
				if err := b.Send(ctx, make([]byte, 10_000)); err != nil {
					failed <- err
					return
				}
			}
		}()
		settle() // it blocks
		a.Close()
		if err := <-failed; !errors.Is(err, messages.ErrClosed) || !netio.IsRemote(err) {
			t.Errorf("the sender got %v", err)
		}
		<-a.Ended()
		<-b.Ended()
	})
}

func TestStreamReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStream(t, ca, cb)
		other, otherIn := openStream(t, ca, cb)
		ctx := within(t)
		results := make(chan error, 2)
		go func() {
			_, err := b.Receive(ctx)
			results <- err
		}()
		go func() {
			for {
				if err := b.Send(ctx, make([]byte, 10_000)); err != nil {
					results <- err
					return
				}
			}
		}()
		settle()
		a.Reset(messages.ErrReset)
		for range 2 {
			if err := <-results; !errors.Is(err, messages.ErrReset) || !netio.IsRemote(err) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("the other side got %v", err)
			}
		}
		if _, err := a.Receive(ctx); !errors.Is(err, messages.ErrReset) || netio.IsRemote(err) {
			t.Errorf("receive after Reset: %v", err)
		}
		if err := a.Send(ctx, nil); !errors.Is(err, messages.ErrReset) || netio.IsRemote(err) {
			t.Errorf("send after Reset: %v", err)
		}
		<-a.Ended()
		<-b.Ended()
		if err := other.Send(ctx, []byte("still")); err != nil {
			t.Error(err)
		}
		if got, err := otherIn.Receive(ctx); string(got) != "still" || err != nil {
			t.Errorf("another stream: %q, %v", got, err)
		}
	})
}

func TestStreamRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		ctx := within(t)
		out, err := ca.OpenStream(ctx, &conecv1.OpenStream{})
		if err != nil {
			t.Fatal(err)
		}
		in, err := cb.AcceptStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = in.AwaitOpen(ctx); err != nil {
			t.Fatal(err)
		}
		in.Refuse(fmt.Errorf("%w: not before nine", messages.ErrRefused))
		err = out.AwaitAnswer(ctx)
		if !errors.Is(err, messages.ErrRefused) || !netio.IsRemote(err) || err.Error() != "refused: not before nine" {
			t.Errorf("opener: %v, remote %v", err, netio.IsRemote(err))
		}
		out.Close()
		<-in.Ended()
		<-out.Ended()
	})
}

// TestStreamAwaitCanceled gives up waiting for the other side's first frame.
func TestStreamAwaitCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		out, err := ca.OpenStream(within(t), &conecv1.OpenStream{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(within(t), time.Second)
		defer cancel()
		if err = out.AwaitAnswer(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("await: %v", err)
		}
		out.Reset(messages.ErrCanceled)
		in, err := cb.AcceptStream(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = in.Receive(within(t)); !errors.Is(err, messages.ErrCanceled) || !netio.IsRemote(err) {
			t.Errorf("acceptor: %v", err)
		}
		<-in.Ended()
		if _, err := cb.AcceptStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accept: %v", err)
		}
	})
}

// TestStreamPurposeInvalid opens a stream for something that protobuf can not say.
func TestStreamPurposeInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		if _, err := ca.OpenStream(within(t), &conecv1.OpenStream{Purpose: "\xff"}); err == nil {
			t.Error("no error")
		}
		openStream(t, cb, ca)
	})
}

// TestStreamsAreFreed opens many more streams, one after the other, than may be open at the same time, and ends them
// in every way there is.
func TestStreamsAreFreed(t *testing.T) {
	ways := map[string]func(out, in *netio.Stream){
		"opener closes":   func(out, in *netio.Stream) { out.Close(); <-in.ReceiveEnded(); settle(); in.Close() },
		"acceptor closes": func(out, in *netio.Stream) { in.Close(); <-out.ReceiveEnded(); settle(); out.Close() },
		"both close":      func(out, in *netio.Stream) { in.Close(); out.Close() },
		"half by half":    func(out, in *netio.Stream) { out.CloseSend(); in.CloseSend() },
		"opener resets":   func(out, in *netio.Stream) { out.Reset(messages.ErrReset); settle(); in.Close() },
		"acceptor resets": func(out, in *netio.Stream) { in.Reset(messages.ErrReset); settle(); out.Close() },
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := &netio.Config{MaxStreams: 2}
				ca, cb := connectEnds(t, config, config)
				for range 10 {
					out, in := openStream(t, ca, cb)
					end(out, in)
					<-out.Ended()
					<-in.Ended()
				}
			})
		})
	}
}

// TestStreamLimitBlocks opens more streams than the other side allows.
func TestStreamLimitBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, &netio.Config{MaxStreams: 2})
		if _, err := ca.OpenControl(within(t)); err != nil {
			t.Fatal(err)
		}
		var last *netio.Stream
		for range 2 {
			var err error
			if last, err = ca.OpenStream(within(t), nil); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(within(t), time.Second)
		defer cancel()
		if _, err := ca.OpenStream(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one too many: %v", err)
		}
		opened := make(chan error, 1)
		go func() {
			_, err := ca.OpenStream(within(t), nil)
			opened <- err
		}()
		last.Reset(messages.ErrCanceled)
		for range 3 {
			in, err := cb.AcceptStream(within(t))
			if err != nil {
				t.Fatal(err)
			}
			in.Close()
		}
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

// TestStreamConcurrentUse has many senders and receivers at both ends of one stream.
func TestStreamConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 8, 200
		ca, cb := connectEnds(t, nil, nil)
		a, b := openStream(t, ca, cb)
		ctx := within(t)
		for _, way := range [][2]*netio.Stream{{a, b}, {b, a}} {
			var sending, receiving sync.WaitGroup
			for s := range senders {
				sending.Go(func() {
					for i := range each {
						if err := way[0].Send(ctx, fmt.Appendf(nil, "%d/%d %0*d", s, i, i*37%9000, 0)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			var mu sync.Mutex
			got := map[[2]int]int{}
			for range senders {
				receiving.Go(func() {
					for {
						message, err := way[1].Receive(ctx)
						if errors.Is(err, io.EOF) {
							return
						}
						var s, i int
						if _, scanErr := fmt.Sscanf(string(message), "%d/%d", &s, &i); err != nil || scanErr != nil {
							t.Error(err, scanErr)
							return
						}
						mu.Lock()
						got[[2]int{s, i}]++
						mu.Unlock()
					}
				})
			}
			sending.Wait()
			way[0].CloseSend()
			receiving.Wait()
			for key, times := range got {
				if times != 1 {
					t.Errorf("message %v came %d times", key, times)
				}
			}
			if len(got) != senders*each {
				t.Errorf("%d different messages", len(got))
			}
		}
	})
}

// TestConnCloseEndsStreams closes a connection under streams in every state; one of them is full of messages that
// nobody reads.
func TestConnCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		ctx := within(t)
		full, fullIn := openStream(t, ca, cb)
		idle, idleIn := openStream(t, ca, cb)
		half, halfIn := openStream(t, ca, cb)
		half.CloseSend()
		blocked := make(chan error, 1)
		go func() {
			for {
				if err := full.Send(ctx, make([]byte, 5000)); err != nil {
					blocked <- err
					return
				}
			}
		}()
		settle()
		cb.Close(fmt.Errorf("%w: good night", messages.ErrShutdown))
		if err := <-blocked; !errors.Is(err, messages.ErrShutdown) || !netio.IsRemote(err) {
			t.Errorf("blocked sender: %v", err)
		}
		for _, s := range []*netio.Stream{full, idle, half, fullIn, idleIn, halfIn} {
			<-s.Ended() // though nobody reads what fullIn holds
		}
		if _, err := idle.Receive(ctx); !errors.Is(err, messages.ErrShutdown) || !netio.IsRemote(err) {
			t.Errorf("at the other side: %v", err)
		}
		if _, err := idleIn.Receive(ctx); !errors.Is(err, messages.ErrShutdown) || netio.IsRemote(err) {
			t.Errorf("at this side: %v", err)
		}
		n := 0
		for {
			got, err := fullIn.Receive(ctx)
			if err != nil {
				if !errors.Is(err, messages.ErrShutdown) {
					t.Errorf("after %d messages: %v", n, err)
				}
				break
			}
			if len(got) != 5000 {
				t.Errorf("%d bytes", len(got))
			}
			n++
		}
		if n == 0 {
			t.Error("what had arrived was dropped")
		}
		<-ca.Done()
		if err := ca.Err(); !errors.Is(err, messages.ErrShutdown) || !netio.IsRemote(err) || err.Error() != "peer is shutting down: good night" {
			t.Errorf("connection: %v", err)
		}
	})
}
