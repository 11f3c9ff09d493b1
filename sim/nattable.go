package sim

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// earlyLifetime is that of an early pair: what Linux gives UDP that was not
// answered (nf_conntrack_udp_timeout).
const earlyLifetime = 30 * time.Second

// The ports of mappings.
const (
	lowestPort = 1024
	ports      = 1<<16 - lowestPort
)

// natTable is what a gateway knows about flows. It is pure: it is told what time it
// is, which must not go back, and whoever owns it calls it from one goroutine at a
// time. Everything in it is bounded by NAT.Limit and dies of age, which every call
// looks after first: it holds nothing dead but what died since the last call.
//
// A mapping has the filter of its own: what it lets in depends on what left through
// it. RFC 4787, section 5 speaks of what the inside socket has sent; that differs
// only where a socket has several mappings, and there routers do this.
type natTable struct {
	behavior NAT
	outside  netip.Addr
	random   *rand.Rand
	now      time.Duration

	mappings expiring[flow, mapping]
	openings expiring[opening, struct{}]
	early    expiring[claim, struct{}]

	claims map[claim]*mappingEntry          // by what they have outside
	shared map[uint16]int                   // mappings on a port, where several share one
	taken  *portSet                         // where they do not; made with the first mapping
	last   map[netip.AddrPort]*mappingEntry // where they do: the last one made for an inside socket
	next   int                              // of the sequential ports
}

// flow is how mappings are found from inside. Level is how much of the remote
// address makes a difference, remote is that.
type flow struct {
	inside, remote netip.AddrPort
	level          Dependence
}

// claim is how mappings are found from outside. Remote is zero where a port belongs
// to one mapping alone.
type claim struct {
	remote netip.AddrPort
	port   uint16
}

type mapping struct {
	external netip.AddrPort
	claim    claim
	routed   bool // has no claim
	// Where ports are shared: those of the same inside socket, by when they were made.
	before, after *mappingEntry
}

type mappingEntry = entry[flow, mapping]

// opening is a hole in the filter of a mapping whose flow says too little.
type opening struct {
	mapping *mappingEntry
	remote  netip.AddrPort
}

func newNATTable(behavior NAT, outside netip.Addr, random *rand.Rand) *natTable {
	t := &natTable{behavior: behavior.withDefaults(), outside: outside, random: random}
	t.reset()
	return t
}

// reset forgets everything.
func (t *natTable) reset() {
	t.mappings = newExpiring[flow, mapping](t.behavior.Timeout)
	t.openings = newExpiring[opening, struct{}](t.behavior.Timeout)
	t.early = newExpiring[claim, struct{}](earlyLifetime)
	t.claims, t.shared, t.taken = map[claim]*mappingEntry{}, map[uint16]int{}, nil
	t.last = map[netip.AddrPort]*mappingEntry{}
	if t.behavior.Ports == SequentialPorts {
		t.next = t.random.IntN(ports)
	}
}

// renumber changes the outside address and forgets everything.
func (t *natTable) renumber(addr netip.Addr) {
	t.outside = addr
	t.reset()
}

// size returns how many mappings, openings and early pairs there are, as of the
// last call.
func (t *natTable) size() int { return t.mappings.size() + t.openings.size() + t.early.size() }

// out takes a packet from inside and returns its source address outside. What is
// routed keeps its own. Fate is Passed, Exhausted, or Unreachable if the gateway
// has no IPv4 address outside.
func (t *natTable) out(now time.Duration, from, to netip.AddrPort) (mapped netip.AddrPort, fate Fate) {
	t.expire(now)
	if !t.routes(from.Addr()) && !t.outside.IsValid() {
		return netip.AddrPort{}, Unreachable
	}
	m := t.find(from, to)
	if m == nil {
		m = t.create(from, to)
	}
	if m == nil || !t.open(m, to) {
		return netip.AddrPort{}, Exhausted
	}
	t.mappings.touch(t.now, m)
	return m.value.external, Passed
}

// in takes a packet from outside and returns where it goes inside. Fate is Passed,
// Filtered or Unmapped.
func (t *natTable) in(now time.Duration, from, to netip.AddrPort) (inside netip.AddrPort, fate Fate) {
	t.expire(now)
	m := t.lookup(from, to)
	if m != nil && t.admit(m, from) {
		return m.key.inside, Passed
	}
	if t.routes(to.Addr()) {
		return netip.AddrPort{}, Filtered
	}
	ours := to.Addr() == t.outside
	if ours && t.behavior.EarlyTakes {
		t.take(claim{from, to.Port()})
	}
	if m == nil && (!ours || t.shared[to.Port()] == 0) {
		return netip.AddrPort{}, Unmapped
	}
	return netip.AddrPort{}, Filtered
}

// peek returns where a packet from outside would go, filter aside. It leaves no
// trace.
func (t *natTable) peek(now time.Duration, from, to netip.AddrPort) (inside netip.AddrPort, ok bool) {
	t.expire(now)
	if t.routes(to.Addr()) {
		return to, true
	}
	m := t.lookup(from, to)
	if m == nil {
		return netip.AddrPort{}, false
	}
	return m.key.inside, true
}

// source returns which source address out would return. It leaves no trace: the
// port of a mapping that there is not yet is a guess if ports are preserved, or
// else 0.
func (t *natTable) source(now time.Duration, from, to netip.AddrPort) netip.AddrPort {
	t.expire(now)
	if t.routes(from.Addr()) {
		return from
	}
	if m := t.find(from, to); m != nil {
		return m.value.external
	}
	port := t.prefer(from, to)
	if t.behavior.Ports != PreservePorts || port < lowestPort {
		port = 0
	}
	return netip.AddrPortFrom(t.outside, port)
}

// expire buries what is dead. An opening is never touched without its mapping, so
// a dead mapping has none that lives.
func (t *natTable) expire(now time.Duration) {
	t.now = max(t.now, now)
	for t.openings.bury(t.now) != nil {
	}
	for t.early.bury(t.now) != nil {
	}
	for m := t.mappings.bury(t.now); m != nil; m = t.mappings.bury(t.now) {
		t.release(m)
	}
}

// routes tells whether what comes from an address inside, or goes to one outside,
// is not translated.
func (t *natTable) routes(addr netip.Addr) bool { return t.behavior.Routed || !addr.Is4() }

// shares tells whether mappings to different remotes share a port. They can if
// each lets in the packets of its own remote only.
func (t *natTable) shares() bool {
	b := &t.behavior
	return b.Mapping == AddressAndPortDependent && b.Filtering == AddressAndPortDependent && b.Ports == PreservePorts
}

// find returns the mapping for a packet from inside.
func (t *natTable) find(from, to netip.AddrPort) *mappingEntry {
	if t.routes(from.Addr()) {
		return t.mappings.get(flow{inside: from})
	}
	level := t.behavior.Mapping
	m := t.mappings.get(flow{from, level.of(to), level})
	if !t.behavior.EarlyTakes || level == AddressAndPortDependent {
		return m
	}
	// A remote whose early packet took the pair has an exceptional mapping.
	if exception := t.mappings.get(flow{from, to, AddressAndPortDependent}); exception != nil {
		return exception
	}
	if m != nil && t.early.get(claim{to, m.value.external.Port()}) != nil {
		return nil
	}
	return m
}

// create makes the mapping for a packet from inside that find has none for; nil if
// there is no room for it.
func (t *natTable) create(from, to netip.AddrPort) *mappingEntry {
	key, policy := flow{inside: from}, t.behavior.Ports
	routed := t.routes(from.Addr())
	if !routed {
		key.level = t.behavior.Mapping
		key.remote = key.level.of(to)
		if t.mappings.get(key) != nil { // its pair is taken
			key.level, key.remote, policy = AddressAndPortDependent, to, RandomPorts
		}
	}
	narrows := t.behavior.Filtering > key.level
	if t.mappings.size() >= t.behavior.Limit || narrows && t.openings.size() >= t.behavior.Limit {
		return nil
	}
	if routed {
		return t.mappings.add(t.now, key, mapping{external: from, routed: true})
	}
	port, ok := t.choose(policy, t.prefer(from, to), to)
	if !ok {
		return nil
	}
	m := mapping{external: netip.AddrPortFrom(t.outside, port), claim: claim{port: port}}
	if t.shares() {
		m.claim.remote, m.before = to, t.last[from]
	}
	added := t.mappings.add(t.now, key, m)
	t.claims[m.claim] = added
	if !t.shares() {
		t.taken.set(port, true)
		return added
	}
	t.shared[port]++
	t.last[from] = added
	if m.before != nil {
		m.before.value.after = added
	}
	return added
}

// release takes back what a dead mapping had outside.
func (t *natTable) release(m *mappingEntry) {
	if m.value.routed {
		return
	}
	delete(t.claims, m.value.claim)
	port := m.value.claim.port
	if !t.shares() {
		t.taken.set(port, false)
		return
	}
	if t.shared[port]--; t.shared[port] == 0 {
		delete(t.shared, port)
	}
	before, after := m.value.before, m.value.after
	if before != nil {
		before.value.after = after
	}
	switch {
	case after != nil:
		after.value.before = before
	case before != nil:
		t.last[m.key.inside] = before
	default:
		delete(t.last, m.key.inside)
	}
}

// prefer returns the port that a socket's next mapping has if ports are preserved
// and it is free. Where they are shared Linux first tries what the socket's
// last mapping has, so that one early packet moves all flows that come after it.
func (t *natTable) prefer(from, to netip.AddrPort) uint16 {
	if last := t.last[from]; last != nil && t.free(last.value.external.Port(), to) {
		return last.value.external.Port()
	}
	return from.Port()
}

// choose picks the outside port for a mapping to a remote. It looks at each port
// once at most.
func (t *natTable) choose(policy PortPolicy, preferred uint16, to netip.AddrPort) (port uint16, ok bool) {
	if t.taken == nil && !t.shares() {
		t.taken = new(portSet)
	}
	start := max(int(preferred)-lowestPort, 0)
	switch {
	case policy == SequentialPorts:
		start = t.next
	case policy == RandomPorts || t.shares() && (preferred < lowestPort || !t.free(preferred, to)):
		start = t.random.IntN(ports)
	}
	for offset := start; offset < start+ports; offset++ {
		port := uint16(lowestPort + offset%ports)
		if t.free(port, to) {
			if policy == SequentialPorts {
				t.next = (offset + 1) % ports
			}
			return port, true
		}
		if t.taken != nil && t.taken.full(port) {
			offset |= 63
		}
	}
	return 0, false
}

// free tells whether a mapping to a remote may have a port.
func (t *natTable) free(port uint16, to netip.AddrPort) bool {
	if t.behavior.EarlyTakes && t.early.get(claim{to, port}) != nil {
		return false
	}
	if t.shares() {
		return t.claims[claim{to, port}] == nil
	}
	return !t.taken.has(port)
}

// open opens a mapping for a remote, or keeps it open. It is false if there is no
// room for another opening.
func (t *natTable) open(m *mappingEntry, to netip.AddrPort) bool {
	if t.behavior.Filtering <= m.key.level {
		return true // its flow says who may come in
	}
	key := opening{m, t.behavior.Filtering.of(to)}
	switch o := t.openings.get(key); {
	case o != nil:
		t.openings.touch(t.now, o)
	case t.openings.size() >= t.behavior.Limit:
		return false
	default:
		t.openings.add(t.now, key, struct{}{})
	}
	return true
}

// lookup returns the mapping that a packet from outside is for.
func (t *natTable) lookup(from, to netip.AddrPort) *mappingEntry {
	switch {
	case t.routes(to.Addr()):
		return t.mappings.get(flow{inside: to})
	case to.Addr() != t.outside:
		return nil
	case t.shares():
		return t.claims[claim{from, to.Port()}]
	default:
		return t.claims[claim{port: to.Port()}]
	}
}

// admit asks the filter of a mapping, and keeps alive what let the packet in.
func (t *natTable) admit(m *mappingEntry, from netip.AddrPort) bool {
	filtering := t.behavior.Filtering
	if filtering <= m.key.level {
		if filtering.of(from) != filtering.of(m.key.remote) {
			return false
		}
	} else {
		o := t.openings.get(opening{m, filtering.of(from)})
		if o == nil {
			return false
		}
		if !t.behavior.OutboundRefresh {
			t.openings.touch(t.now, o)
		}
	}
	if !t.behavior.OutboundRefresh {
		t.mappings.touch(t.now, m)
	}
	return true
}

// take remembers an early pair, if there is room.
func (t *natTable) take(pair claim) {
	if e := t.early.get(pair); e != nil {
		t.early.touch(t.now, e)
	} else if t.early.size() < t.behavior.Limit {
		t.early.add(t.now, pair, struct{}{})
	}
}

// portSet has one bit for each port that is taken.
type portSet [ports / 64]uint64

func (s *portSet) has(port uint16) bool {
	i := port - lowestPort
	return s[i/64]&(1<<(i%64)) != 0
}

func (s *portSet) set(port uint16, on bool) {
	i := port - lowestPort
	if on {
		s[i/64] |= 1 << (i % 64)
	} else {
		s[i/64] &^= 1 << (i % 64)
	}
}

// full tells whether a port and the others of its 64 are all taken.
func (s *portSet) full(port uint16) bool { return s[(port-lowestPort)/64] == ^uint64(0) }
