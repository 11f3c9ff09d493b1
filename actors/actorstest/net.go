package actorstest

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// NetConfig says how the systems of a [Net] are. Zero fields mean the defaults. It is never
// modified.
type NetConfig struct {
	// System is the configuration of each system; Name and Label are the net's own.
	System actors.SystemConfig
	// Remote is that of what connects it with others; Name and Open are the net's own.
	Remote actors.RemoteConfig
	// Patience is how long it may take to close a system. If zero, 10 seconds.
	Patience time.Duration
}

// Actors is a system of a [Net]. It is what client.Client.Actors returns for a client.
type Actors struct {
	*actors.System
	*actors.Remote
}

// Net is several systems of one process that reach each other as those of clients do:
// messages are encoded, PIDs are given away, only what is exported is reached, and faults
// are those of a network. There are no sockets.
//
// Its methods may be called from any goroutine but an actor's. A call that makes no sense,
// such as one with a name that the net does not have, ends the test.
type Net struct {
	t      TB
	config NetConfig

	mu        sync.Mutex
	count     uint64              // of processes so far
	processes map[string]*process // that run, by name
	links     map[string]*link    // of each two names
}

// process is one of a name's processes.
type process struct {
	Actors
	name string
	life actors.Life // of what serves peers
	gone bool        // says and hears nothing any more; under mu of the net
}

// NewNet returns a net with a system of each name, which are those of clients
// ([messages.CheckName]). At the end of the test they are closed, and it fails if an actor,
// or a goroutine that an actor has started, is still there.
func NewNet(t TB, names ...string) *Net {
	t.Helper()
	return NewNetWith(t, nil, names...)
}

// NewNetWith is NewNet with a configuration.
func NewNetWith(t TB, config *NetConfig, names ...string) *Net {
	t.Helper()
	n := &Net{t: t, processes: map[string]*process{}, links: map[string]*link{}}
	if config != nil {
		n.config = *config
	}
	if n.config.Patience == 0 {
		n.config.Patience = 10 * time.Second
	}
	t.Cleanup(n.close)
	for _, name := range names {
		n.Start(name)
	}
	return n
}

// System returns the system of a name.
func (n *Net) System(name string) *Actors {
	n.t.Helper()
	n.mu.Lock()
	p := n.processes[name]
	n.mu.Unlock()
	if p == nil {
		n.t.Fatalf("net: there is no system %q now", name)
		return nil
	}
	return &p.Actors
}

// Start starts a system of a name that the net does not have, or not any more: another
// process of it then, with a later incarnation.
func (n *Net) Start(name string) *Actors {
	n.t.Helper()
	if err := messages.CheckName(name); err != nil {
		n.t.Fatalf("net: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.processes[name] != nil {
		n.t.Fatalf("net: there is a system %q already", name)
	}
	for other := range n.processes {
		if key := between(name, other); n.links[key] == nil {
			n.links[key] = &link{mu: &n.mu}
		}
	}
	n.count++
	p := &process{name: name, life: actors.Begin()}
	system, remote := n.config.System, n.config.Remote
	system.Name = actors.Address(name, binary.BigEndian.AppendUint64(nil, n.count))
	system.Label = labelOf(n, name)
	remote.Name = name
	remote.Open = func(ctx context.Context, peer string, _, _ bool) (actors.LaneStream, error) {
		return n.open(ctx, p, peer)
	}
	p.System = actors.NewSystem(&system)
	p.Remote = actors.NewRemote(p.System, &remote)
	n.processes[name] = p
	return &p.Actors
}

// Kill ends the process of a name without a word, and returns when its actors have
// stopped. What it has sent still arrives; then its peers learn that it is gone
// ([actors.ErrPeerGone]), and that there is none of its name.
func (n *Net) Kill(name string) {
	n.t.Helper()
	n.mu.Lock()
	p := n.processes[name]
	if p == nil {
		n.mu.Unlock()
		n.t.Fatalf("net: there is no system %q", name)
		return
	}
	n.leave(p)
	for _, l := range n.links {
		for _, e := range l.ends() {
			if e.owner == p {
				e.other.push(parcel{end: messages.ErrNoSuchStream})
			}
		}
	}
	n.mu.Unlock()
	n.end(p)
}

// Restart is [Net.Kill] and [Net.Start]: the process is gone, and another one of the same
// name is there.
func (n *Net) Restart(name string) *Actors {
	n.t.Helper()
	n.Kill(name)
	return n.Start(name)
}

// Cut has no way between two systems. What is on its way is lost, all lanes between them
// end, which both learn at once ([actors.ErrPeerUnreachable]), and none is opened. A client
// takes its peer for unreachable when it could not be reached for some minutes
// (client.Config.ResumeWait); shorter than that is [Net.Hold].
func (n *Net) Cut(a, b string) {
	n.t.Helper()
	n.change(a, b, func(l *link) {
		l.cut = true
		l.cutLanes()
	})
}

// Heal ends a [Net.Cut].
func (n *Net) Heal(a, b string) {
	n.t.Helper()
	n.change(a, b, func(l *link) { l.cut = false })
}

// Hold stops what two systems send each other, until [Net.Release]: messages, and the news
// that a process is gone. Nothing is lost, and all stays in order. Some messages are on
// their way, the others wait where they were sent ([actors.RemoteLimits]).
func (n *Net) Hold(a, b string) {
	n.t.Helper()
	n.change(a, b, func(l *link) { l.held = true })
}

// Release ends a [Net.Hold].
func (n *Net) Release(a, b string) {
	n.t.Helper()
	n.change(a, b, func(l *link) { l.held = false })
}

// Delay has what two systems send each other from now on take that long each way; if zero,
// no time. It stays in order. Opening a lane takes it twice.
func (n *Net) Delay(a, b string, d time.Duration) {
	n.t.Helper()
	n.change(a, b, func(l *link) { l.delay = d })
}

func (n *Net) change(a, b string, change func(*link)) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[between(a, b)]
	if l == nil {
		n.t.Fatalf("net: %q and %q are not two of its systems", a, b)
		return
	}
	l.change(func() { change(l) })
}

// between is the key of the link of two names.
func between(a, b string) string { return min(a, b) + " " + max(a, b) }

// open opens a lane, and has it served.
func (n *Net) open(ctx context.Context, from *process, peer string) (actors.LaneStream, error) {
	n.mu.Lock()
	l := n.links[between(from.name, peer)]
	n.mu.Unlock()
	if l == nil {
		return nil, messages.ErrNoSuchPeer
	}
	var opened *end
	err := l.pass(ctx, func() error {
		to := n.processes[peer]
		switch {
		case from.gone:
			return messages.ErrClosed
		case to == nil:
			return messages.ErrNoSuchPeer
		}
		opened = newLane(l, from, to)
		l.add(opened)
		to.Pumps.Go(func() { to.Serve(to.life.Context(), from.name, opened.other) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// leave has a process say and hear nothing any more. Called with mu held.
func (n *Net) leave(p *process) {
	p.gone = true
	delete(n.processes, p.name)
	for _, l := range n.links {
		l.change(func() {}) // so that its pumps see it
	}
}

// end closes the system of a process that has left.
func (n *Net) end(p *process) {
	n.t.Helper()
	p.life.End()
	ctx, cancel := context.WithTimeout(context.Background(), n.config.Patience)
	defer cancel()
	if err := p.System.Close(ctx); err != nil {
		n.t.Errorf("net: %q: %v", p.name, err)
	}
}

// close ends all processes, without telling any of the others.
func (n *Net) close() {
	n.t.Helper()
	n.mu.Lock()
	var left []*process
	for _, name := range slices.Sorted(maps.Keys(n.processes)) {
		left = append(left, n.processes[name])
		n.leave(n.processes[name])
	}
	n.mu.Unlock()
	for _, p := range left {
		n.end(p)
	}
	if leaked := awaitNone(n, n.config.Patience); leaked != "" {
		n.t.Errorf("net: goroutines that its actors have started are still there:\n%s", leaked)
	}
}
