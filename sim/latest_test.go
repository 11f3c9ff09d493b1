package sim_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// TestLatest has a slow reader of the newest messages, on streams of every kind: with those that were skipped, it sees
// every message, in order, and it does not hold up the sender.
func TestLatest(t *testing.T) {
	for _, delivery := range []client.Delivery{client.Ordered, client.Sequenced} {
		sim.Test(t, nil, func(w *sim.World) {
			out, in := newPair(w).open(client.StreamOptions{Delivery: delivery})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			latest := client.NewLatest(in, 3)
			if _, _, err := latest.TryNext(); !errors.Is(err, messages.ErrWouldBlock) {
				w.T.Error(err)
			}
			const count = 5000
			for n := range uint64(count) {
				if err := out.Send(ctx, binary.BigEndian.AppendUint64(make([]byte, 0, 1000), n)[:1000]); err != nil {
					w.T.Fatal(err)
				}
				if n%100 == 50 {
					<-time.After(5 * time.Millisecond)
				}
			}
			out.CloseSend()
			<-time.After(5 * time.Second)
			synctest.Wait()
			stats := in.Stats() // the ring of a sequenced stream drops, too, if this machine is slow
			lost := stats.Lost + stats.Late + stats.Dropped
			next := uint64(0)
			for {
				message, skipped, err := latest.Next(ctx)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					w.T.Fatal(err)
				}
				next += skipped
				if got := binary.BigEndian.Uint64(message); got < next || got > next+lost {
					w.T.Fatalf("message %d after %d and %d lost", got, next, lost)
				}
				next++
			}
			if next+lost != count {
				w.T.Errorf("%v: saw %d, %d lost", delivery, next, lost)
			}
			if _, _, err := latest.Next(ctx); !errors.Is(err, io.EOF) {
				w.T.Error(err)
			}
			latest.Close()
		})
	}
}

// TestLatestEnds resets the stream under one who waits, and closes the reader under another.
func TestLatestEnds(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		pair := newPair(w)
		for _, end := range []struct {
			do   func(out *client.Stream, latest *client.Latest)
			want error
		}{
			{func(out *client.Stream, _ *client.Latest) { out.ResetWith(9) }, messages.ErrReset},
			{func(_ *client.Stream, latest *client.Latest) { latest.Close() }, messages.ErrClosed},
		} {
			out, in := pair.open(client.StreamOptions{})
			latest := client.NewLatest(in, 1)
			w.After(time.Second, func() { end.do(out, latest) })
			for range 2 {
				_, _, err := latest.Next(context.Background())
				if !errors.Is(err, end.want) {
					w.T.Errorf("%v, want %v", err, end.want)
				}
				if reset, ok := errors.AsType[*messages.ResetError](err); ok != (end.want == messages.ErrReset) || ok && reset.Code != 9 { //nolint:errorlint // it is one of the two above
					w.T.Error(err)
				}
			}
			latest.Close()
		}
	})
}

// TestAdmit refuses streams by what they ask for.
func TestAdmit(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
		alice := w.Client(w.Host("alice", w.Internet(), sim.Line{}), nil)
		bob := w.Client(w.Host("bob", w.Internet(), sim.Line{}), func(config *client.Config) {
			config.Admit = func(offer client.Offer) error {
				if offer.Peer != "alice" || offer.Purpose != "video" || offer.Delivery != client.Sequenced || offer.OneWay {
					return errors.New("only video for both")
				}
				return nil
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		options := client.StreamOptions{Purpose: "video", Delivery: client.Sequenced, Deadline: time.Second}
		if _, err := alice.OpenStream(ctx, "bob", &options); err != nil {
			w.T.Error(err)
		}
		in, err := bob.AcceptStream(ctx)
		if err != nil || in.Options() != (client.StreamOptions{Purpose: "video", Delivery: client.Sequenced, Deadline: time.Second}) {
			w.T.Error(in.Options(), err)
		}
		for _, refused := range []client.StreamOptions{
			{},
			{Purpose: "video"},
			{Purpose: "video", Delivery: client.Lossy},
			{Purpose: "video", Delivery: client.Sequenced, OneWay: true},
			{Purpose: "video", Resumable: true},
		} {
			_, err := alice.OpenStream(ctx, "bob", &refused)
			if want := `open stream to "bob": by the other side: refused: only video for both`; err == nil || err.Error() != want || !errors.Is(err, messages.ErrRefused) {
				w.T.Errorf("%v, want %s", err, want)
			}
		}
	})
}

// TestListen: streams with a purpose that somebody listens for go there, and are refused by what it says; others do not.
func TestListen(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		p := newPair(w)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		files, err := p.bob.Listen("files", &client.ListenOptions{Backlog: 1, Admit: func(offer client.Offer) error {
			if !offer.Resumable {
				return errors.New("files are resumable")
			}
			return nil
		}})
		if err != nil {
			w.T.Fatal(err)
		}
		chat, err := p.bob.Listen("chat", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		if _, err = p.bob.Listen("chat", nil); err == nil {
			w.T.Error("two listen for one purpose")
		}
		open := func(purpose string, want error) *client.Stream {
			s, err := p.alice.OpenStream(ctx, "bob", &client.StreamOptions{Purpose: purpose, Resumable: purpose == "files"})
			if !errors.Is(err, want) {
				w.T.Errorf("%q: %v, want %v", purpose, err, want)
			}
			return s
		}
		open("chat", nil)
		left := open("files", nil)
		open("files", messages.ErrBusy)
		open("other", nil)
		if _, err := p.alice.OpenStream(ctx, "bob", &client.StreamOptions{Purpose: "files"}); !errors.Is(err, messages.ErrRefused) {
			w.T.Error(err)
		}
		if s, err := chat.Accept(ctx); err != nil || s.Purpose() != "chat" {
			w.T.Error(err)
		}
		if s, err := p.bob.AcceptStream(ctx); err != nil || s.Purpose() != "other" {
			w.T.Error(err)
		}
		waits := make(chan error, 1)
		w.Go(func() { _, err := chat.Accept(ctx); waits <- err })
		<-time.After(time.Second)
		chat.Close()
		files.Close()
		if err := <-waits; !errors.Is(err, messages.ErrClosed) {
			w.T.Error(err)
		}
		if _, err := left.Receive(ctx); !errors.Is(err, messages.ErrRefused) {
			w.T.Error(err)
		}
		open("chat", nil)
		if s, err := p.bob.AcceptStream(ctx); err != nil || s.Purpose() != "chat" {
			w.T.Error(err)
		}
	})
}

// pair is two clients in a world.
type pair struct {
	w          *sim.World
	alice, bob *sim.Client
}

func newPair(w *sim.World) *pair {
	line := sim.Line{Latency: 5 * time.Millisecond}
	w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
	return &pair{w, w.Client(w.Host("alice", w.Internet(), line), nil), w.Client(w.Host("bob", w.Internet(), line), nil)}
}

// open opens a stream from alice to bob.
func (p *pair) open(options client.StreamOptions) (out, in *client.Stream) {
	p.w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := p.alice.OpenStream(ctx, "bob", &options)
	if err != nil {
		p.w.T.Fatal(err)
	}
	if in, err = p.bob.AcceptStream(ctx); err != nil {
		p.w.T.Fatal(err)
	}
	return out, in
}
