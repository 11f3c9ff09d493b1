package sim

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// World is a network with programs on it, and the scenario that happens to them.
// It lives in a bubble, until its scenario returns. Methods that can fail the test
// are for the goroutine of the scenario, all others for every goroutine.
type World struct {
	*Network
	// T is the test of the scenario, with which it ends. Failures belong here, not
	// into the test around it.
	T *testing.T

	options   Options
	labels    context.Context //nolint:containedctx // what pprof knows goroutines of this world by
	watch     *watchdog
	trace     *trace
	random    *rand.Rand
	authority *netio.Identity
	over      chan struct{} // closed when the scenario has returned
	returned  bool          // it has, and was not ended by a panic or t.Fatal
	outer     enclosing
	unwatch   func()
	joined    sync.WaitGroup // functions of Go and After

	mu           sync.Mutex
	limit        *time.Timer // until something is done about a world that does not end
	ended        bool        // it has: limit is no more
	shutting     bool        // nothing may be started any more
	panicked     bool        // a goroutine of the scenario has: the binary ends
	coordinators []*Coordinator
	clients      []*Client
	last         time.Duration // the last instant that ownInstant gave away

	checking sync.Mutex
	always   []always
	arrived  bool // something was delivered since the last check; under the network's mu
}

// always is a condition that must hold all the time.
type always struct {
	what  string
	check func() error
}

// scenarioStream is the number of the random source that belongs to the scenario
// (rand.NewPCG); lines have others.
const scenarioStream = 1

// newWorld makes an empty world. Called in its bubble.
func newWorld(t *testing.T, outer enclosing, o Options, watch *watchdog, collect func(), d *digest) *World {
	t.Helper()
	w := &World{
		T: t, outer: outer, options: o, watch: watch, random: rand.New(rand.NewPCG(o.Seed, scenarioStream)), over: make(chan struct{}),
	}
	watch.enter()
	w.labels = watch.labels(o.Seed)
	w.as("network", func(context.Context) {
		w.Network = newNetwork(o.Seed, func() {
			watch.progress.Add(1)
			if d != nil {
				d.look(w.Elapsed(), true)
			}
			collect()
			w.checkIfArrived()
			runtime.Gosched() // nobody else wants to run: this only begins a new time slice, see patience
			if d != nil {
				d.look(w.Elapsed(), false)
			}
		})
	})
	w.unwatch = w.Watch(func(s Sight) {
		w.arrived = w.arrived || !s.Up && s.Fate == Passed
		if d != nil {
			d.see(s)
		}
	})
	if o.Limit > 0 {
		w.arm(o.Limit, w.exceeded)
	}
	if !o.TraceOff {
		w.trace = newTrace(w.Network, traceLimits{})
	}
	var err error
	w.authority, err = newAuthority()
	w.must(err)
	return w
}

// must ends the test if there is an error.
func (w *World) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// Host adds a host with one interface, as [Network.Host] does. If that fails, so
// does the test.
func (w *World) Host(name string, at Place, line Line, addrs ...netip.Addr) *Host {
	w.T.Helper()
	h, err := w.Network.Host(name, at, line, addrs...)
	w.must(err)
	return h
}

// Gateway adds a gateway, as [Network.Gateway] does. If that fails, so does the
// test.
func (w *World) Gateway(name string, at Place, nat NAT, line Line, addrs ...netip.Addr) *Gateway {
	w.T.Helper()
	g, err := w.Network.Gateway(name, at, nat, line, addrs...)
	w.must(err)
	return g
}

// Rand returns the scenario's own random source, which follows from the seed. It
// is for one goroutine at a time.
func (w *World) Rand() *rand.Rand { return w.random }

// Go runs f in a goroutine that is joined when the scenario has returned: f has to
// end when its client or stream does.
func (w *World) Go(f func()) {
	w.joined.Go(func() {
		defer w.tellOfPanic()
		f()
	})
}

// After does something that long from now, unless the scenario returns before: at
// an instant at which nothing happens in the network, and no other fault. Later
// faults, and what Eventually asks later, see what it did.
func (w *World) After(d time.Duration, do func()) {
	timer := time.NewTimer(d)
	w.joined.Go(func() {
		defer w.tellOfPanic()
		defer timer.Stop()
		select {
		case <-timer.C:
			w.ownInstant()
			do()
			w.inTurn()
		case <-w.over:
		}
	})
}

// ownInstant waits for the next instant at which nothing else of the world happens
// and that nobody else has got from it: what happens at the same instant has no
// order. Who calls first gets the earlier one.
func (w *World) ownInstant() {
	w.watch.progress.Add(1)
	for {
		w.mu.Lock()
		now := w.Elapsed()
		w.last = max(w.last, now) + 1
		wait := w.last - now
		w.mu.Unlock()
		<-time.After(wait)
		if w.isFree() {
			w.inTurn()
			return
		}
	}
}

// inTurn lets the race detector know that instants come one after the other: what
// was done at an earlier one is seen at a later one.
func (w *World) inTurn() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

// isFree reports whether the network does nothing at this instant.
func (n *Network) isFree() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.elapsed()
	return n.last < now && (len(n.events) == 0 || n.events[0].at > now)
}

// pollEvery is how often Eventually asks.
const pollEvery = time.Millisecond

// Eventually waits until ok, which it asks every millisecond and which must not
// block. If that takes too long, the test ends.
func (w *World) Eventually(within time.Duration, what string, ok func() bool) {
	w.T.Helper()
	for began := w.Elapsed(); !ok(); w.ownInstant() {
		if w.Elapsed()-began > within {
			w.T.Fatalf("not within %v: %s", within, what)
		}
		w.inTurn()
		<-time.After(pollEvery)
	}
}

// Always has check called after each packet that reached somebody, once all that
// it caused has happened, and when the scenario returns. The first error fails the
// test. check runs on the network's goroutine and must not block.
func (w *World) Always(what string, check func() error) {
	w.checking.Lock()
	defer w.checking.Unlock()
	w.always = append(w.always, always{what, check})
}

// checkIfArrived checks what must always hold if a packet has arrived since.
func (w *World) checkIfArrived() {
	w.Network.mu.Lock()
	arrived := w.arrived
	w.arrived = false
	w.Network.mu.Unlock()
	if arrived {
		w.checkAlways()
	}
}

func (w *World) checkAlways() {
	w.checking.Lock()
	defer w.checking.Unlock()
	for i := 0; i < len(w.always); i++ {
		if err := w.always[i].check(); err != nil {
			w.T.Errorf("after %v not always %s: %v", w.Elapsed(), w.always[i].what, err)
			w.always = append(w.always[:i], w.always[i+1:]...) // once is enough
			i--
		}
	}
}

// Note writes something that happened into the trace: from one component, to
// another or, if that is empty, to nobody.
func (w *World) Note(from, to, text string) { w.trace.note(from, to, text) }
