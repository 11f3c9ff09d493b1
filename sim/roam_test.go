package sim_test

import (
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// deaf is a [netio.Watcher] that notices nothing.
type deaf struct{}

func (deaf) Watch(func(netio.Hint)) (func(), error) { return func() {}, nil }

// TestMovedHost has a host that goes to another network, in several situations. The client that is told of it
// is reached again soon, where one that is not takes long, which shows that the test can fail.
func TestMovedHost(t *testing.T) {
	relayOnly := &client.StreamOptions{Mode: client.RelayOnly}
	move := func(w *world, a *program) { w.must(a.Host().Move(w.Internet(), near)) }
	for _, test := range []struct {
		name string
		// play returns how long it took after the change until what the situation is about was well again.
		play func(w *world, a, b *program) time.Duration
		most time.Duration // with the monitor
		deaf time.Duration // at least, without
	}{
		{"idle, a message comes", func(w *world, a, b *program) time.Duration {
			near, far := w.open(a, b, relayOnly)
			w.say(near, far, "before", time.Second)
			<-time.After(3 * time.Second)
			move(w, a)
			began := w.Elapsed()
			<-time.After(direct) // the relay knows by then
			w.say(far, near, "after", 20*time.Second)
			return w.Elapsed() - began
		}, direct + relayed, time.Second},
		{"idle, a channel is opened", func(w *world, a, b *program) time.Duration {
			<-time.After(20500 * time.Millisecond)
			move(w, a)
			began := w.Elapsed()
			<-time.After(direct)
			near, far := w.open(b, a, nil)
			w.say(near, far, "after", 20*time.Second)
			return w.Elapsed() - began
		}, 600 * time.Millisecond, time.Second},
		{"relayed, messages flow", func(w *world, a, b *program) time.Duration {
			near, far := w.open(a, b, relayOnly)
			flows := w.flows(near, far, 20*time.Millisecond, 100)
			<-time.After(3 * time.Second)
			flows.measure()
			move(w, a)
			<-time.After(5 * time.Second)
			gap := flows.gap()
			w.check(flows.end())
			return gap
		}, relayed + direct + 50*time.Millisecond, 500 * time.Millisecond},
		{"direct, messages flow", func(w *world, a, b *program) time.Duration {
			near, far := w.open(a, b, nil)
			flows := w.flows(near, far, 20*time.Millisecond, 100)
			w.direct(10*time.Second, near, far)
			<-time.After(3 * time.Second)
			flows.measure()
			move(w, a)
			<-time.After(5 * time.Second)
			gap := flows.gap()
			w.direct(10*time.Second, near, far)
			w.check(flows.end())
			return gap
		}, 400 * time.Millisecond, 600 * time.Millisecond}, // the peer has to find out, too
	} {
		t.Run(test.name, func(t *testing.T) {
			var took [2]time.Duration
			for i, watcher := range []netio.Watcher{nil, deaf{}} {
				inWorld(t, 1, func(w *world) {
					a := w.client("a", near, func(c *client.Config) { c.Watcher = watcher })
					took[i] = test.play(w, a, w.client("b", near, nil))
				})
			}
			t.Logf("took %v, without being told %v", took[0], took[1])
			if took[0] > test.most || took[1] < test.deaf {
				t.Errorf("took %v, want at most %v; without being told %v, want at least %v", took[0], test.most, took[1], test.deaf)
			}
		})
	}
}

// byHand is a [netio.Watcher] whose hints a test gives.
type byHand struct{ hint func(netio.Hint) }

func (h *byHand) Watch(hint func(netio.Hint)) (func(), error) {
	h.hint = hint
	return func() {}, nil
}

// TestSlept has a client wake up whose coordinator has given it up, which is here one that was started anew. It attaches
// again at once; if it is not told that it slept, it finds out when QUIC keeps itself alive the next time.
func TestSlept(t *testing.T) {
	for _, test := range []struct {
		told        bool
		least, most time.Duration
	}{
		{true, 0, 500 * time.Millisecond},
		{false, time.Second, 30 * time.Second},
	} {
		inWorld(t, 1, func(w *world) {
			watcher := &byHand{}
			a := w.client("a", near, func(c *client.Config) { c.Watcher = watcher })
			<-time.After(3 * time.Second)
			w.coordinator.Crash()
			w.coordinator.Start()
			began := time.Now()
			if test.told {
				watcher.hint(netio.Hint{Slept: time.Minute})
			}
			w.attached(40*time.Second, a)
			if took := time.Since(began); took < test.least || took > test.most {
				t.Errorf("told %v, attached after %v, want %v to %v", test.told, took, test.least, test.most)
			}
			if told := a.networks(began); test.told && (len(told) != 1 || told[0].Slept != time.Minute || len(told[0].Addrs) != 1) {
				t.Errorf("told %+v", told)
			}
		})
	}
}

// TestResume pauses a host, and the client is told of it.
func TestResume(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a := w.client("a", near, nil)
		a.Host().Pause()
		a.Host().Pause()
		<-time.After(10 * time.Second)
		began := time.Now()
		a.Host().Resume()
		a.Host().Resume()
		<-time.After(time.Second)
		if got := a.networks(began); len(got) != 1 || got[0].Slept != 10*time.Second {
			t.Errorf("told %+v", got)
		}
	})
}

// networks returns what a client told of its network since an instant.
func (p *program) networks(since time.Time) (list []client.NetworkChanged) {
	for _, e := range p.since(since) {
		if change, ok := e.Event.(client.NetworkChanged); ok {
			list = append(list, change)
		}
	}
	return list
}

// TestFlappingInterface takes an interface down and up all the time. The client tells the relay where it is only so often.
func TestFlappingInterface(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.client("a", near, nil), w.client("b", near, nil)
		stream, far := w.open(a, b, nil)
		<-time.After(5 * time.Second)
		binds := 0
		stop := w.Watch(func(s sim.Sight) {
			if s.Line == "a/eth0" && s.Up && len(s.Payload) > 0 && s.Payload[0] == typeBind {
				binds++
			}
		})
		began := time.Now()
		const seconds = 20
		for range seconds * 5 {
			w.must(a.Host().SetUp("eth0", false))
			<-time.After(100 * time.Millisecond)
			w.must(a.Host().SetUp("eth0", true))
			<-time.After(100 * time.Millisecond)
		}
		stop()
		told := a.networks(began)
		if len(told) < seconds/2 || len(told) > seconds+5 || binds > 6*seconds {
			t.Errorf("told %d times, %d bind frames, in %d seconds", len(told), binds, seconds)
		}
		t.Logf("told %d times, %d bind frames, in %d seconds", len(told), binds, seconds)
		w.say(stream, far, "after", 5*time.Second)
		w.say(far, stream, "back", 5*time.Second)
	})
}
