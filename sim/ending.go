package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// enclosing is the test that the scenario's author has at hand besides World.T. Who
// fails that one should be told as much.
type enclosing struct {
	t      *testing.T
	failed bool // it had before this run
}

// hasFailed reports whether it has failed in this run.
func (e enclosing) hasFailed() bool { return !e.failed && e.t.Failed() }

// RepeatWith says which command repeats this run, where it is no test of its own:
// failures and the trace name it.
func (w *World) RepeatWith(command string) { w.watch.repeat.Store(&command) }

// run runs the scenario, and ends the world.
func (w *World) run(scenario func(w *World)) {
	defer w.end()
	defer w.tellOfPanic()
	scenario(w)
	w.checkAlways()
	w.returned = true
}

// tellOfPanic is deferred. A panic ends the binary, and with it all that a failure
// tells later; the log is not shown either.
func (w *World) tellOfPanic() {
	if why := recover(); why != nil {
		w.mu.Lock()
		w.panicked = true
		w.mu.Unlock()
		_, _ = fmt.Fprintf(os.Stderr, "sim: panic: %v\nsim: %s\n", why, w.watch.toRepeat())
		w.T.Fail()
		_, _ = fmt.Fprintf(os.Stderr, "sim: %s\n", w.writeTrace())
		panic(why) //nolint:forbidigo // it is the scenario's
	}
}

// linger is how long a world waits for what ends by itself: the throttles of logs,
// goroutines that sleep.
const linger = 2 * time.Second

// joinWithin is how long the functions of Go and After may go on after the
// scenario, in which nothing can happen to them but timers.
const joinWithin = 10 * time.Minute

// end ends everything in the world. The network goes silent first, so that what
// programs still say to each other, all at the same instant, is not part of the
// run. What is left then is reported by component, before the bubble panics.
func (w *World) end() {
	w.mu.Lock()
	panicked := w.panicked
	w.mu.Unlock()
	if panicked {
		return // nothing must keep the panic back
	}
	close(w.over)
	w.arm(joinWithin, func() {
		w.die("functions of Go or After have not returned " + joinWithin.String() + " after the scenario, although all programs have ended")
	})
	w.shut()
	w.joined.Wait()
	w.Close()
	w.disarm()
	if w.outer.hasFailed() || !w.returned && !w.T.Skipped() {
		w.T.Fail() // so that the log is shown, and the trace written
	}
	w.trace.close()
	if text := w.writeTrace(); text != "" {
		w.T.Log(text)
	}
	<-time.After(linger)
	w.watch.leave(w.T)
}

// shut silences the network and ends all programs; none starts any more. It may be
// called again.
func (w *World) shut() {
	w.mu.Lock()
	w.shutting = true
	coordinators, clients := w.coordinators, w.clients
	w.mu.Unlock()
	w.unwatch()
	for _, host := range w.all() {
		host.Crash()
	}
	for _, c := range clients {
		c.abort()
	}
	for _, c := range coordinators {
		c.Stop()
	}
}

// isShutting reports whether nothing may be started any more. Who starts something
// asks before, and again when shut can find it.
func (w *World) isShutting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shutting
}

// all returns the hosts there are.
func (n *Network) all() []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

// arm has the world's patience end after that long, instead of when it would have.
// It reports whether it still matters.
func (w *World) arm(after time.Duration, act func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	if w.limit != nil {
		w.limit.Stop()
	}
	w.limit = time.AfterFunc(after, act)
	return true
}

// disarm is called when the world has ended in time.
func (w *World) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.limit.Stop()
}

// grace is how long a scenario may take to notice that it is over.
const grace = time.Minute

// exceeded is called when the scenario has taken too long on its own clock. With
// all programs gone it should come to its end; if it does not, the binary ends.
func (w *World) exceeded() {
	report := w.watch.report(func(goroutine) bool { return true })
	if !w.arm(grace, func() {
		_, _ = fmt.Fprintf(os.Stderr, "sim: the scenario was not over after %v\n%s", w.options.Limit, report) // the log is not shown
		w.die("the scenario does not end, although it is over its limit of " + w.options.Limit.String() + " and all programs have ended")
	}) {
		return
	}
	w.T.Errorf("the scenario is not over after %v\n%s", w.options.Limit, report)
	w.shut()
}

// die ends the binary, with a trace.
func (w *World) die(why string) {
	w.T.Fail()
	_, _ = fmt.Fprintf(os.Stderr, "sim: %s\n", w.writeTrace())
	w.watch.die(why)
}

// traceVariable names the environment variable with the folder for traces.
const traceVariable = "CONEC_SIM_TRACE"

// writeTrace writes what happened if the test has failed, or if it is wanted, and
// says where.
func (w *World) writeTrace() string {
	folder := w.options.Trace
	if w.trace == nil || folder == "" && !w.T.Failed() {
		return ""
	}
	var err error
	if folder == "" {
		if root := os.Getenv(traceVariable); root != "" {
			folder = filepath.Join(root, filepath.FromSlash(w.T.Name()))
		} else if folder, err = os.MkdirTemp("", "conec-sim-"); err != nil {
			return "no trace: " + err.Error()
		}
	}
	w.trace.repeat = *w.watch.repeat.Load()
	if err = w.trace.write(folder); err != nil {
		return "trace: " + err.Error()
	}
	return "trace: " + folder
}
