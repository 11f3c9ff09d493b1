package topology

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/conec-go/conec/client"
)

// Limits of traffic.
const (
	minMessage    = 32 // bytes: what a receiver checks
	maxFrequency  = 10_000
	maxMessages   = 50_000_000 // in a file
	maxTransfer   = 100 << 30  // bytes
	defaultSize   = 200        // bytes
	transferPiece = 32 << 10   // bytes in a message of a transfer
)

// modes are the paths that traffic may take.
var modes = []string{"automatic", "direct", "relayed"} // in the order of client.Mode

func (p *parser) readTraffic(v value) {
	messages := 0.
	for _, e := range v.entries("names of traffic") {
		t := p.trafficOf(e)
		if !e.checkName() {
			continue
		}
		if e.name == all {
			e.fail("the name %s has a meaning of its own; want another", all)
			continue
		}
		p.flows += t.flows()
		messages += t.messages() * float64(t.flows())
		p.topology.Traffic = append(p.topology.Traffic, t)
		p.traffic.add(e.name, e.name)
	}
	if p.flows > maxFlows {
		v.fail("makes %d pairs; want at most %d (peers: 1 gives each sender one)", p.flows, maxFlows)
	}
	if messages > maxMessages {
		v.fail("makes %.0f messages; want at most %d", messages, maxMessages)
	}
}

func (p *parser) trafficOf(e entry) Traffic {
	t := Traffic{Name: e.name, Rate: 1, Size: defaultSize, Reply: defaultSize, Stop: p.topology.Duration}
	there := e.object(fields{
		"kind":  func(v value) { t.Kind = Kind(v.choice(string(Messages), string(Requests), string(Transfer))) },
		"from":  func(v value) { t.From = p.hosts.selected(v) },
		"to":    func(v value) { t.To = p.hosts.selected(v) },
		"peers": func(v value) { t.Peers = int(v.count(1, maxHosts)) },
		"path":  func(v value) { t.Mode = client.Mode(max(slices.Index(modes, v.choice(modes...)), 0)) },
		"start": func(v value) { t.Start = p.within(v) },
		"stop":  func(v value) { t.Stop = p.within(v) },
		"rate":  func(v value) { t.Rate = v.frequency(maxFrequency) },
		"size":  func(v value) { t.Size = int(v.size(minMessage, maxMessage)) },
		"reply": func(v value) { t.Reply = int(v.size(minMessage, maxMessage)) },
		"bytes": func(v value) { t.Bytes = v.size(1, maxTransfer) },
	})
	e.need(there, "kind", "messages, requests or transfer")
	e.need(there, "from", "who sends")
	e.need(there, "to", "who receives")
	kinds := map[string][]Kind{"rate": {Messages, Requests}, "size": {Messages, Requests}, "reply": {Requests}, "bytes": {Transfer}}
	for _, name := range []string{"rate", "size", "reply", "bytes"} {
		if v, ok := there[name]; ok && t.Kind != "" && !slices.Contains(kinds[name], t.Kind) {
			v.fail("is not for %s", t.Kind)
		}
	}
	switch {
	case t.Kind == Transfer:
		e.need(there, "bytes", "how much is transferred, such as 10MB")
		t.Size = transferPiece
	case t.Stop <= t.Start:
		e.fail("stops at %s and starts at %s; want a stop that is later, and both within the duration of %s",
			brief(t.Stop), brief(t.Start), brief(p.topology.Duration))
	}
	if len(t.From) == 1 && slices.Equal(t.From, t.To) {
		e.fail("is from %s to itself; want two clients", t.From[0])
	}
	return t
}

// flows counts the pairs.
func (t *Traffic) flows() int {
	if t.Peers > 0 {
		return len(t.From) * min(t.Peers, len(t.To))
	}
	return len(t.From) * len(t.To)
}

// messages is about how many a pair sends.
func (t *Traffic) messages() float64 {
	if t.Kind == Transfer {
		return float64(t.Bytes) / transferPiece
	}
	return t.Rate * (t.Stop - t.Start).Seconds()
}

// pairs returns who sends to whom; who is drawn depends on random alone.
func (t *Traffic) pairs(random *rand.Rand) []Pair {
	var list []Pair
	for _, from := range t.From {
		to := slices.DeleteFunc(slices.Clone(t.To), func(name string) bool { return name == from })
		if t.Peers > 0 && t.Peers < len(to) {
			random.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
			to = to[:t.Peers]
			slices.SortFunc(to, func(a, b string) int { return cmp.Compare(slices.Index(t.To, a), slices.Index(t.To, b)) })
		}
		for _, peer := range to {
			list = append(list, Pair{from, peer})
		}
	}
	return list
}

// interval is the time between two messages of a pair.
func (t *Traffic) interval() time.Duration {
	return time.Duration(float64(time.Second) / t.Rate)
}
