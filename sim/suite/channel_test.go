package suite_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

// The seed's tests 15 and 16 hold that a stream needs a channel first, that a
// second channel is refused, and that a channel to oneself fails. Here a stream
// makes its channel, a second channel is another channel, and a client may have
// one to itself; what remains an error, is one.
func TestChannelErrors(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")

		_, err := alice.OpenChannel(w.ctx, "nobody", nil)
		wantError(w.T, err, messages.ErrNoSuchPeer, false, `open channel to "nobody": no such peer`)
		_, err = alice.OpenStream(w.ctx, "nobody", nil)
		wantError(w.T, err, messages.ErrNoSuchPeer, false, `open stream to "nobody": no such peer`)
		_, err = alice.OpenStream(w.ctx, "Bob", nil)
		wantError(w.T, err, messages.ErrNameInvalid, false, `open stream to "Bob": `+messages.CheckName("Bob").Error())
		long := string(make([]byte, messages.MaxPurpose+1))
		_, err = alice.OpenChannel(w.ctx, "bob", &client.ChannelOptions{Purpose: long})
		wantError(w.T, err, messages.ErrLimit, false, `open channel to "bob": limit reached: purpose of 256 bytes, at most 255`)
		_, err = alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Purpose: long})
		wantError(w.T, err, messages.ErrLimit, false, `open stream to "bob": limit reached: purpose of 256 bytes, at most 255`)

		here, there := w.channel(alice, bob, nil)
		if err := here.Close(w.ctx); err != nil {
			w.Error(err)
		}
		if err := here.Close(w.ctx); err != nil {
			w.Errorf("closing a closed channel: %v", err)
		}
		_, err = here.OpenStream(w.ctx, nil)
		wantError(w.T, err, messages.ErrClosed, false, `open stream to "bob": closed`)
		_, err = there.AcceptStream(w.ctx)
		wantError(w.T, err, messages.ErrClosed, false, `accept stream: closed`)
		w.idle()
	})
}

// Channels of the program's own lie beside the one that streams share, and say
// what they are for. (Seed test 16.)
func TestOwnChannels(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				alice, bob := w.client("alice"), w.client("bob")
				shared, sharedThere := w.stream(alice, bob, &client.StreamOptions{Mode: mode})
				acceptedShared, err := bob.AcceptChannel(w.ctx)
				if err != nil || acceptedShared.Peer() != "alice" || acceptedShared.Purpose() != "" {
					w.Fatalf("accepted %v, %v", acceptedShared, err)
				}
				var here, there [2]*client.Channel
				for i, purpose := range []string{"voice", "video"} {
					here[i], there[i] = w.channel(alice, bob, &client.ChannelOptions{Purpose: purpose, Mode: mode})
					if there[i].Purpose() != purpose || there[i].Peer() != "alice" || here[i].Purpose() != purpose {
						w.Errorf("accepted a channel of %q for %q, want %q", there[i].Peer(), there[i].Purpose(), purpose)
					}
				}
				a, b := w.streamOn(here[1], there[1])
				w.both(a, b)
				b, a = w.streamOn(there[0], here[0])
				w.both(a, b)
				if n := w.coord.Stats().Channels; n != 3 {
					w.Errorf("%d channels, want 3", n)
				}
				if err := here[0].Close(w.ctx); err != nil {
					w.Error(err)
				}
				w.wantEnd(b)
				w.both(shared, sharedThere)
				w.both(w.streamOn(here[1], there[1]))
				w.eventually("2 channels", func() bool { return w.coord.Stats().Channels == 2 })
			})
		})
	}
}

// Closing a channel ends its streams on both sides, and then either side can open
// another. (Seed test 17.)
func TestChannelClose(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.channel(alice, bob, nil)
		a, b := w.streamOn(here, there)
		w.both(a, b)
		ends := []<-chan struct{}{here.Done(), there.Done()}
		select {
		case <-ends[0]:
			w.Error("the channel has ended before it was closed")
		case <-ends[1]:
			w.Error("the other end has ended before it was closed")
		default:
		}
		if err := here.Close(w.ctx); err != nil {
			w.Fatal(err)
		}
		for _, end := range ends {
			<-end
		}
		w.wantEnd(b)
		for name, s := range map[string]*client.Stream{"closing": a, "other": b} {
			err := s.Send(w.ctx, nil)
			for err == nil { // until the word has come
				err = s.Send(w.ctx, nil)
			}
			if !errors.Is(err, net.ErrClosed) {
				w.Errorf("send on the %s side: %v, want closed", name, err)
			}
		}
		if _, err := a.Receive(w.ctx); !errors.Is(err, net.ErrClosed) {
			w.Errorf("receive on the closing side: %v, want closed", err)
		}
		there, here = w.channel(bob, alice, nil)
		w.both(w.streamOn(there, here))
		if err := here.Close(w.ctx); err != nil { // by the side that accepted it
			w.Fatal(err)
		}
		w.idle()
	})
}

// A client that accepts no channels can open them, and peers can open streams
// back on those. (Seed test 18.)
func TestNotAccepting(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice", func(c *client.Config) { c.NotAccepting = true })
		bob := w.client("bob")

		_, err := bob.OpenStream(w.ctx, "alice", nil)
		wantError(w.T, err, messages.ErrNotAccepting, false, `open stream to "alice": peer accepts no channels`)
		_, err = bob.OpenChannel(w.ctx, "alice", nil)
		wantError(w.T, err, messages.ErrNotAccepting, false, `open channel to "alice": peer accepts no channels`)

		here, there := w.channel(alice, bob, nil)
		w.both(w.streamOn(here, there))
		w.both(w.streamOn(there, here))
		w.both(w.stream(alice, bob, nil))
		w.both(w.stream(bob, alice, nil)) // on the channel that alice opened for its stream
		if n := w.coord.Stats().Introductions; n != 2 {
			w.Errorf("%d introductions, want 2", n)
		}
	})
}

// Path tells the way of the packets, also of a channel that is closed.
func TestPath(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.channel(alice, bob, &client.ChannelOptions{Mode: client.DirectOnly})
		w.both(w.streamOn(here, there))
		if path := here.Path(); path.Relayed || path.Remote != w.addr(bob) || path.RTT <= 0 || path.RTT > patience {
			w.Errorf("path %+v", path)
		}
		if err := here.Close(w.ctx); err != nil {
			w.Fatal(err)
		}
		if path := here.Path(); path.Remote.IsValid() || path.String() != "no path" {
			w.Errorf("path of a closed channel: %+v, %v", path, path)
		}
	})
}

// Events tell of channels and paths, in order.
func TestEvents(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events, others := newRecorder(), newRecorder()
		alice, bob := w.client("alice", events.config), w.client("bob", others.config)
		here, _ := w.channel(alice, bob, &client.ChannelOptions{Mode: client.DirectOnly})
		if opened := await[client.ChannelOpened](w, events); opened.Peer != "bob" {
			w.Errorf("opened %+v", opened)
		}
		if opened := await[client.ChannelOpened](w, others); opened.Peer != "alice" {
			w.Errorf("opened %+v", opened)
		}
		if err := here.Close(w.ctx); err != nil {
			w.Fatal(err)
		}
		for name, from := range map[string]recorder{"bob": events, "alice": others} {
			closed := await[client.ChannelClosed](w, from)
			if closed.Peer != name || closed.Restarting || !errors.Is(closed.Err, messages.ErrClosed) {
				w.Errorf("closed %+v, want %s, in order", closed, name)
			}
		}
		// One that never opened has not closed either.
		if _, err := alice.OpenChannel(w.ctx, "nobody", nil); err == nil {
			w.Error("a channel to nobody")
		}
		w.close(alice)
		for {
			select {
			case event := <-events:
				if closed, ok := event.(client.ChannelClosed); ok {
					w.Errorf("event %+v for a channel that never was", closed)
				}
				continue
			default:
			}
			break
		}
	})
}

// The coordinator's program hands two clients a channel to each other; both get
// it from AcceptChannel.
func TestIntroduce(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob")
		for range 3 {
			if err := w.coord.Introduce(w.ctx, "alice", "bob", "game 7"); err != nil {
				w.Fatal(err)
			}
			here, err := alice.AcceptChannel(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			there, err := bob.AcceptChannel(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			if here.Peer() != "bob" || there.Peer() != "alice" || here.Purpose() != "game 7" || there.Purpose() != "game 7" {
				w.Errorf("channels to %q for %q and to %q for %q", here.Peer(), here.Purpose(), there.Peer(), there.Purpose())
			}
			w.both(w.streamOn(here, there))
			w.both(w.streamOn(there, here))
			if err := there.Close(w.ctx); err != nil {
				w.Fatal(err)
			}
			w.idle()
		}
	})
}

// Whoever can not be introduced is named, and nobody is left with half a channel.
func TestIntroduceRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		w.client("alice")
		w.client("bob", func(c *client.Config) { c.NotAccepting = true })
		refusing := w.rawClient("carol")
		go func() {
			for {
				said, err := refusing.control.Receive()
				if err != nil {
					return
				}
				if intro := said.GetChannelOffered().GetIntroduction(); intro != nil {
					_ = refusing.control.Send(answer(intro.GetChannel(), errors.New("not before nine")))
				}
			}
		}()
		for _, test := range []struct {
			a, b string
			is   error
			text string
		}{
			{"alice", "nobody", messages.ErrNoSuchPeer, `introduce to "nobody": no such peer`},
			{"nobody", "alice", messages.ErrNoSuchPeer, `introduce to "nobody": no such peer`},
			{"alice", "bob", messages.ErrNotAccepting, `introduce to "bob": peer accepts no channels`},
			{"bob", "alice", messages.ErrNotAccepting, `introduce to "bob": peer accepts no channels`},
			{"alice", "carol", messages.ErrInternal, `introduce to "carol": by the other side: internal fault: not before nine`},
			{"carol", "alice", messages.ErrInternal, `introduce to "carol": by the other side: internal fault: not before nine`},
		} {
			err := w.coord.Introduce(w.ctx, test.a, test.b, "")
			var op *messages.OpError
			if !errors.Is(err, test.is) || !errors.As(err, &op) || op.Error() != test.text {
				w.Errorf("introduce %s to %s: %v, want %s", test.a, test.b, err, test.text)
			}
		}
		if err := w.coord.Introduce(w.ctx, "alice", "alice", string(make([]byte, 256))); !errors.Is(err, messages.ErrLimit) {
			w.Errorf("long purpose: %v, want limit", err)
		}
		w.idle()
	})
}

// A client may be introduced to itself: it accepts both ends.
func TestIntroduceToOneself(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice")
		if err := w.coord.Introduce(w.ctx, "alice", "alice", "mirror"); err != nil {
			w.Fatal(err)
		}
		here, err := alice.AcceptChannel(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		there, err := alice.AcceptChannel(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		w.both(w.streamOn(here, there))
	})
}

// Introduce gives up with its context, and with the clients.
func TestIntroduceGivesUp(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.AnswerTimeout = time.Hour })
		alice := w.client("alice")
		silent := w.rawClient("carol")

		ctx, cancel := context.WithCancel(w.ctx)
		failed := make(chan error, 1)
		go func() { failed <- w.coord.Introduce(ctx, "alice", "carol", "") }()
		silent.hear()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			w.Errorf("canceled: %v", err)
		}
		if silent.hear().GetOfferWithdrawn() == nil {
			w.Error("the offer was not withdrawn")
		}
		w.idle()

		go func() { failed <- w.coord.Introduce(w.ctx, "alice", "carol", "") }()
		silent.hear()
		w.close(alice)
		err := <-failed
		var op *messages.OpError
		if !errors.Is(err, messages.ErrNoSuchPeer) || !errors.As(err, &op) || op.Peer != "alice" {
			w.Errorf("a client left: %v, want no such peer, naming it", err)
		}
		w.idle()
	})
}
