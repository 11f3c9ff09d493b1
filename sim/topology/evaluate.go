package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// evaluate decides whether an expectation holds now; once.
func (p *player) evaluate(e *Expectation, outcome *Outcome) {
	p.mu.Lock()
	done := outcome.done
	outcome.done = true
	p.mu.Unlock()
	if done {
		return
	}
	held, found := p.check(e)
	p.mu.Lock()
	outcome.Held, outcome.Found = held, found
	p.mu.Unlock()
	if !held && e.By > 0 {
		p.event("expect", "", fmt.Sprintf("not held: %s; %s", e.Text, found))
	}
}

// check returns whether an expectation holds, and what is the case.
func (p *player) check(e *Expectation) (held bool, found string) {
	if e.Check == Attached {
		return p.checkAttached(e)
	}
	var flows []*flow
	for _, f := range p.flows {
		if slices.Contains(e.Of, f.traffic.Name) && includes(e.From, f.From) && includes(e.To, f.To) {
			flows = append(flows, f)
		}
	}
	if len(flows) == 0 {
		return false, "the seed drew no such pair"
	}
	switch e.Check {
	case PathIs:
		return checkPath(e, flows)
	case Finished:
		return checkFinished(e, flows)
	case LongestGap:
		return checkWorst(flows, e.Limit, func(f *flow) time.Duration {
			out, _ := f.out.read()
			back, _ := f.back.read()
			return max(out.Gap, back.Gap)
		})
	case Throughput:
		return checkThroughput(e, flows)
	case Latency50, Latency99, RTT50, RTT99:
		return checkTimes(e, flows)
	case Attached, Delivered, Repeated, Reordered, Broken:
	}
	return checkCounts(e, flows)
}

func includes(set []string, name string) bool { return set == nil || slices.Contains(set, name) }

func (p *player) checkAttached(e *Expectation) (bool, string) {
	var missing []string
	for _, name := range e.Hosts {
		if !p.members[name].isAttached() {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return true, fmt.Sprintf("%d of %d", len(e.Hosts), len(e.Hosts))
	}
	return false, fmt.Sprintf("%d of %d, without %s", len(e.Hosts)-len(missing), len(e.Hosts), few(missing))
}

func checkPath(e *Expectation, flows []*flow) (bool, string) {
	wanted := directPath
	if e.Relayed {
		wanted = relayedPath
	}
	var others []string
	for _, f := range flows {
		f.look()
		f.mu.Lock()
		if f.path != wanted {
			others = append(others, f.String()+": "+f.path.String())
		}
		f.mu.Unlock()
	}
	count := len(flows) - len(others)
	found := fmt.Sprintf("%d of %d pairs %s", count, len(flows), wanted)
	held := float64(count) >= e.Fraction*float64(len(flows))
	if !held {
		found += "; " + few(others)
	}
	return held, found
}

func (f *flow) String() string { return f.From + " → " + f.To }

func checkFinished(e *Expectation, flows []*flow) (bool, string) {
	last, count := time.Duration(0), 0
	var late []string
	for _, f := range flows {
		at := f.done()
		if at == 0 || e.By > 0 && at > e.By {
			counts, _ := f.out.read()
			late = append(late, fmt.Sprintf("%s has %s of %s", f, amount(counts.Bytes), amount(f.traffic.Bytes)))
			continue
		}
		count++
		last = max(last, at)
	}
	if len(late) > 0 {
		return false, fmt.Sprintf("%d of %d; %s", count, len(flows), few(late))
	}
	return true, fmt.Sprintf("%d of %d, the last after %s", count, len(flows), round(last))
}

// checkWorst holds the largest of some durations to a limit.
func checkWorst(flows []*flow, limit time.Duration, of func(*flow) time.Duration) (bool, string) {
	worst := slices.MaxFunc(flows, func(a, b *flow) int { return int(of(a) - of(b)) })
	return of(worst) <= limit, fmt.Sprintf("%s, %s", round(of(worst)), worst)
}

func checkThroughput(e *Expectation, flows []*flow) (bool, string) {
	rate := func(f *flow) float64 {
		_, rate := f.out.read()
		return rate
	}
	worst := flows[0]
	for _, f := range flows {
		if rate(f) < rate(worst) {
			worst = f
		}
	}
	return rate(worst) >= float64(e.Rate), fmt.Sprintf("%s, %s", rateText(rate(worst)), worst)
}

func checkTimes(e *Expectation, flows []*flow) (bool, string) {
	part := 0.99
	if e.Check == Latency50 || e.Check == RTT50 {
		part = 0.5
	}
	var worst time.Duration
	var of string
	for _, f := range flows { // those of one traffic share a histogram
		h := f.latency
		if f.traffic.Kind == Requests {
			h = f.rtt
		}
		if h.count() == 0 {
			return false, "no " + string(f.traffic.Kind) + " of " + f.traffic.Name + " arrived"
		}
		if d := h.quantile(part); d > worst || of == "" {
			worst, of = d, f.traffic.Name
		}
	}
	return worst <= e.Limit, fmt.Sprintf("%s, %s", round(worst), of)
}

func checkCounts(e *Expectation, flows []*flow) (bool, string) {
	var sum counts
	broken := 0
	var guilty []string
	for _, f := range flows {
		var one counts
		out, _ := f.out.read()
		back, _ := f.back.read()
		one.add(out)
		one.add(back)
		f.mu.Lock()
		breaks := f.broken
		f.mu.Unlock()
		sum.add(one)
		broken += breaks
		bad := map[Check]int64{
			Delivered: one.Sent - one.Received + one.Damaged, Repeated: one.Repeated, Reordered: one.Reordered, Broken: int64(breaks),
		}[e.Check]
		if bad > 0 {
			guilty = append(guilty, fmt.Sprintf("%s: %d", f, bad))
		}
	}
	var held bool
	var found string
	switch e.Check {
	case Repeated:
		held, found = sum.Repeated <= e.Count, fmt.Sprintf("%d", sum.Repeated)
	case Reordered:
		held, found = sum.Reordered <= e.Count, fmt.Sprintf("%d", sum.Reordered)
	case Broken:
		held, found = int64(broken) <= e.Count, fmt.Sprintf("%d streams", broken)
	default:
		return checkDelivered(e, sum, flows, guilty)
	}
	if len(guilty) > 0 {
		found += "; " + few(guilty)
	}
	return held, found
}

// checkDelivered holds what arrived against what was sent. A transfer that is not
// complete has not sent everything, so its bytes count.
func checkDelivered(e *Expectation, sum counts, flows []*flow, guilty []string) (bool, string) {
	parts := []string{fmt.Sprintf("%d of %d messages", sum.Received, sum.Sent)}
	held := sum.Sent > 0 && float64(sum.Received) >= e.Fraction*float64(sum.Sent)
	if sum.Damaged > 0 {
		held = false
		parts = append(parts, fmt.Sprintf("%d damaged", sum.Damaged))
	}
	for _, f := range flows {
		if f.traffic.Kind != Transfer {
			continue
		}
		if got, _ := f.out.read(); float64(got.Bytes) < e.Fraction*float64(f.traffic.Bytes) {
			held = false
			guilty = append(guilty, fmt.Sprintf("%s: %s of %s", f, amount(got.Bytes), amount(f.traffic.Bytes)))
		}
	}
	if len(guilty) > 0 {
		parts = append(parts, "missing "+few(guilty))
	}
	return held, strings.Join(parts, "; ")
}
