package suite_test

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// traffic sends numbered messages until it is told to end, and checks at the
// other end that none is missing.
type traffic struct {
	w        *world
	received chan int // the number of each message
	count    atomic.Int64
	end      chan struct{}
	done     chan struct{}
}

func (w *world) traffic(from, to *client.Stream) *traffic {
	f := &traffic{w: w, received: make(chan int), end: make(chan struct{}), done: make(chan struct{})}
	w.background.Go(func() { f.send(from) })
	w.background.Go(func() { f.receive(to) })
	return f
}

func (f *traffic) send(from *client.Stream) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for i := 0; ; i++ {
		if err := from.Send(f.w.ctx, numbered(i, 100)); err != nil {
			f.fail("message %d: %v", i, err)
			return
		}
		select {
		case <-again.C:
			continue
		case <-f.end:
			from.CloseSend()
		case <-f.w.ctx.Done():
		}
		return
	}
}

func (f *traffic) receive(to *client.Stream) {
	defer close(f.done)
	defer close(f.received)
	i := 0
	for message, err := range to.Messages(f.w.ctx) {
		if err != nil || string(message) != string(numbered(i, 100)) {
			f.fail("message %d: %d bytes, %v", i, len(message), err)
			return
		}
		f.count.Add(1)
		select {
		case f.received <- i:
		default:
		}
		i++
	}
}

// fail reports what is wrong, unless the scenario is over.
func (f *traffic) fail(format string, args ...any) {
	if f.w.ctx.Err() == nil {
		f.w.Errorf(format, args...)
	}
}

// flows waits until n more messages have arrived.
func (f *traffic) flows(n int) {
	f.w.Helper()
	for range n {
		select {
		case _, ok := <-f.received:
			if !ok {
				f.w.Fatal("the traffic has ended")
			}
		case <-f.w.ctx.Done():
			f.w.Fatal("no message arrives")
		}
	}
}

// stop ends the traffic and waits until all of it has arrived.
func (f *traffic) stop() {
	f.w.Helper()
	close(f.end)
	select {
	case <-f.done:
	case <-f.w.ctx.Done():
		f.w.Fatal("the last message does not arrive")
	}
}

// Direct channels do not need the coordinator.
func TestDirectWithoutCoordinator(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events := newRecorder()
		alice, bob := w.client("alice", events.config), w.client("bob")
		here, there := w.stream(alice, bob, &client.StreamOptions{Mode: client.DirectOnly})
		running := w.traffic(here, there)
		running.flows(10)
		w.stop()
		if detached := await[client.Detached](w, events); detached.Final || !errors.Is(detached.Err, messages.ErrShutdown) {
			w.Errorf("detached %+v, want shutting down, and not final", detached)
		}
		running.flows(500)
		w.both(w.streamOnPeer(here, bob))
		running.stop()
		if path := here.Channel().Path(); path.Relayed || path.Remote != w.addr(bob) {
			w.Errorf("path %v", path)
		}
		if err := here.Channel().Close(w.ctx); err != nil {
			w.Errorf("close: %v", err)
		}
	})
}

// streamOnPeer opens another stream on the channel of one.
func (w *world) streamOnPeer(s *client.Stream, peer *client.Client) (a, b *client.Stream) {
	w.Helper()
	a, err := s.Channel().OpenStream(w.ctx, nil)
	if err != nil {
		w.Fatal(err)
	}
	if b, err = peer.AcceptStream(w.ctx); err != nil {
		w.Fatal(err)
	}
	return a, b
}

// Relayed channels stall while there is no coordinator, and go on without losing
// a message when one is back.
func TestCoordinatorRestart(t *testing.T) {
	for _, mode := range []client.Mode{client.RelayOnly, client.DirectOnly, client.Automatic} {
		t.Run(mode.String(), func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				events := newRecorder()
				alice, bob := w.client("alice", events.config), w.client("bob")
				await[client.Attached](w, events)
				here, there := w.stream(alice, bob, &client.StreamOptions{Mode: mode})
				to, back := w.traffic(here, there), w.traffic(there, here)
				for range 2 {
					to.flows(50)
					back.flows(50)
					w.stop()
					await[client.Detached](w, events)
					w.start()
					await[client.Attached](w, events)
					w.attached(2)
					to.flows(50)
					back.flows(50)
				}
				to.stop()
				back.stop()
				w.both(w.stream(bob, alice, &client.StreamOptions{Mode: mode})) // on the same channel
				if n := w.coord.Stats().Introductions; n != 0 {
					w.Errorf("%d introductions after the restart, want none", n)
				}
				w.client("carol")
				if _, err := w.connect("alice"); !errors.Is(err, messages.ErrNameTaken) {
					w.Errorf("the name after the restart: %v, want taken", err)
				}
				if err := here.Channel().Close(w.ctx); err != nil {
					w.Error(err)
				}
				w.idle()
			})
		})
	}
}

// What is asked for while there is no coordinator waits for it.
func TestOpenWhileDetached(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events := newRecorder()
		alice, bob := w.client("alice", events.config), w.client("bob")
		w.stop()
		await[client.Detached](w, events)
		opened := make(chan error)
		go func() {
			s, err := alice.OpenStream(w.ctx, "bob", nil)
			if err == nil {
				err = s.Send(w.ctx, []byte("waited"))
			}
			opened <- err
		}()
		for alice.Actors().Stats().Actors <= idleActors-1 { // until the call has made its channel
			<-time.After(time.Millisecond)
		}
		w.start()
		w.attached(2)
		err := <-opened
		if errors.Is(err, messages.ErrNoSuchPeer) {
			return // alice was faster than bob: it is free to say so
		}
		if err != nil {
			w.Fatal(err)
		}
		there, err := bob.AcceptStream(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		w.want(there, "waited")
	})
}

// A coordinator that lies about who it is, is not talked to: clients stay with
// the one that they pinned.
func TestImpostorCoordinator(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		events := newRecorder()
		alice, bob := w.client("alice", events.config), w.client("bob")
		here, there := w.stream(alice, bob, &client.StreamOptions{Mode: client.DirectOnly})
		w.stop()
		await[client.Detached](w, events)
		genuine := w.config.Identity
		impostor, err := netio.NewIdentity("localhost", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		w.config.Identity = impostor
		w.start()
		for !errors.Is(await[client.Detached](w, events).Err, messages.ErrUntrusted) {
		}
		w.both(here, there)
		if stats := w.coord.Stats(); stats.Attached != 0 {
			w.Errorf("%d clients attached to the impostor", stats.Attached)
		}
		w.stop()
		w.config.Identity = genuine
		w.start()
		await[client.Attached](w, events)
	})
}

// B11: what was said to a former attachment does not reach a new one of the same
// name.
func TestFormerAttachment(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.AnswerTimeout = time.Hour })
		silent := w.rawClient("bob")
		former := w.rawClient("alice")
		former.say(open(7, "bob"))
		offered := silent.hear().GetChannelOffered().GetIntroduction()
		if offered.GetPeer() != "alice" {
			w.Fatalf("offered %v", offered)
		}
		former.conn.Close(messages.ErrClosed)
		w.attached(1)
		latter := w.rawClient("alice")
		latter.say(open(7, "nobody")) // the same number for something else
		silent.say(answer(offered.GetChannel(), nil))
		if refused := latter.hear().GetOpenRefused(); refused.GetRequest() != 7 || !errors.Is(messages.FromCode(refused.GetCode(), ""), messages.ErrNoSuchPeer) {
			w.Errorf("the new attachment heard %v", refused)
		}
		if silent.hear().GetOfferWithdrawn() == nil {
			w.Error("the former attachment's offer was not withdrawn")
		}
		latter.say(open(8, "nobody"))
		if refused := latter.hear().GetOpenRefused(); refused.GetRequest() != 8 {
			w.Errorf("the new attachment heard %v, want the answer to its own request", refused)
		}
		w.idle()
	})
}

// Closing is an end, whatever is being waited for.
func TestCloseEndsCalls(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice")
		w.client("bob")
		failed := make(chan error)
		go func() {
			_, err := alice.AcceptStream(w.ctx)
			failed <- err
		}()
		go func() {
			_, err := alice.AcceptChannel(w.ctx)
			failed <- err
		}()
		s, err := alice.OpenStream(w.ctx, "bob", nil)
		if err != nil {
			w.Fatal(err)
		}
		go func() {
			_, err := s.Receive(w.ctx)
			failed <- err
		}()
		go func() {
			_, err := s.Channel().AcceptStream(w.ctx)
			failed <- err
		}()
		w.close(alice)
		for range 4 {
			if err := <-failed; !errors.Is(err, net.ErrClosed) {
				w.Errorf("%v, want closed", err)
			}
		}
	})
}
