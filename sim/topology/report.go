package topology

import (
	"slices"
	"time"

	"github.com/conec-go/conec/sim"
)

// Stats are the counters at an instant of a run. Rates are over the time since the
// Stats before.
type Stats struct {
	At       time.Duration `json:"at"`
	Clients  int           `json:"clients"`
	Attached int           `json:"attached"`
	// Direct, Relayed and Unconnected count pairs by the path that they have.
	Direct      int `json:"direct"`
	Relayed     int `json:"relayed"`
	Unconnected int `json:"unconnected"`
	// MessagesPerSecond and BytesPerSecond are what receivers read, answers counted.
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
	// Missing counts messages that were sent and have not arrived.
	Missing int64 `json:"missing"`
	// PacketsPerSecond is what programs sent; Loss is the fraction of them that
	// was lost on the way, for any reason.
	PacketsPerSecond float64 `json:"packets_per_second"`
	Loss             float64 `json:"loss"`
}

// Packets counts datagrams.
type Packets struct {
	Sent       int `json:"sent"`
	Delivered  int `json:"delivered"`
	Duplicated int `json:"duplicated,omitempty"`
	Corrupted  int `json:"corrupted,omitempty"`
	// Ended counts those that did not arrive, by the reason.
	Ended map[string]int `json:"ended,omitempty"`
}

// TrafficReport is what came of one traffic of the file.
type TrafficReport struct {
	Name  string `json:"name"`
	Kind  Kind   `json:"kind"`
	Pairs int    `json:"pairs"`
	// counts of messages; of requests, those of both ways.
	counts
	Missing int64 `json:"missing"`
	// Direct and Relayed count pairs by their path at the end, Moves how often
	// any changed between the two.
	Direct  int `json:"direct"`
	Relayed int `json:"relayed"`
	Moves   int `json:"moves"`
	// Opened counts streams, Broken those that failed.
	Opened int `json:"opened"`
	Broken int `json:"broken"`
	// P50 and P99 are how long messages took, of requests there and back.
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	// BytesPerSecond is the sum over the pairs.
	BytesPerSecond float64 `json:"bytes_per_second"`
	// Finished counts the transfers that are complete; the last was at FinishedAt.
	Finished   int           `json:"finished,omitempty"`
	FinishedAt time.Duration `json:"finished_at,omitempty"`
}

// Outcome is what came of an expectation.
type Outcome struct {
	Line int    `json:"line"`
	Text string `json:"text"`
	Held bool   `json:"held"`
	// Found is what was the case.
	Found string `json:"found"`

	done bool
}

// Report is what came of a run.
type Report struct {
	Seed    uint64        `json:"seed"`
	Elapsed time.Duration `json:"elapsed"`
	Clients int           `json:"clients"`
	totals
	Packets Packets         `json:"packets"`
	Traffic []TrafficReport `json:"traffic"`
	Expect  []Outcome       `json:"expect"`
}

// Held tells whether all expectations did.
func (r *Report) Held() bool {
	return !slices.ContainsFunc(r.Expect, func(o Outcome) bool { return !o.Held })
}

// sample is what Stats are made from.
type sample struct {
	at       time.Duration
	messages int64
	bytes    int64
	sent     int
	lost     int
}

// tellStats tells the observer the counters of now.
func (p *player) tellStats() {
	if p.observer.Stats != nil {
		p.observer.Stats(p.stats())
	}
}

func (p *player) stats() Stats {
	network := p.world.Stats()
	now := sample{at: p.world.Elapsed(), sent: network.Sent}
	for _, count := range network.Ended {
		now.lost += count
	}
	s := Stats{At: now.at, Clients: len(p.order)}
	p.count(func(t *totals) { s.Attached = t.Attached })
	for _, f := range p.flows {
		f.look()
		f.mu.Lock()
		path := f.path
		f.mu.Unlock()
		switch path {
		case directPath:
			s.Direct++
		case relayedPath:
			s.Relayed++
		case noPath:
			s.Unconnected++
		}
		for _, l := range []*ledger{&f.out, &f.back} {
			counts, _ := l.read()
			now.messages += counts.Received
			now.bytes += counts.Bytes
			s.Missing += counts.Sent - counts.Received
		}
	}
	before := p.before
	p.before = now
	if seconds := (now.at - before.at).Seconds(); seconds > 0 {
		s.MessagesPerSecond = float64(now.messages-before.messages) / seconds
		s.BytesPerSecond = float64(now.bytes-before.bytes) / seconds
		s.PacketsPerSecond = float64(now.sent-before.sent) / seconds
	}
	if sent := now.sent - before.sent; sent > 0 {
		s.Loss = float64(now.lost-before.lost) / float64(sent)
	}
	return s
}

// report sums up, and evaluates what is expected of the end.
func (p *player) report() *Report {
	now := p.world.Elapsed()
	for _, f := range p.flows {
		f.look()
		f.out.end(now)
		f.back.end(now)
	}
	r := &Report{Seed: p.world.Seed(), Elapsed: now, Clients: len(p.order), Packets: packets(p.world.Stats())}
	p.count(func(t *totals) { r.totals = *t })
	for i := range p.topology.Traffic {
		r.Traffic = append(r.Traffic, p.reportTraffic(&p.topology.Traffic[i]))
	}
	for i, outcome := range p.outcomes {
		p.evaluate(&p.topology.Expect[i], outcome)
		r.Expect = append(r.Expect, *outcome)
	}
	return r
}

func packets(s sim.Stats) Packets {
	result := Packets{Sent: s.Sent, Delivered: s.Delivered, Duplicated: s.Duplicated, Corrupted: s.Corrupted, Ended: map[string]int{}}
	for fate, count := range s.Ended {
		if count > 0 {
			result.Ended[sim.Fate(fate).String()] = count
		}
	}
	return result
}

func (p *player) reportTraffic(t *Traffic) TrafficReport {
	r := TrafficReport{Name: t.Name, Kind: t.Kind}
	for _, f := range p.flows {
		if f.traffic != t {
			continue
		}
		r.Pairs++
		ledgers := []*ledger{&f.out}
		times := f.latency
		if t.Kind == Requests {
			ledgers, times = append(ledgers, &f.back), f.rtt
		}
		for _, l := range ledgers {
			counts, rate := l.read()
			r.add(counts)
			r.BytesPerSecond += rate
		}
		f.mu.Lock()
		r.Opened += f.opened
		r.Broken += f.broken
		r.Moves += f.moved
		switch f.path {
		case directPath:
			r.Direct++
		case relayedPath:
			r.Relayed++
		case noPath:
		}
		if f.finished > 0 {
			r.Finished++
			r.FinishedAt = max(r.FinishedAt, f.finished)
		}
		f.mu.Unlock()
		r.P50, r.P99 = times.quantile(0.5), times.quantile(0.99)
	}
	r.Missing = r.Sent - r.Received
	return r
}

func (c *counts) add(other counts) {
	c.Sent += other.Sent
	c.Received += other.Received
	c.Repeated += other.Repeated
	c.Reordered += other.Reordered
	c.Damaged += other.Damaged
	c.Bytes += other.Bytes
	c.Gap = max(c.Gap, other.Gap)
}
