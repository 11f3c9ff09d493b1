package sim_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// resumeLine is a line without faults.
var resumeLine = sim.Line{Latency: 5 * time.Millisecond}

// awaitLost waits until a client has lost a channel.
func (r *resumeWorld) awaitLost(c *sim.Client) {
	r.T.Helper()
	r.Eventually(time.Minute, "the channel is lost", func() bool { return losses(c) > 0 })
}

// mustSend sends a message.
func (r *resumeWorld) mustSend(e *resumeEnd) {
	r.T.Helper()
	if err := e.Send(r.ctx, numberedMessage(e.sent, 100)); err != nil {
		r.T.Fatal(err)
	}
	e.sent++
}

// TestResumeClientClose: a client that is closed while a stream is detached waits
// until what the stream keeps has arrived.
func TestResumeClientClose(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, resumeLine, nil)
		a, b := r.open()
		r.cut(8 * time.Second)
		r.awaitLost(r.alice)
		for range 5 {
			r.mustSend(a)
		}
		if err := r.alice.Close(r.ctx); err != nil {
			w.T.Errorf("close: %v", err)
		}
		b.receive(r.ctx)
		if b.err != nil || b.got != 5 {
			w.T.Errorf("received %d, %v", b.got, b.err)
		}
	})
}

// TestResumeChannelClose: closing the channel in order ends the stream on both
// sides; what was sent is read and confirmed.
func TestResumeChannelClose(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, resumeLine, nil)
		a, b := r.open()
		for range 5 {
			r.mustSend(a)
		}
		if err := a.Channel().Close(r.ctx); err != nil {
			w.T.Errorf("close: %v", err)
		}
		b.receive(r.ctx)
		if b.err != nil || b.got != 5 {
			w.T.Errorf("received %d, %v", b.got, b.err)
		}
		if err := a.Confirm(r.ctx); err != nil || a.Confirmed() != 5 {
			w.T.Errorf("confirmed %d, %v", a.Confirmed(), err)
		}
		<-time.After(100 * time.Millisecond) // bob has heard it, too
		for i, e := range []*resumeEnd{a, b} {
			if err := e.Send(r.ctx, nil); !errors.Is(err, messages.ErrClosed) {
				w.T.Errorf("end %d: send after the end: %v", i, err)
			}
		}
	})
}

// TestResumeWaitOver: a side that has waited too long gives the stream up, and the
// other one, which comes back later, learns of it.
func TestResumeWaitOver(t *testing.T) {
	tests := []struct {
		name       string
		alice, bob time.Duration
		want       [2]error // at alice's and at bob's end
	}{
		{"the acceptor gives up", 2 * time.Minute, 4 * time.Second, [2]error{messages.ErrNoSuchStream, messages.ErrUnreachable}},
		{"the opener gives up", 4 * time.Second, 40 * time.Second, [2]error{messages.ErrUnreachable, messages.ErrUnreachable}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				r := newResumeWorld(w, resumeLine, func(c *client.Config) {
					c.ResumeWait = map[string]time.Duration{"alice": test.alice, "bob": test.bob}[c.Name]
				})
				a, b := r.open()
				r.cut(20 * time.Second)
				r.mustSend(a)
				r.mustSend(b)
				for i, e := range []*resumeEnd{a, b} {
					err := e.Confirm(r.ctx)
					var doubt *messages.DoubtError
					if !errors.As(err, &doubt) || doubt.InDoubt != 1 || doubt.Confirmed != 0 || !errors.Is(err, test.want[i]) {
						w.T.Errorf("end %d: %v, want %v", i, err, test.want[i])
					}
				}
			})
		})
	}
}

// TestResumeLimit: more streams than allowed are refused, and those that have
// ended do not count.
func TestResumeLimit(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		const limit = 3
		r := newResumeWorld(w, resumeLine, func(c *client.Config) {
			if c.MaxResumable = limit; c.Name == "alice" {
				c.MaxResumable = -1
			}
		})
		options := &client.StreamOptions{Resumable: true}
		if _, err := r.bob.OpenStream(r.ctx, "alice", options); !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("to who allows none: %v", err)
		}
		for range 10 {
			var ends []*resumeEnd
			for range limit {
				a, b := r.open()
				ends = append(ends, a, b)
			}
			if _, err := r.alice.OpenStream(r.ctx, "bob", options); !errors.Is(err, messages.ErrLimit) {
				w.T.Errorf("one more: %v", err)
			}
			for _, e := range ends {
				e.Close()
			}
			for _, e := range ends[1:2] {
				if _, err := e.Receive(r.ctx); !errors.Is(err, messages.ErrClosed) && !errors.Is(err, io.EOF) {
					w.T.Errorf("after close: %v", err)
				}
			}
			<-time.After(100 * time.Millisecond) // both sides have said that they are done
		}
	})
}

// TestResumeToItself: a client may open a resumable stream to itself.
func TestResumeToItself(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, resumeLine, nil)
		a, b := r.openFrom(r.alice, r.alice)
		w.After(time.Second, func() { a.Channel().Abort() })
		r.run(300, 20*time.Millisecond, a, b)
	})
}

// TestResumePlain: what is only for resumable streams says so.
func TestResumePlain(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, resumeLine, nil)
		s, err := r.alice.OpenStream(r.ctx, "bob", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		if err := s.Confirm(r.ctx); !errors.Is(err, messages.ErrNotResumable) {
			w.T.Errorf("confirm: %v", err)
		}
	})
}

// TestResumeResetAnyTime: a stream may be reset by either side at any moment of its re-attachment: both sides' streams end,
// and others that are attached at the same time go on.
func TestResumeResetAnyTime(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 5
	}
	sim.Seeds(t, seeds, nil, func(w *sim.World) {
		r := newResumeWorld(w, resumeLine, nil)
		a, b := r.open()
		c, d := r.open()
		r.mustSend(a)
		r.mustSend(b)
		r.cut(5 * time.Second)
		r.awaitLost(r.alice)
		resets := []*resumeEnd{a, b}[w.Rand().IntN(2)]
		<-time.After(time.Duration(w.Rand().Int64N(int64(6 * time.Second))))
		resets.Reset()
		for _, e := range []*resumeEnd{a, b} {
			e.receive(r.ctx)
			if e.err == nil {
				w.T.Error("a stream that was reset ended in order")
			}
		}
		r.run(20, time.Millisecond, c, d)
	})
}
