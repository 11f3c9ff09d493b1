package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
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
		if got := all.peer("bob"); got.Metadata["role"] != "sensor" || !got.Accepting || got.Instance == 0 || len(got.Key) != 32 {
			w.T.Errorf("bob is %+v", got)
		}
		if all.peer("carol").Accepting {
			w.T.Error("carol accepts channels")
		}
		w.must(bob.SetMetadata(map[string]string{"role": "actuator"}))
		all.expect(time.Second, "metadata", "bob changed")
		if got := all.peer("bob").Metadata["role"]; got != "actuator" {
			w.T.Errorf("bob is %q", got)
		}
		key := all.peer("bob").Key
		w.must(bob.SetIdentity(within(time.Second), identity(t, nil, netio.Order{Name: "bob"})))
		all.expect(time.Second, "another key", "bob changed")
		if got := all.peer("bob"); got.Key == key || got.Metadata["role"] != "actuator" {
			w.T.Errorf("bob is %+v with a new key", got)
		}
		w.must(bob.SetMetadata(map[string]string{"role": "actuator", "site": "roof"}))
		all.expect(time.Second, "metadata, with a new key", "bob changed")
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

// No peer flaps when the coordinator ends or crashes and is started again, though clients attach one after the other; who has
// left or changed meanwhile is told once.
func TestPresenceOverRestart(t *testing.T) {
	for name, restart := range map[string]func(w *world){
		"stopped": func(w *world) { w.coordinator.Stop(); <-time.After(3 * time.Second); w.coordinator.Start() },
		"crashed": func(w *world) { w.coordinator.Crash(); <-time.After(8 * time.Second); w.coordinator.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				for i := range 20 {
					w.client(fmt.Sprint("c", i), near, nil)
				}
				all := w.clients[0].watches("*")
				w.Eventually(time.Second, "a list", func() bool { return all.knows() == 19 })
				<-time.After(time.Second)
				all.clear()
				restart(w)
				all.expect(30*time.Second, "the coordinator is back", "coordinator away", "listed")
				<-time.After(time.Minute)
				all.expect(0, "all stayed")
				w.Go(func() {
					<-time.After(time.Second)
					w.clients[3].Crash()
					w.check(w.clients[4].Stop())
					<-time.After(10 * time.Second)
					w.clients[5].Crash()
					w.check(w.clients[5].Start())
				})
				restart(w)
				<-time.After(time.Minute)
				all.mu.Lock()
				slices.Sort(all.told)
				all.mu.Unlock()
				all.expect(0, "three changed", "c3 gone", "c4 gone", "c5 back, process false, key true", "coordinator away", "listed")
				w.must(w.clients[3].Start())
				all.expect(time.Second, "back after all", "c3 back, process false, key true")
				w.must(w.clients[4].Start())
			})
		})
	}
}

// A watcher whose own network was away for a while hears the difference, and keeps its place.
func TestPresenceOverOutage(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		alice, bob, carol := w.client("alice", near, nil), w.client("bob", near, nil), w.client("carol", near, nil)
		all := alice.watches("*")
		all.expect(time.Second, "a list", "bob present", "carol present", "listed")
		heal := w.Add(sim.Block(alice.Host(), w.hub))
		<-time.After(20 * time.Second)
		w.must(bob.Stop())
		w.must(bob.Start())
		w.must(carol.SetMetadata(map[string]string{"a": "b"}))
		w.client("dave", near, nil)
		<-time.After(5 * time.Second)
		all.expect(0, "away", "coordinator away")
		heal()
		all.expect(20*time.Second, "back", "bob back, process false, key true", "carol changed", "dave present", "listed")
		w.must(bob.Stop())
		all.expect(time.Second, "as before", "bob gone")
		w.must(bob.Start())
	})
}

// fence is a policy that can be told to hide clients from each other.
type fence struct {
	policy.AllowAll
	mu     sync.Mutex
	hidden map[string]bool // as in "alice bob": alice does not see bob
}

var errFence = errors.New("behind the fence")

// See implements policy.Policy.
func (f *fence) See(who, whom *policy.Subject) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hidden[who.Name+" "+whom.Name] {
		return errFence
	}
	return nil
}

func (f *fence) hide(pairs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hidden = map[string]bool{}
	for _, pair := range pairs {
		f.hidden[pair] = true
	}
}

// Who may not be seen is not there, and what the policy says later is told like any change.
func TestPresencePolicy(t *testing.T) {
	f := &fence{}
	f.hide("alice carol")
	inWorldWith(t, 1, func(c *coord.Config) { c.Policy = f }, func(w *world) {
		alice, bob, carol := w.client("alice", near, nil), w.client("bob", near, nil), w.client("carol", near, nil)
		all, other := alice.watches("*"), carol.watches("*")
		all.expect(time.Second, "a list", "bob present", "listed")
		other.expect(time.Second, "the other way", "alice present", "bob present", "listed")
		w.must(carol.SetMetadata(map[string]string{"a": "b"}))
		w.must(carol.Stop())
		w.must(carol.Start())
		other = carol.watches("*")
		other.expect(time.Second, "the other way", "alice present", "bob present", "listed")
		<-time.After(time.Second)
		all.expect(0, "hidden")
		f.hide("alice bob", "carol alice")
		w.must(w.coordinator.SetPolicy(context.Background(), f))
		all.expect(time.Second, "changed", "bob gone", "carol present")
		other.expect(time.Second, "changed", "alice gone")
		w.must(w.coordinator.SetPolicy(context.Background(), f))
		w.must(bob.SetMetadata(map[string]string{"a": "b"}))
		other.expect(time.Second, "not for others", "bob changed")
		f.hide()
		w.must(w.coordinator.SetPolicy(context.Background(), f))
		all.expect(time.Second, "seen again", "bob back, process true, key true")
		other.expect(time.Second, "seen again", "alice back, process true, key true")
	})
}

// What is over a limit is refused with a reason, and leaves the rest alone.
func TestPresenceLimits(t *testing.T) {
	inWorldWith(t, 1, func(c *coord.Config) { c.Limits.WatchesPerClient = 2 }, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		one, two, three := alice.watches("*"), alice.watches("bob"), alice.watches("x")
		w.Eventually(time.Second, "one too many", func() bool { three.mu.Lock(); defer three.mu.Unlock(); return three.ended != nil })
		var op *messages.OpError
		if err := three.ended; !errors.Is(err, messages.ErrLimit) || !errors.As(err, &op) || !op.Remote {
			w.T.Errorf("one too many: %v", err)
		}
		one.expect(time.Second, "the first", "bob present", "listed")
		if _, err := alice.Peers(within(time.Second), "*"); !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("a list is one more: %v", err)
		}
		two.watch.Close()
		if list, err := alice.Peers(within(time.Second), "b*"); err != nil || len(list) != 1 {
			w.T.Errorf("room again: %v, %v", list, err)
		}
		if _, err := alice.WatchPeers("["); !errors.Is(err, messages.ErrPatternInvalid) {
			w.T.Errorf("no pattern: %v", err)
		}
		large := map[string]string{"x": strings.Repeat("y", messages.MaxMetadata)}
		if err := bob.SetMetadata(large); !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("too large: %v", err)
		}
		for i := range 5000 { // a program that changes its mind all the time is attached all the same, and the last counts
			w.must(bob.SetMetadata(map[string]string{"x": strings.Repeat("y", 1000), "i": fmt.Sprint(i)}))
		}
		<-time.After(time.Second)
		if got := one.peer("bob").Metadata["i"]; got != "4999" {
			w.T.Errorf("published %q", got)
		}
		if n := one.clear(); n < 1 || n > 3 {
			w.T.Errorf("told %d times", n)
		}
		_, err := client.Connect(within(time.Second), &client.Config{Name: "x", Coordinator: "x", Metadata: large})
		if !errors.Is(err, messages.ErrLimit) {
			w.T.Errorf("a client with too much: %v", err)
		}
	})
}

// OnPeer has an actor for who is there, though nobody opens a channel.
func TestPeerActorsByPresence(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		hub := w.client("hub", near, nil)
		var mu sync.Mutex
		var told []string
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf(format, args...))
		}
		expect := func(what string, want ...string) {
			w.T.Helper()
			w.Eventually(40*time.Second, what, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) >= len(want) })
			<-time.After(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				w.T.Errorf("%s: told %q, want %q", what, told, want)
			}
			told = nil
		}
		w.must(hub.Actors().OnPeer(actors.PeerConfig{
			Present: "sensor-*", Leave: time.Minute,
			Props: func(string) *actor.Props {
				return actor.PropsFromFunc(func(ctx actor.Context) {
					switch msg := ctx.Message().(type) {
					case *actors.PeerPresent:
						note("%s present, again: %t, restarted: %t", msg.Peer, msg.Again, msg.Restarted)
					case *actors.PeerMetadata:
						note("%s publishes %v", msg.Peer, msg.Metadata)
					case *actors.PeerAbsent:
						note("%s absent", msg.Peer)
					case *actors.PeerLeft:
						note("%s left", msg.Peer)
					}
				})
			},
		}))
		sensor := w.client("sensor-1", near, func(c *client.Config) { c.Metadata = map[string]string{"site": "roof"} })
		w.client("display", near, nil)
		expect("there", "sensor-1 present, again: false, restarted: false", "sensor-1 publishes map[site:roof]")
		w.coordinator.Crash()
		<-time.After(5 * time.Second)
		w.coordinator.Start()
		<-time.After(time.Minute)
		expect("no flap over a restart of the coordinator")
		w.must(sensor.Stop())
		expect("stopped", "sensor-1 absent")
		w.must(sensor.Start())
		expect("another process", "sensor-1 present, again: true, restarted: true")
		w.must(sensor.Stop())
		expect("stopped", "sensor-1 absent")
		<-time.After(time.Minute)
		expect("for good", "sensor-1 left")
		if pid := hub.Actors().PeerActor("sensor-1"); pid != nil {
			w.T.Errorf("its actor is %v", pid)
		}
		w.must(sensor.Start())
		expect("another life", "sensor-1 present, again: false, restarted: false", "sensor-1 publishes map[site:roof]")
	})
}
