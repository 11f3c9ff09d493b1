package suite_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// B1: a closed channel can be opened again, in the same direction and the other,
// many times, by the program and by streams.
func TestReopen(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		for i := range 40 {
			from, to := alice, bob
			if i/2%2 == 1 {
				from, to = bob, alice
			}
			here, there := w.channel(from, to, &client.ChannelOptions{Mode: client.RelayOnly})
			w.both(w.streamOn(here, there))
			closing := here
			if i%3 == 0 {
				closing = there
			}
			if err := closing.Close(w.ctx); err != nil {
				w.Fatal(err)
			}
			a, b := w.stream(from, to, &client.StreamOptions{Mode: client.RelayOnly})
			if _, err := to.AcceptChannel(w.ctx); err != nil { // the next round wants its own
				w.Fatal(err)
			}
			w.both(a, b)
			if err := a.Channel().Close(w.ctx); err != nil {
				w.Fatal(err)
			}
		}
		w.idle()
	})
}

// B2: a channel may be closed, aborted and given up while it connects.
func TestCloseWhileConnecting(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		w.echo(bob)
		tries := 100
		if testing.Short() {
			tries = 30
		}
		for range tries {
			ctx, cancel := context.WithCancel(w.ctx)
			var all sync.WaitGroup
			all.Go(func() {
				s, err := alice.OpenStream(w.ctx, "bob", nil)
				if err == nil {
					s.Close()
				} else if !isOneOf(err, messages.ErrClosed, messages.ErrReset) {
					w.Errorf("open stream: %v", err)
				}
			})
			all.Go(func() {
				ch, err := alice.OpenChannel(ctx, "bob", nil)
				if err == nil {
					ch.Abort()
				} else if !errors.Is(err, context.Canceled) {
					w.Errorf("open channel: %v", err)
				}
			})
			all.Go(func() {
				ch, err := bob.AcceptChannel(w.ctx)
				if err != nil {
					w.Error(err)
					return
				}
				cancel()
				if err := ch.Close(w.ctx); !isOneOf(err, nil, messages.ErrReset, messages.ErrCanceled, messages.ErrUnreachable) {
					w.Errorf("close: %v", err)
				}
			})
			all.Wait()
			cancel()
		}
		w.useEcho(alice, bob)
		for {
			ctx, cancel := context.WithTimeout(w.ctx, 0)
			ch, err := bob.AcceptChannel(ctx)
			cancel()
			if err != nil {
				break
			}
			ch.Abort()
		}
	})
}

func isOneOf(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// useEcho opens a stream to a client that echoes, and uses it.
func (w *world) useEcho(from, to *client.Client) {
	w.Helper()
	s, err := from.OpenStream(w.ctx, to.Name(), nil)
	if err != nil {
		w.Fatal(err)
	}
	w.send(s, "echo")
	w.want(s, "echo")
	s.Close()
}

// B3: two clients that open streams to each other at once get one channel, which
// carries both.
func TestGlare(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		rounds := 200
		if testing.Short() {
			rounds = 60
		}
		options := &client.StreamOptions{Mode: client.RelayOnly}
		for i := range rounds {
			var toBob, toAlice *client.Stream
			var errBob, errAlice error
			begin := make(chan struct{})
			var all sync.WaitGroup
			all.Go(func() {
				<-begin
				toBob, errBob = alice.OpenStream(w.ctx, "bob", options)
			})
			all.Go(func() {
				<-begin
				toAlice, errAlice = bob.OpenStream(w.ctx, "alice", options)
			})
			close(begin)
			all.Wait()
			if errBob != nil || errAlice != nil {
				w.Fatalf("round %d: %v, %v", i, errBob, errAlice)
			}
			fromAlice, err := bob.AcceptStream(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			fromBob, err := alice.AcceptStream(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			w.both(toBob, fromAlice)
			w.both(toAlice, fromBob)
			if n := w.coord.Stats().Channels; n != 1 {
				w.Fatalf("round %d: %d channels, want 1", i, n)
			}
			closing := toBob
			if i%2 == 1 {
				closing = fromBob
			}
			if err := closing.Channel().Close(w.ctx); err != nil {
				w.Fatal(err)
			}
			w.idle()
		}
		if n := w.coord.Stats().Introductions; n != rounds {
			w.Errorf("%d introductions in %d rounds", n, rounds)
		}
	})
}

// Glare where both close and reopen without a pause: every stream works, or says
// that its channel was closed.
func TestGlareWithoutPause(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		var all sync.WaitGroup
		for _, pair := range [][2]*client.Client{{alice, bob}, {bob, alice}} {
			w.echo(pair[1])
			all.Go(func() {
				for range 50 {
					s, err := pair[0].OpenStream(w.ctx, pair[1].Name(), &client.StreamOptions{Mode: client.RelayOnly})
					if err != nil {
						if !errors.Is(err, messages.ErrClosed) {
							w.Error(err)
						}
						continue
					}
					if err := s.Send(w.ctx, []byte("x")); err == nil {
						_, _ = s.Receive(w.ctx)
					}
					if err := s.Channel().Close(w.ctx); err != nil {
						w.Errorf("close: %v", err)
					}
				}
			})
		}
		all.Wait()
		w.idle()
	})
}

// B4: all who wait for a channel to a peer that can not be reached hear why.
func TestManyOpensFail(t *testing.T) {
	for _, test := range []struct {
		peer string
		is   error
		text string
	}{
		{"nobody", messages.ErrNoSuchPeer, `open stream to "nobody": no such peer`},
		{"carol", messages.ErrNotAccepting, `open stream to "carol": peer accepts no channels`},
	} {
		t.Run(test.peer, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				alice := w.client("alice")
				w.client("carol", func(c *client.Config) { c.NotAccepting = true })
				var all sync.WaitGroup
				for range 200 {
					all.Go(func() {
						_, err := alice.OpenStream(w.ctx, test.peer, nil)
						wantError(w.T, err, test.is, false, test.text)
					})
				}
				all.Wait()
				w.idle()
			})
		})
	}
}

// B6: what was cut off does not look like an end in order.
func TestTruncationIsAnError(t *testing.T) {
	for _, mode := range []client.Mode{client.RelayOnly, client.DirectOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				alice, bob := w.client("alice"), w.client("bob")
				cutOff(w, "stream reset", mode, alice, bob, (*client.Stream).Reset)
				cutOff(w, "channel aborted", mode, alice, bob, func(s *client.Stream) { s.Channel().Abort() })
				cutOff(w, "client aborted", mode, alice, bob, func(*client.Stream) { alice.Abort() })
			})
		})
	}
}

func cutOff(w *world, name string, mode client.Mode, from, to *client.Client, cut func(*client.Stream)) {
	w.Helper()
	here, there := w.stream(from, to, &client.StreamOptions{Mode: mode})
	w.send(here, "first", "second")
	w.want(there, "first")
	cut(here)
	for i := 0; ; i++ {
		message, err := there.Receive(w.ctx)
		switch {
		case err == nil && i == 0 && string(message) == "second":
			continue // it may have arrived or not
		case err == nil:
			w.Fatalf("%s: received %q", name, message)
		case !errors.Is(err, messages.ErrReset) && !errors.Is(err, messages.ErrShutdown):
			w.Fatalf("%s: the receiver sees %v, want that it was cut off", name, err)
		}
		return
	}
}

// B10: what is granted is there. A stream that was opened has a reader, or there
// is an error; its first messages are not missed.
func TestGrantedIsThere(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		w.both(w.stream(alice, bob, nil))
		w.close(bob)
		w.attached(1)
		for range 3 {
			_, err := alice.OpenStream(w.ctx, "bob", nil)
			wantError(w.T, err, messages.ErrNoSuchPeer, false, `open stream to "bob": no such peer`)
		}
		bob = w.client("bob")
		for range 50 {
			s, err := alice.OpenStream(w.ctx, "bob", nil)
			if err != nil {
				w.Fatal(err)
			}
			w.send(s, "first")
			s.CloseSend()
			there, err := bob.AcceptStream(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			w.want(there, "first")
			w.wantEnd(there)
		}
	})
}

// B14: a program that accepts no streams makes openers fail, not hang.
func TestNobodyAccepts(t *testing.T) {
	const backlog = 4

	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob", func(c *client.Config) { c.Backlog = backlog })
		for range backlog {
			if _, err := alice.OpenStream(w.ctx, "bob", nil); err != nil {
				w.Fatal(err)
			}
		}
		for range 100 {
			_, err := alice.OpenStream(w.ctx, "bob", nil)
			wantError(w.T, err, messages.ErrBusy, true,
				`open stream to "bob": by the other side: peer is busy: 4 streams wait to be accepted`)
		}
		for range backlog {
			if _, err := bob.AcceptStream(w.ctx); err != nil {
				w.Fatal(err)
			}
		}
		w.both(w.stream(alice, bob, nil))
	})
}

// A peer that vanishes without a word is missed after the idle timeout.
func TestSilentPeer(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		quick := func(c *client.Config) { c.IdleTimeout, c.KeepAlive = time.Second, 200*time.Millisecond }
		alice := w.client("alice", quick)
		raw := w.rawClient("bob")
		opened := make(chan error, 1)
		var s *client.Stream
		go func() {
			var err error
			s, err = alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly})
			opened <- err
		}()
		conn, _ := raw.connect(raw.hear().GetChannelOffered().GetIntroduction())
		incoming, err := conn.AcceptStream(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := incoming.AwaitOpen(w.ctx); err != nil {
			w.Fatal(err)
		}
		if err := incoming.Accept(); err != nil {
			w.Fatal(err)
		}
		if err := <-opened; err != nil {
			w.Fatal(err)
		}
		raw.transport.Switch().Close() // from here on nothing is heard of it
		if _, err := s.Receive(w.ctx); !errors.Is(err, messages.ErrUnreachable) {
			w.Errorf("receive from a peer that vanished: %v, want unreachable", err)
		}
	}, slow("takes a second")...)
}
