package suite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

var modes = []client.Mode{client.Automatic, client.DirectOnly, client.RelayOnly}

// A stream carries messages one way. (Seed test 3; there are no stream ids to
// use twice.)
func TestStreamOneWay(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, &client.StreamOptions{Mode: client.RelayOnly, Purpose: "news"})
		if there.Peer() != "alice" || there.Purpose() != "news" || here.Peer() != "bob" || here.Purpose() != "news" {
			w.Errorf("stream from %q for %q, to %q for %q", there.Peer(), there.Purpose(), here.Peer(), here.Purpose())
		}
		w.send(here, "one", "", "three")
		here.CloseSend()
		w.want(there, "one", "", "three")
		w.wantEnd(there)
		w.wantEnd(there)
	})
}

// Streams carry messages both ways, in every mode, and say which path they take.
// (Seed tests 4 and 5: there the opener is not told which kind it got.)
func TestStreamBothWays(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				alice, bob := w.client("alice"), w.client("bob")
				events := newRecorder()
				carol := w.client("carol", events.config)
				for range 2 { // the second time on the same channel
					here, there := w.stream(alice, bob, &client.StreamOptions{Mode: mode})
					w.both(here, there)
					w.wantPath(mode, here, alice, bob, w.config.Addr)
					here.CloseSend()
					w.wantEnd(there)
					w.send(there, "after the other direction has ended")
					w.want(here, "after the other direction has ended")
					there.CloseSend()
					w.wantEnd(here)
				}
				if n := w.coord.Stats().Introductions; n != 1 {
					w.Errorf("%d introductions, want 1: the channel serves again", n)
				}
				if mode != client.Automatic {
					return
				}
				here, there := w.stream(carol, bob, nil)
				for path := await[client.PathChanged](w, events); path.Relayed; path = await[client.PathChanged](w, events) {
					w.both(here, there)
				}
				w.both(here, there)
				w.wantPath(client.DirectOnly, here, carol, bob, w.config.Addr)
			})
		})
	}
}

func (w *world) wantPath(mode client.Mode, s *client.Stream, from, to *client.Client, relay string) {
	w.Helper()
	path := s.Channel().Path()
	if path.Local != from.LocalAddr() {
		w.Errorf("path %v from %v", path, from.LocalAddr())
	}
	switch {
	case mode == client.DirectOnly && (path.Relayed || path.Remote != w.addr(to)):
		w.Errorf("path %v, want direct to %v", path, w.addr(to))
	case mode == client.RelayOnly && (!path.Relayed || path.Remote.String() != relay):
		w.Errorf("path %v, want relayed by %v", path, relay)
	case mode == client.DirectOnly && !strings.HasPrefix(path.String(), "direct "),
		mode == client.RelayOnly && !strings.HasPrefix(path.String(), "relayed "):
		w.Errorf("path reads %q", path)
	}
}

// A client that uses the relay only, does so for channels that peers open too,
// and shows no address.
func TestRelayOnlyClient(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice", func(c *client.Config) { c.RelayOnly = true }), w.client("bob")
		here, there := w.stream(bob, alice, nil)
		w.both(here, there)
		w.wantPath(client.RelayOnly, there, alice, bob, w.config.Addr)
		w.wantPath(client.RelayOnly, here, bob, alice, w.config.Addr)
		_, err := alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: client.DirectOnly})
		wantError(w.T, err, messages.ErrRefused, false, `open stream to "bob": refused: this client uses the relay only`)
		_, err = bob.OpenStream(w.ctx, "alice", &client.StreamOptions{Mode: client.DirectOnly})
		wantError(w.T, err, messages.ErrRefused, true, `open stream to "alice": by the other side: refused: this client uses the relay only`)
	})
}

// A sender that nobody reads is stopped before it fills the memory; nothing that
// it sent is lost, and it goes on when it is read. (Seed test 6.)
func TestBackpressure(t *testing.T) {
	for _, mode := range []client.Mode{client.RelayOnly, client.DirectOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				here, there := w.stream(w.client("alice"), w.client("bob"), &client.StreamOptions{Mode: mode})
				const size, most = 16 << 10, 1000 // 16 MB, where about 1 MB waits
				accepted := 0
				for ; accepted < most; accepted++ {
					// Whether it is blocked is asked by a deadline; a slow machine only ends this loop sooner.
					ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
					err := here.Send(ctx, numbered(accepted, size))
					cancel()
					if errors.Is(err, context.DeadlineExceeded) {
						break
					} else if err != nil {
						w.Fatal(err)
					}
				}
				if accepted == most {
					w.Fatalf("%d messages of %d bytes were accepted while nobody read", accepted, size)
				}
				const more = 500
				var all sync.WaitGroup
				all.Go(func() {
					for i := range more {
						if err := here.Send(w.ctx, numbered(accepted+i, size)); err != nil {
							w.Error(err)
							break
						}
					}
					here.CloseSend()
				})
				for i := range accepted + more {
					message, err := there.Receive(w.ctx)
					if err != nil || !bytes.Equal(message, numbered(i, size)) {
						w.Fatalf("message %d: %d bytes, %v", i, len(message), err)
					}
				}
				w.wantEnd(there)
				all.Wait()
			})
		})
	}
}

// numbered makes a message that tells its number.
func numbered(i, size int) []byte {
	message := make([]byte, size)
	binary.BigEndian.PutUint64(message, uint64(i))
	return message
}

// Many streams between the same two clients, all at once, each with its own
// order. (Seed test 7.)
func TestParallelStreams(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		w.echo(bob)
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() {
				s, err := alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: modes[n%len(modes)]})
				if err != nil {
					w.Error(err)
					return
				}
				for i := range 100 {
					if err := s.Send(w.ctx, fmt.Appendf(nil, "%d %d", n, i)); err != nil {
						w.Error(err)
						return
					}
				}
				s.CloseSend()
				for i := range 100 {
					if got, err := s.Receive(w.ctx); err != nil || string(got) != fmt.Sprintf("%d %d", n, i) {
						w.Errorf("stream %d, message %d: %q, %v", n, i, got, err)
						return
					}
				}
				if _, err := s.Receive(w.ctx); !errors.Is(err, io.EOF) {
					w.Errorf("stream %d: %v, want the end", n, err)
				}
			})
		}
		all.Wait()
		if n := w.coord.Stats().Introductions; n != len(modes) {
			w.Errorf("%d introductions, want one for each mode", n)
		}
	})
}

// A client may open streams to itself. (Seed test 8.)
func TestLoopback(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				alice := w.client("alice")
				here, there := w.stream(alice, alice, &client.StreamOptions{Mode: mode})
				if here.Peer() != "alice" || there.Peer() != "alice" {
					w.Errorf("peers %q and %q", here.Peer(), there.Peer())
				}
				w.both(here, there)
				w.close(alice)
				w.idle()
			})
		})
	}
}

// Messages of every size up to the limit arrive; a larger one is an error and
// the stream goes on.
func TestMessageSizes(t *testing.T) {
	const limit = 1 << 20

	everywhere(t, func(w *world) {
		w.begin()
		small := func(c *client.Config) { c.MaxMessage = limit }
		here, there := w.stream(w.client("alice", small), w.client("bob", small), nil)
		for _, size := range []int{0, 1, 127, 128, 1199, 1200, 16 << 10, 32<<10 - 1, 64 << 10, limit - 1, limit} {
			message := bytes.Repeat([]byte{byte(size), 7}, (size+1)/2)[:size]
			if err := here.Send(w.ctx, message); err != nil {
				w.Fatal(err)
			}
			if got, err := there.Receive(w.ctx); err != nil || !bytes.Equal(got, message) {
				w.Fatalf("message of %d bytes: received %d bytes, %v", size, len(got), err)
			}
		}
		err := here.Send(w.ctx, make([]byte, limit+1))
		wantError(w.T, err, messages.ErrTooLarge, false, `send to "bob": message too large: 1048577 bytes, limit 1048576`)
		w.both(here, there)
	})
}

// A message that is too large for the receiver ends its stream, and only that.
func TestMessageTooLargeForPeer(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob", func(c *client.Config) { c.MaxMessage = 100 })
		here, there := w.stream(alice, bob, nil)
		other, otherThere := w.stream(alice, bob, nil)
		w.send(here, strings.Repeat("x", 101))
		_, err := there.Receive(w.ctx)
		wantError(w.T, err, messages.ErrTooLarge, false, `receive to "alice": message too large: frame of 101 bytes, limit 100`)
		_, err = here.Receive(w.ctx)
		wantError(w.T, err, messages.ErrTooLarge, true, `receive to "bob": by the other side: message too large: 0 messages confirmed, 1 in doubt`)
		w.both(other, otherThere)
	})
}

// What ends a stream, and what the other side sees of it.
func TestStreamEnds(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")

		here, there := w.stream(alice, bob, nil)
		w.send(here, "last")
		here.Close()
		w.want(there, "last")
		w.wantEnd(there)
		for { // until the word has come
			if err := there.Send(w.ctx, []byte("x")); err != nil {
				wantError(w.T, err, messages.ErrClosed, true, `send to "alice": by the other side: closed`)
				break
			}
		}
		if _, err := here.Receive(w.ctx); !errors.Is(err, messages.ErrClosed) {
			w.Errorf("receive after close: %v", err)
		}

		here, there = w.stream(alice, bob, nil)
		here.Reset()
		_, err := there.Receive(w.ctx)
		wantError(w.T, err, messages.ErrReset, true, `receive to "alice": by the other side: reset by peer`)
		if err := here.Send(w.ctx, nil); !errors.Is(err, messages.ErrReset) {
			w.Errorf("send after reset: %v", err)
		}
	})
}

// Iterating ends with the peer's last message, or with an error.
func TestMessages(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, nil)
		w.send(here, "a", "b", "c")
		here.CloseSend()
		var got []string
		for message, err := range there.Messages(w.ctx) {
			if err != nil {
				w.Fatal(err)
			}
			got = append(got, string(message))
		}
		if strings.Join(got, "") != "abc" {
			w.Errorf("messages %q", got)
		}
		there.Reset()
		var last error
		for message, err := range here.Messages(w.ctx) {
			if last != nil {
				w.Errorf("message %q, %v after an error", message, err)
			}
			last = err
		}
		if !errors.Is(last, messages.ErrReset) {
			w.Errorf("iteration ended with %v, want reset", last)
		}
	})
}
