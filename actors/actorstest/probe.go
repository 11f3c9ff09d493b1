package actorstest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// TB is what is used of a [testing.TB].
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// SystemOf is an [actors.System], or what contains one: client.Actors, [Actors].
type SystemOf interface{ ActorSystem() *actor.ActorSystem }

// ProbeConfig says how a [Probe] is. Zero fields mean the defaults. It is never modified.
type ProbeConfig struct {
	// Name is the id of the actor. If empty, "probe-$" and a number.
	Name string
	// Patience is how long a message is waited for. If zero, 3 seconds.
	Patience time.Duration
	// Limit is how many messages may wait to be expected: one more fails the test. If zero,
	// 1,000.
	Limit int
}

// shown is how many messages are shown when a test fails: the last that were expected, and
// the first that were not.
const shown = 100

// Probe is an actor that keeps what it is sent until the test expects it. Its actor, which
// is a child of the system's root, can be sent to, watched and stopped as any other.
//
// All methods are for the test's goroutine, as those of [testing.T] that may end it.
type Probe struct {
	t      TB
	config ProbeConfig
	as     *actor.ActorSystem
	pid    *actor.PID
	sender *actor.PID // of the last message that was taken

	news chan struct{} // has an element if there may be something to look at

	mu      sync.Mutex
	waiting []received
	taken   []received // the last that are shown
	former  int        // that were taken before those
	ignored []func(message any) bool
	dropped int  // for which there was no room
	stopped bool // the actor
}

// received is a message as the probe's actor got it.
type received struct {
	message any
	sender  *actor.PID
}

func (r received) String() string {
	const most = 300 // bytes
	text := messages.Clip(fmt.Sprintf("%T %+v", r.message, r.message), most)
	if r.sender != nil {
		text += " from " + r.sender.GetAddress() + "/" + r.sender.GetId()
	}
	return text
}

// NewProbe returns a probe in a system. At the end of the test it is stopped.
func NewProbe(t TB, sys SystemOf) *Probe {
	t.Helper()
	return NewProbeWith(t, sys, nil)
}

// NewProbeWith is NewProbe with a configuration.
func NewProbeWith(t TB, sys SystemOf, config *ProbeConfig) *Probe {
	t.Helper()
	p := &Probe{t: t, as: sys.ActorSystem(), news: make(chan struct{}, 1)}
	if config != nil {
		p.config = *config
	}
	if p.config.Name == "" {
		p.config.Name = "probe-" + p.as.ProcessRegistry.NextID()
	}
	if p.config.Patience == 0 {
		p.config.Patience = 3 * time.Second
	}
	if p.config.Limit == 0 {
		p.config.Limit = 1000
	}
	system := actors.Of(p.as)
	if system == nil {
		t.Fatalf("probe: %q is no system of package actors", p.as.Address())
		return nil
	}
	pid, err := system.Spawn(system.Props(func() actor.Actor { return actor.ReceiveFunc(p.receive) }), p.config.Name)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	p.pid = pid
	t.Cleanup(p.end)
	return p
}

// PID returns the PID of the probe's actor.
func (p *Probe) PID() *actor.PID { return p.pid }

// Sender returns the sender of the last message that was expected; nil if it had none.
func (p *Probe) Sender() *actor.PID { return p.sender }

// Send sends a message, without a sender.
func (p *Probe) Send(pid *actor.PID, message any) { p.as.Root.Send(pid, message) }

// Request sends a message whose sender is the probe, so that the answer comes to it.
func (p *Probe) Request(pid *actor.PID, message any) {
	p.as.Root.RequestWithCustomSender(pid, message, p.pid)
}

// Reply answers the last message that was expected. It fails the test if that had no
// sender.
func (p *Probe) Reply(message any) {
	p.t.Helper()
	if p.sender == nil {
		p.fail("there is nobody to reply to")
	}
	p.as.Root.Send(p.sender, message)
}

// Watch has the probe told of the end of an actor: see [Probe.ExpectTerminated].
func (p *Probe) Watch(pid *actor.PID) {
	process, _ := p.as.ProcessRegistry.Get(pid)
	process.SendSystemMessage(pid, &actor.Watch{Watcher: p.pid})
}

// Expect waits for the next message and returns it. If that is no T, or none comes within
// the probe's patience, it fails the test.
func Expect[T any](p *Probe) T {
	p.t.Helper()
	next, ok := p.next(p.config.Patience)
	message, is := next.message.(T)
	switch {
	case !ok:
		p.fail("waited %v for a %v, and nothing came", p.config.Patience, reflect.TypeFor[T]())
	case !is:
		p.fail("waited for a %v, and what came is a %v", reflect.TypeFor[T](), next)
	}
	return message
}

// ExpectTerminated is [Expect] of the end of an actor that is watched.
func (p *Probe) ExpectTerminated(pid *actor.PID) *actor.Terminated {
	p.t.Helper()
	terminated := Expect[*actor.Terminated](p)
	who := terminated.GetWho()
	if who.GetAddress() != pid.GetAddress() || who.GetId() != pid.GetId() {
		p.fail("waited for the end of %v, and it is %v that has ended", pid, who)
	}
	return terminated
}

// ExpectNone waits for d, and fails the test if a message comes, or was there already. In a
// bubble of testing/synctest any d but zero is enough for all to come that is on its way.
func (p *Probe) ExpectNone(d time.Duration) {
	p.t.Helper()
	if next, came := p.next(d); came {
		p.fail("wanted nothing for %v, and what came is a %v", d, next)
	}
}

// Ignore has the probe forget all messages that are a T, those that wait too.
func Ignore[T any](p *Probe) {
	isT := func(message any) bool { _, is := message.(T); return is }
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ignored = append(p.ignored, isT)
	p.waiting = slices.DeleteFunc(p.waiting, func(r received) bool { return isT(r.message) })
}

// next takes the next message, and waits for it.
func (p *Probe) next(patience time.Duration) (received, bool) {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for late := false; ; {
		next, ok, over := p.take()
		if ok || over || late {
			return next, ok
		}
		select {
		case <-p.news:
		case <-timer.C:
			late = true // but what came in that very moment counts
		}
	}
}

// take takes a message that is there. It is over if none will come.
func (p *Probe) take() (next received, ok, over bool) {
	p.t.Helper()
	p.mu.Lock()
	if len(p.waiting) > 0 {
		next, ok = p.waiting[0], true
		p.waiting = p.waiting[1:]
		p.taken = append(p.taken, next)
		if len(p.taken) > shown {
			p.taken = p.taken[1:]
			p.former++
		}
		p.sender = next.sender
	}
	over = p.stopped
	p.mu.Unlock()
	if dropped := p.takeDropped(); dropped > 0 {
		p.fail("%s", p.overflow(dropped))
	}
	return next, ok, over
}

// takeDropped returns how many messages were dropped that the test was not told of.
func (p *Probe) takeDropped() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := p.dropped
	p.dropped = 0
	return dropped
}

func (p *Probe) overflow(dropped int) string {
	return fmt.Sprintf("more than %d messages waited to be expected (ProbeConfig.Limit), and %d were dropped", p.config.Limit, dropped)
}

// fail ends the test. It says what the probe has received.
func (p *Probe) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("probe %q: %s%s", p.config.Name, fmt.Sprintf(format, args...), p.history())
}

// history lists what the probe has received.
func (p *Probe) history() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var text strings.Builder
	if p.stopped {
		text.WriteString("; its actor has stopped")
	}
	number := p.former
	if number+len(p.taken)+len(p.waiting) == 0 {
		text.WriteString("; it has received nothing so far")
		return text.String()
	}
	text.WriteString("; it has received so far:")
	if number > 0 {
		fmt.Fprintf(&text, "\n\t(%d messages before these)", number)
	}
	list := func(of []received, mark string) {
		for _, r := range of {
			number++
			fmt.Fprintf(&text, "\n\t%d. %v%s", number, r, mark)
		}
	}
	list(p.taken, "")
	list(p.waiting[:min(shown, len(p.waiting))], " (not expected yet)")
	if more := len(p.waiting) - shown; more > 0 {
		fmt.Fprintf(&text, "\n\t(%d more)", more)
	}
	return text.String()
}

// receive is the probe's actor.
//
//	behavior  message  does
//	any       Stopped  has the test know that nothing will come any more
//	any       other    keeps it
//
// Parent: the system's root.
func (p *Probe) receive(ctx actor.Context) {
	message := ctx.Message()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch message.(type) {
	case *actor.Started, *actor.Stopping, *actor.Restarting:
		return
	case *actor.Stopped:
		p.stopped = true
	default:
		if slices.ContainsFunc(p.ignored, func(ignored func(any) bool) bool { return ignored(message) }) {
			return
		}
		if len(p.waiting) >= p.config.Limit {
			p.dropped++
		} else {
			p.waiting = append(p.waiting, received{message, ctx.Sender()})
		}
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// end stops the probe's actor.
func (p *Probe) end() {
	p.t.Helper()
	p.mu.Lock()
	stopped := p.stopped
	p.mu.Unlock()
	if dropped := p.takeDropped(); dropped > 0 {
		p.t.Errorf("probe %q: %s", p.config.Name, p.overflow(dropped))
	}
	if !stopped {
		p.as.Root.Stop(p.pid)
	}
}
