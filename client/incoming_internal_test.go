package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

func channelOf(peer string) *channelRef {
	return &channelRef{Channel: &actors.Channel{Peer: peer, Accepted: true}}
}

// Channels come out in the order in which they came in, but for those that have
// ended meanwhile.
func TestIncomingChannels(t *testing.T) {
	i := newIncoming(1)
	alice, bob, carol := channelOf("alice"), channelOf("bob"), channelOf("carol")
	for _, channel := range []*channelRef{alice, bob, carol} {
		i.addChannel(channel)
	}
	i.dropChannel(bob)
	i.dropChannel(bob)
	for _, want := range []*channelRef{alice, carol} {
		if got, err := i.acceptChannel(t.Context()); err != nil || got != want {
			t.Errorf("accepted %v, %v, want %s", got, err, want.Peer)
		}
	}
	if len(i.channels) != 0 {
		t.Errorf("%d channels are left", len(i.channels))
	}
}

// Everybody who waits is woken by what it waits for, by its own context, and by
// the end.
func TestIncomingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIncoming(1)
		ended := &actors.Channel{}
		type accepted struct {
			peer string
			err  error
		}
		var mu sync.Mutex
		results := map[string]*accepted{}
		result := func(name string) *accepted {
			mu.Lock()
			defer mu.Unlock()
			return results[name]
		}
		accept := func(ctx context.Context, name string, call func(ctx context.Context) (string, error)) {
			go func() {
				peer, err := call(ctx)
				mu.Lock()
				defer mu.Unlock()
				results[name] = &accepted{peer, err}
			}()
			synctest.Wait()
			if result(name) != nil {
				t.Errorf("%s came from nowhere", name)
			}
		}
		channel := func(ctx context.Context) (string, error) {
			ref, err := i.acceptChannel(ctx)
			if err != nil {
				return "", err
			}
			return ref.Peer, nil
		}
		stream := func(of *actors.Channel) func(ctx context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				in, err := i.acceptStream(ctx, i.rest, of)
				return in.Peer, err
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		accept(ctx, "canceled channel", channel)
		accept(ctx, "canceled stream", stream(nil))
		accept(t.Context(), "stream", stream(nil))
		accept(t.Context(), "stream of a channel", stream(ended))
		accept(t.Context(), "channel", channel)
		want := func(name, peer string, is error) {
			t.Helper()
			synctest.Wait()
			got := result(name)
			if got == nil || got.peer != peer || !errors.Is(got.err, is) {
				t.Errorf("%s got %+v, want %q, %v", name, got, peer, is)
			}
		}
		cancel()
		want("canceled channel", "", context.Canceled)
		want("canceled stream", "", context.Canceled)
		i.addChannel(channelOf("alice"))
		want("channel", "alice", nil)
		if result("stream") != nil || result("stream of a channel") != nil {
			t.Error("a channel was taken for a stream")
		}
		i.end(messages.ErrClosed)
		i.end(messages.ErrInternal) // the first counts
		want("stream", "", messages.ErrClosed)
		want("stream of a channel", "", messages.ErrClosed)
		if err := i.offer(actors.Incoming{}, nil, i.rest); !errors.Is(err, messages.ErrClosed) {
			t.Errorf("a stream after the end: %v, want closed", err)
		}
	})
}

// What waits is still accepted after the end.
func TestIncomingAfterEnd(t *testing.T) {
	i := newIncoming(1)
	i.addChannel(channelOf("alice"))
	i.end(messages.ErrClosed)
	if ref, err := i.acceptChannel(t.Context()); err != nil || ref.Peer != "alice" {
		t.Errorf("accepted %v, %v, want alice", ref, err)
	}
	if _, err := i.acceptChannel(t.Context()); !errors.Is(err, messages.ErrClosed) {
		t.Errorf("then %v, want closed", err)
	}
}

// Events come one after the other; when too many wait, the newest are lost and
// counted.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Event
		begin := make(chan struct{})
		e := newEvents(func(event Event) {
			<-begin
			got = append(got, event)
		})
		const more = 10
		e.put(Attached{})
		synctest.Wait() // the first is being told
		for range maxEvents + more {
			e.put(ChannelOpened{Peer: "bob"})
		}
		close(begin)
		e.end()
		if len(got) != 1+maxEvents || e.lost.Load() != more {
			t.Errorf("%d events and %d lost, want %d and %d", len(got), e.lost.Load(), 1+maxEvents, more)
		}
		if got[0] != (Attached{}) || got[1] != (ChannelOpened{Peer: "bob"}) {
			t.Errorf("events begin with %v", got[:2])
		}
		none := newEvents(nil)
		none.put(Attached{})
		none.end()
	})
}
