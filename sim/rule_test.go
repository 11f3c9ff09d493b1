package sim_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

func TestRules(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: 10 * time.Millisecond, Loss: 1}, sim.Line{}, func(w *wire) {
		var seen []sim.Packet
		forget := w.Add(func(p sim.Packet) sim.Verdict {
			p.Payload = bytes.Clone(p.Payload)
			seen = append(seen, p)
			return sim.Verdict{}
		})
		late := w.Add(func(p sim.Packet) sim.Verdict {
			if string(p.Payload) == "late" {
				return sim.DeliverAfter(time.Second)
			}
			return sim.Verdict{}
		})
		pass := w.Add(func(p sim.Packet) sim.Verdict {
			if string(p.Payload) == "pass" {
				return sim.Pass()
			}
			return sim.Verdict{}
		})
		drop := w.Add(func(sim.Packet) sim.Verdict { return sim.Drop() })
		w.send("late")
		w.send("pass")
		w.send("drop")
		got := w.take(2 * time.Second)
		if !slices.Equal(texts(got), []string{"late"}) || got[0].after != time.Second { // past the line that loses all
			t.Errorf("got %+v", got)
		}
		if stats := w.Stats(); stats.Ended[sim.Ruled] != 1 || stats.Ended[sim.Lost] != 1 {
			t.Errorf("%v", stats)
		}
		want := sim.Packet{Source: "alice", Destination: "bob", From: aliceAddr, To: bobAddr, Payload: []byte("late")}
		if got := fmt.Sprintf("%+v", seen[0]); len(seen) != 3 || got != fmt.Sprintf("%+v", want) {
			t.Errorf("saw %d packets, the first %s", len(seen), got)
		}
		drop()
		drop()
		pass()
		late()
		forget()
		if err := w.alice.SetLine(sim.Line{}); err != nil {
			t.Fatal(err)
		}
		w.send("free")
		if got := w.take(time.Second); !slices.Equal(texts(got), []string{"free"}) || len(seen) != 3 {
			t.Errorf("got %+v without rules", got)
		}
	})
}

func TestCutBlockPartition(t *testing.T) {
	tests := []struct {
		name string
		rule func(h []*sim.Host) sim.Rule
		lost []string // from, to
	}{
		{"cut", func(h []*sim.Host) sim.Rule { return sim.Cut(h[0], h[1]) }, []string{"01"}},
		{"block", func(h []*sim.Host) sim.Rule { return sim.Block(h[0], h[1]) }, []string{"01", "10"}},
		{
			"partition", func(h []*sim.Host) sim.Rule { return sim.Partition(h[:2], h[2:3]) }, // 3 is in no group
			[]string{"02", "12", "20", "21"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
				var list []*sim.Host
				links := map[string]netio.Link{}
				for i := range 4 {
					at := addr(fmt.Sprintf("10.0.1.%d:1", i))
					h := w.host(fmt.Sprint(i), at, sim.Line{})
					list = append(list, h)
					links[h.Name()] = w.listen(h, at)
					w.read(links[h.Name()])
				}
				w.Add(test.rule(list))
				var lost []string
				for _, from := range list {
					for _, to := range list {
						if err := links[from.Name()].Write(netip.AddrPortFrom(to.Addr(), 1), netio.Packets{Data: []byte("x")}, false); err != nil {
							t.Fatal(err)
						}
						if len(w.take(time.Millisecond)) == 0 {
							lost = append(lost, from.Name()+to.Name())
						}
					}
				}
				if !slices.Equal(lost, test.lost) {
					t.Errorf("lost %v, want %v", lost, test.lost)
				}
			})
		})
	}
}
