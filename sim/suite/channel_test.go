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
	w := newWorld(t)
	alice, bob := w.client("alice"), w.client("bob")

	_, err := alice.OpenChannel(w.ctx, "nobody", nil)
	wantError(t, err, messages.ErrNoSuchPeer, false, `open channel to "nobody": no such peer`)
	_, err = alice.OpenStream(w.ctx, "nobody", nil)
	wantError(t, err, messages.ErrNoSuchPeer, false, `open stream to "nobody": no such peer`)
	_, err = alice.OpenStream(w.ctx, "Bob", nil)
	wantError(t, err, messages.ErrNameInvalid, false, `open stream to "Bob": `+messages.CheckName("Bob").Error())
	long := string(make([]byte, messages.MaxPurpose+1))
	_, err = alice.OpenChannel(w.ctx, "bob", &client.ChannelOptions{Purpose: long})
	wantError(t, err, messages.ErrLimit, false, `open channel to "bob": limit reached: purpose of 256 bytes, at most 255`)
	_, err = alice.OpenStream(w.ctx, "bob", &client.StreamOptions{Purpose: long})
	wantError(t, err, messages.ErrLimit, false, `open stream to "bob": limit reached: purpose of 256 bytes, at most 255`)

	here, there := w.channel(alice, bob, nil)
	if err := here.Close(w.ctx); err != nil {
		t.Error(err)
	}
	if err := here.Close(w.ctx); err != nil {
		t.Errorf("closing a closed channel: %v", err)
	}
	_, err = here.OpenStream(w.ctx, nil)
	wantError(t, err, messages.ErrClosed, false, `open stream to "bob": closed`)
	_, err = there.AcceptStream(w.ctx)
	wantError(t, err, messages.ErrClosed, false, `accept stream: closed`)
	w.idle()
}

// Channels of the program's own lie beside the one that streams share, and say
// what they are for. (Seed test 16.)
func TestOwnChannels(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.client("alice"), w.client("bob")
			shared, sharedThere := w.stream(alice, bob, &client.StreamOptions{Mode: mode})
			acceptedShared, err := bob.AcceptChannel(w.ctx)
			if err != nil || acceptedShared.Peer() != "alice" || acceptedShared.Purpose() != "" {
				t.Fatalf("accepted %v, %v", acceptedShared, err)
			}
			var here, there [2]*client.Channel
			for i, purpose := range []string{"voice", "video"} {
				here[i], there[i] = w.channel(alice, bob, &client.ChannelOptions{Purpose: purpose, Mode: mode})
				if there[i].Purpose() != purpose || there[i].Peer() != "alice" || here[i].Purpose() != purpose {
					t.Errorf("accepted a channel of %q for %q, want %q", there[i].Peer(), there[i].Purpose(), purpose)
				}
			}
			a, b := w.streamOn(here[1], there[1])
			w.both(a, b)
			b, a = w.streamOn(there[0], here[0])
			w.both(a, b)
			if n := w.coord.Stats().Channels; n != 3 {
				t.Errorf("%d channels, want 3", n)
			}
			if err := here[0].Close(w.ctx); err != nil {
				t.Error(err)
			}
			w.wantEnd(b)
			w.both(shared, sharedThere)
			w.both(w.streamOn(here[1], there[1]))
			w.eventually("2 channels", func() bool { return w.coord.Stats().Channels == 2 })
		})
	}
}

// Closing a channel ends its streams on both sides, and then either side can open
// another. (Seed test 17.)
func TestChannelClose(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.client("alice"), w.client("bob")
	here, there := w.channel(alice, bob, nil)
	a, b := w.streamOn(here, there)
	w.both(a, b)
	if err := here.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.wantEnd(b)
	for name, s := range map[string]*client.Stream{"closing": a, "other": b} {
		err := s.Send(w.ctx, nil)
		for err == nil { // until the word has come
			err = s.Send(w.ctx, nil)
		}
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("send on the %s side: %v, want closed", name, err)
		}
	}
	if _, err := a.Receive(w.ctx); !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive on the closing side: %v, want closed", err)
	}
	there, here = w.channel(bob, alice, nil)
	w.both(w.streamOn(there, here))
	if err := here.Close(w.ctx); err != nil { // by the side that accepted it
		t.Fatal(err)
	}
	w.idle()
}

// A client that accepts no channels can open them, and peers can open streams
// back on those. (Seed test 18.)
func TestNotAccepting(t *testing.T) {
	w := newWorld(t)
	alice := w.client("alice", func(c *client.Config) { c.NotAccepting = true })
	bob := w.client("bob")

	_, err := bob.OpenStream(w.ctx, "alice", nil)
	wantError(t, err, messages.ErrNotAccepting, false, `open stream to "alice": peer accepts no channels`)
	_, err = bob.OpenChannel(w.ctx, "alice", nil)
	wantError(t, err, messages.ErrNotAccepting, false, `open channel to "alice": peer accepts no channels`)

	here, there := w.channel(alice, bob, nil)
	w.both(w.streamOn(here, there))
	w.both(w.streamOn(there, here))
	w.both(w.stream(alice, bob, nil))
	w.both(w.stream(bob, alice, nil)) // on the channel that alice opened for its stream
	if n := w.coord.Stats().Introductions; n != 2 {
		t.Errorf("%d introductions, want 2", n)
	}
}

// Path tells the way of the packets, also of a channel that is closed.
func TestPath(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.client("alice"), w.client("bob")
	here, there := w.channel(alice, bob, &client.ChannelOptions{Mode: client.DirectOnly})
	w.both(w.streamOn(here, there))
	if path := here.Path(); path.Relayed || path.Remote != bob.LocalAddr() || path.RTT <= 0 || path.RTT > patience {
		t.Errorf("path %+v", path)
	}
	if err := here.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	if path := here.Path(); path.Remote.IsValid() || path.String() != "no path" {
		t.Errorf("path of a closed channel: %+v, %v", path, path)
	}
}

// Events tell of channels and paths, in order.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	events, others := newRecorder(), newRecorder()
	alice, bob := w.client("alice", events.config), w.client("bob", others.config)
	here, _ := w.channel(alice, bob, &client.ChannelOptions{Mode: client.DirectOnly})
	if opened := await[client.ChannelOpened](w, events); opened.Peer != "bob" {
		t.Errorf("opened %+v", opened)
	}
	if opened := await[client.ChannelOpened](w, others); opened.Peer != "alice" {
		t.Errorf("opened %+v", opened)
	}
	if err := here.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]recorder{"bob": events, "alice": others} {
		closed := await[client.ChannelClosed](w, from)
		if closed.Peer != name || closed.Restarting || !errors.Is(closed.Err, messages.ErrClosed) {
			t.Errorf("closed %+v, want %s, in order", closed, name)
		}
	}
	// One that never opened has not closed either.
	if _, err := alice.OpenChannel(w.ctx, "nobody", nil); err == nil {
		t.Error("a channel to nobody")
	}
	w.close(alice)
	for {
		select {
		case event := <-events:
			if closed, ok := event.(client.ChannelClosed); ok {
				t.Errorf("event %+v for a channel that never was", closed)
			}
			continue
		default:
		}
		break
	}
}

// The coordinator's program hands two clients a channel to each other; both get
// it from AcceptChannel.
func TestIntroduce(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.client("alice"), w.client("bob")
	for range 3 {
		if err := w.coord.Introduce(w.ctx, "alice", "bob", "game 7"); err != nil {
			t.Fatal(err)
		}
		here, err := alice.AcceptChannel(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		there, err := bob.AcceptChannel(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if here.Peer() != "bob" || there.Peer() != "alice" || here.Purpose() != "game 7" || there.Purpose() != "game 7" {
			t.Errorf("channels to %q for %q and to %q for %q", here.Peer(), here.Purpose(), there.Peer(), there.Purpose())
		}
		w.both(w.streamOn(here, there))
		w.both(w.streamOn(there, here))
		if err := there.Close(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.idle()
	}
}

// Whoever can not be introduced is named, and nobody is left with half a channel.
func TestIntroduceRefused(t *testing.T) {
	w := newWorld(t)
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
			t.Errorf("introduce %s to %s: %v, want %s", test.a, test.b, err, test.text)
		}
	}
	if err := w.coord.Introduce(w.ctx, "alice", "alice", string(make([]byte, 256))); !errors.Is(err, messages.ErrLimit) {
		t.Errorf("long purpose: %v, want limit", err)
	}
	w.idle()
}

// A client may be introduced to itself: it accepts both ends.
func TestIntroduceToOneself(t *testing.T) {
	w := newWorld(t)
	alice := w.client("alice")
	if err := w.coord.Introduce(w.ctx, "alice", "alice", "mirror"); err != nil {
		t.Fatal(err)
	}
	here, err := alice.AcceptChannel(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	there, err := alice.AcceptChannel(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.both(w.streamOn(here, there))
}

// Introduce gives up with its context, and with the clients.
func TestIntroduceGivesUp(t *testing.T) {
	w := newWorld(t, func(c *coord.Config) { c.Limits.AnswerTimeout = time.Hour })
	alice := w.client("alice")
	silent := w.rawClient("carol")

	ctx, cancel := context.WithCancel(w.ctx)
	failed := make(chan error, 1)
	go func() { failed <- w.coord.Introduce(ctx, "alice", "carol", "") }()
	silent.hear()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if silent.hear().GetOfferWithdrawn() == nil {
		t.Error("the offer was not withdrawn")
	}
	w.idle()

	go func() { failed <- w.coord.Introduce(w.ctx, "alice", "carol", "") }()
	silent.hear()
	w.close(alice)
	err := <-failed
	var op *messages.OpError
	if !errors.Is(err, messages.ErrNoSuchPeer) || !errors.As(err, &op) || op.Peer != "alice" {
		t.Errorf("a client left: %v, want no such peer, naming it", err)
	}
	w.idle()
}
