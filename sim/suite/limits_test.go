package suite_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

func TestLimitClients(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.Clients = 2 })
		alice, bob := w.client("alice"), w.client("bob")
		_, err := w.connect("carol")
		wantError(w.T, err, messages.ErrLimit, true, `attach to "`+w.config.Addr+`": by the other side: limit reached: 2 clients`)
		w.both(w.stream(alice, bob, nil))
		w.close(alice)
		w.attached(1)
		w.client("carol")
	})
}

// A client that has reached the limit can still be taken over by itself.
func TestLimitClientsAndTakeover(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.Clients = 1 })
		former := w.rawClient("alice")
		latter := w.dial(former.identity)
		latter.attach("alice")
		if err := former.heardEnd(); !errors.Is(err, messages.ErrSuperseded) {
			w.Errorf("the former attachment ended with %v, want superseded", err)
		}
		w.attached(1)
	})
}

func TestLimitChannelsPerClient(t *testing.T) {
	const limit = 3

	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.ChannelsPerClient = limit })
		alice, bob, carol := w.client("alice"), w.client("bob"), w.client("carol")
		var channels []*client.Channel
		for range limit {
			here, _ := w.channel(alice, bob, nil)
			channels = append(channels, here)
		}
		_, err := alice.OpenChannel(w.ctx, "carol", nil)
		wantError(w.T, err, messages.ErrLimit, false, `open channel to "carol": limit reached: "alice" has 3 channels`)
		_, err = carol.OpenStream(w.ctx, "bob", nil)
		wantError(w.T, err, messages.ErrLimit, false, `open stream to "bob": limit reached: "bob" has 3 channels`)
		err = w.coord.Introduce(w.ctx, "carol", "bob", "")
		if !errors.Is(err, messages.ErrLimit) {
			w.Errorf("introduce: %v, want limit", err)
		}
		w.both(w.stream(carol, carol, nil)) // others are not affected
		if err := channels[0].Close(w.ctx); err != nil {
			w.Fatal(err)
		}
		w.eventually("a free channel", func() bool { return w.coord.Stats().Channels == limit })
		w.both(w.stream(carol, bob, nil))
	})
}

func TestLimitPendingPerClient(t *testing.T) {
	const limit = 3

	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.PendingPerClient = limit })
		alice, bob := w.client("alice"), w.client("bob")
		silent := w.rawClient("carol")
		ctx, cancel := context.WithCancel(w.ctx)
		var all sync.WaitGroup
		for range limit {
			all.Go(func() {
				if _, err := alice.OpenChannel(ctx, "carol", nil); !errors.Is(err, context.Canceled) {
					w.Errorf("open channel to a silent peer: %v, want canceled", err)
				}
			})
		}
		for range limit {
			silent.hear()
		}
		_, err := alice.OpenChannel(w.ctx, "bob", nil)
		wantError(w.T, err, messages.ErrLimit, false, `open channel to "bob": limit reached: 3 channels of "alice" wait to be answered`)
		_, err = bob.OpenChannel(w.ctx, "carol", nil)
		wantError(w.T, err, messages.ErrLimit, false, `open channel to "carol": limit reached: 3 channels of "carol" wait to be answered`)
		w.both(w.stream(bob, bob, nil))
		cancel()
		all.Wait()
		w.eventually("nothing to wait", func() bool { return w.coord.Stats().Pending == 0 })
		w.both(w.stream(alice, bob, nil))
	})
}

// Peers can open so many channels to a client and no more.
func TestLimitMaxChannels(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob", func(c *client.Config) { c.MaxChannels = 2 })
		for range 2 {
			w.channel(alice, bob, nil)
		}
		_, err := alice.OpenChannel(w.ctx, "bob", nil)
		wantError(w.T, err, messages.ErrLimit, true, `open channel to "bob": by the other side: limit reached: 2 channels`)
		for range 2 { // the client itself may open as many again
			w.channel(bob, alice, nil)
		}
		_, err = bob.OpenChannel(w.ctx, "alice", nil)
		wantError(w.T, err, messages.ErrLimit, false, `open channel to "alice": limit reached: 4 channels`)
	})
}

// A stream beyond the peer's limit waits until another has ended.
func TestLimitMaxStreams(t *testing.T) {
	const limit = 4

	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob", func(c *client.Config) { c.MaxStreams = limit })
		var here, there [limit]*client.Stream
		for i := range limit {
			here[i], there[i] = w.stream(alice, bob, nil)
		}
		ctx, cancel := context.WithCancel(w.ctx)
		failed := make(chan error)
		go func() {
			_, err := alice.OpenStream(ctx, "bob", nil)
			failed <- err
		}()
		w.both(here[0], there[0]) // the others go on
		cancel()
		wantError(w.T, <-failed, context.Canceled, false, `open stream to "bob": context canceled`)
		go func() {
			_, err := alice.OpenStream(w.ctx, "bob", nil)
			failed <- err
		}()
		here[1].Close()
		there[1].Close()
		if err := <-failed; err != nil {
			w.Errorf("after another has ended: %v", err)
		}
		w.both(w.stream(bob, alice, nil)) // the other direction has a limit of its own
	})
}

// More streams than wait to be accepted are refused, and none of them is lost
// track of.
func TestLimitBacklog(t *testing.T) {
	const backlog, opens = 8, 40

	everywhere(t, func(w *world) {
		w.begin()
		alice, bob := w.client("alice"), w.client("bob", func(c *client.Config) { c.Backlog = backlog })
		var mu sync.Mutex
		opened, refused := 0, 0
		var all sync.WaitGroup
		for range opens {
			all.Go(func() {
				s, err := alice.OpenStream(w.ctx, "bob", nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					opened++
					s.CloseSend()
				case errors.Is(err, messages.ErrBusy):
					refused++
				default:
					w.Error(err)
				}
			})
		}
		all.Wait()
		if opened != backlog || refused != opens-backlog {
			w.Errorf("%d opened, %d refused, want %d and %d", opened, refused, backlog, opens-backlog)
		}
		for range opened {
			s, err := bob.AcceptStream(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			w.wantEnd(s)
		}
	})
}

// A rate limit slows a relayed channel down, and only what goes over the relay.
func TestLimitRelayRate(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.RelayRate = 1 << 20 })
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, &client.StreamOptions{Mode: client.RelayOnly})
		const count, size = 64, 8 << 10
		go func() {
			for i := range count {
				if err := here.Send(w.ctx, numbered(i, size)); err != nil {
					w.Error(err)
					return
				}
			}
		}()
		for i := range count {
			message, err := there.Receive(w.ctx)
			if err != nil || string(message) != string(numbered(i, size)) {
				w.Fatalf("message %d: %d bytes, %v", i, len(message), err)
			}
		}
		if dropped := w.coord.Stats().Relay.Dropped.RateLimited; dropped == 0 {
			w.Error("nothing was over the limit")
		}
		a, b := w.stream(alice, bob, &client.StreamOptions{Mode: client.DirectOnly})
		before := w.coord.Stats().Relay.Forwarded.Bytes
		w.send(a, string(make([]byte, 1<<20)))
		if _, err := b.Receive(w.ctx); err != nil {
			w.Fatal(err)
		}
		if grown := w.coord.Stats().Relay.Forwarded.Bytes - before; grown > 1<<19 {
			w.Errorf("a direct message of 1 MiB took %d bytes of the relay", grown)
		}
	})
}

// Config errors come before anything is started, all at once.
func TestConfigErrors(t *testing.T) {
	_, err := client.Connect(t.Context(), &client.Config{Name: "Alice", MaxStreams: -1})
	for _, want := range []string{"client config:", "Name", "Coordinator", "MaxStreams"} {
		if !contains(err, want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	_, err = coord.Start(t.Context(), &coord.Config{Addr: "nowhere", Limits: coord.Limits{Clients: -1}})
	for _, want := range []string{"coordinator config:", "Addr", "Limits.Clients"} {
		if !contains(err, want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	if errors.Is(err, messages.ErrLimit) {
		t.Errorf("%v is no limit", err)
	}
}

// So do those of addresses that cannot be had.
func TestBindErrors(t *testing.T) {
	const onlyLocal = "is about sockets that client and coordinator open themselves"
	everywhere(t, func(w *world) {
		w.begin()
		_, err := coord.Start(w.ctx, &coord.Config{Addr: w.config.Addr})
		if !contains(err, fmt.Sprintf("listen on %s", w.config.Addr)) {
			w.Errorf("address in use: %v", err)
		}
		_, err = w.connect("alice", func(c *client.Config) { c.Link, c.Bind = nil, "192.0.2.1:0" })
		if !contains(err, "bind to 192.0.2.1:0") {
			w.Errorf("address of another host: %v", err)
		}
		cl, err := w.connect("alice", func(c *client.Config) { c.Link, c.Bind = nil, "127.0.0.1:0" })
		if err != nil {
			w.Fatal(err)
		}
		if cl.LocalAddr().Addr() != home {
			w.Errorf("bound to %v, want %v", cl.LocalAddr(), home)
		}
	}, except(virtual, onlyLocal), except(netns, onlyLocal))
}
