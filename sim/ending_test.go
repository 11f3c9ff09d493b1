package sim_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// ending is a test that fails, and what has to be said about it.
type ending struct {
	seed   string // in the environment
	run    func(t *testing.T)
	says   []string
	traces []string // folders, below that of the environment
}

// endings are failures other than through World.T, and worlds that do not end.
var endings = map[string]ending{
	"error of the enclosing test": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Seeds(t, 2, nil, func(w *sim.World) {
				if w.Seed() == 2 {
					t.Error("as it should")
				}
			})
		},
		says:   []string{"as it should", "--- FAIL: TestEnding/seed=2", "seed 2: repeat with CONEC_SIM_SEED=2 go test -run '^TestEnding$' ./sim"},
		traces: []string{"TestEnding/seed=2"},
	},
	"fatal of the enclosing test": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, nil, func(w *sim.World) { attachAlice(w); t.Fatal("as it should") })
		},
		says:   []string{"as it should", "trace: ", "seed 1: repeat with CONEC_SIM_SEED=1 go test -run '^TestEnding$' ./sim"},
		traces: []string{"TestEnding"},
	},
	"failed replay": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Replay(t, &sim.Options{Seed: 5}, func(*sim.World) { t.Error("as it should") })
		},
		says:   []string{"--- FAIL: TestEnding/run=1", "seed 5: repeat with CONEC_SIM_SEED=5 go test -run '^TestEnding$' ./sim"},
		traces: []string{"TestEnding/run=1"},
	},
	"panic": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, nil, func(w *sim.World) {
				w.Go(func() { select {} }) // must not keep it back
				attachAlice(w)
				panic("as it should")
			})
		},
		says: []string{
			"panic: as it should", "ending_test.go:", "sim: trace: ",
			"seed 1: repeat with CONEC_SIM_SEED=1 go test -run '^TestEnding$' ./sim",
		},
		traces: []string{"TestEnding"},
	},
	"panic elsewhere": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, nil, func(w *sim.World) {
				w.After(time.Second, func() { panic("as it should") })
				<-time.After(time.Minute)
			})
		},
		says:   []string{"panic: as it should", "sim: seed 1: repeat with CONEC_SIM_SEED=1"},
		traces: []string{"TestEnding"},
	},
	"no end and no limit": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, &sim.Options{Limit: -1}, func(w *sim.World) {
				attachAlice(w)
				w.Go(leak)
			})
		},
		says: []string{
			"functions of Go or After have not returned", "component scenario: 1 × chan receive (durable)", "sim_test.leak",
			"sim: seed 1: repeat with CONEC_SIM_SEED=1",
		},
		traces: []string{"TestEnding"},
	},
	"no seed": {
		seed: "0x7",
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, nil, func(*sim.World) { t.Error("it ran") })
		},
		says: []string{`CONEC_SIM_SEED is "0x7": want a number from 0 to 18446744073709551615`},
	},
	"name": {
		run: func(t *testing.T) {
			t.Helper()
			t.Run("it's a+b (c) [d", func(t *testing.T) {
				sim.Test(t, nil, func(w *sim.World) { w.T.Error("as it should") })
			})
		},
		says: []string{`go test -run '^TestEnding$/^it'\''s_a\+b_\(c\)_\[d$' ./sim`},
	},
	"command": {
		run: func(t *testing.T) {
			t.Helper()
			sim.Test(t, nil, func(w *sim.World) {
				w.RepeatWith("conec sim run it.yaml")
				w.T.Error("as it should")
			})
		},
		says:   []string{"seed 1: repeat with conec sim run it.yaml\n"},
		traces: []string{"TestEnding"},
	},
}

func attachAlice(w *sim.World) {
	w.Coordinator(w.Host("hub", w.Internet(), near), nil)
	w.Client(w.Host("alice", w.Internet(), near), nil)
}

// TestEnding checks that whatever makes a test fail, the seed, the command that
// repeats it and the trace are told. Each case runs in a process of its own.
func TestEnding(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		endings[name].run(t)
		return
	}
	if testing.Short() {
		t.Skip("a process for each case")
	}
	for name, c := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t, name)
		})
	}
}

func (c *ending) check(t *testing.T, name string) {
	t.Helper()
	traces := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestEnding$", "-test.timeout=1m")
	child.Env = append(os.Environ(), brokenVariable+"="+name, "CONEC_SIM_TRACE="+traces, "CONEC_SIM_SEED="+c.seed)
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
	for _, folder := range c.traces {
		text, err := os.ReadFile(filepath.Join(traces, folder, "README.txt"))
		if err != nil {
			t.Errorf("no trace: %v", err)
		} else if _, command, _ := strings.Cut(c.says[len(c.says)-1], "repeat with "); !strings.Contains(string(text), strings.TrimSpace(command)) {
			t.Errorf("its README does not name the command %q:\n%.300s", command, text)
		}
	}
	if t.Failed() {
		t.Logf("it said:\n%.20000s", said.String())
	}
}

// TestLargestSeed plays the seed after which there is none.
func TestLargestSeed(t *testing.T) {
	t.Setenv("CONEC_SIM_SEED", "18446744073709551615")
	runs := 0
	sim.Seeds(t, 3, &sim.Options{TraceOff: true}, func(w *sim.World) {
		if runs++; runs > 1 {
			w.T.Fatalf("run %d has seed %d", runs, w.Seed())
		}
	})
	if runs != 1 {
		t.Errorf("%d runs", runs)
	}
}

// TestStartAfterTheEnd has faults whose second half comes when the scenario is
// over: then nothing starts, and nothing is left.
func TestStartAfterTheEnd(t *testing.T) {
	var started error
	sim.Test(t, nil, func(w *sim.World) {
		hub := w.Coordinator(w.Host("hub", w.Internet(), near), nil)
		alice := w.Client(w.Host("alice", w.Internet(), near), nil)
		w.After(time.Second, func() {
			hub.Stop()
			alice.Crash()
			<-time.After(2 * time.Second)
			hub.Start()
			started = alice.Start()
		})
		<-time.After(2 * time.Second)
	})
	if !errors.Is(started, net.ErrClosed) {
		t.Errorf("a client that starts after the end: %v", started)
	}
}

// TestEndWhileStarting ends the scenario at each instant of a start: what has
// started by then ends, and nothing starts any more.
func TestEndWhileStarting(t *testing.T) {
	for wait := range 12 {
		sim.Test(t, &sim.Options{TraceOff: true}, func(w *sim.World) {
			hub := w.Coordinator(w.Host("hub", w.Internet(), near), nil)
			alice := w.Client(w.Host("alice", w.Internet(), near), nil)
			alice.Crash()
			hub.Crash()
			w.Go(hub.Start)
			w.Go(func() { _ = alice.Start() })
			<-time.After(time.Duration(wait) * 5 * time.Millisecond)
		})
	}
}

// TestStartTwice starts what runs: a client says so, a coordinator is stopped
// before. A program whose host has crashed runs no more.
func TestStartTwice(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		hub := w.Coordinator(w.Host("hub", w.Internet(), near), nil)
		alice := w.Client(w.Host("alice", w.Internet(), near), nil)
		former := alice.Current()
		if err := alice.Start(); err == nil || alice.Current() != former {
			w.T.Errorf("started twice: %v", err)
		}
		hub.Start()
		w.Eventually(time.Minute, "attached again", func() bool { return hub.Stats().Attached == 1 })
		hub.Host().Crash()
		hub.Start()
		alice.Host().Crash()
		if err := alice.Start(); err != nil {
			w.T.Error(err)
		}
		w.Eventually(time.Minute, "attached to the next", func() bool { return hub.Stats().Attached == 1 })
		_ = alice.Close(within(time.Second)) // by the program, not by the world
		if err := alice.Start(); err != nil {
			w.T.Error(err)
		}
	})
}

// TestClientFamilies attaches clients that have only one of the coordinator's families.
func TestClientFamilies(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		in := w.Internet()
		home := w.Gateway("home", in, sim.Firewall(), near)
		w.Coordinator(w.Host("hub", in, near, in.IPv4(), in.IPv6()), nil)
		four := w.Client(w.Host("four", in, near), nil)
		six := w.Client(w.Host("six", in, near, in.IPv6()), nil)
		inside := w.Client(w.Host("inside", home, near, home.IPv6()), nil)
		w.Go(func() { echoAll(six.Client) })
		w.Go(func() { echoAll(inside.Client) })
		greetAll(w, four, []*sim.Client{six, inside})
		for _, e := range six.Events() {
			if attached, ok := e.Event.(client.Attached); ok && !strings.HasPrefix(attached.Observed, "[2001:db8:") {
				w.T.Errorf("seen as %s", attached.Observed)
			}
		}
	})
}
