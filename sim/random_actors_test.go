package sim_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

var actorSeeds = flag.Int("actorseeds", 2, "how many seeds TestRandomActors plays")

// Sizes of a play of actors.
const (
	crewClients  = 20
	crewFew      = 10 // clients with -short
	crewActors   = 3  // of each client, which others reach by name
	crewSteps    = 250
	crewTime     = 90 * time.Second // in which the steps happen
	crewPatience = 20 * time.Second // of who asks or spawns
)

// TestRandomActors has actors of 20 clients send, ask, watch, spawn, stop and crash, while clients crash, hosts move, ways are cut
// and the coordinator restarts, as the seed says. It holds that messages come once and in order for each pair, that none is
// missing of which the sender was not told, unless a process has died, that each watch is answered once, and that nothing is left.
func TestRandomActors(t *testing.T) {
	seeds := *actorSeeds
	if testing.Short() {
		seeds = 1
	}
	options := sim.Options{Limit: time.Hour}
	sim.Seeds(t, seeds, &options, func(w *sim.World) { newCrewPlay(w).run() })
}

// crewPlay is one play.
type crewPlay struct {
	w      *sim.World
	random *rand.Rand
	hub    *sim.Coordinator
	homes  []*sim.Gateway
	crews  []*crew
	ledger *actorLedger
}

// crew is a client and its actors, in all its processes.
type crew struct {
	play *crewPlay
	name string
	host *sim.Host
	cl   *sim.Client

	mu   sync.Mutex
	life int                   // processes so far
	down bool                  // it is being stopped or started
	pids map[string]*actor.PID // of the actors that others reach by name
}

func newCrewPlay(w *sim.World) *crewPlay {
	p := &crewPlay{w: w, random: w.Rand(), ledger: newActorLedger(w)}
	fiber := sim.Line{Latency: 5 * time.Millisecond, Rate: 10_000_000}
	p.hub = w.Coordinator(w.Host("coordinator", w.Internet(), fiber), nil)
	for i, nat := range []sim.NAT{sim.PortRestricted(), sim.AddressRestricted(), sim.Symmetric(), sim.FullCone()} {
		p.homes = append(p.homes, w.Gateway(fmt.Sprint("home", i), w.Internet(), nat, fiber))
	}
	clients := crewClients
	if testing.Short() {
		clients = crewFew
	}
	for i := range clients {
		name := fmt.Sprintf("c%02d", i)
		p.crews = append(p.crews, &crew{play: p, name: name, host: w.Host(name, p.homes[i%len(p.homes)], p.line())})
	}
	for _, c := range p.crews {
		c.cl = w.NewClient(c.host, nil)
		c.start()
	}
	return p
}

func (p *crewPlay) line() sim.Line {
	return sim.Line{Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.01 * float64(p.random.IntN(3))}
}

// start starts a process with its actors.
func (c *crew) start() {
	for c.cl.Start() != nil { // its way to the coordinator may be cut
		<-time.After(time.Second)
	}
	sys := c.cl.Current().Actors()
	c.mu.Lock()
	c.life++
	c.pids = map[string]*actor.PID{}
	c.mu.Unlock()
	c.play.ledger.listen(sys)
	err := sys.ExportKind("helper", actors.KindConfig{Props: func(string, any) (*actor.Props, error) {
		return c.props(), nil
	}})
	if err != nil {
		c.play.w.T.Error(err)
	}
	for i := range crewActors {
		c.spawn(sys, fmt.Sprint("w", i))
	}
	c.spawn(sys, watcherID)
	c.setDown(false)
}

// setDown returns whether it was down.
func (c *crew) setDown(down bool) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.down = c.down, down
	return was
}

// actor returns the actor that has a name now, nil if there is none.
func (c *crew) actor(id string) *actor.PID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pids[id]
}

func (c *crew) props() *actor.Props {
	c.mu.Lock()
	defer c.mu.Unlock()
	life := c.life
	return actor.PropsFromProducer(func() actor.Actor { return &crewActor{crew: c, process: life} })
}

func (c *crew) spawn(sys *client.Actors, id string) {
	pid, err := sys.Spawn(c.props(), "")
	if err != nil {
		return // the process ends
	}
	c.mu.Lock()
	c.pids[id] = pid
	c.mu.Unlock()
	if id != watcherID {
		sys.Export(id, pid)
	}
}

// watcherID is the actor that watches others, and lives as long as its process.
const watcherID = "watcher"

// Orders for an actor, of the play.
type (
	orderTell struct {
		to    *actor.PID
		key   string // of the target
		count int
		size  int
	}
	orderWatch struct{ to *actor.PID }
	orderCrash struct{}
)

// crewActor does what it is ordered, and notes what it hears.
type crewActor struct {
	crew    *crew
	process int
	self    string // tells it from all others that were and will be
}

// Receive implements actor.Actor.
func (a *crewActor) Receive(ctx actor.Context) {
	ledger := a.crew.play.ledger
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.self = fmt.Sprintf("%s.%d.%s", a.crew.name, a.process, ctx.Self().Id)
	case orderTell:
		for range msg.count {
			ctx.Send(msg.to, wrapperspb.String(ledger.send(a.self, msg.key, msg.size)))
		}
	case orderWatch:
		if ledger.watch(a.self, msg.to.Id, msg.to.Address) {
			ctx.Watch(msg.to)
		}
	case orderCrash:
		panic("ordered to")
	case *wrapperspb.StringValue:
		if ctx.Sender() != nil {
			ctx.Respond(msg)
			return
		}
		ledger.receive(msg.GetValue())
	case *actor.Terminated:
		ledger.ended(a.self, msg.GetWho().GetId(), msg.GetWho().GetAddress())
	case *actor.Stopped:
		ledger.forget(a.self)
	}
}

// run plays the steps, and checks.
func (p *crewPlay) run() {
	for range crewSteps {
		at := time.Duration(p.random.Int64N(int64(crewTime)))
		p.w.After(at, p.step())
	}
	<-time.After(crewTime + 2*time.Minute) // in which everything that was cut or down is back, or given up
	for _, c := range p.crews {            // all that is watched ends
		sys := c.cl.Current().Actors()
		for i := range crewActors {
			if pid := c.actor(fmt.Sprint("w", i)); pid != nil {
				sys.Root.Stop(pid)
			}
		}
	}
	<-time.After(time.Minute)
	p.ledger.check()
	for _, c := range p.crews {
		p.checkRest(c)
	}
}

// checkRest holds that nothing waits any more.
func (p *crewPlay) checkRest(c *crew) {
	s := c.cl.Current().Actors().Snapshot()
	for _, peer := range s.Peers {
		if peer.Queued != 0 || peer.Waiting != 0 || peer.Watching != 0 {
			p.w.T.Errorf("%s still has for %+v", c.name, peer)
		}
		for _, lane := range peer.Lanes {
			if lane.Open && lane.Sent != lane.Handled {
				p.w.T.Errorf("%s does not know what %s has handled: %+v", c.name, peer.Name, lane)
			}
		}
	}
	if s.Stats.Asks != 0 {
		p.w.T.Errorf("%s still asks %d questions", c.name, s.Stats.Asks)
	}
}

// step draws something that happens.
func (p *crewPlay) step() func() {
	c, other := p.crews[p.random.IntN(len(p.crews))], p.crews[p.random.IntN(len(p.crews))]
	me, id := fmt.Sprint("w", p.random.IntN(crewActors)), fmt.Sprint("w", p.random.IntN(crewActors))
	if c == other {
		other = p.crews[(p.random.IntN(len(p.crews)-1)+1)%len(p.crews)]
	}
	count, size := 1+p.random.IntN(20), 0
	if p.random.IntN(10) == 0 {
		count, size = 1+p.random.IntN(3), 10_000+p.random.IntN(100_000)
	}
	switch n := p.random.IntN(100); {
	case n < 45 && c != other:
		return func() { c.order(me, orderTell{c.pid(other, id), other.name + "/" + id, count, size}) }
	case n < 55:
		return func() { p.w.Go(func() { c.ask(other, id) }) }
	case n < 70 && c != other:
		return func() { c.order(watcherID, orderWatch{c.pid(other, id)}) }
	case n < 76:
		return func() { c.replace(id) }
	case n < 80:
		return func() { c.order(me, orderCrash{}) }
	case n < 87 && c != other:
		return func() { p.w.Go(func() { c.spawnAt(other, me) }) }
	default:
		return p.fault(n, c, other)
	}
}

// fault draws something that goes wrong.
func (p *crewPlay) fault(n int, c, other *crew) func() {
	home, line := p.homes[p.random.IntN(len(p.homes))], p.line()
	wait := time.Second + time.Duration(p.random.Int64N(int64(20*time.Second)))
	orderly := p.random.IntN(2) == 0
	switch {
	case n < 92:
		return func() {
			if err := c.host.Move(home, line); err != nil {
				p.w.T.Error(err)
			}
		}
	case n < 94:
		return home.Reboot
	case n < 97 && c != other:
		return func() { p.cut(c, other, 2*wait) }
	case n < 99:
		return func() { p.w.Go(func() { c.restart(wait, orderly) }) }
	default:
		return func() {
			p.hub.Crash()
			p.w.After(wait/4, p.hub.Start)
		}
	}
}

// cut cuts the ways between two hosts for a while, also that over the relay.
func (p *crewPlay) cut(c, other *crew, wait time.Duration) {
	for _, to := range []*sim.Host{other.host, p.hub.Host()} {
		p.w.After(wait, p.w.Add(sim.Cut(c.host, to)))
		p.w.After(wait, p.w.Add(sim.Cut(to, c.host)))
	}
}

// restart ends a process, at once or in order, and starts another one.
func (c *crew) restart(wait time.Duration, orderly bool) {
	if c.setDown(true) {
		return
	}
	c.play.ledger.dies(c.name)
	if orderly {
		ctx, cancel := context.WithTimeout(context.Background(), crewPatience)
		_ = c.cl.Current().Close(ctx) // what has not arrived becomes dead letters
		cancel()
		_ = c.cl.Stop()
	} else {
		c.cl.Crash()
	}
	c.play.ledger.dies(c.name)
	<-time.After(wait)
	c.start()
}

func (c *crew) pid(other *crew, id string) *actor.PID {
	return actor.NewPID("conec/"+other.name, id)
}

// order has an actor do something.
func (c *crew) order(id string, what any) {
	if sys := c.system(); sys != nil {
		if pid := c.actor(id); pid != nil {
			sys.Root.Send(pid, what)
		}
	}
}

func (c *crew) system() *client.Actors {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current := c.cl.Current(); current != nil && !c.down {
		return current.Actors()
	}
	return nil
}

// replace stops an actor, and spawns another one under its name.
func (c *crew) replace(id string) {
	if sys := c.system(); sys != nil {
		if pid := c.actor(id); pid != nil {
			sys.Root.Stop(pid)
		}
		c.spawn(sys, id)
	}
}

// ask asks an actor. It answers with the question, or there is an error in time.
func (c *crew) ask(other *crew, id string) {
	sys := c.system()
	if sys == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), crewPatience)
	defer cancel()
	question := c.name + " asks " + other.name
	got, err := actors.Ask[*wrapperspb.StringValue](ctx, sys, c.pid(other, id), wrapperspb.String(question))
	if err == nil && got.GetValue() != question {
		c.play.w.T.Errorf("%q was answered %q", question, got.GetValue())
	}
}

// spawnAt spawns an actor at a peer, and has one of its own watch it and tell it something. It is stopped in the end.
func (c *crew) spawnAt(other *crew, me string) {
	sys := c.system()
	if sys == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), crewPatience)
	defer cancel()
	pid, err := sys.SpawnAt(ctx, other.name, "helper", nil)
	if err != nil {
		return
	}
	c.order(watcherID, orderWatch{pid})
	c.order(me, orderTell{pid, other.name + "/" + strings.SplitN(pid.Id, "#", 2)[0], 3, 0})
	<-time.After(crewPatience)
	sys.Root.Stop(pid)
}
