package topology

import (
	"math/rand/v2"
	"time"

	"github.com/conec-go/conec/sim"
)

// faults is what strikes have changed. Whoever has the turn owns it: a channel,
// because a turn may take time, and a mutex that is held would stop the clock.
type faults struct {
	planned int // strikes, while the run is set up
	turn    chan struct{}
	victims map[string]*victim
	down    map[string]bool // crashed or stopped
}

func newFaults() faults {
	return faults{turn: make(chan struct{}, 1), victims: map[string]*victim{}, down: map[string]bool{}}
}

// plan decides when a fault strikes, whom, and for how long; from the seed alone.
func (p *player) plan(f *Fault) {
	if f.Random == 0 {
		p.schedule(f, f.At, f.Hosts, f.To)
		return
	}
	one := func(names []string) []string {
		if len(names) == 0 {
			return nil
		}
		return []string{names[p.random.IntN(len(names))]}
	}
	at := f.From
	for {
		at += time.Duration(p.random.ExpFloat64() / f.Random * float64(time.Second))
		if at >= f.Until {
			return
		}
		p.schedule(f, at, one(f.Hosts), one(f.To))
	}
}

func (p *player) schedule(f *Fault, at time.Duration, hosts, to []string) {
	lasts := f.For.draw(p.random)
	at += time.Duration(p.faults.planned) * time.Microsecond // timers of one instant have no order
	p.faults.planned++
	p.world.After(at, func() {
		text := f.describe(hosts, to)
		if lasts > 0 {
			text += " for " + brief(lasts.Round(time.Millisecond))
		}
		p.count(func(t *totals) { t.Faults++ })
		p.event("fault", "", text)
		p.world.Note("", "", "fault: "+text)
		undo := p.inTurn(func() func() { return p.strike(f, hosts, to) })
		if lasts == 0 || undo == nil {
			return
		}
		p.world.After(lasts, func() {
			p.event("fault", "", "over: "+f.describe(hosts, to))
			p.world.Note("", "", "fault over: "+f.describe(hosts, to))
			p.inTurn(func() func() { undo(); return nil })
		})
	})
}

// inTurn does something while no other fault is at work.
func (p *player) inTurn(do func() func()) func() {
	p.faults.turn <- struct{}{}
	defer func() { <-p.faults.turn }()
	return do()
}

// draw picks a duration.
func (s Span) draw(random *rand.Rand) time.Duration {
	if s.Most <= s.Least {
		return s.Least
	}
	return s.Least + time.Duration(random.Int64N(int64(s.Most-s.Least)))
}

// strike does what the fault says, and returns what takes it back.
func (p *player) strike(f *Fault, hosts, to []string) (undo func()) {
	switch f.Act {
	case Cut:
		return p.world.Add(between(p.names(hosts), p.names(to), false))
	case Block:
		return p.world.Add(between(p.names(hosts), p.names(to), true))
	case Partition:
		groups := make([][]*sim.Host, len(f.Groups))
		for i, group := range f.Groups {
			for _, name := range group {
				groups[i] = append(groups[i], p.hosts[name])
			}
		}
		return p.world.Add(sim.Partition(groups...))
	case Start:
		for _, name := range hosts {
			p.victim(name).downs = nil
			p.setDown(name, Start)
		}
		return nil
	case Reboot:
		for _, name := range hosts {
			p.gateways[name].Reboot()
		}
		return nil
	case SetLine, Crash, Stop, Move, Pause, Skew, UDPBlocked:
	}
	var undos []func()
	for i, name := range hosts {
		if back := p.strikeOne(f, name, i); back != nil {
			undos = append(undos, back)
		}
	}
	return func() {
		for _, back := range undos {
			back()
		}
	}
}

// strikeOne does it to one victim. Faults of one kind may overlap: see layers.
func (p *player) strikeOne(f *Fault, name string, number int) (undo func()) {
	v := p.victim(name)
	switch f.Act {
	case Crash, Stop:
		remove := v.downs.add(f.Act)
		p.setDown(name, f.Act)
		return func() {
			if remove(); len(v.downs) == 0 {
				p.setDown(name, Start)
			}
		}
	case UDPBlocked:
		remove := v.blocks.add(f.Act)
		if len(v.blocks) == 1 {
			p.blockUDP(name, true)
		}
		return func() {
			if remove(); len(v.blocks) == 0 {
				p.blockUDP(name, false)
			}
		}
	case SetLine:
		return p.layered(name, v.changes.add(change{line: f.Line}), p.settle)
	case Move:
		return p.layered(name, v.changes.add(change{f.Place[number%len(f.Place)], f.Line}), p.settle)
	case Pause:
		return p.layered(name, v.pauses.add(f.Act), p.sleep)
	case Skew:
		return p.layered(name, v.skews.add(f.By), p.skew)
	case Cut, Block, Partition, Start, Reboot:
	}
	return nil
}

// layered applies what was added to layers, and again what is left when that has
// been removed.
func (p *player) layered(name string, remove func(), apply func(name string)) (undo func()) {
	apply(name)
	return func() {
		remove()
		apply(name)
	}
}

// names makes a set.
func (p *player) names(list []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range list {
		set[name] = true
	}
	return set
}

// between loses packets from one set of hosts to another.
func between(from, to map[string]bool, both bool) sim.Rule {
	return func(packet sim.Packet) sim.Verdict {
		if from[packet.Source] && to[packet.Destination] || both && to[packet.Source] && from[packet.Destination] {
			return sim.Drop()
		}
		return sim.Verdict{}
	}
}

// setDown ends a program or starts it again.
func (p *player) setDown(name string, act Act) {
	if (act == Start) != p.faults.down[name] {
		return
	}
	p.faults.down[name] = act != Start
	m := p.members[name]
	switch {
	case m != nil && act == Start:
		m.want(true)
	case m != nil && act == Crash:
		m.crash()
	case m != nil:
		p.world.Go(m.stop) // takes as long as peers take to read
	case act == Start:
		p.center.Start()
	case act == Crash:
		p.center.Crash()
	default:
		p.center.Stop()
	}
}

// must tells of what the parser should have refused.
func (p *player) must(err error) {
	if err != nil {
		p.event("fault", "", "error: "+err.Error())
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.failed == nil {
			p.failed = err
		}
	}
}
