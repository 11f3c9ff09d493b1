package sim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// largeGroup joins a group that keeps much, and has another member send to it.
func (w *world) largeGroup(line sim.Line) (from, to *client.Group, member *program) {
	w.T.Helper()
	sender, member := w.client("sender", near, nil), w.client("member", line, nil)
	options := &client.JoinOptions{Make: client.GroupOptions{Keep: 4 << 20}}
	to, err := member.Current().Join(within(10*time.Second), "room", options)
	w.must(err)
	from, err = sender.Current().Join(within(10*time.Second), "room", options)
	w.must(err)
	return from, to, member
}

// inOrder receives numbered messages until their end, or one is missing, and returns the number of the next.
func (w *world) inOrder(g *client.Group, next int) int {
	for {
		message, err := g.Receive(within(2 * time.Minute))
		if err != nil || message.Missed != 0 || !strings.HasPrefix(string(message.Data), fmt.Sprint(next, "x")) {
			return next
		}
		next++
	}
}

// TestHomeNarrows has the network between a coordinator and a member of a group take smaller packets than before: the member
// notices within 22 s, or 67 s if none had come for long, though small packets still come, and misses nothing.
func TestHomeNarrows(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"busy": 0, "quiet": 80 * time.Second} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && quiet == 0 {
				t.Skip("the other one has all of it")
			}
			inWorld(t, 1, func(w *world) {
				from, to, member := w.largeGroup(near)
				sent, last := 0, make(chan int, 1)
				send := func(d time.Duration) {
					w.T.Helper()
					go func(next int) { last <- w.inOrder(to, next) }(sent)
					for began := time.Now(); time.Since(began) < d; time.Sleep(100 * time.Millisecond) {
						w.must(from.Send(within(time.Minute), []byte(fmt.Sprint(sent, strings.Repeat("x", 5000)))))
						sent++
					}
					w.must(from.Send(within(time.Minute), []byte("end")))
					if got := <-last; got != sent {
						w.T.Fatalf("%d messages came, want %d", got, sent)
					}
				}
				send(30 * time.Second)
				w.must(member.Host().SetLine(narrowLine))
				narrowed := time.Now()
				time.Sleep(quiet)
				send(time.Second)
				const limit = 22 * time.Second
				if took := time.Since(narrowed); quiet == 0 && took > limit {
					w.T.Errorf("the member noticed after %v, want %v", took, limit)
				}
				if gone := ends(member, narrowed); len(gone) != 1 || !strings.Contains(gone[0].Err.Error(), "packets of") {
					w.T.Errorf("the member heard %v, want one end", gone)
				}
				resumed := time.Now()
				send(2 * time.Minute)
				if gone := ends(member, resumed); gone != nil {
					w.T.Errorf("it goes on ending: %v", gone)
				}
			})
		})
	}
}

// TestHomeStaysWide has a member whose network loses packets, or takes smaller ones on the way to the coordinator
// than on the way back: it stays attached.
func TestHomeStaysWide(t *testing.T) {
	lasts := 20 * time.Minute
	if testing.Short() {
		lasts /= 5
	}
	lossy := near
	lossy.Loss = 0.1
	oneWay := func(w *world) {
		w.Add(func(p sim.Packet) sim.Verdict {
			if p.Source == "member" && len(p.Payload) > 1300 {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
	}
	for name, test := range map[string]struct {
		line sim.Line
		rule func(w *world)
	}{"loss": {lossy, func(*world) {}}, "one way": {near, oneWay}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				test.rule(w)
				from, to, member := w.largeGroup(test.line)
				began := time.Now()
				for time.Since(began) < lasts {
					w.must(from.Send(within(time.Minute), make([]byte, 20_000)))
					_, err := to.Receive(within(time.Minute))
					w.must(err)
					time.Sleep(time.Second)
				}
				if gone := ends(member, began); gone != nil {
					w.T.Errorf("detached: %v", gone)
				}
			})
		})
	}
}
