package topology

import (
	"slices"
	"time"

	"github.com/conec-go/conec/sim"
)

// layers are what faults of one kind have done to one victim and is not over, the
// latest last: that one counts, and when it is over, what is below. A fault without
// an end stays.
type layers[T any] []*T

// add puts something on top, and returns what takes it out again, from wherever it
// then is.
func (l *layers[T]) add(what T) (remove func()) {
	entry := &what
	*l = append(*l, entry)
	return func() { *l = slices.DeleteFunc(*l, func(other *T) bool { return other == entry }) }
}

// victim is a host or gateway that faults have struck.
type victim struct {
	downs   layers[Act]
	pauses  layers[Act]
	blocks  layers[Act]
	skews   layers[time.Duration]
	changes layers[change]
	at      spot // where it is now
}

// change is what a fault does to where a host is.
type change struct {
	place string    // of a move
	line  *sim.Line // nil if a move gives none
}

// spot is a place, and the line there.
type spot struct {
	place string
	line  sim.Line
}

// victim returns what was done to a host or gateway.
func (p *player) victim(name string) *victim {
	v := p.faults.victims[name]
	if v == nil {
		v = &victim{at: p.home(name)}
		p.faults.victims[name] = v
	}
	return v
}

// home is where the file puts a host.
func (p *player) home(name string) spot {
	if m := p.members[name]; m != nil {
		return spot{m.given.At, m.given.Line}
	}
	return spot{internet, p.topology.Coordinator.Line}
}

// wanted is where a host is to be: where the last move took it, by the line that
// came with that, or by its own. What faults did to its line goes with it, unless
// the move gives one.
func (p *player) wanted(name string) spot {
	home := p.home(name)
	result, struck := home, (*sim.Line)(nil)
	for _, c := range p.victim(name).changes {
		switch {
		case c.place == "":
			struck = c.line
		case c.line == nil:
			result = spot{c.place, home.line}
		default:
			result, struck = spot{c.place, *c.line}, nil
		}
	}
	if struck != nil {
		result.line = *struck
	}
	return result
}

// settle puts a host where it is to be.
func (p *player) settle(name string) {
	v, want := p.victim(name), p.wanted(name)
	before := v.at
	v.at = want
	switch {
	case want.place != before.place:
		m := p.members[name]
		p.must(m.host.Move(p.places[want.place], want.line, m.addrsAt(want.place)...))
	case want.line != before.line:
		p.must(p.hosts[name].SetLine(want.line))
	}
}

// sleep pauses a host while any fault says so.
func (p *player) sleep(name string) {
	if len(p.victim(name).pauses) > 0 {
		p.hosts[name].Pause()
	} else {
		p.hosts[name].Resume()
	}
}

// skew sets a host's wall clock.
func (p *player) skew(name string) {
	by := time.Duration(0)
	if skews := p.victim(name).skews; len(skews) > 0 {
		by = *skews[len(skews)-1]
	}
	p.hosts[name].Skew(by)
}

// blockUDP has a gateway pass UDP, or not: it forgets its mappings.
func (p *player) blockUDP(name string, blocked bool) {
	for _, g := range p.topology.Gateways {
		if g.Name == name {
			nat := g.NAT
			nat.NoUDP = blocked || nat.NoUDP
			p.must(p.gateways[name].SetNAT(nat))
		}
	}
}
