package sim_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// resumePurpose is what resumable streams in these tests are for.
const resumePurpose = "resume"

// resumeEnd is one side of a resumable stream: it sends numbered messages and
// checks that those of the other side come once and in order.
type resumeEnd struct {
	*client.Stream
	sent, got uint64
	err       error // why receiving ended, nil after the other side's end
	sendErr   error
}

// numberedMessage is the message of a number.
func numberedMessage(n uint64, size int) []byte {
	message := bytes.Repeat([]byte{byte(n)}, 8+size)
	binary.BigEndian.PutUint64(message, n)
	return message
}

// send sends count messages with pauses, and then the end.
func (e *resumeEnd) send(ctx context.Context, random *rand.Rand, count uint64, pause time.Duration) {
	for e.sent < count && e.sendErr == nil {
		size := random.IntN(300)
		if random.IntN(20) == 0 {
			size = random.IntN(100 << 10)
		}
		if e.sendErr = e.Send(ctx, numberedMessage(e.sent, size)); e.sendErr == nil {
			e.sent++
		}
		if random.IntN(4) == 0 {
			<-time.After(time.Duration(random.Int64N(int64(2*pause) + 1)))
		}
	}
	if e.sendErr == nil {
		e.CloseSend()
	}
}

// receive receives until the end. A message that is not the next ends it with an error.
func (e *resumeEnd) receive(ctx context.Context) {
	for {
		message, err := e.Receive(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			e.err = err
			return
		case binary.BigEndian.Uint64(message) != e.got || !bytes.Equal(message, numberedMessage(e.got, len(message)-8)):
			e.err = fmt.Errorf("message %d came instead of %d", binary.BigEndian.Uint64(message), e.got)
			return
		}
		e.got++
	}
}

// resumeWorld is a world with two clients and streams between them.
type resumeWorld struct {
	*sim.World
	coordinator *sim.Coordinator
	alice, bob  *sim.Client
	ctx         context.Context //nolint:containedctx // of the whole scenario
	ends        []*resumeEnd
	places      []sim.Place // where alice may be
	down        atomic.Bool // the coordinator is
}

// newResumeWorld makes clients that notice a cut soon.
func newResumeWorld(w *sim.World, line sim.Line, change func(*client.Config)) *resumeWorld {
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	w.T.Cleanup(cancel)
	r := &resumeWorld{World: w, ctx: ctx}
	r.coordinator = w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{Latency: 5 * time.Millisecond}), nil)
	r.places = []sim.Place{
		w.Internet(),
		w.Gateway("home", w.Internet(), sim.PortRestricted(), line),
		w.Gateway("lte", w.Internet(), sim.Symmetric(), line),
	}
	fast := func(c *client.Config) {
		c.IdleTimeout, c.KeepAlive = 3*time.Second, time.Second
		if change != nil {
			change(c)
		}
	}
	r.alice = w.Client(w.Host("alice", w.Internet(), line), fast)
	r.bob = w.Client(w.Host("bob", w.Internet(), line), fast)
	return r
}

// open opens a resumable stream from alice to bob.
func (r *resumeWorld) open() (a, b *resumeEnd) {
	r.T.Helper()
	return r.openFrom(r.alice, r.bob)
}

// openFrom opens a resumable stream from one client to another.
func (r *resumeWorld) openFrom(from, to *sim.Client) (a, b *resumeEnd) {
	r.T.Helper()
	out, err := from.OpenStream(r.ctx, to.Name(), &client.StreamOptions{Purpose: resumePurpose, Resumable: true})
	if err != nil {
		r.T.Fatal(err)
	}
	in, err := to.AcceptStream(r.ctx)
	if err != nil {
		r.T.Fatal(err)
	}
	a, b = &resumeEnd{Stream: out}, &resumeEnd{Stream: in}
	r.ends = append(r.ends, a, b)
	return a, b
}

// run sends in both directions, and checks that everything came.
func (r *resumeWorld) run(count uint64, pause time.Duration, ends ...*resumeEnd) {
	r.T.Helper()
	var all sync.WaitGroup
	for i, e := range ends {
		random := rand.New(rand.NewPCG(r.Rand().Uint64(), uint64(i)))
		all.Go(func() { e.send(r.ctx, random, count, pause) })
		all.Go(func() { e.receive(r.ctx) })
	}
	all.Wait()
	for i, e := range ends {
		if e.err != nil || e.sendErr != nil || e.got != count || e.sent != count {
			r.T.Errorf("end %d: sent %d, %v; received %d, %v; want %d", i, e.sent, e.sendErr, e.got, e.err, count)
		}
		if err := e.Confirm(r.ctx); err != nil || e.Confirmed() != count {
			r.T.Errorf("end %d: confirmed %d of %d: %v", i, e.Confirmed(), count, err)
		}
	}
}

// cut loses everything between the two clients, also over the relay, for a while.
func (r *resumeWorld) cut(d time.Duration) {
	heal := r.Add(func(p sim.Packet) sim.Verdict {
		if p.Source == "alice" || p.Destination == "alice" {
			return sim.Drop()
		}
		return sim.Verdict{}
	})
	r.After(d, func() { heal() })
}

// losses counts the ends of channels that a client was told of.
func losses(c *sim.Client) (n int) {
	for _, event := range c.Events() {
		if _, ok := event.Event.(client.ChannelClosed); ok {
			n++
		}
	}
	return n
}

// TestResumeAfterCut: a stream goes on after its channel was lost to a cut.
func TestResumeAfterCut(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, sim.Line{Latency: 5 * time.Millisecond}, nil)
		a, b := r.open()
		r.After(2*time.Second, func() { r.cut(10 * time.Second) })
		r.run(2000, 10*time.Millisecond, a, b)
		if losses(r.alice) == 0 {
			t.Error("no channel was lost")
		}
	})
}

// TestResumeRandomFaults: nothing is lost, nothing comes twice and the order is
// kept, whatever happens to channels, paths and the coordinator.
func TestResumeRandomFaults(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 1
	}
	lost := 0
	sim.Seeds(t, seeds, nil, func(w *sim.World) {
		random := w.Rand()
		line := sim.Line{Latency: 5 * time.Millisecond, Loss: []float64{0, 0, 0.02, 0.1}[random.IntN(4)]}
		r := newResumeWorld(w, line, nil)
		for range 1 + random.IntN(3) {
			if random.IntN(2) == 0 {
				r.openFrom(r.alice, r.bob)
			} else {
				r.openFrom(r.bob, r.alice)
			}
		}
		at := time.Second
		for range 6 {
			fault := random.IntN(5)
			r.After(at, func() { r.strike(fault, random.Int64N) })
			at += time.Duration(random.Int64N(int64(10 * time.Second)))
		}
		r.run(1500, 150*time.Millisecond, r.ends...)
		lost += losses(r.alice) + losses(r.bob)
	})
	if lost == 0 {
		t.Error("no channel was lost in any world")
	}
}

// strike lets one of five faults happen.
func (r *resumeWorld) strike(fault int, random func(int64) int64) {
	switch fault {
	case 0:
		r.Note("faults", "", "cut")
		r.cut(time.Second + time.Duration(random(int64(15*time.Second))))
	case 1, 2:
		r.Note("faults", "", "abort")
		r.ends[int(random(int64(len(r.ends))))].Channel().Abort()
	case 3:
		r.Note("faults", "", "coordinator")
		if !r.down.CompareAndSwap(false, true) {
			return
		}
		r.coordinator.Crash()
		r.After(time.Duration(random(int64(5*time.Second))), func() {
			r.coordinator.Start()
			r.down.Store(false)
		})
	case 4:
		r.Note("faults", "alice", "moves")
		if err := r.alice.Host().Move(r.places[int(random(int64(len(r.places))))], sim.Line{Latency: 20 * time.Millisecond}); err != nil {
			r.T.Error(err)
		}
	}
}

// TestResumeCrash: when a client crashes, what the other side is told to be in
// doubt is in doubt, and what it is told to be confirmed has arrived.
func TestResumeCrash(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 1
	}
	sim.Seeds(t, seeds, nil, func(w *sim.World) {
		random := w.Rand()
		r := newResumeWorld(w, sim.Line{Latency: 5 * time.Millisecond, Rate: 200_000}, nil)
		a, b := r.open()
		crashed := r.bob.Client
		w.After(time.Second+time.Duration(random.Int64N(int64(5*time.Second))), func() {
			r.bob.Crash()
			w.After(2*time.Second, func() {
				if err := r.bob.Start(); err != nil {
					w.T.Error(err)
				}
			})
		})
		var all sync.WaitGroup
		for i, e := range []*resumeEnd{a, b} {
			source := rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
			all.Go(func() { e.send(r.ctx, source, 100_000, 5*time.Millisecond) })
			all.Go(func() { e.receive(r.ctx) })
		}
		all.Wait()
		_ = crashed.Close(r.ctx) // it has crashed: this only waits
		for i, ends := range [][2]*resumeEnd{{a, b}, {b, a}} {
			from, to := ends[0], ends[1]
			var doubt *messages.DoubtError
			if err := from.Confirm(r.ctx); !errors.As(err, &doubt) {
				w.T.Errorf("end %d: %v", i, err)
				continue
			}
			if doubt.Confirmed != from.Confirmed() || doubt.Confirmed+doubt.InDoubt != from.sent ||
				to.got < doubt.Confirmed || to.got > from.sent {
				w.T.Errorf("end %d sent %d, the other received %d: %v", i, from.sent, to.got, doubt)
			}
			if doubt.Confirmed == 0 || from.err == nil {
				w.T.Errorf("end %d: nothing was confirmed, or receiving did not fail: %v", i, from.err)
			}
		}
	})
}

// TestResumePeerRestarted: who restarts has forgotten everything, and the other side learns what is in doubt.
func TestResumePeerRestarted(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		r := newResumeWorld(w, sim.Line{Latency: 5 * time.Millisecond}, nil)
		a, b := r.open()
		for n := range uint64(10) {
			if err := a.Send(r.ctx, numberedMessage(n, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Confirm(r.ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(r.ctx, numberedMessage(0, 0)); err != nil {
			t.Fatal(err)
		}
		if err := b.Confirm(r.ctx); err != nil {
			t.Fatal(err)
		}
		r.bob.Crash()
		for n := range uint64(3) {
			if err := a.Send(r.ctx, numberedMessage(10+n, 0)); err != nil {
				t.Fatal(err)
			}
		}
		r.After(5*time.Second, func() {
			if err := r.bob.Start(); err != nil {
				t.Error(err)
			}
		})
		err := a.Confirm(r.ctx)
		var doubt *messages.DoubtError
		if !errors.As(err, &doubt) || doubt.Confirmed != 10 || doubt.InDoubt != 3 || !errors.Is(err, messages.ErrNoSuchStream) || !errors.Is(err, messages.ErrInDoubt) {
			t.Errorf("confirm: %v", err)
		}
		if message, err := a.Receive(r.ctx); err != nil || !bytes.Equal(message, numberedMessage(0, 0)) {
			t.Errorf("what had arrived: %v, %v", message, err)
		}
		if _, err := a.Receive(r.ctx); !errors.As(err, &doubt) {
			t.Errorf("receive: %v", err)
		}
		if err := a.Send(r.ctx, nil); !errors.As(err, &doubt) {
			t.Errorf("send: %v", err)
		}
	})
}
