package sim_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// TestDrain has a coordinator send its clients away: one after the other, with the reason, while a channel between two goes
// on. It takes nobody any more, and all come back to the one that is started in its place.
func TestDrain(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 4, nil)
		stream, err := h.clients[0].Current().OpenStream(h.soon(), "c1", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		in, err := h.clients[1].Current().AcceptStream(h.soon())
		if err != nil {
			w.T.Fatal(err)
		}
		w.Eventually(5*time.Second, "a direct path", func() bool { return !stream.Channel().Path().Relayed })
		var goneAt []time.Duration
		done := make(chan error)
		w.Go(func() { done <- h.hub.Drain(h.soon(), 4*time.Second) })
		for left := 3; left >= 0; left-- {
			w.Eventually(5*time.Second, "the next has gone", func() bool { return h.hub.Stats().Attached <= left })
			goneAt = append(goneAt, w.Elapsed())
		}
		if err := <-done; err != nil {
			w.T.Error(err)
		}
		if took := goneAt[3] - goneAt[0]; took < 2500*time.Millisecond || took > 4*time.Second {
			w.T.Errorf("they went within %v, not one after the other in 4 s: %v", took, goneAt)
		}
		<-time.After(10 * time.Second)
		if stats := h.hub.Stats(); stats.Attached != 0 || !stats.Draining {
			w.T.Errorf("who was sent away is back: %+v", stats)
		}
		told := func(e sim.Event) bool {
			gone, ok := e.Event.(client.Detached)
			return ok && errors.Is(gone.Err, messages.ErrShutdown)
		}
		for _, cl := range h.clients {
			if !slices.ContainsFunc(cl.Events(), told) {
				w.T.Errorf("%s was not told why", cl.Current().Name())
			}
		}
		if err := stream.Send(h.soon(), []byte("still here")); err != nil {
			w.T.Error(err)
		}
		if message, err := in.Receive(h.soon()); err != nil || string(message) != "still here" {
			w.T.Error(string(message), err)
		}
		h.hub.Start()
		w.Eventually(10*time.Second, "all are back", func() bool { return h.hub.Stats().Attached == 4 })
	})
}
