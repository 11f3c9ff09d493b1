package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	// T is the test. It ends when the scenario does.
	T *testing.T

	options   Options
	labels    context.Context //nolint:containedctx // what pprof knows goroutines of this world by
	watch     *watchdog
	trace     *trace
	random    *rand.Rand
	authority *netio.Identity
	limit     *time.Timer
	over      chan struct{} // closed when the scenario has returned
	unwatch   func()
	joined    sync.WaitGroup // functions of Go and After

	mu           sync.Mutex
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
func newWorld(t *testing.T, o Options, watch *watchdog, collect func(), d *digest) *World {
	t.Helper()
	w := &World{
		T: t, options: o, watch: watch, random: rand.New(rand.NewPCG(o.Seed, scenarioStream)), over: make(chan struct{}),
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
		w.limit = time.AfterFunc(o.Limit, w.exceeded)
	}
	if !o.TraceOff {
		w.trace = newTrace(w.Network, traceLimits{})
		w.trace.repeat = repeatWith(t, o.Seed)
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
func (w *World) Go(f func()) { w.joined.Go(f) }

// After does something that long from now, unless the scenario returns before: at
// an instant at which nothing happens in the network, and no other fault. Later
// faults, and what Eventually asks later, see what it did.
func (w *World) After(d time.Duration, do func()) {
	timer := time.NewTimer(d)
	w.joined.Go(func() {
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

// linger is how long a world waits for what ends by itself: the throttles of logs,
// goroutines that sleep.
const linger = 2 * time.Second

// end ends everything in the world. The network goes silent first, so that what
// programs still say to each other, all at the same instant, is not part of the
// run. What is left then is reported by component, before the bubble panics.
func (w *World) end() {
	close(w.over)
	w.shut()
	w.joined.Wait()
	w.Close()
	if w.limit != nil {
		w.limit.Stop()
	}
	w.trace.close()
	w.writeTrace()
	<-time.After(linger)
	w.watch.leave(w.T)
}

// shut silences the network and ends all programs. It may be called again.
func (w *World) shut() {
	w.mu.Lock()
	coordinators, clients := w.coordinators, w.clients
	w.mu.Unlock()
	w.unwatch()
	for _, host := range w.all() {
		host.Crash()
	}
	for _, c := range clients {
		c.abort()
	}
	for _, c := range coordinators {
		c.Stop()
	}
}

// all returns the hosts there are.
func (n *Network) all() []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

// grace is how long a scenario may take to notice that it is over.
const grace = time.Minute

// exceeded is called when the scenario has taken too long on its own clock. With
// all programs gone it should come to its end; if it does not, the binary ends.
func (w *World) exceeded() {
	report := w.watch.report(func(goroutine) bool { return true })
	w.T.Errorf("the scenario is not over after %v\n%s", w.options.Limit, report)
	w.limit = time.AfterFunc(grace, func() {
		_, _ = fmt.Fprintf(os.Stderr, "sim: the scenario was not over after %v\n%s", w.options.Limit, report) // the log is not shown
		w.watch.die("the scenario does not end, although it is over its limit of " + w.options.Limit.String() +
			" and all programs have ended")
	})
	w.shut()
}

// traceVariable names the environment variable with the folder for traces.
const traceVariable = "CONEC_SIM_TRACE"

// writeTrace writes what happened if the test has failed, or if it is wanted.
func (w *World) writeTrace() {
	folder := w.options.Trace
	if w.trace == nil || folder == "" && !w.T.Failed() {
		return
	}
	var err error
	if folder == "" {
		if root := os.Getenv(traceVariable); root != "" {
			folder = filepath.Join(root, filepath.FromSlash(w.T.Name()))
		} else if folder, err = os.MkdirTemp("", "conec-sim-"); err != nil {
			w.T.Log(err)
			return
		}
	}
	if err = w.trace.write(folder); err != nil {
		w.T.Logf("trace: %v", err)
		return
	}
	w.T.Logf("trace: %s", folder)
}
