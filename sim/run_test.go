package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// TestWorld runs programs in a world: attach, talk, crash, stop, come back.
func TestWorld(t *testing.T) {
	var began, ended time.Time
	processors := runtime.GOMAXPROCS(0)
	sim.Test(t, &sim.Options{TraceOff: true}, func(w *sim.World) {
		began = time.Now()
		hub := w.Coordinator(w.Host("hub", w.Internet(), near), nil)
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), near)
		alice := w.Client(w.Host("alice", home, near), nil)
		others := w.Clients(nil, w.Host("bob", w.Internet(), near), w.Host("carol", w.Internet(), near))
		for _, c := range others {
			w.Go(func() { echoAll(c.Client) })
		}
		greetAll(w, alice, others)
		hub.Crash()
		hub.Start()
		w.Eventually(20*time.Second, "attached again", func() bool { return hub.Stats().Attached == 3 })
		alice.Crash()
		if alice.Current() != nil {
			t.Error("a client that has crashed still runs")
		}
		if err := alice.Start(); err != nil {
			t.Error(err)
		}
		greetAll(w, alice, others)
		if err := alice.Stop(); err != nil {
			t.Error(err)
		}
		hub.Stop()
		ended = time.Now()
		attached := 0
		for _, e := range alice.Events() {
			if _, ok := e.Event.(client.Attached); ok {
				attached++
			}
			if e.At < 0 || e.At > w.Elapsed() {
				t.Errorf("event at %v of %v", e.At, w.Elapsed())
			}
		}
		if attached < 2 || attached > 3 {
			t.Errorf("alice heard %d times that it is attached", attached)
		}
	})
	if began.Year() != 2040 || ended.Sub(began) < time.Second {
		t.Errorf("the world lasted from %v to %v", began, ended)
	}
	if runtime.GOMAXPROCS(0) != processors {
		t.Errorf("%d processors afterwards, %d before", runtime.GOMAXPROCS(0), processors)
	}
}

func greetAll(w *sim.World, from *sim.Client, others []*sim.Client) {
	for _, to := range others {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		stream, err := from.OpenStream(ctx, to.Host().Name(), nil)
		if err == nil {
			err = stream.Send(ctx, []byte("hello"))
		}
		var answer []byte
		if err == nil {
			answer, err = stream.Receive(ctx)
		}
		cancel()
		if err != nil || string(answer) != "hello" {
			w.T.Fatalf("%s: %q, %v", to.Host().Name(), answer, err)
		}
		stream.Close()
	}
}

func echoAll(c *client.Client) {
	for {
		stream, err := c.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go echo(stream)
	}
}

// TestAfter checks that faults strike in order, each at an instant of its own, and
// not once the scenario is over.
func TestAfter(t *testing.T) {
	struck := 0
	sim.Test(t, nil, func(w *sim.World) {
		var at []time.Duration
		for range 10 {
			w.After(time.Second, func() { at = append(at, w.Elapsed()) })
		}
		w.After(time.Minute, func() { struck++ })
		w.Eventually(time.Minute, "all strike", func() bool { return len(at) == 10 })
		if at[0] < time.Second || at[9] > time.Second+time.Microsecond || !slices.IsSorted(at) || len(slices.Compact(at)) != 10 {
			t.Errorf("struck at %v", at)
		}
	})
	if struck > 0 {
		t.Error("a fault struck after the end of the scenario")
	}
}

// TestAlways checks that conditions are asked whenever something has arrived, and
// see all of what it caused.
func TestAlways(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		hub := w.Coordinator(w.Host("hub", w.Internet(), near), nil)
		asked, most := 0, 0
		w.Always("few attached", func() error {
			asked++
			most = max(most, hub.Stats().Attached)
			return nil
		})
		w.Client(w.Host("alice", w.Internet(), near), nil)
		w.Client(w.Host("bob", w.Internet(), near), nil)
		if delivered := w.Stats().Delivered; asked < delivered/2 || most != 2 {
			t.Errorf("asked %d times while %d packets arrived, and saw at most %d attached", asked, delivered, most)
		}
	})
}

// TestSeeds checks that a world's randomness is that of its seed, which the
// environment may give.
func TestSeeds(t *testing.T) {
	draw := func(t *testing.T, environment string) (seeds []uint64, drawn []uint64) {
		t.Helper()
		t.Setenv("CONEC_SIM_SEED", environment)
		sim.Seeds(t, 3, &sim.Options{TraceOff: true}, func(w *sim.World) {
			seeds, drawn = append(seeds, w.Seed()), append(drawn, w.Rand().Uint64())
		})
		return seeds, drawn
	}
	seeds, first := draw(t, "")
	_, again := draw(t, "")
	if fmt.Sprint(seeds) != "[1 2 3]" || !slices.Equal(first, again) || first[0] == first[1] {
		t.Errorf("seeds %v drew %x, then %x", seeds, first, again)
	}
	if seeds, drawn := draw(t, "2"); fmt.Sprint(seeds) != "[2]" || drawn[0] != first[1] {
		t.Errorf("CONEC_SIM_SEED=2 played %v and drew %x", seeds, drawn)
	}
	if seeds, _ := draw(t, "1234567890123"); fmt.Sprint(seeds) != "[1234567890123]" {
		t.Errorf("a large seed played %v", seeds)
	}
}

// broken are scenarios that go wrong. TestBroken runs each in a process of its own.
var broken = map[string]struct {
	options  sim.Options
	scenario func(w *sim.World)
	says     []string
}{
	"spins": {
		options: sim.Options{Stall: time.Second},
		scenario: func(w *sim.World) {
			spinning := w.Client(w.Host("dizzy", w.Internet(), near), func(c *client.Config) {
				c.OnEvent = func(client.Event) { spin() }
			})
			<-time.After(time.Second)
			w.T.Log(spinning.Name())
		},
		says: []string{
			"the clock of the world has not moved for 1s", "goroutines that do not wait for the clock or each other:\ncomponent dizzy: 1 × ",
			"sim_test.spin", "run_test.go:", "panic: sim:",
		},
	},
	"waits for a lock": {
		options: sim.Options{Stall: time.Second},
		scenario: func(w *sim.World) {
			var lock sync.Mutex
			lock.Lock()
			w.Go(func() { lock.Lock() })
			<-time.After(time.Second) // never, for the clock waits for the lock
			lock.Unlock()
		},
		says: []string{"the clock of the world has not moved for 1s", "component scenario: 1 × sync.Mutex.Lock", "run_test.go:", "panic: sim:"},
	},
	"deadlocks": {
		scenario: func(w *sim.World) {
			w.Client(w.Host("alice", w.Internet(), near), nil)
			w.Go(func() { select {} })
			<-make(chan struct{})
		},
		says: []string{
			"the scenario was not over after 10m0s", "component alice: ", "netio", "component scenario: 1 × select (no cases) (durable)",
			"the scenario does not end, although it is over its limit of 10m0s and all programs have ended", "panic: sim:",
		},
	},
	"takes too long": {
		options: sim.Options{Limit: time.Minute},
		scenario: func(w *sim.World) {
			alice := w.Client(w.Host("alice", w.Internet(), near), nil)
			if _, err := alice.AcceptStream(context.Background()); err != nil {
				w.T.Logf("after %v: %v", w.Elapsed(), err)
			}
		},
		says: []string{
			"the scenario is not over after 1m0s", "component scenario: 1 × ", "client.(*Client).AcceptStream", "after 1m0s: ", "closed",
			"--- FAIL: TestBroken", "seed 1: repeat with CONEC_SIM_SEED=1 go test -run '^TestBroken$' ./sim",
		},
	},
	"leaks": {
		scenario: func(w *sim.World) {
			w.Client(w.Host("alice", w.Internet(), near), func(c *client.Config) {
				c.OnEvent = func(client.Event) { go leak() }
			})
		},
		says: []string{
			"goroutines are left when everything has ended:\ncomponent alice: 1 × chan receive", "sim_test.leak", "run_test.go:",
			"blocked goroutines remain", "seed 1: repeat with CONEC_SIM_SEED=1",
		},
	},
	"fails": {
		options: sim.Options{Seed: 7},
		scenario: func(w *sim.World) {
			w.Client(w.Host("alice", w.Internet(), near), nil)
			w.T.Error("as it should")
		},
		says: []string{"as it should", "trace: ", "seed 7: repeat with CONEC_SIM_SEED=7 go test -run '^TestBroken$' ./sim"},
	},
	"not always": {
		scenario: func(w *sim.World) {
			w.Always("nobody there", func() error { return errors.New("somebody is") })
			w.Client(w.Host("alice", w.Internet(), near), nil)
		},
		says: []string{"not always nobody there: somebody is", "--- FAIL"},
	},
	"not eventually": {
		scenario: func(w *sim.World) { w.Eventually(time.Second, "peace", func() bool { return false }) },
		says:     []string{"not within 1s: peace", "--- FAIL"},
	},
}

// spin runs until the test binary is ended.
func spin() {
	for i := 0; ; i++ {
		spun = i
	}
}

var spun int

func leak() { <-make(chan struct{}) }

// brokenVariable names the environment variable that tells which broken scenario to
// run.
const brokenVariable = "CONEC_SIM_BROKEN"

// TestBroken checks what a world says that goes wrong: it names the component, and
// does not hang.
func TestBroken(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		options := broken[name].options
		sim.Test(t, &options, func(w *sim.World) {
			w.Coordinator(w.Host("hub", w.Internet(), near), nil)
			broken[name].scenario(w)
		})
		return
	}
	if testing.Short() {
		t.Skip("a process for each case")
	}
	for name, c := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			traces := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBroken$")
			child.Env = append(os.Environ(), brokenVariable+"="+name, "CONEC_SIM_TRACE="+traces)
			var said bytes.Buffer
			child.Stdout, child.Stderr = &said, &said
			var failed *exec.ExitError
			if err := child.Run(); !errors.As(err, &failed) || ctx.Err() != nil {
				t.Errorf("the child ended with %v", err)
			}
			for _, want := range c.says {
				if !strings.Contains(said.String(), want) {
					t.Errorf("does not say %q", want)
				}
			}
			if name == "fails" {
				if _, err := os.Stat(filepath.Join(traces, "TestBroken", "README.txt")); err != nil {
					t.Errorf("trace of a failure: %v", err)
				}
			}
			if t.Failed() {
				t.Logf("it said:\n%.20000s", said.String())
			}
		})
	}
}
