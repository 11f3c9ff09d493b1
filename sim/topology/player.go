package topology

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/sim"
)

// Observer is told what happens while a topology plays. Nil functions are not called.
type Observer struct {
	// Every is how often Stats is called, on the clock of the run, but at most every
	// millisecond. If zero, every second.
	Every time.Duration
	// Stats is told the counters.
	Stats func(Stats)
	// Event is told what happens, one event after the other.
	Event func(Event)
	// Pace is called about every Step of the run's clock, and may hold it up by
	// blocking on something outside of the bubble. If it returns an error, the run
	// ends early.
	Pace func(elapsed time.Duration) error
	// Step is how often Pace is called, but at most every millisecond. If zero, every
	// 100 milliseconds.
	Step time.Duration
}

// Event is something that happened.
type Event struct {
	At time.Duration `json:"at"`
	// What is "fault", "attached", "detached", "path", "channel" or "stream".
	What string `json:"what"`
	// Who is a host, if it happened to one.
	Who string `json:"who,omitempty"`
	// Text says more.
	Text string `json:"text"`
}

// playStream is the number of the random source that decides pairs, offsets and
// faults (rand.NewPCG); others are the world's own.
const playStream = 2

// player plays one topology in a world. The scenario's goroutine owns it; what
// others touch is under mu.
type player struct {
	world    *sim.World
	topology *Topology
	observer Observer
	random   *rand.Rand // of the setup
	center   *sim.Coordinator
	places   map[string]sim.Place
	gateways map[string]*sim.Gateway
	hosts    map[string]*sim.Host // of members, and the coordinator's
	members  map[string]*member
	order    []*member
	flows    []*flow
	byPair   map[Pair][]*flow
	faults   faults
	before   sample          // what the last Stats were made of
	outcomes []*Outcome      // of the topology's expectations
	ctx      context.Context //nolint:containedctx // of all programs of the run, which is one call
	running  sync.WaitGroup  // members and senders

	mu     sync.Mutex
	totals totals
	failed error      // of a fault that could not be done
	told   sync.Mutex // one event at a time
}

// Run plays a topology in an empty world, and returns what came of it. It returns
// an error if the world cannot be built, or Pace ended it: then with what there was.
//
// It is to be called by the goroutine of the world's scenario. The topology has to
// come from [Parse].
func Run(w *sim.World, t *Topology, o *Observer) (*Report, error) {
	p := newPlayer(w, t, o)
	if err := p.build(); err != nil {
		return nil, fmt.Errorf("build the network: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	p.begin()
	err := p.watch()
	report := p.report()
	cancel()
	p.running.Wait()
	return report, errors.Join(err, p.failed)
}

func newPlayer(w *sim.World, t *Topology, o *Observer) *player {
	p := &player{
		world: w, topology: t, random: rand.New(rand.NewPCG(w.Seed(), playStream)),
		places: map[string]sim.Place{internet: w.Internet()}, gateways: map[string]*sim.Gateway{},
		hosts: map[string]*sim.Host{}, members: map[string]*member{}, byPair: map[Pair][]*flow{}, faults: newFaults(),
	}
	if o != nil {
		p.observer = *o
	}
	if p.observer.Every <= 0 {
		p.observer.Every = time.Second
	}
	if p.observer.Step <= 0 {
		p.observer.Step = 100 * time.Millisecond
	}
	// In smaller steps the clock would hardly leave its place.
	p.observer.Every, p.observer.Step = max(p.observer.Every, minStep), max(p.observer.Step, minStep)
	return p
}

// build makes the network and the programs, which do not run yet.
func (p *player) build() error {
	t, w := p.topology, p.world
	for _, given := range t.Gateways {
		g, err := w.Network.Gateway(given.Name, p.places[given.At], given.NAT, given.Line)
		if err != nil {
			return err
		}
		p.places[given.Name], p.gateways[given.Name] = g, g
	}
	center, err := w.Network.Host(coordinator, w.Internet(), t.Coordinator.Line)
	if err != nil {
		return err
	}
	p.hosts[coordinator] = center
	p.center = w.Coordinator(center, func(c *coord.Config) { c.Limits.RelayRate = t.Coordinator.RelayRate })
	for _, given := range t.Hosts {
		if err := p.addMember(given); err != nil {
			return err
		}
	}
	for i := range t.Traffic {
		p.addFlows(&t.Traffic[i])
	}
	return nil
}

func (p *player) addMember(given Host) error {
	m := &member{
		p: p, given: given, random: p.own(), changed: make(chan struct{}), addrs: map[string][]netip.Addr{},
	}
	host, err := p.world.Network.Host(given.Name, p.places[given.At], given.Line, m.addrsAt(given.At)...)
	if err != nil {
		return err
	}
	m.host = host
	m.program = p.world.NewClient(host, func(c *client.Config) {
		c.RelayOnly, c.OnEvent = given.RelayOnly, m.heard
	})
	p.hosts[given.Name], p.members[given.Name] = host, m
	p.order = append(p.order, m)
	return nil
}

// addrsAt returns the host's addresses at a place, the same ones each time it is there.
func (m *member) addrsAt(place string) []netip.Addr {
	addrs := m.addrs[place]
	if addrs == nil {
		at := m.p.places[place]
		addrs = []netip.Addr{at.IPv4()}
		if m.given.IPv6 {
			addrs = append(addrs, at.IPv6())
		}
		m.addrs[place] = addrs
	}
	return addrs
}

func (p *player) addFlows(t *Traffic) {
	latency, rtt := &histogram{}, &histogram{}
	room := time.Second
	if t.Kind != Transfer {
		room = max(min(t.interval(), room, (t.Stop-t.Start)/2), 1)
	}
	for _, pair := range t.pairs(p.random) {
		f := &flow{
			p: p, number: len(p.flows), traffic: t, Pair: pair, latency: latency, rtt: rtt, ended: make(chan struct{}),
			random: p.own(), offset: time.Duration(p.random.Int64N(int64(room))),
			stop: t.Stop + time.Duration(p.random.Int64N(int64(stopWithin))),
		}
		p.flows = append(p.flows, f)
		p.byPair[pair] = append(p.byPair[pair], f)
	}
}

// begin starts everything.
func (p *player) begin() {
	for i := range p.topology.Expect {
		e := &p.topology.Expect[i]
		outcome := &Outcome{Line: e.Line, Text: e.Text}
		p.outcomes = append(p.outcomes, outcome)
		if e.By > 0 {
			p.world.After(e.By, func() { p.evaluate(e, outcome) })
		}
	}
	for i, m := range p.order { // timers of one instant have no order
		p.world.After(m.given.Start+time.Duration(i)*time.Microsecond, func() { m.want(true) })
		p.running.Go(func() { m.live(p.ctx) })
	}
	for _, f := range p.flows {
		p.running.Go(func() { f.send(p.ctx) })
	}
	for i := range p.topology.Faults {
		p.plan(&p.topology.Faults[i])
	}
}

// watch lets time pass until everything is over, and tells the observer.
func (p *player) watch() error {
	done := make(chan struct{})
	p.world.Go(func() {
		for _, f := range p.flows {
			<-f.ended
		}
		close(done)
	})
	nextStats := p.observer.Every
	for {
		now := p.world.Elapsed()
		if p.observer.Pace != nil {
			if err := p.observer.Pace(now); err != nil {
				return err
			}
		}
		if now >= nextStats {
			p.tellStats()
			nextStats = (now/p.observer.Every + 1) * p.observer.Every
		}
		if p.isOver(now, done) {
			return nil
		}
		<-time.After(max(p.nextLook(now, nextStats)-now, 1))
	}
}

// isOver tells whether the run has come to its end: everything has arrived after
// the duration, or it was given the time for that.
func (p *player) isOver(now time.Duration, done <-chan struct{}) bool {
	if now < p.topology.Duration {
		return false
	}
	select {
	case <-done:
		return true
	default:
		return now >= p.topology.Duration+p.topology.Settle
	}
}

func (p *player) nextLook(now, nextStats time.Duration) time.Duration {
	next := min(nextStats, p.topology.Duration+p.topology.Settle)
	if now < p.topology.Duration {
		next = min(next, p.topology.Duration)
	} else {
		next = min(next, now+settleStep)
	}
	if p.observer.Pace != nil {
		next = min(next, now+p.observer.Step)
	}
	return next
}

// stopWithin is the time in which the pairs of a traffic stop, one after the other.
const stopWithin = 10 * time.Millisecond

// settleStep is how often it is asked whether everything has arrived.
const settleStep = 100 * time.Millisecond

// spread returns a time around d, so that programs do not all try again at once.
func spread(random *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(random.Int64N(int64(d)))
}

// own returns a random source that belongs to one program.
func (p *player) own() *rand.Rand { return rand.New(rand.NewPCG(p.world.Seed(), p.random.Uint64())) }

// totals count what is not a flow's.
type totals struct {
	Attached          int `json:"attached"`
	Attachments       int `json:"attachments"`
	Detachments       int `json:"detachments"`
	FailedAttachments int `json:"failed_attachments"`
	FailedOpens       int `json:"failed_opens"`
	Faults            int `json:"faults"`
}

func (p *player) count(change func(*totals)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.totals)
}

// event tells the observer.
func (p *player) event(what, who, text string) {
	if p.observer.Event == nil || p.ctx.Err() != nil { // the end of everything is no event
		return
	}
	p.told.Lock()
	defer p.told.Unlock()
	p.observer.Event(Event{p.world.Elapsed(), what, who, text})
}
