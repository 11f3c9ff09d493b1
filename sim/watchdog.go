package sim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// componentLabel is the pprof label that names a host, "network" or "scenario".
const (
	componentLabel    = "component"
	scenarioComponent = "scenario"
)

// watchdog sees to it that a world that hangs says where. It watches from outside
// of the bubble, in real time, and ends the test binary if the world's clock does
// not move: nothing else can end a goroutine that spins or waits for a lock.
type watchdog struct {
	progress atomic.Uint64          // of the world; only atomics may pass between inside and outside
	bubble   atomic.Uint64          // its number
	repeat   atomic.Pointer[string] // the command
	stall    time.Duration
	seed     uint64
	stop     chan struct{}
	done     chan struct{}
}

// newWatchdog starts to watch. Called outside of the bubble.
func newWatchdog(o Options, repeat string) *watchdog {
	d := &watchdog{stall: o.Stall, seed: o.Seed, stop: make(chan struct{}), done: make(chan struct{})}
	d.repeat.Store(&repeat)
	go d.run()
	return d
}

// toRepeat says how to repeat the run.
func (d *watchdog) toRepeat() string {
	return fmt.Sprintf("seed %d: repeat with %s", d.seed, *d.repeat.Load())
}

// end stops watching.
func (d *watchdog) end() {
	close(d.stop)
	<-d.done
}

// looks is how often a watchdog looks in the time after which it acts.
const looks = 10

func (d *watchdog) run() {
	defer close(d.done)
	if d.stall <= 0 {
		return
	}
	ticker := time.NewTicker(max(d.stall/looks, time.Millisecond))
	defer ticker.Stop()
	last, same := d.progress.Load(), 0
	for {
		select {
		case <-ticker.C:
		case <-d.stop:
			return
		}
		now := d.progress.Load()
		if now != last {
			last, same = now, 0
			continue
		}
		if same++; same > looks {
			d.die(fmt.Sprintf("the clock of the world has not moved for %v: something spins, waits for a lock, "+
				"or for something outside", d.stall))
		}
	}
}

// die reports where goroutines are and ends the test binary.
func (d *watchdog) die(why string) {
	stuck := d.report(func(g goroutine) bool { return !g.waits() })
	waiting := d.report(goroutine.waits)
	fmt.Fprintf(os.Stderr, "sim: seed %d: %s\ngoroutines that do not wait for the clock or each other:\n%s\nthose that do:\n%s\nsim: %s\n",
		d.seed, why, stuck, waiting, d.toRepeat())
	panic("sim: " + why) //nolint:forbidigo // no goroutine can end another one
}

// enter notes which bubble the caller is in.
func (d *watchdog) enter() {
	list := parseGoroutines(stacks(false))
	if len(list) > 0 {
		d.bubble.Store(list[0].bubble)
	}
}

// labels returns the labels of goroutines that belong to a world.
func (d *watchdog) labels(seed uint64) context.Context {
	return pprof.WithLabels(context.Background(),
		pprof.Labels("seed", strconv.FormatUint(seed, 10), componentLabel, scenarioComponent))
}

// leave reports goroutines that are still in the bubble, but for the caller and
// the testing package's.
func (d *watchdog) leave(t *testing.T) {
	t.Helper()
	left := d.report(func(goroutine) bool { return true })
	if left != "" {
		text := "goroutines are left when everything has ended:\n" + left
		t.Error(text)
		_, _ = fmt.Fprintln(os.Stderr, "sim: "+text) // the bubble panics, and the log may not be shown
	}
}

// report tells where the bubble's goroutines are that are wanted, by component.
func (d *watchdog) report(wanted func(goroutine) bool) string {
	type place struct{ component, state, stack string }
	count := map[place]int{}
	for _, g := range parseGoroutines(stacks(true)) {
		if g.bubble == d.bubble.Load() && !g.has(notPrograms...) && wanted(g) {
			count[place{g.component, g.state, g.brief()}]++
		}
	}
	places := slices.SortedFunc(maps.Keys(count), func(a, b place) int {
		return cmp.Or(compareBool(b.component == scenarioComponent, a.component == scenarioComponent),
			strings.Compare(a.component, b.component), strings.Compare(a.state, b.state), strings.Compare(a.stack, b.stack))
	})
	var text strings.Builder
	for i, p := range places {
		if i == maxPlaces {
			fmt.Fprintf(&text, "and %d more places\n", len(places)-i)
			break
		}
		fmt.Fprintf(&text, "component %s: %d × %s\n%s", p.component, count[p], p.state, p.stack)
	}
	return text.String()
}

// notPrograms are functions by which the goroutines of a bubble are known that
// belong to the testing package, and to this one.
var notPrograms = []string{"internal/synctest.Run(", "testing/synctest.testingSynctestTest(", "sim.(*watchdog).report("}

// Limits of a report.
const (
	maxPlaces = 60
	maxFrames = 12
)

// stacks returns the stack of the caller, or of all goroutines.
func stacks(all bool) string {
	for size := 1 << 20; ; size *= 2 {
		buffer := make([]byte, size)
		if n := runtime.Stack(buffer, all); n < size {
			return string(buffer[:n])
		}
	}
}

// goroutine is what its stack trace tells.
type goroutine struct {
	bubble    uint64 // 0 outside of bubbles
	state     string
	component string
	frames    []string // function, then place, from the innermost
}

var (
	headerPattern    = regexp.MustCompile(`^goroutine \d+ .*\[(.*)\]:$`)
	bubblePattern    = regexp.MustCompile(`synctest bubble (\d+)`)
	componentPattern = regexp.MustCompile(`"?` + componentLabel + `"?: ?"([^"]*)"`)
)

// parseGoroutines reads what runtime.Stack writes.
func parseGoroutines(text string) (list []goroutine) {
	for part := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(strings.TrimSpace(part), "\n")
		header := headerPattern.FindStringSubmatch(lines[0])
		if header == nil {
			continue
		}
		g := goroutine{component: "(a timer)", frames: lines[1:]}
		g.state, _, _ = strings.Cut(header[1], ",")
		if found := bubblePattern.FindStringSubmatch(header[1]); found != nil {
			g.bubble, _ = strconv.ParseUint(found[1], 10, 64) // digits
		}
		if found := componentPattern.FindStringSubmatch(header[1]); found != nil {
			g.component = found[1]
		}
		list = append(list, g)
	}
	return list
}

// waits reports whether only the clock or another goroutine of the bubble can wake
// it. Only if all wait does the clock move.
func (g goroutine) waits() bool { return strings.HasSuffix(g.state, "(durable)") }

// has reports whether one of the functions is on the stack.
func (g goroutine) has(functions ...string) bool {
	return slices.ContainsFunc(g.frames, func(frame string) bool {
		return !strings.HasPrefix(frame, "created by ") &&
			slices.ContainsFunc(functions, func(function string) bool { return strings.Contains(frame, function) })
	})
}

// brief returns the innermost frames, without arguments and addresses.
func (g goroutine) brief() string {
	var text strings.Builder
	for i := 0; i+1 < len(g.frames) && i < 2*maxFrames; i += 2 {
		function, place := g.frames[i], strings.TrimSpace(g.frames[i+1])
		if end := strings.LastIndexByte(function, '('); end > 0 && !strings.HasPrefix(function, "created by") {
			function = function[:end]
		}
		place, _, _ = strings.Cut(place, " +0x")
		fmt.Fprintf(&text, "\t%s\n\t\t%s\n", function, place)
	}
	return text.String()
}
