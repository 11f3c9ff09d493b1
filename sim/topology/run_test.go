package topology_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
	"github.com/conec-go/conec/sim/topology"
)

// played is what came of a run.
type played struct {
	*topology.Report
	stats  []topology.Stats
	events []topology.Event
}

// play plays a file that is right. pace may be nil.
func play(t *testing.T, seed uint64, file string, pace func(time.Duration) error) (played, error) {
	t.Helper()
	parsed, err := topology.Parse("test.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	var p played
	sim.Test(t, &sim.Options{Seed: seed, Limit: parsed.Duration + parsed.Settle + 5*time.Minute}, func(w *sim.World) {
		p.Report, err = topology.Run(w, parsed, &topology.Observer{
			Stats: func(s topology.Stats) { p.stats = append(p.stats, s) },
			Event: func(e topology.Event) { p.events = append(p.events, e) },
			Pace:  pace,
		})
	})
	return p, err
}

func mustPlay(t *testing.T, seed uint64, file string) played {
	t.Helper()
	p, err := play(t, seed, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p played) text(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	if err := p.Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// happened returns the events of a kind as lines.
func (p played) happened(what string) (list []string) {
	for _, e := range p.events {
		if e.What == what {
			list = append(list, e.String())
		}
	}
	return list
}

// TestExamples plays all files that users start from.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/topologies/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range append(files, "example.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if raceEnabled && testing.Short() && strings.Contains(file, "hundreds") {
				t.Skip("takes a minute with the race detector")
			}
			p := mustPlay(t, 1, string(text))
			if len(p.Expect) == 0 {
				t.Error("it expects nothing")
			}
			if !p.Held() {
				t.Errorf("not what was expected:\n%s", p.text(t))
			}
		})
	}
}

// pair is two clients at home with relayed and direct traffic between them.
const pair = `
duration: 45s
gateways: {home: {nat: port-restricted}, flat: {nat: full-cone}, spare: {nat: full-cone}}
hosts: {alice: {at: home}, bob: {at: flat}}
traffic:
  relayed: {kind: messages, from: alice, to: bob, path: relayed, rate: 10/s}
  direct: {kind: requests, from: alice, to: bob, path: direct, rate: 10/s}
`

// TestFaults holds that each fault does what it says, for as long as it says.
func TestFaults(t *testing.T) {
	const (
		settled = 3 * time.Second  // until programs have noticed that all is well again
		idle    = 15 * time.Second // half of what a channel outlasts a peer that is gone
	)
	tests := []struct {
		name, fault      string
		relayed, direct  time.Duration // the least gap; 0: there is none
		broken, attached int           // streams, at least; attachments
	}{
		{"nothing", "", 0, 0, 0, 2},
		{"cut", "at: 5s, for: 2s, cut: {from: alice, to: coordinator}", 2 * time.Second, 0, 0, 2},
		{"cut the way back", "at: 5s, for: 2s, cut: {from: coordinator, to: bob}", 2 * time.Second, 0, 0, 2},
		{"cut only one way", "at: 5s, for: 2s, cut: {from: bob, to: coordinator}", 0, 0, 0, 2},
		{"block", "at: 5s, for: 2s, block: {from: bob, to: coordinator}", 2 * time.Second, 0, 0, 2},
		{"block pair", "at: 5s, for: 2s, block: {from: alice, to: bob}", 0, 2 * time.Second, 0, 2},
		{"partition", "at: 5s, for: 2s, partition: [alice, [bob, coordinator]]", 2 * time.Second, 2 * time.Second, 0, 2},
		{"line", "at: 5s, for: 2s, line: {of: bob, to: {loss: 100%}}", 2 * time.Second, 2 * time.Second, 0, 2},
		{"pause", "at: 5s, for: 2s, pause: alice", 2 * time.Second, 2 * time.Second, 0, 2},
		{"udp-blocked", "at: 5s, for: 2s, udp-blocked: home", 2 * time.Second, 2 * time.Second, 0, 2},
		{"skew", "at: 5s, for: 2s, skew: {host: alice, by: 87600h}", 0, 0, 0, 2},
		{"crash client", "at: 5s, for: 2s, crash: bob", 2 * time.Second, 2 * time.Second, 2, 3},
		{"stop client", "at: 5s, for: 2s, stop: bob", 2 * time.Second, 2 * time.Second, 2, 3},
		{"stop coordinator", "at: 5s, for: 2s, stop: coordinator", 2 * time.Second, 0, 0, 4},
		{"random", "random: 6/m, from: 5s, until: 15s, for: 1s..2s, pause: all", time.Second, time.Second, 0, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := pair
			if test.fault != "" {
				file += "faults: [{" + test.fault + "}]\n"
			}
			p := mustPlay(t, 3, file)
			for i, least := range []time.Duration{test.relayed, test.direct} {
				name, gap := p.Traffic[i].Name, p.Traffic[i].Gap
				if least == 0 && gap > settled/2 || least > 0 && (gap < least || gap > least+4*settled+time.Duration(test.broken)*idle) {
					t.Errorf("%s: longest gap is %v, and the fault lasts %v", name, gap, least)
				}
			}
			if broken := p.Traffic[0].Broken + p.Traffic[1].Broken; broken < test.broken || test.broken == 0 && broken > 0 {
				t.Errorf("%d streams broke, want at least %d", broken, test.broken)
			}
			if p.Attachments < test.attached || test.attached == 2 && p.Attachments > 2 {
				t.Errorf("%d attachments, want %d", p.Attachments, test.attached)
			}
			if test.broken == 0 && p.Traffic[0].Missing+p.Traffic[1].Missing > 0 {
				t.Errorf("%d and %d messages are missing", p.Traffic[0].Missing, p.Traffic[1].Missing)
			}
			if p.Attached != 2 || p.Traffic[0].Relayed != 1 || p.Traffic[1].Direct != 1 {
				t.Errorf("at the end all is not well again")
			}
			if (test.fault != "") != (len(p.happened("fault")) > 0) {
				t.Errorf("faults that were told: %q", p.happened("fault"))
			}
			if t.Failed() {
				t.Logf("%s\n%s", strings.Join(p.happened("fault"), "\n"), p.text(t))
			}
		})
	}
}

// TestNotHeld gives each check something that does not hold.
func TestNotHeld(t *testing.T) {
	p := mustPlay(t, 1, `
duration: 20s
settle: 0s
gateways: {hard: {nat: symmetric}, home: {nat: symmetric}}
hosts: {alice: {at: home}, bob: {at: hard}, carol: {line: {rate: 20Mbit/s}}, dave: {start: 10s}, erin: {}}
traffic:
  chat: {kind: messages, from: alice, to: bob, rate: 10/s}
  ask: {kind: requests, from: alice, to: [bob, carol], rate: 2/s}
  big: {kind: transfer, from: carol, to: bob, bytes: 100MB, start: 1s}
  lost: {kind: messages, from: carol, to: dave, rate: 10/s}
  left: {kind: messages, from: carol, to: erin, rate: 10/s}
faults:
  - {at: 15s, stop: erin}
  - {at: 15s, crash: dave}
  - {at: 5s, for: 3s, pause: alice}
expect:
  - {attached: [alice, bob, dave]}
  - {attached: [alice, bob, dave], by: 5s}
  - {delivered: all, of: lost}
  - {delivered: all, of: big}
  - {broken: 0}
  - {path: direct, of: chat}
  - {path: relayed, of: ask}
  - {path: direct, of: ask, share: 51%}
  - {longest-gap: 1s, of: chat}
  - {throughput: 1Gbit/s, of: big}
  - {latency-p50: 1ms, of: chat}
  - {latency-p99: 50ms, of: chat}
  - {rtt-p50: 1ms}
  - {rtt-p99: 50ms}
  - {finished: big}
`)
	found := []string{
		`2 of 3, without dave`,
		`2 of 3, without dave`,
		`\d+ of \d+ messages; missing carol → dave: \d+`,
		`\d+ of \d+ messages; missing (carol → bob: \d+, )?carol → bob: [\d.]+ MB of 100.0 MB`,
		`1 streams; carol → erin: 1`,
		`0 of 1 pairs direct; alice → bob: relayed`,
		`1 of 2 pairs relayed; alice → carol: direct`,
		`1 of 2 pairs direct; alice → bob: relayed`,
		`[3-6](\.\d+)?s, alice → bob`,
		`[\d.]+ Mbit/s, carol → bob`,
		`[\d.]+ms, chat`,
		`[\d.]+m?s, chat`,
		`[\d.]+ms, ask`,
		`[\d.]+m?s, ask`,
		`0 of 1; carol → bob has [\d.]+ MB of 100.0 MB`,
	}
	for i, o := range p.Expect {
		if o.Held {
			t.Errorf("held: %s (%s)", o.Text, o.Found)
		}
		if !regexp.MustCompile(`^` + found[i] + `$`).MatchString(o.Found) {
			t.Errorf("%s: found %q, want %s", o.Text, o.Found, found[i])
		}
	}
	if p.Held() {
		t.Error("the report says that all held")
	}
	text := p.text(t)
	if want := fmt.Sprintf("%d of %d expectations did not hold\n", len(found), len(found)); !strings.HasSuffix(text, want) {
		t.Errorf("the report does not end with %q:\n%s", want, text)
	}
	if got := p.happened("expect"); len(got) != 1 || !strings.Contains(got[0], "5.000s  expect: not held: attached: [alice, bob, dave], by: 5s") {
		t.Errorf("told while it happened: %q", got)
	}
}

// busy has everything that a seed decides.
const busy = `
duration: 20s
gateways: {homes: {nat: port-restricted, line: {latency: 5ms, loss: 1%}, count: 4}}
groups: {p: {count: 10, at: homes}, q: {count: 5}}
traffic:
  gossip: {kind: messages, from: p, to: p, peers: 2, rate: 2/s}
  ask: {kind: requests, from: q, to: p, peers: 1, rate: 2/s}
  give: {kind: transfer, from: q, to: q, peers: 1, bytes: 100kB}
faults:
  - {random: 30/m, for: 1s..3s, line: {of: p, to: {loss: 20%}}}
  - {random: 6/m, for: 1s..3s, crash: p}
`

// TestSeed holds what a seed repeats on any machine: who talks to whom, and which
// faults strike whom when. Package sim's tests hold how much more it does.
func TestSeed(t *testing.T) {
	first, again, other := mustPlay(t, 5, busy), mustPlay(t, 5, busy), mustPlay(t, 6, busy)
	for _, what := range []struct {
		name string
		of   func(played) []string
	}{
		{"faults", func(p played) []string { return p.happened("fault") }},
		{"pairs", played.pairs},
	} {
		a, b, c := what.of(first), what.of(again), what.of(other)
		if len(a) == 0 || !slices.Equal(a, b) {
			t.Errorf("%s of one seed differ:\n%s\n\n%s", what.name, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		if slices.Equal(a, c) {
			t.Errorf("%s of another seed are the same", what.name)
		}
	}
	if a, b := first.text(t), again.text(t); a != b {
		t.Logf("the reports differ, as with the race detector or on an overloaded machine:\n%s\n%s", a, b)
	}
}

// pairs returns who had a path to whom.
func (p played) pairs() (list []string) {
	for _, e := range p.events {
		if _, peer, ok := strings.Cut(e.Text, " to "); ok && e.What == "path" {
			list = append(list, e.Who+" "+peer)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestStats(t *testing.T) {
	p := mustPlay(t, 1, pair)
	if len(p.stats) != 45 {
		t.Fatalf("stats %d times in 45 seconds", len(p.stats))
	}
	for i, s := range p.stats {
		if want := time.Duration(i+1) * time.Second; s.At < want || s.At > want+10*time.Millisecond {
			t.Errorf("stats at %v, want %v", s.At, want)
		}
	}
	if s := p.stats[10]; s.Attached != 2 || s.Clients != 2 || s.Relayed != 1 || s.Direct != 1 || s.Unconnected != 0 ||
		s.MessagesPerSecond < 28 || s.MessagesPerSecond > 32 || s.BytesPerSecond < 28*200 || s.PacketsPerSecond < 30 || s.Missing > 4 {
		t.Errorf("stats are %+v; want two clients, a pair of each kind, 30 messages of 200 bytes a second", s)
	}
}

// TestPace holds that a run goes no faster than it is let, and ends when it is told to.
func TestPace(t *testing.T) {
	enough := errors.New("enough")
	var calls []time.Duration
	p, err := play(t, 1, pair, func(elapsed time.Duration) error {
		calls = append(calls, elapsed)
		if elapsed >= 2*time.Second {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("error is %v", err)
	}
	if p.Report == nil || p.Elapsed < 2*time.Second || p.Elapsed > 2200*time.Millisecond {
		t.Errorf("report is %+v; want that of the first 2 seconds", p.Report)
	}
	for i := 1; i < len(calls); i++ {
		if step := calls[i] - calls[i-1]; step > 101*time.Millisecond {
			t.Errorf("%v between calls", step)
		}
	}
}

// TestSmallSteps holds that an observer cannot keep the clock from going on.
func TestSmallSteps(t *testing.T) {
	parsed, err := topology.Parse("test.yaml", []byte("duration: 1s\nhosts: {alice: {}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	calls, enough := 0, errors.New("enough")
	sim.Test(t, nil, func(w *sim.World) {
		_, err = topology.Run(w, parsed, &topology.Observer{Every: 1, Step: 1, Stats: func(topology.Stats) {}, Pace: func(time.Duration) error {
			if calls++; calls > 5000 {
				return enough
			}
			return nil
		}})
	})
	if err != nil || calls < 900 {
		t.Errorf("after %d looks: %v; want about a thousand in a second", calls, err)
	}
}
