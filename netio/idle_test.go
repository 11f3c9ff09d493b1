package netio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// TestTrySendIdle sends as it is done by who gathers: nobody waits for ever, however often the
// channel is lost, and everything arrives in order. What was received has its memory used again.
func TestTrySendIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count, losses = 2000, 4
		r := newRig(t, 1<<20)
		gathered := 0
		var given lender
		done := make(chan error, 2)
		go func() {
			idle := make(chan struct{}, 1)
			for n := 0; n < count; {
				message := fmt.Appendf(make([]byte, 0, 20<<10), "%d", n)
				if n%5 == 0 {
					if err := given.give(within(t), r.ra.Resumable, message[:cap(message)*(n/5%2)+len(message)*(1-n/5%2)]); err != nil {
						done <- fmt.Errorf("message %d: %w", n, err)
						return
					}
					n++
					continue
				}
				busy, err := r.ra.TrySendIdle(message[:cap(message)*(n%2)+len(message)*(1-n%2)], n%3 == 0, func() { idle <- struct{}{} })
				switch {
				case busy:
					gathered++
					select {
					case <-idle:
					case <-within(t).Done():
						done <- fmt.Errorf("message %d: idle was not called", n)
						return
					}
					continue
				case errors.Is(err, messages.ErrWouldBlock):
					err = r.ra.Send(within(t), message)
				}
				if err != nil {
					done <- fmt.Errorf("message %d: %w", n, err)
					return
				}
				n++
			}
			done <- nil
		}()
		come := make(chan int, count)
		go func() {
			n := 0
			err := r.rb.ReceiveAll(within(t), false, func(message []byte) error {
				if got := string(message[:min(len(message), len(fmt.Sprint(n)))]); got != fmt.Sprint(n) {
					return fmt.Errorf("%q instead of message %d", got, n)
				}
				come <- n
				if n++; n == count {
					return io.EOF
				}
				return nil
			})
			if n == count {
				err = nil
			}
			done <- err
		}()
		for n := range count {
			select {
			case <-come:
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				<-come
			}
			if n%(count/losses) == count/losses/2 {
				r.lose()
				r.channel()
				r.attach()
			}
		}
		if gathered == 0 {
			t.Error("nothing was being written ever")
		}
		if err := r.ra.Confirm(within(t)); err != nil || given.out.Load() != 0 {
			t.Errorf("%v; %d buffers were not given back", err, given.out.Load())
		}
		r.ra.Reset(messages.ErrReset)
		r.rb.Reset(messages.ErrReset)
	})
}

// lender gives memory to streams.
type lender struct{ out atomic.Int64 } // that is with them

// give sends a message in memory that is the stream's, and useless when it comes back.
func (l *lender) give(ctx context.Context, r *netio.Resumable, message []byte) error {
	buffer := append(make([]byte, netio.GiveRoom+3), message...)
	used := func() {
		l.out.Add(-1)
		clear(buffer)
	}
	l.out.Add(1)
	err := r.TryGive(buffer, netio.GiveRoom+3, used)
	if errors.Is(err, messages.ErrWouldBlock) {
		err = r.Give(ctx, buffer, netio.GiveRoom+3, used)
	}
	return err
}
