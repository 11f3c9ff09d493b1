package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check is a kind of expectation.
type Check string

// The checks.
const (
	Attached   Check = "attached"    // clients have the coordinator
	Delivered  Check = "delivered"   // the fraction of messages that arrived, at least
	Repeated   Check = "repeated"    // messages that came again, at most
	Reordered  Check = "reordered"   // messages that came after a later one, at most
	Broken     Check = "broken"      // streams that failed, at most
	PathIs     Check = "path"        // direct or relayed
	LongestGap Check = "longest-gap" // without a message, at most
	Throughput Check = "throughput"  // of each pair, at least
	Latency50  Check = "latency-p50" // from Send to Receive, at most
	Latency99  Check = "latency-p99"
	RTT50      Check = "rtt-p50" // from a request to its answer, at most
	RTT99      Check = "rtt-p99"
	Finished   Check = "finished" // transfers have arrived
)

// checks says, for each check, which kinds of traffic it is about and which
// fields may stand beside it.
var checks = map[Check]struct {
	kinds []Kind
	with  []string
}{
	Attached:   {nil, []string{"by"}},
	Delivered:  {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to"}},
	Repeated:   {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to"}},
	Reordered:  {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to"}},
	Broken:     {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to"}},
	PathIs:     {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to", "by", "share"}},
	LongestGap: {[]Kind{Messages, Requests}, []string{"of", "from", "to"}},
	Throughput: {[]Kind{Messages, Requests, Transfer}, []string{"of", "from", "to"}},
	Latency50:  {[]Kind{Messages}, []string{"of", "from", "to"}},
	Latency99:  {[]Kind{Messages}, []string{"of", "from", "to"}},
	RTT50:      {[]Kind{Requests}, []string{"of", "from", "to"}},
	RTT99:      {[]Kind{Requests}, []string{"of", "from", "to"}},
	Finished:   {[]Kind{Transfer}, []string{"of", "from", "to", "by"}},
}

var checkNames = []Check{
	Attached, Delivered, Repeated, Reordered, Broken, PathIs, LongestGap, Throughput, Latency50, Latency99, RTT50, RTT99, Finished,
}

// Expectation is what must have held.
type Expectation struct {
	Line  int // in the file
	Check Check
	Text  string // as the file says it

	Hosts    []string      // of Attached
	Of       []string      // traffic
	From, To []string      // nil: any
	By       time.Duration // zero: at the end
	Fraction float64       // of Delivered; of Path: of the pairs, at least
	Count    int64
	Limit    time.Duration
	Rate     int64 // bytes per second
	Relayed  bool  // of Path
}

func (p *parser) readExpectations(v value) {
	p.sound = len(p.errs) == 0
	for _, element := range v.list("expectations") {
		p.topology.Expect = append(p.topology.Expect, p.expectation(element))
	}
}

func (p *parser) expectation(element value) Expectation {
	e := Expectation{Line: element.line, Fraction: 1}
	allowed := fields{
		"of":    func(v value) { e.Of = p.traffic.selected(v) },
		"from":  func(v value) { e.From = p.hosts.selected(v) },
		"to":    func(v value) { e.To = p.hosts.selected(v) },
		"by":    func(v value) { e.By = p.within(v) },
		"share": func(v value) { e.Fraction = v.fraction() },
	}
	var found []string
	for _, check := range checkNames {
		allowed[string(check)] = func(v value) {
			found = append(found, string(check))
			e.Check = check
			p.expected(&e, v)
		}
	}
	before := len(p.errs)
	there := element.object(allowed)
	switch {
	case len(p.errs) > before && len(found) == 0:
		return e // what is wrong may be what it was to expect
	case len(found) == 0:
		element.fail("expects nothing; want one of %s", checkList())
		return e
	case len(found) > 1:
		element.fail("expects several things: %s; want an element for each", strings.Join(found, ", "))
		return e
	}
	check := checks[e.Check]
	for _, name := range []string{"of", "from", "to", "by", "share"} {
		if v, ok := there[name]; ok && !slices.Contains(check.with, name) {
			v.fail("is not for %s; beside it may stand %s", e.Check, strings.Join(check.with, ", "))
		}
	}
	if e.Check != Attached {
		p.aboutTraffic(element, &e)
	}
	e.Text = describeExpectation(&e, there)
	return e
}

// expected reads what is expected.
func (p *parser) expected(e *Expectation, v value) {
	switch e.Check {
	case Attached:
		e.Hosts = p.hosts.selected(v)
	case Delivered:
		if text, ok := v.word("all, or a fraction such as 99%"); ok && text != all {
			e.Fraction = v.fraction()
		}
	case Repeated, Reordered, Broken:
		e.Count = v.count(0, maxMessages)
	case PathIs:
		e.Relayed = v.choice("direct", "relayed") == "relayed"
	case LongestGap, Latency50, Latency99, RTT50, RTT99:
		e.Limit = v.duration(0, maxDuration)
	case Throughput:
		e.Rate = v.rate()
	case Finished:
		e.Of = p.traffic.selected(v)
	}
}

// aboutTraffic completes and checks which traffic is meant.
func (p *parser) aboutTraffic(element value, e *Expectation) {
	kinds := checks[e.Check].kinds
	before := len(p.errs)
	named := len(e.Of) > 0 && (e.Check != Finished || len(e.Of) < len(p.topology.Traffic))
	var fitting []string
	for _, t := range p.topology.Traffic {
		switch {
		case e.Of != nil && !slices.Contains(e.Of, t.Name), !meets(e.From, t.From), !meets(e.To, t.To):
		case !slices.Contains(kinds, t.Kind):
			if named && t.Kind != "" {
				element.fail("%s of %s, whose kind is %s; want traffic of kind %s", e.Check, t.Name, t.Kind, kindList(kinds))
			}
		default:
			fitting = append(fitting, t.Name)
		}
	}
	if len(fitting) == 0 && len(p.errs) == before && p.sound {
		element.fail("no such traffic in the file: want some of kind %s", kindList(kinds))
	}
	e.Of = fitting
}

// meets tells whether two sets have something in common; nil is everything.
func meets(a, b []string) bool {
	return a == nil || slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
}

func kindList(kinds []Kind) string {
	var list []string
	for _, kind := range kinds {
		list = append(list, string(kind))
	}
	return strings.Join(list, " or ")
}

func checkList() string {
	var list []string
	for _, check := range checkNames {
		list = append(list, string(check))
	}
	return strings.Join(list, ", ")
}

// describeExpectation says it as the file does, in one order.
func describeExpectation(e *Expectation, there map[string]value) string {
	var text strings.Builder
	for _, name := range []string{string(e.Check), "of", "from", "to", "by", "share"} {
		if v, ok := there[name]; ok {
			if text.Len() > 0 {
				text.WriteString(", ")
			}
			fmt.Fprintf(&text, "%s: %s", name, v.flat())
		}
	}
	return text.String()
}
