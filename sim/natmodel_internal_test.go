package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// naiveNAT is a second opinion about natTable: lists that are searched from end to
// end, in which nothing is ever removed but by reset.
type naiveNAT struct {
	NAT
	outside  netip.Addr
	now      time.Duration
	mappings []*naiveMapping
	early    []*naiveFlow
	next     int // port of the next sequential mapping, 0 if not known yet
}

type naiveMapping struct {
	inside, external, remote netip.AddrPort // remote is that of the first packet
	level                    Dependence
	used                     time.Duration
	sent                     []*naiveFlow
}

type naiveFlow struct {
	remote netip.AddrPort
	port   uint16 // of early pairs
	used   time.Duration
}

func (n *naiveNAT) alive(used time.Duration) bool { return n.now-used < n.Timeout }

func (n *naiveNAT) isEarly(remote netip.AddrPort, port uint16) bool {
	for _, e := range n.early {
		if e.remote == remote && e.port == port && n.now-e.used < 30*time.Second {
			return n.EarlyTakes
		}
	}
	return false
}

func (n *naiveNAT) routes(addr netip.Addr) bool { return n.Routed || addr.Is6() }

func (n *naiveNAT) shares() bool {
	return n.Mapping == AddressAndPortDependent && n.Filtering == AddressAndPortDependent && n.Ports == PreservePorts
}

// openings counts those of mappings whose flow does not say who may come in.
func (n *naiveNAT) openings() (count int) {
	for _, m := range n.mappings {
		for _, s := range m.sent {
			if n.alive(m.used) && n.Filtering > m.level && n.alive(s.used) {
				count++
			}
		}
	}
	return count
}

func (n *naiveNAT) size() int {
	count := n.openings()
	for _, m := range n.mappings {
		if n.alive(m.used) {
			count++
		}
	}
	for _, e := range n.early {
		if n.now-e.used < 30*time.Second {
			count++
		}
	}
	return count
}

// find returns the mapping of a flow from inside by a level of dependence.
func (n *naiveNAT) find(from, to netip.AddrPort, level Dependence) *naiveMapping {
	for _, m := range n.mappings {
		if n.alive(m.used) && m.inside == from && m.level == level && level.of(m.remote) == level.of(to) {
			return m
		}
	}
	return nil
}

// out checks what a table made of a packet.
func (n *naiveNAT) out(from, to, got netip.AddrPort, fate Fate) error {
	level := n.Mapping
	if n.routes(from.Addr()) {
		level = EndpointIndependent
	}
	m := n.find(from, to, level)
	policy := n.Ports
	if !n.routes(from.Addr()) && level != AddressAndPortDependent {
		if exception := n.find(from, to, AddressAndPortDependent); exception != nil {
			m = exception
		} else if m != nil && n.isEarly(to, m.external.Port()) {
			m, level, policy = nil, AddressAndPortDependent, RandomPorts
		}
	}
	if m == nil {
		alive := 0
		for _, m := range n.mappings {
			if n.alive(m.used) {
				alive++
			}
		}
		if alive >= n.Limit || n.Filtering > level && n.openings() >= n.Limit {
			return n.expect(fate, Exhausted)
		}
		if err := n.expect(fate, Passed); err != nil {
			return err
		}
		if err := n.allowed(from, to, got, policy); err != nil {
			return err
		}
		m = &naiveMapping{inside: from, external: got, remote: to, level: level, used: n.now}
		n.mappings = append(n.mappings, m)
	}
	sent := n.sentTo(m, to)
	if sent == nil && n.Filtering > m.level && n.openings() >= n.Limit {
		return n.expect(fate, Exhausted)
	}
	if sent == nil {
		sent = &naiveFlow{remote: to}
		m.sent = append(m.sent, sent)
	}
	sent.used, m.used = n.now, n.now
	if m.external != got {
		return fmt.Errorf("mapped to %s, want %s", got, m.external)
	}
	return n.expect(fate, Passed)
}

// sentTo returns that a mapping sent to whom the filter takes for the same remote.
func (n *naiveNAT) sentTo(m *naiveMapping, remote netip.AddrPort) *naiveFlow {
	for _, s := range m.sent {
		if n.alive(s.used) && n.Filtering.of(s.remote) == n.Filtering.of(remote) {
			return s
		}
	}
	return nil
}

func (n *naiveNAT) expect(got, want Fate) error {
	if got != want {
		return fmt.Errorf("got %s, want %s", got, want)
	}
	return nil
}

// allowed checks the outside address of a new mapping.
func (n *naiveNAT) allowed(from, to, got netip.AddrPort, policy PortPolicy) error {
	if n.routes(from.Addr()) {
		if got != from {
			return fmt.Errorf("routed as %s", got)
		}
		return nil
	}
	free := func(port int) bool {
		if port < 1024 {
			return false
		}
		for _, m := range n.mappings {
			if n.alive(m.used) && !n.routes(m.inside.Addr()) && int(m.external.Port()) == port && (!n.shares() || m.remote == to) {
				return false
			}
		}
		return !n.isEarly(to, uint16(port))
	}
	if got.Addr() != n.outside || !free(int(got.Port())) {
		return fmt.Errorf("mapped to %s, which is not free", got)
	}
	want := int(from.Port())
	if n.shares() {
		for _, m := range slices.Backward(n.mappings) {
			if n.alive(m.used) && m.inside == from {
				if free(int(m.external.Port())) {
					want = int(m.external.Port())
				}
				break
			}
		}
	}
	switch {
	case policy == RandomPorts || policy == PreservePorts && n.shares() && !free(want):
		return nil
	case policy == SequentialPorts && n.next == 0: // the first one is random
		want = int(got.Port())
	case policy == SequentialPorts:
		want = n.next
	}
	after := func(port int) int {
		if port == 65535 {
			return 1024
		}
		return max(port+1, 1024)
	}
	for !free(want) {
		want = after(want)
	}
	if want != int(got.Port()) {
		return fmt.Errorf("mapped to %s, want port %d", got, want)
	}
	if policy == SequentialPorts {
		n.next = after(want)
	}
	return nil
}

// in says what a table must make of a packet.
func (n *naiveNAT) in(from, to netip.AddrPort) (inside netip.AddrPort, fate Fate) {
	fate = Unmapped
	if n.routes(to.Addr()) {
		fate = Filtered
	}
	for _, m := range n.mappings {
		if !n.alive(m.used) || m.external != to {
			continue
		}
		fate = Filtered
		sent := n.sentTo(m, from)
		if sent == nil && n.Filtering != EndpointIndependent || n.shares() && m.level == AddressAndPortDependent && m.remote != from {
			continue
		}
		if !n.OutboundRefresh {
			m.used = n.now
			if sent != nil {
				sent.used = n.now
			}
		}
		return m.inside, Passed
	}
	if n.EarlyTakes && !n.routes(to.Addr()) && to.Addr() == n.outside {
		n.take(from, to.Port())
	}
	return netip.AddrPort{}, fate
}

func (n *naiveNAT) take(remote netip.AddrPort, port uint16) {
	count := 0
	for _, e := range n.early {
		if n.now-e.used >= 30*time.Second {
			continue
		}
		if e.remote == remote && e.port == port {
			e.used = n.now
			return
		}
		count++
	}
	if count < n.Limit {
		n.early = append(n.early, &naiveFlow{remote, port, n.now})
	}
}

func (n *naiveNAT) reset() { n.mappings, n.early, n.next = nil, nil, 0 }

// playNAT has a table and the model do the same; data says what: five bytes the
// behavior, four each operation.
func playNAT(t *testing.T, data []byte) {
	t.Helper()
	if len(data) < 5 || len(data) > 5+4*400 { // the model takes its time
		return
	}
	nat := NAT{
		Mapping: Dependence(data[0] % 3), Filtering: Dependence(data[0] / 3 % 3), Ports: PortPolicy(data[0] / 9 % 3),
		OutboundRefresh: data[1]&1 != 0, EarlyTakes: data[1]&2 != 0, Routed: data[1]&12 == 12,
		Timeout: time.Duration(1+data[2]%60) * time.Second, Limit: 2 + int(data[3]%20),
	}
	table := newNATTable(nat, natOutside, rand.New(rand.NewPCG(uint64(data[4]), 0)))
	model := &naiveNAT{NAT: nat, outside: natOutside}
	var known []netip.AddrPort // where packets from outside go
	for step := 0; len(data) >= 9; step, data = step+1, data[4:] {
		kind, who, whom, wait := data[5], data[6], data[7], data[8]
		model.now += time.Duration(wait>>5) * time.Duration(wait&31) * time.Second / 4
		inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 1, 2 + who%3}), []uint16{5000, 5001, 65535, 80}[who>>2%4])
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, whom % 3}), 1001+uint16(whom/3%3))
		if kind&64 != 0 && kind&32 != 0 {
			inside = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1::1"), inside.Port())
			remote = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:2::1"), remote.Port())
		}
		describe := func(what string, err error) {
			t.Helper()
			t.Fatalf("%+v, step %d at %s, %s: %v", nat, step, model.now, what, err)
		}
		switch {
		case kind < 3:
			table.reset()
			model.reset()
		case kind < 5:
			model.outside = model.outside.Next()
			table.renumber(model.outside)
			model.reset()
		case kind%2 == 0:
			guess := table.source(model.now, inside, remote)
			got, fate := table.out(model.now, inside, remote)
			if err := model.out(inside, remote, got, fate); err != nil {
				describe(fmt.Sprintf("out from %s to %s", inside, remote), err)
			}
			if again := table.source(model.now, inside, remote); fate == Passed && again != got {
				describe("source", fmt.Errorf("got %s, before %s, out said %s", again, guess, got))
			}
			if fate == Passed {
				known = append(known, got)
			}
		default:
			to := netip.AddrPortFrom(model.outside, inside.Port())
			if len(known) > 0 && whom&128 == 0 {
				to = known[max(0, len(known)-1-int(who%8))]
			}
			if to.Addr().Is6() != remote.Addr().Is6() {
				continue
			}
			peeked, _ := table.peek(model.now, remote, to)
			got, fate := table.in(model.now, remote, to)
			want, wantFate := model.in(remote, to)
			if got != want || fate != wantFate {
				describe(fmt.Sprintf("in from %s to %s", remote, to), fmt.Errorf("got %s %s, want %s %s", fate, got, wantFate, want))
			}
			if fate == Passed && peeked != got {
				describe("peek", fmt.Errorf("got %s, in says %s", peeked, got))
			}
		}
		if kind >= 5 && table.size() != model.size() {
			describe("size", fmt.Errorf("got %d, want %d", table.size(), model.size()))
		}
	}
}

// TestNATAgainstModel plays random operations, of all behaviors.
func TestNATAgainstModel(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 500
	}
	for seed := range uint64(rounds) {
		data := make([]byte, 5+4*150)
		random := rand.New(rand.NewPCG(seed, 7))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { playNAT(t, data) }) {
			return
		}
	}
}

func FuzzNATTable(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for behavior := range byte(27) {
		data := make([]byte, 5+4*40)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		data[0], data[1] = behavior, behavior
		f.Add(data)
	}
	f.Fuzz(playNAT)
}
