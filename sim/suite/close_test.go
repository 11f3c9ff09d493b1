package suite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// Close lets the peer have everything that was sent before, even if it reads
// only after the channel has gone.
func TestCloseDrains(t *testing.T) {
	const count = 1000
	for _, mode := range []client.Mode{client.RelayOnly, client.DirectOnly, client.Automatic} {
		for _, what := range []string{"channel", "client"} {
			t.Run(mode.String()+" "+what, func(t *testing.T) {
				everywhere(t, func(w *world) {
					w.begin()
					alice, bob := w.client("alice"), w.client("bob")
					for round := range 5 {
						here, there := w.stream(alice, bob, &client.StreamOptions{Mode: mode})
						size := 1 + 70*round // 220 KB without the last: the peer takes that in unread
						for i := range count {
							if err := here.Send(w.ctx, numbered(i, 8+size)); err != nil {
								w.Fatal(err)
							}
						}
						read := make(chan struct{})
						if round == 4 { // more than that has to be read for Close to end
							go receiveAll(w, there, count, read)
						}
						if what == "channel" {
							if err := here.Channel().Close(w.ctx); err != nil {
								w.Fatal(err)
							}
							w.idle()
						} else {
							w.close(alice)
							w.attached(1)
							alice = w.client("alice")
						}
						if round < 4 {
							go receiveAll(w, there, count, read)
						}
						<-read
					}
				})
			})
		}
	}
}

func receiveAll(w *world, s *client.Stream, count int, done chan<- struct{}) {
	defer close(done)
	for i := range count {
		message, err := s.Receive(w.ctx)
		if err != nil || len(message) < 8 || string(message) != string(numbered(i, len(message))) {
			w.Errorf("message %d: %d bytes, %v", i, len(message), err)
			return
		}
	}
	if _, err := s.Receive(w.ctx); !errors.Is(err, io.EOF) {
		w.Errorf("after the last: %v, want the end", err)
	}
}

// A stream that is opened, used and closed at once, is received whole, whichever
// side opened it.
func TestCloseAtOnce(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		for i := range 100 {
			here, err := alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly})
			if err != nil {
				w.Fatal(err)
			}
			there, err := bob.AcceptStream(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			if i%2 == 1 {
				here, there = there, here
			}
			w.send(here, "last words")
			if err := here.Channel().Close(w.ctx); err != nil {
				w.Fatal(err)
			}
			w.want(there, "last words")
			w.wantEnd(there)
		}
		w.idle()
	})
}

// Both sides close at once. What the second to close had sent may be cut off, but
// does not look like an end in order; the first has everything.
func TestCloseBoth(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		whole := 0
		const rounds = 50
		for range rounds {
			a, b := w.stream(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
			for i := range 100 {
				w.send(a, fmt.Sprint(i))
				w.send(b, fmt.Sprint(i))
			}
			var all sync.WaitGroup
			for _, s := range []*client.Stream{a, b} {
				all.Go(func() {
					if err := s.Channel().Close(w.ctx); err != nil {
						w.Errorf("close: %v", err)
					}
				})
			}
			all.Wait()
			ends := 0
			for _, s := range []*client.Stream{a, b} {
				n, err := 0, error(nil)
				for message, e := range s.Messages(w.ctx) {
					if err = e; err == nil && string(message) != fmt.Sprint(n) {
						w.Fatalf("received %q, want %d", message, n)
					}
					n++
				}
				switch {
				case err == nil && n == 100:
					ends++
				case err == nil || !errors.Is(err, net.ErrClosed):
					w.Errorf("%d messages and then %v", n, err)
				}
			}
			if ends == 0 {
				w.Error("neither side has everything")
			}
			whole += ends - 1
		}
		if whole == 0 {
			w.Errorf("in %d rounds, never did both sides have everything", rounds)
		}
		w.idle()
	})
}

// Abort waits for nobody, and does not pretend to be an end in order.
func TestAbort(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, nil)
		fill(w, here) // a Close would wait for bob to read this
		alice.Abort()
		alice.Abort()
		if err := alice.Close(w.ctx); err != nil {
			w.Errorf("close after abort: %v", err)
		}
		w.attached(1)
		var last error
		for _, err := range there.Messages(w.ctx) {
			last = err
		}
		if !errors.Is(last, messages.ErrReset) || !errors.Is(last, net.ErrClosed) {
			w.Errorf("the peer's stream ended with %v, want reset", last)
		}
		for name, err := range map[string]error{
			"send": here.Send(w.ctx, nil), "receive": second(here.Receive(w.ctx)),
			"open stream": second(alice.OpenStream(w.ctx, "bob", nil)), "open channel": second(alice.OpenChannel(w.ctx, "bob", nil)),
			"accept stream": second(alice.AcceptStream(w.ctx)), "accept channel": second(alice.AcceptChannel(w.ctx)),
		} {
			if !errors.Is(err, net.ErrClosed) {
				w.Errorf("%s after abort: %v, want closed", name, err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// Abort of a channel ends it for good at both sides: nobody opens it again.
func TestAbortChannel(t *testing.T) {
	for _, by := range []string{"opener", "acceptor"} {
		t.Run(by, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				events := newRecorder()
				alice, bob := w.client("alice", events.config), w.client("bob")
				here, there := w.channel(alice, bob, nil)
				a, b := w.streamOn(here, there)
				w.both(a, b)
				if by == "opener" {
					here.Abort()
				} else {
					there.Abort()
				}
				for _, s := range []*client.Stream{a, b} {
					if _, err := s.Receive(w.ctx); !isOneOf(err, messages.ErrReset) {
						w.Errorf("receive: %v, want reset", err)
					}
				}
				if closed := await[client.ChannelClosed](w, events); closed.Restarting || !errors.Is(closed.Err, messages.ErrReset) {
					w.Errorf("event %+v, want the end, by reset", closed)
				}
				w.idle()
				w.both(w.stream(alice, bob, nil))
			})
		})
	}
}

// Close that may not wait any longer cuts the rest off and says so.
func TestCloseGivesUp(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, nil)
		fill(w, here)
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		defer cancel()
		if err := alice.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("close: %v, want deadline exceeded", err)
		}
		w.attached(1)
		var last error
		for _, err := range there.Messages(w.ctx) {
			last = err
		}
		if !errors.Is(last, net.ErrClosed) {
			w.Errorf("the peer's stream ended with %v, want cut off", last)
		}
	})
}

// Closing from many goroutines at once is like closing once.
func TestCloseOften(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.channel(alice, bob, nil)
		w.both(w.streamOn(here, there))
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := here.Close(w.ctx); err != nil {
					w.Errorf("close channel: %v", err)
				}
				if err := alice.Close(w.ctx); err != nil {
					w.Errorf("close: %v", err)
				}
				if err := w.coord.Close(w.ctx); err != nil {
					w.Errorf("close coordinator: %v", err)
				}
			})
		}
		all.Wait()
	})
}
