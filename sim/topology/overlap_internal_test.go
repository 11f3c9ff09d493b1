package topology

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// overlapping has a gateway wherever a fault may move alice, each with other addresses.
const overlapping = `
lines: {none: {latency: 0s}}
gateways:
  home: {nat: full-cone, line: none, inside: 10.1.0.0/24}
  cafe: {nat: full-cone, line: none, inside: 10.2.0.0/24}
  lte: {nat: full-cone, line: none, inside: 10.3.0.0/24}
coordinator: {line: none}
hosts: {alice: {at: home, line: {latency: 5ms}}}
faults:
`

// Faults of overlaps.
const (
	lineBad, lineWorse, lineFar = "line: {of: alice, to: {latency: 20ms}}", "line: {of: alice, to: {latency: 30ms}}", "line: {of: coordinator, to: {latency: 30ms}}"
	moveCafe, moveLTE           = "move: {host: alice, to: cafe}", "move: {host: alice, to: lte}"
	moveWifi                    = "move: {host: alice, to: cafe, line: {latency: 7ms}}"
)

// overlaps are faults that strike one victim at the same time.
var overlaps = []struct {
	name   string
	faults []string // the first is number 1
	then   string   // a number: that fault strikes; with a minus, it is over. What is the case after each is below
	states []string
}{
	{"line after a permanent one", []string{lineBad, lineWorse}, "1 2 -2", []string{"home 20ms", "home 30ms", "home 20ms"}},
	{"permanent line meanwhile", []string{lineWorse, lineBad}, "1 2 -1", []string{"home 30ms", "home 20ms", "home 20ms"}},
	{"lines", []string{lineBad, lineWorse}, "1 2 -1 -2", []string{"home 20ms", "home 30ms", "home 30ms", "home 5ms"}},
	{"lines, the later one is over first", []string{lineBad, lineWorse}, "1 2 -2 -1", []string{"home 20ms", "home 30ms", "home 20ms", "home 5ms"}},
	{"move after a permanent one", []string{moveCafe, moveLTE}, "1 2 -2", []string{"cafe 5ms", "lte 5ms", "cafe 5ms"}},
	{"permanent move meanwhile", []string{moveCafe, moveLTE}, "1 2 -1", []string{"cafe 5ms", "lte 5ms", "lte 5ms"}},
	{"moves to one place", []string{moveCafe, moveCafe}, "1 2 -1 -2", []string{"cafe 5ms", "cafe 5ms", "cafe 5ms", "home 5ms"}},
	{"moves with and without a line", []string{moveWifi, moveCafe}, "1 2 -2 -1", []string{"cafe 7ms", "cafe 5ms", "cafe 7ms", "home 5ms"}},
	{"a move takes the line along", []string{lineBad, moveCafe}, "1 2 -2 -1", []string{"home 20ms", "cafe 20ms", "home 20ms", "home 5ms"}},
	{"a line ends after a move", []string{lineBad, moveCafe}, "1 2 -1 -2", []string{"home 20ms", "cafe 20ms", "cafe 5ms", "home 5ms"}},
	{"a move gives another line", []string{lineBad, moveWifi}, "1 2 -2 -1", []string{"home 20ms", "cafe 7ms", "home 20ms", "home 5ms"}},
	{"a line after a move", []string{moveWifi, lineBad}, "1 2 -1 -2", []string{"cafe 7ms", "cafe 20ms", "home 20ms", "home 5ms"}},
	{"the coordinator's line", []string{lineFar, lineFar}, "1 2 -1 -2", []string{"home 35ms", "home 35ms", "home 35ms", "home 5ms"}},
	{
		"skews",
		[]string{"skew: {host: alice, by: 1h}", "skew: {host: alice, by: -2h}"},
		"1 2 -2 -1",
		[]string{"home 5ms skewed by 1h", "home 5ms skewed by -2h", "home 5ms skewed by 1h", "home 5ms"},
	},
	{
		"pauses",
		[]string{"pause: alice", "pause: alice"},
		"1 2 -2 -1",
		[]string{"home silent", "home silent", "home silent", "home 5ms"},
	},
	{
		"udp-blocked",
		[]string{"udp-blocked: home", "udp-blocked: home"},
		"1 2 -1 -2",
		[]string{"home silent", "home silent", "home silent", "home 5ms"},
	},
	{
		"crash and stop",
		[]string{"crash: alice", "stop: alice"},
		"1 2 -1 -2",
		[]string{"home 5ms down", "home 5ms down", "home 5ms down", "home 5ms"},
	},
	{
		"start ends what was before",
		[]string{"stop: alice", "start: alice", "crash: alice"},
		"1 2 3 -1 -3",
		[]string{"home 5ms down", "home 5ms", "home 5ms down", "home 5ms down", "home 5ms"},
	},
}

// TestOverlaps holds what faults of one kind leave behind that strike one victim at
// the same time: the latest counts that is not over.
func TestOverlaps(t *testing.T) {
	for _, test := range overlaps {
		t.Run(test.name, func(t *testing.T) {
			file := overlapping
			for _, fault := range test.faults {
				file += "- {at: 1s, " + fault + "}\n"
			}
			parsed, err := Parse("test.yaml", []byte(file))
			if err != nil {
				t.Fatal(err)
			}
			sim.Test(t, nil, func(w *sim.World) {
				p := newPlayer(w, parsed, nil)
				if err := p.build(); err != nil {
					t.Fatal(err)
				}
				undo := map[string]func(){}
				for i, step := range strings.Fields(test.then) {
					if number, over := strings.CutPrefix(step, "-"); over {
						undo[number]()
					} else {
						f := &p.topology.Faults[int(step[0]-'1')]
						undo[step] = p.strike(f, f.Hosts, f.To)
					}
					if got := p.stateOfAlice(t); got != test.states[i] {
						t.Errorf("after %q: %s, want %s", strings.Fields(test.then)[:i+1], got, test.states[i])
					}
				}
				if p.failed != nil {
					t.Error(p.failed)
				}
			})
		})
	}
}

// stateOfAlice finds out what faults have done: by her address, by a packet from her
// to the coordinator, by her clock.
func (p *player) stateOfAlice(t *testing.T) string {
	t.Helper()
	alice := p.members["alice"]
	text := ""
	for name, addrs := range alice.addrs {
		if alice.host.Addr() == addrs[0] {
			text += name
		}
	}
	if latency := p.latency(t, alice.host, p.hosts[coordinator]); latency > 0 {
		text += " " + latency.Round(time.Millisecond).String()
	} else {
		text += " silent"
	}
	if d := time.Until(alice.host.Now()); d != 0 {
		text += " skewed by " + brief(d)
	}
	if p.faults.down["alice"] {
		text += " down"
	}
	return text
}

// latency returns how long a packet takes, zero if it does not arrive.
func (p *player) latency(t *testing.T, from, to *sim.Host) time.Duration {
	t.Helper()
	sender, err := from.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	receiver, err := to.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	arrived := make(chan time.Time, 1)
	p.world.Go(func() {
		if err := receiver.Read(&netio.Batch{}); err == nil {
			arrived <- time.Now()
		}
	})
	began := time.Now()
	if err := sender.Write(netip.AddrPortFrom(to.Addr(), receiver.LocalAddr().Port()), netio.Packets{Data: []byte("x")}, false); err != nil {
		t.Fatal(err)
	}
	select {
	case at := <-arrived:
		return at.Sub(began)
	case <-time.After(time.Second):
		return 0
	}
}
