package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// TestCloseAfterTheOtherEnd closes a channel when the peer's direction of a stream is over, and ours is too but for what is still on a
// slow way: the peer receives all of it, whoever opened the stream.
func TestCloseAfterTheOtherEnd(t *testing.T) {
	for _, opens := range []bool{true, false} {
		t.Run(fmt.Sprintf("who closes has opened it: %v", opens), func(t *testing.T) {
			sim.Seeds(t, 5, nil, func(w *sim.World) {
				line := sim.Line{Latency: 10 * time.Millisecond, Rate: 200_000, Queue: 20_000, Loss: 0.02}
				w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
				p := &pair{w, w.Client(w.Host("alice", w.Internet(), line), nil), w.Client(w.Host("bob", w.Internet(), line), nil)}
				from, to := p.openTo()
				if !opens {
					from, to = to, from
				}
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
				defer cancel()
				to.CloseSend()
				if _, err := from.Receive(ctx); !errors.Is(err, io.EOF) {
					w.T.Errorf("the other end: %v", err)
				}
				const messages = 8
				received := make(chan error, 1)
				w.Go(func() {
					for n := 0; ; n++ {
						if _, err := to.Receive(ctx); err != nil {
							if !errors.Is(err, io.EOF) || n != messages {
								err = fmt.Errorf("after %d messages: %w", n, err)
							} else {
								err = nil
							}
							received <- err
							return
						}
					}
				})
				for range messages {
					if err := from.Send(ctx, make([]byte, 20_000)); err != nil {
						w.T.Fatal(err)
					}
				}
				from.CloseSend()
				if err := from.Channel().Close(ctx); err != nil {
					w.T.Errorf("close: %v", err)
				}
				if err := <-received; err != nil {
					w.T.Error(err)
				}
			})
		})
	}
}
