package netio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// sink is a QUIC stream whose Write takes what it gets when the test allows it.
type sink struct {
	mu      sync.Mutex
	allow   chan struct{} // nil: at once
	delay   func() time.Duration
	fail    error
	writes  [][]byte
	closed  int
	spoiled bool // a buffer changed during a write
}

func (s *sink) Write(b []byte) (int, error) {
	before := bytes.Clone(b)
	if s.allow != nil {
		<-s.allow
	}
	if s.delay != nil {
		<-time.After(s.delay())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	if s.closed > 0 {
		return 0, errors.New("write after close")
	}
	s.spoiled = s.spoiled || !bytes.Equal(before, b)
	s.writes = append(s.writes, before)
	return len(b), nil
}

func (s *sink) TryWriteAll([]byte) error { return quic.ErrWouldBlock }

func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// got returns the messages that were written.
func (s *sink) got(t *testing.T) [][]byte {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var frames conecv1.StreamFrames
	if err := proto.Unmarshal(slices.Concat(s.writes...), &frames); err != nil {
		t.Fatal(err)
	}
	return frames.GetMessages()
}

func newSink(limit int) (*sink, *outbox) {
	s := &sink{allow: make(chan struct{})}
	return s, newOutbox(s, &bufferPool{}, limit)
}

// TestOutboxGathers: what comes while a write runs goes into the next one.
func TestOutboxGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		for n := range 5 {
			if err := o.send(t.Context(), fmt.Append(nil, n)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		o.closeSend()
		for range 2 {
			s.allow <- struct{}{}
		}
		<-o.done
		if len(s.writes) != 2 || len(s.got(t)) != 5 || s.closed != 1 || o.total != 5 {
			t.Errorf("%d writes, %d messages, closed %d times", len(s.writes), len(s.got(t)), s.closed)
		}
		for _, err := range []error{o.send(t.Context(), nil), o.try(fieldMessages, nil)} {
			if !errors.Is(err, messages.ErrClosed) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("send after the end: %v", err)
			}
		}
	})
}

// TestOutboxBlocks fills the outbox, cancels what waits, and looks at what arrives.
func TestOutboxBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		body := make([]byte, 97) // 100 bytes with two for the length... the frame has 99
		accepted := 0
		start := time.Now()
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := o.send(ctx, append(body, byte(accepted)))
			cancel()
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				break
			}
			accepted++
			synctest.Wait()
		}
		if accepted != 11 || time.Since(start) != time.Second { // one is being written, ten wait
			t.Errorf("accepted %d, took %v", accepted, time.Since(start))
		}
		if err := o.try(fieldMessages, body); !errors.Is(err, messages.ErrLimit) {
			t.Errorf("try: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 5)
		for range cap(results) {
			go func() { results <- o.send(ctx, append(body, 255)) }()
		}
		synctest.Wait()
		cancel()
		for range cap(results) {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if len(o.space) != 0 {
			t.Errorf("%d senders are left in the queue", len(o.space))
		}
		close(s.allow)
		o.closeSend()
		<-o.done
		got := s.got(t)
		if len(got) != accepted {
			t.Errorf("%d messages accepted, %d written", accepted, len(got))
		}
		for n, message := range got {
			if message[len(body)] != byte(n) {
				t.Errorf("message %d is number %d", n, message[len(body)])
			}
		}
	})
}

// TestOutboxOversized sends a message that is larger than the limit: it goes alone.
func TestOutboxOversized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		go func() {
			for range 3 {
				s.allow <- struct{}{}
			}
		}()
		for _, size := range []int{1, 100_000, 1} {
			if err := o.send(t.Context(), make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		o.closeSend()
		<-o.done
		if len(s.got(t)) != 3 {
			t.Errorf("%d messages", len(s.got(t)))
		}
	})
}

// TestOutboxFair has one sender with a large message among many with small ones.
func TestOutboxFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		ctx, cancel := context.WithCancel(t.Context())
		var small sync.WaitGroup
		for range 8 {
			small.Go(func() {
				for o.send(ctx, make([]byte, 100)) == nil {
				}
			})
		}
		synctest.Wait()
		sent := make(chan error, 1)
		go func() { sent <- o.send(ctx, make([]byte, 950)) }()
		synctest.Wait()
		for range 3 { // writes until it is its turn
			s.allow <- struct{}{}
			synctest.Wait()
		}
		select {
		case err := <-sent:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the large message waits on")
		}
		cancel()
		small.Wait()
		close(s.allow)
		o.closeSend()
		<-o.done
	})
}

// TestOutboxFails has a stream that the other side ended: everybody is told.
func TestOutboxFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		s.fail = remoteError{messages.ErrReset}
		if err := o.send(t.Context(), make([]byte, 900)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		results := make(chan error, 5)
		for range cap(results) {
			go func() { results <- o.send(context.Background(), make([]byte, 900)) }()
		}
		synctest.Wait()
		s.allow <- struct{}{}
		<-o.done
		failed := 0
		for range cap(results) {
			if err := <-results; err != nil {
				failed++
				if !errors.Is(err, messages.ErrReset) || !IsRemote(err) {
					t.Error(err)
				}
			}
		}
		if failed != 4 { // one had found space
			t.Errorf("%d senders failed", failed)
		}
		o.closeSend()
		o.end(messages.ErrClosed)
		if err := o.try(fieldMessages, nil); !errors.Is(err, messages.ErrReset) || s.closed != 0 {
			t.Errorf("%v, closed %d times", err, s.closed)
		}
	})
}

// TestOutboxEnd ends sending in the middle of a write.
func TestOutboxEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newSink(1000)
		if err := o.send(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		o.end(messages.ErrReset)
		select {
		case <-o.done:
			t.Error("done while a write runs")
		default:
		}
		s.allow <- struct{}{}
		<-o.done
		if err := o.send(t.Context(), nil); !errors.Is(err, messages.ErrReset) || s.closed != 0 {
			t.Errorf("%v, closed %d times", err, s.closed)
		}
	})
}

// TestOutboxConcurrent has many senders with sizes that use all kinds of buffers, some of them canceled: exactly what
// was accepted is written, in order per sender, and no buffer is used again while it is written.
func TestOutboxConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders = 6
		s, o := newSink(100_000)
		s.allow = nil
		delays := rand.New(rand.NewPCG(7, 7))
		s.delay = func() time.Duration { return time.Duration(delays.IntN(20)) * time.Microsecond }
		var sending sync.WaitGroup
		var accepted [senders]int
		canceled := make([]int, senders)
		for n := range senders {
			random := rand.New(rand.NewPCG(uint64(n), 5))
			sending.Go(func() {
				for range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(30))*time.Microsecond)
					body := fmt.Appendf(nil, "%d %d ", n, accepted[n])
					body = append(body, bytes.Repeat([]byte{byte(n)}, randomSize(random))...)
					if err := o.send(ctx, body); err == nil {
						accepted[n]++
					} else {
						canceled[n]++
					}
					cancel()
					clear(body) // it is ours again
					if random.IntN(20) == 0 {
						<-time.After(100 * time.Microsecond) // let the pump end now and then
					}
				}
			})
		}
		sending.Wait()
		o.closeSend()
		<-o.done
		var got [senders]int
		for _, message := range s.got(t) {
			var n, i int
			if _, err := fmt.Sscanf(string(message[:min(20, len(message))]), "%d %d ", &n, &i); err != nil || i != got[n] {
				t.Fatalf("%q: %v, want number %d", message[:min(20, len(message))], err, got[n])
			}
			got[n]++
		}
		if got != accepted || s.spoiled || s.closed != 1 {
			t.Errorf("accepted %v, written %v, spoiled %v, closed %d times", accepted, got, s.spoiled, s.closed)
		}
		if slices.Max(canceled) == 0 {
			t.Error("no send was canceled: the test shows less than it says")
		}
	})
}
