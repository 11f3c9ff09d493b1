package sim_test

import (
	"math/rand/v2"
	"time"
)

// numbers is where a schedule is drawn from.
type numbers interface {
	below(n int) int // a number from 0 to n-1; 0 once nothing is left
	more() bool
}

// seeded numbers never end by themselves.
type seeded struct{ *rand.Rand }

func (s seeded) below(n int) int { return s.IntN(n) }
func (s seeded) more() bool      { return true }

// fuzzed numbers are bytes of a fuzzer: each decides one thing.
type fuzzed struct{ bytes []byte }

func (f *fuzzed) below(n int) int {
	if len(f.bytes) == 0 {
		return 0
	}
	first := int(f.bytes[0])
	f.bytes = f.bytes[1:]
	return first % n
}

func (f *fuzzed) more() bool { return len(f.bytes) > 0 }

// Amounts that a schedule is made of.
var (
	counts = []int{1, 2, 5, 20, 100}
	sizes  = []int{0, 1, 20, 300, 1200, 5000, 40_000, 70_000, 300_000, 1 << 20}
	gaps   = []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 700 * time.Millisecond}
	lasts  = []time.Duration{
		50 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second,
		4 * time.Second, 8 * time.Second, 20 * time.Second, 50 * time.Second,
	}
	pauses = []time.Duration{
		0, time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond,
		time.Second, 2 * time.Second, 5 * time.Second,
	}
)

// Limits of a schedule.
const (
	maxClients  = 5
	maxGateways = 3
	maxSteps    = 60
	maxBytes    = 3 << 20 // sent in all, so that slow lines carry it in time
)

// drawSchedule returns the schedule of a seed.
func drawSchedule(seed uint64) *schedule {
	random := seeded{rand.New(rand.NewPCG(seed, 3))}
	return draw(random, seed, 8+random.below(maxSteps-8))
}

// decodeSchedule returns the schedule of a fuzzer's bytes; there is one for any.
func decodeSchedule(data []byte) *schedule {
	return draw(&fuzzed{data}, 1, maxSteps)
}

func draw(from numbers, seed uint64, length int) *schedule {
	s := &schedule{seed: seed}
	for i := range from.below(maxGateways + 1) {
		s.gateways = append(s.gateways, gatewayPlan{
			at: from.below(2*i+1)/2 + outside, nat: from.below(len(natKinds)), line: traits(from),
		})
	}
	for range 2 + from.below(maxClients-1) {
		s.clients = append(s.clients, clientPlan{at: from.below(len(s.gateways)+1) + outside, line: traits(from)})
	}
	if from.below(8) == 1 {
		s.backlog, s.streams = 1+from.below(4), 2+from.below(4)
	}
	if from.below(6) == 1 {
		s.mtu = 1280
	}
	gentle := from.below(2) == 0
	at, opened, bytes := time.Duration(0), 0, 0
	for len(s.steps) < length && from.more() {
		at += pauses[from.below(len(pauses))] + time.Duration(from.below(50))*time.Millisecond
		next := step{at: at, do: drawVerb(from, opened)}
		next.draw(from, s, opened)
		if gentle && !next.soften() {
			continue
		}
		switch next.do { //nolint:exhaustive // the others send nothing
		case doOpen:
			opened++
		case doSend, doTry:
			next.count = min(next.count, (maxBytes-bytes)/max(next.size, 1))
			bytes += next.count * next.size
		}
		s.steps = append(s.steps, next)
	}
	return s
}

// traits draws those of a line: most have none or few.
func traits(from numbers) (traits int) {
	for range from.below(4) {
		traits |= 1 << from.below(len(lineTraits))
	}
	return traits
}

// drawVerb draws what to do: more often what uses streams than what disturbs.
func drawVerb(from numbers, opened int) verb {
	if opened == 0 {
		return doOpen
	}
	switch n := from.below(100); {
	case n < 15:
		return doOpen
	case n < 45:
		return doSend
	case n < 50:
		return doTry
	default:
		return doCloseSend + verb((n-50)*int(verbCount-doCloseSend)/50)
	}
}

// soften makes a step one that streams survive, if it can.
func (s *step) soften() bool {
	const short = 4 * time.Second
	switch s.do { //nolint:exhaustive // the others do no harm
	case doReset, doDrain, doAbort:
		return false
	case doCrash, doStop:
		s.who = hub
	}
	if s.do != doOpen {
		s.last = min(s.last, short)
	}
	return true
}

// draw draws what counts of the step.
func (s *step) draw(from numbers, of *schedule, opened int) {
	party := func() int { return from.below(len(of.clients)+1) + hub }
	other := func() {
		s.whom = (s.who - hub + 1 + from.below(len(of.clients))) % (len(of.clients) + 1)
		s.whom += hub
	}
	switch s.do { //nolint:exhaustive // the others are drawn by their fields
	case doOpen:
		s.stream = opened
		s.who = from.below(len(of.clients))
		s.whom = (s.who + from.below(len(of.clients)+3)) % len(of.clients) // sometimes itself
		s.how = max(0, from.below(openModes+3)-3)
		if from.below(6) == 1 {
			s.last = lasts[from.below(3)]
		}
		return
	case doCut, doBlock:
		s.who = party()
		other()
		s.last = lasts[from.below(len(lasts))]
		return
	case doMove, doLate, doPause, doLine, doIsolate:
		s.who = from.below(len(of.clients))
	case doCrash, doStop:
		s.who = party()
	}
	if s.has("stream") {
		s.stream, s.back = from.below(opened), from.below(2) == 1
	}
	if s.has("place") {
		s.place = from.below(len(of.gateways)+1) + outside
	}
	if s.has("last") {
		s.last = lasts[from.below(len(lasts))]
	}
	switch s.do { //nolint:exhaustive // the others have no amounts
	case doTry:
		s.count, s.size = counts[from.below(len(counts))], sizes[from.below(len(sizes))]
	case doSend:
		s.count, s.size, s.every = counts[from.below(len(counts))], sizes[from.below(len(sizes))], gaps[from.below(len(gaps))]
	case doLine:
		s.how = traits(from)
	case doChangeNAT:
		s.how = from.below(len(natKinds) - 1) // not a firewall
	}
}
