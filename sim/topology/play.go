package topology

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/conec-go/conec/sim"
)

// PlayOptions say how [Play] plays. A nil *PlayOptions and zero fields mean the
// defaults.
type PlayOptions struct {
	// Seed decides everything that is random. If zero, the topology's, or else 1.
	Seed uint64
	// Speed is how many seconds of the run's clock may pass in a real second. If
	// zero, as many as the machine can do.
	Speed float64
	// Trace is a folder for what happened, packets included. If empty, none is
	// written.
	Trace string
	// Repeat returns the command that repeats the run with a seed, for the trace. If
	// nil, the trace has none.
	Repeat func(seed uint64) string
	// Observer is told what happens. Its Pace is not used.
	Observer Observer
}

// limits of a run.
const (
	beyond  = 5 * time.Minute       // that it may take to end, on its own clock
	minStep = time.Millisecond      // between two looks at the real clock
	maxStep = time.Second           // both on the run's clock
	inStep  = 50 * time.Millisecond // of real time
)

// Play plays a topology in a bubble of its own, in a program that is not a test:
// once, because it takes the process for itself (see inBubble). It blocks until the
// run is over, or ctx ends: then it returns what there was and ctx's error. So it
// does if the trace cannot be written. What makes the world fail, a leak or a clock
// that stands still, ends the process.
//
// A test calls [Run] in a scenario of [sim.Test].
func Play(ctx context.Context, t *Topology, o *PlayOptions) (*Report, error) {
	var options PlayOptions
	if o != nil {
		options = *o
	}
	if err := prepareTrace(options.Trace); err != nil {
		return nil, err
	}
	observer := options.Observer
	observer.Pace = func(time.Duration) error { return ctx.Err() }
	world := sim.Options{Seed: options.Seed, Limit: t.Duration + t.Settle + beyond, TCP: true, Trace: options.Trace}
	if world.Seed == 0 {
		world.Seed = t.Seed
	}
	if options.Speed > 0 {
		clock := newPacer(ctx, options.Speed)
		defer clock.stop()
		observer.Pace, observer.Step = clock.pace, min(max(time.Duration(options.Speed*float64(inStep)), minStep), maxStep)
		world.Stall = -1 // its clock stands still on purpose
	}
	var report *Report
	var err error
	inBubble(&world, func(w *sim.World) {
		if options.Repeat != nil {
			w.RepeatWith(options.Repeat(w.Seed()))
		}
		report, err = Run(w, t, &observer)
	})
	return report, errors.Join(err, checkTrace(options.Trace))
}

// ErrTrace tells that a trace cannot be written.
var ErrTrace = errors.New("cannot write the trace")

// traceReadme is the file that a world writes last into a trace.
const traceReadme = "README.txt"

// prepareTrace makes the folder, which may be there, before the time that a run
// takes. An empty README says that no run has ended.
func prepareTrace(folder string) error {
	if folder == "" {
		return nil
	}
	err := os.MkdirAll(folder, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, traceReadme), nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTrace, err)
	}
	return nil
}

// checkTrace tells whether there is a trace: a world says in the log of its test
// what went wrong, and that is not shown.
func checkTrace(folder string) error {
	if folder == "" {
		return nil
	}
	switch info, err := os.Stat(filepath.Join(folder, traceReadme)); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrTrace, err)
	case info.Size() == 0:
		return fmt.Errorf("%w: %s is not complete", ErrTrace, folder)
	}
	return nil
}

// pacer holds a run to real time. It lives outside of the bubble, where the clock is
// the real one. Who waits in the bubble for a channel from outside does not count
// as waiting for the bubble's clock, so that one stands still.
type pacer struct {
	at      chan time.Duration // what the run's clock says
	granted chan error
	end     chan struct{}
	done    chan struct{}
}

// newPacer starts a pacer. Called outside of the bubble.
func newPacer(ctx context.Context, speed float64) *pacer {
	p := &pacer{at: make(chan time.Duration), granted: make(chan error), end: make(chan struct{}), done: make(chan struct{})}
	go p.run(ctx, speed)
	return p
}

// pace blocks until the real clock has come as far as the run's.
func (p *pacer) pace(elapsed time.Duration) error {
	p.at <- elapsed
	return <-p.granted
}

// stop ends the pacer, which nobody may wait for any more.
func (p *pacer) stop() {
	close(p.end)
	<-p.done
}

func (p *pacer) run(ctx context.Context, speed float64) {
	defer close(p.done)
	var began time.Time
	for {
		select {
		case elapsed := <-p.at:
			if began.IsZero() { // building the world is not part of the run
				began = time.Now().Add(-time.Duration(float64(elapsed) / speed))
			}
			wait := time.NewTimer(time.Until(began.Add(time.Duration(float64(elapsed) / speed))))
			select {
			case <-wait.C:
			case <-ctx.Done():
			}
			wait.Stop()
			p.granted <- ctx.Err()
		case <-p.end:
			return
		}
	}
}
