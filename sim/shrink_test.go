package sim_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var shrinkFor = flag.Duration("shrink", time.Minute, "how long a schedule that fails is made shorter; 0 does not")

// faultMark begins the lines that say what was wrong with a play, before its kind.
const faultMark = "fault "

// playTimeout is how long one play may take in real time.
const playTimeout = 90 * time.Second

// TestShrink makes a schedule that fails shorter: that of -schedule, or of -seed.
// Other than TestSchedules, it gets along with one that ends the test binary.
func TestShrink(t *testing.T) {
	switch {
	case *scheduleIn != "":
		shrinkAndShow(t, readSchedule(t, *scheduleIn))
	case *seed != 0:
		shrinkAndShow(t, drawSchedule(*seed))
	default:
		t.Skip("neither -schedule nor -seed was given")
	}
}

// shrinkAndShow finds the shortest schedule that fails as a given one does. Each is
// played by a process of its own, whatever becomes of it.
func shrinkAndShow(t *testing.T, s *schedule) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *shrinkFor)
	defer cancel()
	folder := t.TempDir()
	kind, output := playApart(t, folder, s)
	if kind == "" {
		t.Logf("the schedule did not fail again:\n%s", s)
		return
	}
	plays := 0
	shortest := shrink(s, func(candidate *schedule) bool {
		if ctx.Err() != nil {
			return false
		}
		plays++
		same, now := playApart(t, folder, candidate)
		if same == kind {
			output = now
			return true
		}
		return false
	})
	kept, err := os.CreateTemp("", "schedule-*.txt") //nolint:usetesting // for later
	if err == nil {
		_, err = kept.WriteString(shortest.String())
		err = errors.Join(err, kept.Close())
	}
	if err != nil {
		t.Error(err)
		return
	}
	t.Errorf("of %d steps, %d are left after %d plays; repeat with\n\tgo test ./sim -run 'TestSchedule$' -schedule %s\n%s\n%s",
		len(s.steps), len(shortest.steps), plays, kept.Name(), shortest, output)
}

// playApart plays a schedule in a process of its own. It returns what kind of fault
// there was, empty if none, and what the process wrote about it.
func playApart(t *testing.T, folder string, s *schedule) (kind, output string) {
	t.Helper()
	file := filepath.Join(folder, "schedule.txt")
	if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	play := exec.CommandContext(ctx, binary, "-test.run=^TestSchedule$", "-shrink=0", "-schedule="+file)
	written, err := play.CombinedOutput()
	if err == nil {
		return "", ""
	}
	return kindOf(string(written))
}

// kindOf returns what kind of fault the output of a play tells, and its lines about it.
func kindOf(output string) (kind, told string) {
	var lines []string
	for line := range strings.Lines(output) {
		_, fault, ok := strings.Cut(line, faultMark)
		if !ok && strings.HasPrefix(line, "panic: ") {
			fault, ok = line, true
		}
		if !ok {
			continue
		}
		if kind == "" {
			kind, _, _ = strings.Cut(fault, ": after")
		}
		lines = append(lines, strings.TrimSpace(fault))
	}
	if kind == "" {
		return "other", output[max(0, len(output)-2000):]
	}
	return kind, strings.Join(lines, "\n")
}

// shrink returns the shortest schedule for which fails still says true, by taking
// away steps, in halves and quarters first (Zeller's delta debugging), then places
// and amounts, as long as something is gained.
func shrink(s *schedule, fails func(*schedule) bool) *schedule {
	for {
		before := s.String()
		s = withoutSteps(s, fails)
		for _, simpler := range []func(*schedule) []*schedule{simplerWorlds, simplerSteps, earlierSteps} {
			for again := true; again; {
				again = false
				for _, candidate := range simpler(s) {
					if fails(candidate) {
						s, again = candidate, true
						break
					}
				}
			}
		}
		if s.String() == before {
			return s
		}
	}
}

func withoutSteps(s *schedule, fails func(*schedule) bool) *schedule {
	for size := len(s.steps) / 2; size >= 1; size /= 2 {
		for at := 0; at < len(s.steps); {
			candidate := s.clone()
			candidate.steps = slices.Delete(candidate.steps, at, min(at+size, len(s.steps)))
			if fails(candidate) {
				s = candidate
			} else {
				at += size
			}
		}
	}
	return s
}

func (s *schedule) clone() *schedule {
	c := *s
	c.gateways, c.clients, c.steps = slices.Clone(s.gateways), slices.Clone(s.clients), slices.Clone(s.steps)
	return &c
}

// changed returns copies of a schedule, each with one change that is one.
func (s *schedule) changed(changes ...func(c *schedule)) (list []*schedule) {
	text := s.String()
	for _, change := range changes {
		c := s.clone()
		if change(c); c.String() != text {
			list = append(list, c)
		}
	}
	return list
}

// simplerWorlds returns schedules with less topology.
func simplerWorlds(s *schedule) []*schedule {
	changes := []func(c *schedule){
		func(c *schedule) { c.backlog, c.streams, c.mtu = 0, 0, 0 },
		func(c *schedule) { c.gateways = nil }, // who is inside is outside then
	}
	if last := len(s.clients) - 1; last >= 2 {
		changes = append(changes, func(c *schedule) { c.clients = c.clients[:last] })
	}
	if last := len(s.gateways) - 1; last >= 0 {
		changes = append(changes, func(c *schedule) { c.gateways = c.gateways[:last] })
	}
	for i := range s.clients {
		changes = append(changes,
			func(c *schedule) { c.clients[i].at = outside },
			func(c *schedule) { c.clients[i].line = 0 })
	}
	for i := range s.gateways {
		changes = append(changes,
			func(c *schedule) { c.gateways[i].nat = 0 },
			func(c *schedule) { c.gateways[i].at = outside },
			func(c *schedule) { c.gateways[i].line = 0 })
	}
	return s.changed(changes...)
}

// simplerSteps returns schedules with one amount less.
func simplerSteps(s *schedule) []*schedule {
	var changes []func(c *schedule)
	for i := range s.steps {
		changes = append(changes,
			func(c *schedule) { c.steps[i].count = min(1, c.steps[i].count) },
			func(c *schedule) { c.steps[i].count /= 2 },
			func(c *schedule) { c.steps[i].size = min(1, c.steps[i].size) },
			func(c *schedule) { c.steps[i].size /= 2 },
			func(c *schedule) { c.steps[i].every = 0 },
			func(c *schedule) { c.steps[i].last = 0 },
			func(c *schedule) { c.steps[i].last = (c.steps[i].last / 2).Truncate(10 * time.Millisecond) },
			func(c *schedule) { c.steps[i].how = 0 })
	}
	return s.changed(changes...)
}

// earlierSteps returns schedules in which less time passes before one step.
func earlierSteps(s *schedule) []*schedule {
	var changes []func(c *schedule)
	for i := range s.steps {
		for _, part := range []time.Duration{1, 2} {
			changes = append(changes, func(c *schedule) {
				before := time.Duration(0)
				if i > 0 {
					before = c.steps[i-1].at
				}
				less := (c.steps[i].at - before) / part
				if part > 1 {
					less = less.Truncate(10 * time.Millisecond)
				}
				for j := i; j < len(c.steps); j++ {
					c.steps[j].at -= less
				}
			})
		}
	}
	return s.changed(changes...)
}

// TestShrinking makes a schedule shorter that fails for a reason that can be told
// from its text.
func TestShrinking(t *testing.T) {
	s := drawSchedule(7)
	for s.seed = 8; !hasCrashAfterOpen(s); s.seed++ {
		s = drawSchedule(s.seed)
	}
	plays := 0
	shortest := shrink(s, func(candidate *schedule) bool {
		plays++
		return hasCrashAfterOpen(candidate)
	})
	want := fmt.Sprintf("seed %d\nlimits backlog=0 streams=0 mtu=0\nclient a at=internet line=good\nclient b at=internet line=good\n"+
		"0s open stream=%d who=%s whom=%s how=auto\n0s crash who=%s last=1s\n",
		s.seed, shortest.steps[0].stream, clientName(shortest.steps[0].who), clientName(shortest.steps[0].whom), clientName(shortest.steps[1].who))
	want = strings.Replace(want, "last=1s", "last="+shortest.steps[1].last.String(), 1)
	if got := shortest.String(); got != want || shortest.steps[1].last < time.Second || shortest.steps[1].last >= 2*time.Second {
		t.Errorf("after %d plays:\n%s\nwant:\n%s", plays, got, want)
	}
}

// hasCrashAfterOpen reports whether a crash of a second or more comes after a stream
// was opened.
func hasCrashAfterOpen(s *schedule) bool {
	opened := false
	for _, step := range s.steps {
		opened = opened || step.do == doOpen
		if opened && step.do == doCrash && step.last >= time.Second {
			return true
		}
	}
	return false
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct{ output, kind string }{
		{"    random_test.go:1: fault lost: after 3s: stream 1\n    random_test.go:1: fault hang: after 4s: x\n", "lost"},
		{"panic: runtime error: index out of range [3]\ngoroutine 1\n", "panic: runtime error: index out of range [3]\n"},
		{"exit status 2", "other"},
	} {
		if kind, _ := kindOf(test.output); kind != test.kind {
			t.Errorf("%q is of kind %q, want %q", test.output, kind, test.kind)
		}
	}
}
