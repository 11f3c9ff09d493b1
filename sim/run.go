package sim

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// Options say how a scenario is run. A nil *Options and zero fields mean the
// defaults.
type Options struct {
	// Seed decides everything that is random. If zero, 1. The environment variable
	// CONEC_SIM_SEED goes first, so that a failure can be repeated.
	Seed uint64
	// Epoch is when the scenario begins. If zero, 2040-01-01 UTC. It should be later than
	// the present: quic-go takes its times since the process began, and one that is below
	// zero makes it spin.
	Epoch time.Time
	// Limit is how long the scenario may take on its own clock. If zero, 10
	// minutes; if negative, for ever. Exceeded, it is told which component's
	// goroutines wait where, and the test fails.
	Limit time.Duration
	// Stall is how long the scenario's clock may stand still: something spins, or
	// waits for a lock. If zero, 10 seconds, a minute with the race detector; if
	// negative, for ever. Exceeded, it is told which component does, and the test
	// binary ends.
	Stall time.Duration
	// TCP has coordinators listen for TCP, too, at the same port, and tells clients so.
	TCP bool
	// Trace is the folder for what happened, also of runs that pass. If empty, only
	// failures are written: below $CONEC_SIM_TRACE, or in a temporary folder.
	Trace string
	// TraceOff remembers nothing, which takes less time and memory.
	TraceOff bool
}

func (o *Options) withDefaults() Options {
	var options Options
	if o != nil {
		options = *o
	}
	if options.Seed == 0 {
		options.Seed = 1
	}
	if seed, ok := seedFromEnvironment(); ok {
		options.Seed = seed
	}
	if options.Epoch.IsZero() {
		options.Epoch = time.Date(2040, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	if options.Limit == 0 {
		options.Limit = 10 * time.Minute
	}
	if options.Stall == 0 {
		options.Stall = 10 * time.Second
		if raceEnabled {
			options.Stall = time.Minute
		}
	}
	return options
}

// seedVariable names the environment variable that repeats a run.
const seedVariable = "CONEC_SIM_SEED"

func seedFromEnvironment() (seed uint64, ok bool) {
	seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	return seed, err == nil
}

// checkSeed ends the test if the environment gives no seed but something else: a
// run with another seed would repeat nothing.
func checkSeed(t *testing.T) {
	t.Helper()
	if _, ok := seedFromEnvironment(); !ok && os.Getenv(seedVariable) != "" {
		t.Fatalf("%s is %q: want a number from 0 to %d, or nothing", seedVariable, os.Getenv(seedVariable), uint64(math.MaxUint64))
	}
}

// Test runs a scenario in a bubble of testing/synctest, on a clock of its own that
// leaps from event to event. It returns when everything in the world has ended.
// If the test fails, it says how to repeat it.
//
// So that the same seed gives the same run, Test takes one processor, crypto/rand
// and the garbage collector for itself: tests that call it cannot be parallel.
func Test(t *testing.T, o *Options, scenario func(w *World)) {
	t.Helper()
	checkSeed(t)
	play(t, o.withDefaults(), scenario, nil)
}

// Seeds runs a scenario with each of the seeds 1 to n, as subtests "seed=1" and so
// on. CONEC_SIM_SEED in the environment plays only that one, however large.
func Seeds(t *testing.T, n int, o *Options, scenario func(w *World)) {
	t.Helper()
	checkSeed(t)
	options := o.withDefaults()
	first, count := uint64(1), max(n, 0)
	if seed, ok := seedFromEnvironment(); ok {
		first, count = seed, 1
	}
	for i := range count {
		seed := first + uint64(i)
		name := fmt.Sprintf("seed=%d", seed)
		one := options
		one.Seed, one.Trace = seed, below(options.Trace, name)
		outer := enclosing{t, t.Failed()}
		t.Run(name, func(t *testing.T) { playIn(t, outer, one, scenario, nil) })
	}
}

// below returns a folder in a folder, none if there is none.
func below(folder, name string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, name)
}

// Replay runs a scenario twice, and fails the test if not every packet was the
// same, to the byte and the nanosecond: then it tells on which line and when the
// runs first differ. With the race detector, which shuffles goroutines, it runs
// the scenario once and says that it compared nothing.
//
// On a machine with too much to do, Go may take the processor from a goroutine in
// the middle of an instant, and where more than a millisecond is computed at one,
// locks may go out of turn. Replay notices, and runs the scenario again.
func Replay(t *testing.T, o *Options, scenario func(w *World)) {
	t.Helper()
	checkSeed(t)
	replay(t, 2, 0, o.withDefaults(), scenario)
}

// maxDisturbed is how many runs are made again because the machine was too busy.
const maxDisturbed = 20

// replay makes so many runs that are the same. So many differences are let pass although nothing disturbed the runs.
func replay(t *testing.T, times, odd int, o Options, scenario func(w *World)) {
	t.Helper()
	if raceEnabled {
		t.Log("replay compares nothing with the race detector: it shuffles goroutines on purpose")
		times = 1
	}
	var first *digest
	outer := enclosing{t, t.Failed()}
	for run, same, disturbed := 1, 0, 0; same < times; run++ {
		now, name, one := newDigest(), fmt.Sprintf("run=%d", run), o
		one.Trace = below(o.Trace, name)
		if !t.Run(name, func(t *testing.T) { playIn(t, outer, one, scenario, now) }) {
			return
		}
		if first == nil {
			first, same = now, 1
			continue
		}
		differ := first.compare(now)
		here, before := now.disturbedBy(differ.at), first.disturbedBy(differ.at)
		switch {
		case differ.text == "":
			same++
		case disturbed < maxDisturbed && here != "":
			disturbed++
			t.Logf("run %d differs, but was disturbed: %s", run, here)
		case disturbed < maxDisturbed && before != "":
			disturbed++
			t.Logf("the runs before run %d differ, but were disturbed: %s", run, before)
			first, same = now, 1
		case odd > 0:
			odd--
			t.Logf("run %d differs: %s", run, differ.text)
			first, same = now, 1
		case disturbed == maxDisturbed:
			t.Errorf("two runs with seed %d differ, but the machine is too busy to tell: it disturbed %d runs; the difference is %s",
				o.Seed, disturbed, differ.text)
			return
		default:
			t.Errorf("two runs with seed %d differ %s", o.Seed, differ.text)
			return
		}
	}
}

// play runs a scenario once. Its packets go into d, which may be nil.
func play(t *testing.T, o Options, scenario func(w *World), d *digest) {
	t.Helper()
	playIn(t, enclosing{t, t.Failed()}, o, scenario, d)
}

// playIn is play, within the test that the scenario's author has at hand.
func playIn(t *testing.T, outer enclosing, o Options, scenario func(w *World), d *digest) {
	t.Helper()
	watch := newWatchdog(o, repeatWith(outer.t, o.Seed))
	defer watch.end()
	finished := false
	defer func() {
		switch {
		case !finished && !t.Failed(): // a panic: the log may not be shown
			_, _ = fmt.Fprintln(os.Stderr, watch.toRepeat())
		case t.Failed():
			t.Log(watch.toRepeat())
		}
	}()
	t.Setenv("GODEBUG", strings.TrimPrefix(os.Getenv("GODEBUG")+",tracebacklabels=1", ",")) // stacks name components
	collect := func() {}
	if !raceEnabled { // which shuffles goroutines, and sees no order between setting a source of random numbers and who has read the former one
		if testing.Testing() { // else a program that is linked without -X testing.testBinary=1
			cryptotest.SetGlobalRandom(t, o.Seed)
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		collect = newCollector().look
	}
	labels := pprof.Labels("seed", strconv.FormatUint(o.Seed, 10), componentLabel, scenarioComponent)
	pprof.Do(t.Context(), labels, func(context.Context) {
		synctest.Test(t, func(t *testing.T) {
			<-time.After(time.Until(o.Epoch)) // bubbles begin in the year 2000, before any certificate
			newWorld(t, outer, o, watch, collect, d).run(scenario)
		})
	})
	finished = true
}

// repeatWith returns the command that repeats a test with a seed.
func repeatWith(t *testing.T, seed uint64) string {
	t.Helper()
	parts := strings.Split(t.Name(), "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	pattern := strings.ReplaceAll(strings.Join(parts, "/"), "'", `'\''`) // the shell's way
	return fmt.Sprintf("%s=%d go test -run '%s' %s", seedVariable, seed, pattern, packagePath())
}

// packagePath returns the path of the package under test from its module's root:
// tests run in the package's folder.
func packagePath() string {
	here, err := os.Getwd()
	if err != nil {
		return "."
	}
	for root := here; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			if path, err := filepath.Rel(root, here); err == nil {
				return "./" + filepath.ToSlash(path)
			}
		}
		if root == filepath.Dir(root) {
			return "."
		}
	}
}

// collector collects garbage at instants at which all programs wait. At any other
// it would change the order in which goroutines run.
type collector struct {
	looks  int
	limit  uint64 // bytes on the heap at which to collect
	sample []metrics.Sample
}

// Numbers of a collector.
const (
	looksPerSample = 64       // looks until the heap is measured
	roomToCollect  = 64 << 20 // bytes that may be added before it is worth it
)

func newCollector() *collector {
	c := &collector{sample: []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}}
	c.rest()
	return c
}

func (c *collector) heap() uint64 {
	metrics.Read(c.sample)
	return c.sample[0].Value.Uint64()
}

func (c *collector) rest() {
	live := c.heap()
	c.limit = live + max(live, roomToCollect)
}

// look collects if there is much. It is called by the network's goroutine.
func (c *collector) look() {
	if c.looks++; c.looks%looksPerSample == 0 && c.heap() > c.limit {
		runtime.GC()
		c.rest()
	}
}
