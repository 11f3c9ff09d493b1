package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
)

// watching follows a watch, and notes what it tells.
type watching struct {
	w     *world
	watch *client.PeerWatch
	mu    sync.Mutex
	told  []string
	there map[string]client.PeerInfo
	ended error
}

// watches has a program watch peers from now on.
func (p *program) watches(pattern string) *watching {
	p.world.T.Helper()
	watch, err := p.Current().WatchPeers(pattern)
	p.world.must(err)
	w := &watching{w: p.world, watch: watch, there: map[string]client.PeerInfo{}}
	p.world.Go(w.follow)
	return w
}

func (w *watching) follow() {
	for {
		event, err := w.watch.Next(within(2 * time.Hour))
		w.mu.Lock()
		if err != nil {
			w.ended = err
			w.mu.Unlock()
			return
		}
		w.note(event)
		w.mu.Unlock()
	}
}

// note holds that the event fits those before.
func (w *watching) note(event client.PeerEvent) {
	text := event.Kind.String()
	if name := event.Peer.Name; name != "" {
		_, there := w.there[name]
		if want := event.Kind == client.PeerGone || event.Kind == client.PeerChanged; there != want && event.Kind != client.PeerBack {
			w.w.T.Errorf("%v of %s, which was there: %t", event.Kind, name, there)
		}
		if w.there[name] = event.Peer; event.Kind == client.PeerGone {
			delete(w.there, name)
		}
		text = name + " " + text
		if event.Kind == client.PeerBack {
			text += fmt.Sprintf(", process %t, key %t", event.SameProcess, event.SameKey)
		}
	}
	w.told = append(w.told, text)
}

// expect waits until so much was told, and checks it.
func (w *watching) expect(within time.Duration, what string, want ...string) {
	w.w.T.Helper()
	w.w.Eventually(within, what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.told) >= len(want)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		w.w.T.Errorf("%s: told %s, want %s", what, strings.Join(w.told, "; "), strings.Join(want, "; "))
	}
	w.told = nil
}

// TestPresence tells the life of a few peers.
func TestPresence(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, func(c *client.Config) {
			c.Metadata = map[string]string{"role": "sensor"}
		})
		all, some := alice.watches("*"), alice.watches("c*")
		all.expect(time.Second, "a list", "bob present", "listed")
		some.expect(time.Second, "an empty list", "listed")
		carol := w.client("carol", near, func(c *client.Config) { c.NotAccepting = true })
		all.expect(time.Second, "another", "carol present")
		some.expect(time.Second, "another", "carol present")
		if got := all.there["bob"]; got.Metadata["role"] != "sensor" || !got.Accepting || got.Instance == 0 || len(got.Key) != 32 {
			w.T.Errorf("bob is %+v", got)
		}
		if all.there["carol"].Accepting {
			w.T.Error("carol accepts channels")
		}
		w.must(bob.SetMetadata(map[string]string{"role": "actuator"}))
		all.expect(time.Second, "metadata", "bob changed")
		if got := all.there["bob"].Metadata["role"]; got != "actuator" {
			w.T.Errorf("bob is %q", got)
		}
		w.must(carol.Stop())
		all.expect(time.Second, "stopped", "carol gone")
		some.expect(time.Second, "stopped", "carol gone")
		w.must(carol.Start())
		all.expect(time.Second, "started again", "carol back, process false, key true")
		some.expect(time.Second, "started again", "carol back, process false, key true")
		carol.Crash()
		w.must(carol.Start())
		all.expect(time.Second, "took its name over", "carol back, process false, key true")
		list, err := bob.Peers(within(time.Second), "*")
		if err != nil || len(list) != 2 || list[0].Name != "alice" || list[1].Name != "carol" {
			w.T.Errorf("bob sees %v, %v", list, err)
		}
		some.watch.Close()
		w.Eventually(time.Second, "closed", func() bool { some.mu.Lock(); defer some.mu.Unlock(); return some.ended != nil })
	})
}
