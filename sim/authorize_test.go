package sim_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// TestAuthorize refuses channels, streams by their purpose, and ways to actors, by who asks.
func TestAuthorize(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, carol := w.client("alice", near, nil), w.client("carol", near, nil)
		var mu sync.Mutex
		var asked []client.Request
		bob := w.client("bob", near, func(config *client.Config) {
			config.Authorize = func(_ context.Context, r client.Request) error {
				mu.Lock()
				asked = append(asked, r)
				mu.Unlock()
				switch {
				case r.Kind == client.ChannelRequest && r.Peer != "alice":
					return errors.New("only alice")
				case r.Kind == client.StreamRequest && r.Purpose == "secret", r.Kind == client.ActorsRequest:
					return errors.New("not for you")
				}
				return nil
			}
		})
		w.tryOpen(carol, "bob", messages.ErrRefused, "only alice", true)
		s, _ := w.open(alice, bob, &client.StreamOptions{Purpose: "open"})
		if _, err := s.Channel().OpenStream(within(time.Second), &client.StreamOptions{Purpose: "secret"}); !errors.Is(err, messages.ErrRefused) || !strings.Contains(err.Error(), "not for you") {
			w.T.Error(err)
		}
		greeter, err := bob.Actors().Spawn(bob.Actors().Props(func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) }), "greeter")
		w.must(err)
		bob.Actors().Export("greeter", greeter)
		sys := alice.Actors()
		if _, err := actors.Ask[*wrapperspb.StringValue](within(20*time.Second), sys, sys.PID("bob", "greeter"), wrapperspb.String("hello")); err == nil || errors.Is(err, context.DeadlineExceeded) {
			w.T.Errorf("an actor that is not reached: %v", err)
		}
		w.must(bob.Actors().SendWait(within(20*time.Second), bob.Actors().PID("carol", "nobody"), wrapperspb.String("x"))) // a channel of bob's own
		if _, err := carol.OpenStream(within(20*time.Second), "bob", &client.StreamOptions{Purpose: "secret"}); !errors.Is(err, messages.ErrRefused) {
			w.T.Errorf("on bob's channel: %v", err)
		}
		want := []string{"channel carol ", "channel alice ", "stream alice open", "stream alice secret", "actors alice ", "stream carol secret"}
		mu.Lock()
		defer mu.Unlock()
		for i, r := range asked {
			peer := map[string]*program{"alice": alice, "carol": carol}[r.Peer]
			if got := r.Kind.String() + " " + r.Peer + " " + r.Purpose; i >= len(want) || got != want[i] {
				w.T.Errorf("asked %d: %q", i, got)
			}
			if r.Fingerprint != peer.Fingerprint() || r.KeyFingerprint != peer.KeyFingerprint() || r.Certificate.Subject.CommonName != r.Peer {
				w.T.Errorf("%+v", r)
			}
		}
		if len(asked) < len(want) {
			w.T.Errorf("asked %d times", len(asked))
		}
	})
}

// TestAuthorizeBlocks has a program that takes its time: others are served meanwhile, and it
// hears when nobody waits any more.
func TestAuthorizeBlocks(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, carol := w.client("alice", near, nil), w.client("carol", near, nil)
		gone := make(chan time.Duration, 8)
		answer := make(chan error, 1)
		bob := w.client("bob", near, func(config *client.Config) {
			config.Authorize = func(ctx context.Context, r client.Request) error {
				if r.Peer != "carol" || r.Kind != client.ChannelRequest {
					return nil
				}
				began := time.Now()
				select {
				case err := <-answer:
					return err
				case <-ctx.Done():
					gone <- time.Since(began)
					return nil
				}
			}
		})
		opened := make(chan error, 1)
		open := func(limit time.Duration) {
			_, err := carol.OpenStream(within(limit), "bob", nil)
			opened <- err
		}
		go open(2 * time.Second)
		time.Sleep(time.Second)
		w.greet(alice, bob)
		if err := <-opened; !errors.Is(err, context.DeadlineExceeded) {
			w.T.Error(err)
		}
		if took := <-gone; took > 3*time.Second {
			w.T.Errorf("the program is told after %v that carol waits no longer", took)
		}
		go open(time.Minute)
		if took := <-gone; took < 9*time.Second || took > 12*time.Second {
			w.T.Errorf("after %v nobody waits", took)
		}
		if err := <-opened; !errors.Is(err, messages.ErrTimeout) {
			w.T.Error(err)
		}
		go open(time.Minute)
		time.Sleep(5 * time.Second)
		answer <- nil
		w.check(<-opened)
		go func() { _, _ = carol.OpenChannel(within(time.Minute), "bob", nil) }()
		time.Sleep(time.Second)
		w.coordinator.Stop() // it was the coordinator that asked
		if took := <-gone; took > 2*time.Second {
			w.T.Errorf("told after %v", took)
		}
		w.coordinator.Start()
		time.Sleep(5 * time.Second)
		bob.Current().Abort() // waits for the program, which hears of it
		<-gone
	})
}

// TestDistrustCrossing has two clients open to each other at the same time, of which one does
// not trust the other: both hear of it at once.
func TestDistrustCrossing(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice := w.client("alice", near, nil)
		bob := w.client("bob", near, func(config *client.Config) {
			config.Peers = map[string]string{"alice": netio.Fingerprint(nil)}
		})
		for offset := -60 * time.Millisecond; offset <= 60*time.Millisecond; offset += 5 * time.Millisecond {
			errs := make(chan error, 2)
			open := func(from *program, to string, after time.Duration) {
				time.Sleep(after)
				_, err := from.OpenStream(within(20*time.Second), to, nil)
				errs <- err
			}
			began := time.Now()
			go open(alice, "bob", max(offset, 0))
			go open(bob, "alice", max(-offset, 0))
			for range 2 {
				if err := <-errs; !errors.Is(err, messages.ErrUntrusted) {
					w.T.Errorf("%v apart: %v", offset, err)
				}
			}
			if took := time.Since(began); took > time.Second {
				w.T.Errorf("%v apart: took %v", offset, took)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestAuthorizeCrossing refuses a channel that the program wants itself meanwhile: it gets it.
func TestAuthorizeCrossing(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice := w.client("alice", near, nil)
		bob := w.client("bob", near, func(config *client.Config) {
			config.Authorize = func(_ context.Context, r client.Request) error {
				if r.Kind == client.StreamRequest {
					return nil
				}
				time.Sleep(time.Second)
				return errors.New("not now")
			}
		})
		opened := make(chan error, 1)
		go func() {
			_, err := alice.OpenStream(within(20*time.Second), "bob", nil)
			opened <- err
		}()
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		_, err := bob.OpenStream(within(20*time.Second), "alice", nil)
		w.check(err)
		w.check(<-opened)
		if took := time.Since(began); took > 2*time.Second {
			w.T.Errorf("took %v", took)
		}
		w.tryOpen(w.client("carol", near, nil), "bob", messages.ErrRefused, "not now", true)
	})
}

// TestAuthorizeCrossingWithdrawn takes back a channel that the other side is asked about and wants itself meanwhile: it gets its
// own, also if the coordinator has heard of the wish only after that.
func TestAuthorizeCrossingWithdrawn(t *testing.T) {
	for name, later := range map[string]time.Duration{"before": 500 * time.Millisecond, "as it is taken back": 990 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				alice := w.client("alice", near, nil)
				bob := w.client("bob", near, func(config *client.Config) {
					config.Authorize = func(ctx context.Context, r client.Request) error {
						if r.Kind == client.StreamRequest {
							return nil
						}
						<-ctx.Done()
						return ctx.Err()
					}
				})
				go func() {
					if _, err := alice.OpenStream(within(time.Second), "bob", nil); !errors.Is(err, context.DeadlineExceeded) {
						w.T.Error(err)
					}
				}()
				time.Sleep(later)
				began := time.Now()
				_, err := bob.OpenStream(within(30*time.Second), "alice", nil)
				w.check(err)
				if took := time.Since(began); took > 2*time.Second {
					w.T.Errorf("took %v", took)
				}
				time.Sleep(time.Minute)
				if n := w.coordinator.Stats().Channels; n != 1 {
					w.T.Errorf("the coordinator has %d channels, want 1", n)
				}
			})
		})
	}
}
