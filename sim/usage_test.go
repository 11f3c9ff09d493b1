package sim_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// TestUsage plays what the documentation of the package shows.
func TestUsage(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), sim.Line{Latency: 10 * time.Millisecond})
		alice := w.Client(w.Host("alice", home, sim.Line{Latency: time.Millisecond}), nil)
		bob := w.Client(w.Host("bob", w.Internet(), sim.Line{Loss: 0.01}), nil)
		w.After(3*time.Second, home.Reboot)
		heal := w.Add(sim.Block(alice.Host(), bob.Host())) // a fault is a rule; heal takes it back
		heal()
		w.Go(func() { echoAll(bob.Client) })
		greetAll(w, alice, []*sim.Client{bob})
	})
}

// TestReadme plays what the README shows.
func TestReadme(t *testing.T) {
	sim.Seeds(t, 20, nil, func(w *sim.World) {
		hub := w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), sim.Line{Latency: 10 * time.Millisecond})
		alice := w.Client(w.Host("alice", home, sim.Line{Loss: 0.01}), nil)
		bob := w.Client(w.Host("bob", w.Internet(), sim.Line{Rate: 2_000_000}), nil)
		w.After(3*time.Second, home.Reboot)
		w.After(5*time.Second, hub.Crash)
		w.Go(func() { echoAll(bob.Client) })
		greetAll(w, alice, []*sim.Client{bob})
		<-time.After(6 * time.Second)
	})
}

// TestShown checks that both show what is played here, up to the "…".
func TestShown(t *testing.T) {
	const end = "})"
	played := lines(t, "usage_test.go", "\t")
	for _, shown := range []struct{ file, comment, from string }{
		{"doc.go", "//", "sim.Test(t, nil, func(w *sim.World) {"},
		{"../README.md", "", "sim.Seeds(t, 20, nil, func(w *sim.World) {"},
	} {
		here, found := after(played, shown.from)
		there, shows := after(lines(t, shown.file, shown.comment), shown.from)
		if !found || !shows {
			t.Errorf("%s: no %q in it (%v), or not played (%v)", shown.file, shown.from, shows, found)
			continue
		}
		for i, line := range there {
			if line == end || strings.HasPrefix(line, "…") { // what follows is the reader's
				break
			}
			if i >= len(here) || here[i] != line {
				t.Errorf("%s shows %q, which is not what is played", shown.file, line)
				break
			}
		}
	}
}

// lines returns the lines of a file, without what they begin with.
func lines(t *testing.T, file, begin string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		list = append(list, strings.TrimSpace(strings.TrimPrefix(line, begin)))
	}
	return list
}

// after returns the lines after one.
func after(list []string, at string) (rest []string, found bool) {
	i := slices.Index(list, at)
	return list[i+1:], i >= 0
}
