package netio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/messages"
)

// TestReceiveAll ends it in all ways: it returns when no message is being used any more, and what was not used can be received.
func TestReceiveAll(t *testing.T) {
	const count, until = 10, 4 // messages, and used before the end
	ours := errors.New("ours")
	for name, test := range map[string]struct {
		end  func(r *rig, cancel func())
		want error
		used [2]int // at least and at most
	}{
		"of the other side": {func(r *rig, _ func()) { r.ra.CloseSend() }, io.EOF, [2]int{count, count}},
		"of its channel":    {func(r *rig, _ func()) { r.lose(); r.channel(); r.attach(); r.ra.CloseSend() }, io.EOF, [2]int{count, count}},
		"reset":             {func(r *rig, _ func()) { r.ra.Reset(messages.ErrReset) }, messages.ErrReset, [2]int{until, count}},
		"closed":            {func(r *rig, _ func()) { r.rb.Close() }, messages.ErrClosed, [2]int{until, until}},
		"context":           {func(_ *rig, cancel func()) { cancel() }, context.Canceled, [2]int{until, until}},
		"an error":          {func(*rig, func()) {}, ours, [2]int{until, until}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1<<20)
				for n := range count {
					if err := r.ra.Send(within(t), fmt.Append(nil, n)); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithCancel(within(t))
				defer cancel()
				used, busy := []string{}, false
				hold := make(chan struct{})
				go func() {
					synctest.Wait()
					test.end(r, cancel)
					synctest.Wait()
					close(hold)
				}()
				err := r.rb.ReceiveAll(ctx, false, func(message []byte) error {
					busy = true
					defer func() { busy = false }()
					if used = append(used, string(message)); len(used) == until {
						<-hold
						if errors.Is(test.want, ours) {
							return ours
						}
					}
					return nil
				})
				if !errors.Is(err, test.want) || len(used) < test.used[0] || len(used) > test.used[1] || busy {
					t.Errorf("%v after %d messages, busy: %v; want %v after %d", err, len(used), busy, test.want, test.used)
				}
				for n := len(used); errors.Is(err, ours) || errors.Is(err, context.Canceled); n++ {
					if n == count {
						break
					}
					message, err := r.rb.Receive(within(t))
					if err != nil {
						t.Fatal(err)
					}
					used = append(used, string(message))
				}
				if want := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}[:len(used)]; !slices.Equal(used, want) {
					t.Errorf("got %q", used)
				}
				r.ra.Reset(messages.ErrReset)
				r.rb.Reset(messages.ErrReset)
			})
		})
	}
}
