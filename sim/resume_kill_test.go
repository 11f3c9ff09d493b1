package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// killing is a way to end a channel at the moment a certain packet is sent.
type killing struct {
	name  string
	drops func(p sim.Packet) bool          // what is lost from then on, until long after the channel has noticed
	abort func(a, b *resumeEnd) *resumeEnd // whose channel is aborted
}

// killings are the ways to end a channel.
var killings = []killing{
	{name: "nothing passes", drops: func(p sim.Packet) bool { return p.Source == "alice" || p.Destination == "alice" }},
	{name: "nothing from alice passes", drops: func(p sim.Packet) bool { return p.Source == "alice" }},
	{name: "nothing from bob passes", drops: func(p sim.Packet) bool { return p.Source == "bob" }},
	{name: "aborted by alice", abort: func(a, _ *resumeEnd) *resumeEnd { return a }},
	{name: "aborted by bob", abort: func(_, b *resumeEnd) *resumeEnd { return b }},
}

// TestResumeKillPoints ends the channel at each packet of the life of a resumable
// stream: opening, sending, acknowledging, moving, resuming (after an abort), ending,
// closing. Whatever the moment: everything comes once and in order, both sides
// end, and nothing is left over.
func TestResumeKillPoints(t *testing.T) {
	points := killPoint(t, killing{name: "unharmed"}, 0)
	if points < 40 {
		t.Fatalf("an unharmed run has %d packets: nothing to kill", points)
	}
	step := 1
	if testing.Short() {
		step = 31
	}
	for _, how := range killings {
		for at := 1; at <= points; at += step {
			killPoint(t, how, at)
		}
	}
}

// killPoint runs the life of a stream that is killed when the packet of a number is
// sent, and returns how many packets it took.
func killPoint(t *testing.T, how killing, at int) (packets int) {
	t.Helper()
	t.Run(fmt.Sprintf("%s at packet %d", how.name, at), func(t *testing.T) {
		sim.Test(t, nil, func(w *sim.World) {
			r := newResumeWorld(w, sim.Line{Latency: 5 * time.Millisecond}, func(c *client.Config) {
				c.ResumeWait = 20 * time.Second // what the opener has given up, the acceptor waits for in vain
			})
			struck := make(chan struct{})
			w.Add(func(p sim.Packet) sim.Verdict {
				if p.Source != "alice" && p.Source != "bob" {
					return sim.Verdict{}
				}
				if packets++; packets == at {
					close(struck)
				}
				return sim.Verdict{}
			})
			over := make(chan struct{})
			ends := make(chan [2]*resumeEnd, 1)
			w.Go(func() {
				select {
				case <-struck:
				case <-over:
					return
				}
				if how.drops != nil {
					heal := w.Add(func(p sim.Packet) sim.Verdict {
						if how.drops(p) {
							return sim.Drop()
						}
						return sim.Verdict{}
					})
					w.After(7*time.Second, func() { heal() })
				} else if how.abort != nil {
					select {
					case pair := <-ends:
						how.abort(pair[0], pair[1]).Channel().Abort()
					case <-over:
					}
				}
			})
			r.live(ends)
			close(over)
			if took := w.Elapsed(); took > time.Minute {
				w.T.Errorf("took %v", took)
			}
		})
	})
	return packets
}

// live opens a stream, sends in both directions, confirms, moves, lets a channel be
// lost, sends more each time, and ends everything. It tells ends of the two sides.
func (r *resumeWorld) live(ends chan<- [2]*resumeEnd) {
	r.T.Helper()
	a, b := r.openAnyway()
	ends <- [2]*resumeEnd{a, b}
	each := func(what string, do func(e *resumeEnd) error) {
		var all sync.WaitGroup
		for i, e := range []*resumeEnd{a, b} {
			all.Go(func() {
				if err := do(e); err != nil {
					r.T.Errorf("%s, end %d: %v", what, i, err)
				}
			})
		}
		all.Wait()
	}
	exchange := func(e *resumeEnd) error {
		for range 3 {
			if err := e.Send(r.ctx, numberedMessage(e.sent, 2000)); err != nil {
				return err
			}
			e.sent++
		}
		return e.Confirm(r.ctx)
	}
	each("exchange", exchange)
	if err := r.alice.Host().Move(r.places[1], resumeLine); err != nil {
		r.T.Fatal(err)
	}
	each("exchange after a move", exchange)
	a.Channel().Abort()
	each("exchange again", exchange)
	each("end", func(e *resumeEnd) error {
		e.CloseSend()
		e.receive(r.ctx)
		return e.err
	})
	if a.got != 9 || b.got != 9 || a.Confirmed() != 10 || b.Confirmed() != 9 {
		r.T.Errorf("received %d and %d, confirmed %d and %d of 10 and 9", a.got, b.got, a.Confirmed(), b.Confirmed())
	}
	for _, c := range []*sim.Client{r.alice, r.bob} {
		ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
		// A channel that is lost in this moment may say so.
		if err := c.Close(ctx); err != nil && !errors.Is(err, messages.ErrUnreachable) && !errors.Is(err, messages.ErrReset) && !errors.Is(err, context.DeadlineExceeded) {
			r.T.Errorf("%s: close: %v", c.Host().Name(), err)
		}
		cancel()
	}
}

// openAnyway opens a stream and, if that fails, another one. What the peer has
// accepted of those that failed must end with nothing received.
func (r *resumeWorld) openAnyway() (a, b *resumeEnd) {
	r.T.Helper()
	for range 20 {
		ctx, cancel := context.WithTimeout(r.ctx, 4*time.Second)
		out, err := r.alice.OpenStream(ctx, "bob", &client.StreamOptions{Purpose: resumePurpose, Resumable: true})
		cancel()
		if err != nil {
			<-time.After(time.Second) // bob may be cut off from the coordinator
			continue
		}
		if err = out.Send(r.ctx, []byte("mine")); err != nil {
			r.T.Fatal(err)
		}
		for {
			in, err := r.bob.AcceptStream(r.ctx)
			if err != nil {
				r.T.Fatal(err)
			}
			if message, err := in.Receive(r.ctx); err == nil && string(message) == "mine" {
				a, b = &resumeEnd{Stream: out}, &resumeEnd{Stream: in}
				return a, b
			} else if errors.Is(err, io.EOF) || !errors.Is(err, messages.ErrReset) && !errors.Is(err, messages.ErrInDoubt) {
				r.T.Errorf("a stream that was never opened ended with %v", err)
			}
		}
	}
	r.T.Fatal("no stream could be opened")
	return nil, nil
}
