package suite_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// Canceling any call that waits ends it, with the context's error. The test hangs
// if one does not.
func TestCancelWaits(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.AnswerTimeout = time.Hour })
		alice, bob := w.client("alice", func(c *client.Config) { c.OpenTimeout = time.Hour }), w.client("bob")
		silent := w.rawClient("carol")
		here, there := w.channel(alice, bob, nil)
		a, b := w.streamOn(here, there)
		full, _ := w.streamOn(here, there)
		fill(w, full)
		for name, test := range map[string]struct {
			call func(ctx context.Context) error
			text string
		}{
			"open channel": {func(ctx context.Context) error {
				_, err := alice.OpenChannel(ctx, "carol", nil)
				return err
			}, `open channel to "carol": context canceled`},
			"open stream": {func(ctx context.Context) error {
				_, err := alice.OpenStream(ctx, "carol", nil)
				return err
			}, `open stream to "carol": context canceled`},
			"accept channel": {func(ctx context.Context) error {
				_, err := alice.AcceptChannel(ctx)
				return err
			}, `accept channel: context canceled`},
			"accept stream": {func(ctx context.Context) error {
				_, err := alice.AcceptStream(ctx)
				return err
			}, `accept stream: context canceled`},
			"accept stream of a channel": {func(ctx context.Context) error {
				_, err := here.AcceptStream(ctx)
				return err
			}, `accept stream: context canceled`},
			"receive": {func(ctx context.Context) error {
				_, err := a.Receive(ctx)
				return err
			}, `receive to "bob": context canceled`},
			"send": {func(ctx context.Context) error {
				for { // a slow machine may have looked full
					if err := full.Send(ctx, make([]byte, 256<<10)); err != nil {
						return err
					}
				}
			}, `send to "bob": context canceled`},
			"introduce": {func(ctx context.Context) error {
				return w.coord.Introduce(ctx, "alice", "carol", "")
			}, `introduce "alice" to "carol": ask "conec/coordinator": context canceled`},
		} {
			ctx, cancel := context.WithCancel(w.ctx)
			failed := make(chan error)
			go func() { failed <- test.call(ctx) }()
			if test.text[0] == 'o' || test.text[0] == 'i' { // until the call waits for the peer
				silent.hear()
			}
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) || err.Error() != test.text {
				w.Errorf("%s: %v, want %s", name, err, test.text)
			}
			if test.text[0] == 'o' || test.text[0] == 'i' { // the peer is freed too
				if silent.hear().GetOfferWithdrawn() == nil {
					w.Errorf("%s: the offer was not withdrawn", name)
				}
			}
		}
		w.both(a, b)
		if err := here.Close(canceled(w)); !errors.Is(err, context.Canceled) {
			w.Errorf("close with a stream that is not read: %v, want canceled", err)
		}
		w.idle()
		w.both(w.stream(alice, bob, nil))
	})
}

func canceled(w *world) context.Context {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	return ctx
}

// fill sends until nothing more is taken.
func fill(w *world, s *client.Stream) {
	w.Helper()
	message := make([]byte, 64<<10)
	for {
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		err := s.Send(ctx, message)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return
		} else if err != nil {
			w.Fatal(err)
		}
	}
}

// A call whose context has ended before it began does nothing.
func TestCanceledBefore(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice")
		w.client("bob")
		ctx := canceled(w)
		if _, err := alice.OpenChannel(ctx, "bob", nil); !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
		if _, err := alice.OpenStream(ctx, "bob", nil); !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
		if n := w.coord.Stats().Introductions; n != 0 {
			w.Errorf("%d introductions", n)
		}
		config := w.clientConfig("carol")
		_, err := client.Connect(ctx, &config)
		if !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
		w.attached(2)
	})
}

// Opens that are canceled at any moment leave nothing, at either side or between.
func TestCancelOpensAnytime(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		w.echo(bob)
		var all sync.WaitGroup
		for i := range 100 {
			ctx, cancel := context.WithTimeout(w.ctx, time.Duration(i)*50*time.Microsecond)
			all.Go(func() {
				ch, err := alice.OpenChannel(ctx, "bob", nil)
				if err == nil {
					if err := ch.Close(w.ctx); err != nil {
						w.Errorf("close: %v", err)
					}
				} else if !errors.Is(err, context.DeadlineExceeded) {
					w.Error(err)
				}
			})
			all.Go(func() {
				s, err := alice.OpenStream(ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly})
				if err == nil {
					s.Close()
				} else if !errors.Is(err, context.DeadlineExceeded) {
					w.Error(err)
				}
			})
			if i%10 == 9 {
				all.Wait()
			}
			defer cancel()
		}
		all.Wait()
		s, err := alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly})
		if err != nil {
			w.Fatal(err)
		}
		w.send(s, "still here")
		w.want(s, "still here")
		if err := s.Channel().Close(w.ctx); err != nil {
			w.Fatal(err)
		}
		w.idle()
		for _, cl := range []*client.Client{alice, bob} {
			w.eventually("no channel at "+cl.Name(), func() bool { return cl.Actors().Stats().Actors == idleActors })
		}
	})
}

// The same, where the cancel comes while the call has hardly begun.
func TestCancelOpensAtOnce(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		for i := range 500 {
			ctx, cancel := context.WithCancel(w.ctx)
			go cancel()
			var err error
			if i%2 == 0 {
				var ch *client.Channel
				if ch, err = alice.OpenChannel(ctx, "bob", nil); err == nil {
					ch.Abort()
				}
			} else {
				var s *client.Stream
				if s, err = alice.OpenStream(ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly}); err == nil {
					s.Channel().Abort()
				}
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				w.Error(err)
			}
		}
		w.idle()
		for _, cl := range []*client.Client{alice, bob} {
			w.eventually("no channel at "+cl.Name(), func() bool { return cl.Actors().Stats().Actors == idleActors })
		}
	})
}

// idleActors is how many actors a client without channels has: itself, its home
// channel, and that one's control stream.
const idleActors = 3

// Connect that is canceled leaves no attachment.
func TestCancelConnect(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		for i := range 20 {
			ctx, cancel := context.WithTimeout(w.ctx, time.Duration(i)*200*time.Microsecond)
			config := w.clientConfig("alice")
			cl, err := client.Connect(ctx, &config)
			switch {
			case err == nil:
				w.close(cl)
			case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, messages.ErrNameTaken):
				w.Error(err)
			}
			cancel()
		}
		w.attached(0)
		w.client("alice")
	})
}
