package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxSkew of a wall clock.
const maxSkew = 20 * 365 * 24 * time.Hour

// acts in the order in which errors list them.
var acts = []Act{Cut, Block, Partition, SetLine, Crash, Stop, Start, Move, Reboot, Pause, Skew, UDPBlocked}

func (p *parser) readFaults(v value) {
	strikes := 0.
	for _, element := range v.list("faults") {
		f := p.fault(element)
		p.topology.Faults = append(p.topology.Faults, f)
		strikes += max(1, f.Random*(f.Until-f.From).Seconds())
	}
	if strikes > maxFaults {
		v.fail("makes about %.0f faults; want at most %d", strikes, maxFaults)
	}
}

func (p *parser) fault(element value) Fault {
	f := Fault{Until: p.topology.Duration}
	allowed := fields{
		"at":     func(v value) { f.At = p.within(v) },
		"for":    func(v value) { f.For = v.span(maxDuration) },
		"random": func(v value) { f.Random = v.frequency(100) },
		"from":   func(v value) { f.From = p.within(v) },
		"until":  func(v value) { f.Until = p.within(v) },
	}
	var found []string
	for _, act := range acts {
		allowed[string(act)] = func(v value) {
			found = append(found, string(act))
			f.Act = act
			p.victims(&f, v)
		}
	}
	before := len(p.errs)
	there := element.object(allowed)
	switch {
	case len(p.errs) > before && len(found) == 0:
		return f // what is wrong may be what it was to do
	case len(found) == 0:
		element.fail("does nothing; want one of %s", names(acts))
	case len(found) > 1:
		element.fail("does several things: %s; want a fault for each", strings.Join(found, ", "))
	}
	if v, ok := there["for"]; ok && (f.Act == Start || f.Act == Reboot) {
		v.fail("is not for %s, which is over at once", f.Act)
	}
	_, at := there["at"]
	_, random := there["random"]
	switch {
	case at == random:
		element.fail("want either at: TIME or random: FREQUENCY")
	case at:
		for _, name := range []string{"from", "until"} {
			if v, ok := there[name]; ok {
				v.fail("is for random faults; want at alone")
			}
		}
	case f.Until <= f.From:
		element.fail("ends at %s and begins at %s; want until later than from", brief(f.Until), brief(f.From))
	}
	return f
}

// victims reads what an act is done to.
func (p *parser) victims(f *Fault, v value) {
	hosts := func(into *[]string) func(value) {
		return func(v value) { *into = p.hosts.selected(v, coordinator) }
	}
	clients := func(v value) { f.Hosts = p.hosts.selected(v) }
	line := func(v value) { line := p.line(v); f.Line = &line }
	switch f.Act {
	case Cut, Block:
		v.parts(fields{"from": hosts(&f.Hosts), "to": hosts(&f.To)})
	case Partition:
		list := v.list("groups of hosts, such as [[alice, bob], [carol]]")
		for _, group := range list {
			f.Groups = append(f.Groups, p.hosts.selected(group, coordinator))
		}
		if len(list) == 1 {
			v.fail("has one group; want at least two")
		}
	case SetLine:
		v.parts(fields{"of": hosts(&f.Hosts), "to": line})
	case Crash, Stop, Start:
		hosts(&f.Hosts)(v)
	case Pause:
		clients(v)
	case Move:
		v.parts(fields{"host": clients, "to": func(v value) { f.Place = p.places(v) }, "line": line}, "line")
	case Skew:
		v.parts(fields{"host": clients, "by": func(v value) { f.By = v.duration(-maxSkew, maxSkew) }})
	case Reboot, UDPBlocked:
		f.Hosts = p.gateways.selected(v)
	}
}

// parts reads an object whose fields are all needed, except some.
func (v value) parts(all fields, optional ...string) {
	there := v.object(all)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(optional, name) {
			v.need(there, name, oneOf(slices.Sorted(maps.Keys(all))))
		}
	}
}

// String says what the fault does, and to whom.
func (f *Fault) String() string { return f.describe(f.Hosts, f.To) }

// describe says what it does to these.
func (f *Fault) describe(hosts, to []string) string {
	text := string(f.Act) + " " + few(hosts)
	switch f.Act {
	case Cut:
		text += " → " + few(to)
	case Block:
		text += " ↔ " + few(to)
	case Partition:
		var groups []string
		for _, group := range f.Groups {
			groups = append(groups, few(group))
		}
		text = string(f.Act) + " " + strings.Join(groups, " | ")
	case SetLine:
		text = "line of " + few(hosts) + " changes"
	case Move:
		text += " to " + few(f.Place)
	case Skew:
		text += fmt.Sprintf(" by %s", brief(f.By))
	case Crash, Stop, Start, Reboot, Pause, UDPBlocked:
	}
	return text
}

// few lists names, not all of them if there are many.
func few(list []string) string {
	const most = 4
	if len(list) > most {
		return fmt.Sprintf("%s, … (%d)", strings.Join(list[:most-1], ", "), len(list))
	}
	return strings.Join(list, ", ")
}

func names(acts []Act) string {
	var list []string
	for _, act := range acts {
		list = append(list, string(act))
	}
	return strings.Join(list, ", ")
}
