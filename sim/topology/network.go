package topology

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/conec-go/conec/sim"
)

// defaultLine is the line of who has none in the file.
var defaultLine = sim.Line{Latency: 10 * time.Millisecond}

// maxMappings of a gateway: the ports that there are for them.
const maxMappings = 64_512

// maxLatency of a line, and of what else delays a packet.
const maxLatency = time.Minute

func (p *parser) readLines(v value) {
	for _, e := range v.entries("names of lines") {
		line := p.line(e.value)
		if e.checkName() {
			p.lines[e.name] = line
		}
	}
}

func (p *parser) lineNames() []string {
	var names []string
	for name := range p.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// line reads a line: the name of one, or its fields.
func (p *parser) line(v value) sim.Line {
	if v.isWord() {
		return p.lineNamed(v)
	}
	line := defaultLine
	// What it is like comes first, wherever it is written.
	if like, ok := v.get("like"); ok {
		line = p.lineNamed(like)
	}
	down := value{}
	allowed := lineFields(&line)
	allowed["like"] = nil
	allowed["down"] = func(v value) { down = v }
	v.object(allowed)
	if line.Down != nil && down.at == nil {
		same := *line.Down // what is like another line has a direction of its own
		line.Down = &same
	}
	if down.at != nil {
		towards := line
		towards.Down = nil
		down.object(lineFields(&towards))
		line.Down = &towards
	}
	return line
}

func (p *parser) lineNamed(v value) sim.Line {
	name, ok := v.word("a line's name or its fields")
	if !ok {
		return defaultLine
	}
	line, ok := p.lines[name]
	if !ok {
		v.fail("no line %q above%s", clip(name), wanted(name, p.lineNames()))
		return defaultLine
	}
	return line
}

// lineFields are those of one direction.
func lineFields(line *sim.Line) fields {
	return fields{
		"latency":    func(v value) { line.Latency = v.duration(0, maxLatency) },
		"jitter":     func(v value) { line.Jitter = v.duration(0, maxLatency) },
		"rate":       func(v value) { line.Rate = v.rate() },
		"queue":      func(v value) { line.Queue = int(v.size(1500, 1<<30)) },
		"mtu":        func(v value) { line.MTU = int(v.size(1200, 65_535)) },
		"loss":       func(v value) { line.Loss = v.fraction() },
		"reorder":    func(v value) { line.Reorder = v.fraction() },
		"reorder-by": func(v value) { line.ReorderBy = v.duration(0, maxLatency) },
		"duplicate":  func(v value) { line.Duplicate = v.fraction() },
		"corrupt":    func(v value) { line.Corrupt = v.fraction() },
		"burst":      func(v value) { line.Burst = burst(v) },
	}
}

func burst(v value) *sim.Burst {
	b := &sim.Burst{}
	there := v.object(fields{
		"enter": func(v value) { b.Enter = v.fraction() },
		"leave": func(v value) { b.Leave = v.fraction() },
		"loss":  func(v value) { b.Loss = v.fraction() },
	})
	v.need(there, "enter", "the probability per packet that a burst of losses begins, such as 0.1%")
	v.need(there, "leave", "the probability per packet that it ends, such as 20%")
	return b
}

func (p *parser) readCoordinator(v value) {
	c := &p.topology.Coordinator
	v.object(fields{
		"line":       func(v value) { c.Line = p.line(v) },
		"relay-rate": func(v value) { c.RelayRate = v.rate() },
	})
}

// natPresets are gateways as they are usually called.
var natPresets = map[string]func() sim.NAT{
	"full-cone":          sim.FullCone,
	"address-restricted": sim.AddressRestricted,
	"port-restricted":    sim.PortRestricted,
	"symmetric":          sim.Symmetric,
	"open-masquerade":    sim.OpenMasquerade,
	"firewall":           sim.Firewall,
}

func presetNames() []string {
	return []string{"full-cone", "address-restricted", "port-restricted", "symmetric", "open-masquerade", "firewall"}
}

func preset(v value) sim.NAT {
	if name := v.choice(presetNames()...); name != "" {
		return natPresets[name]()
	}
	return sim.PortRestricted()
}

// nat reads what a gateway does: the name of a usual one, or fields.
func nat(v value) sim.NAT {
	if v.isWord() {
		return preset(v)
	}
	behavior := sim.PortRestricted()
	if like, ok := v.get("like"); ok {
		behavior = preset(like)
	}
	dependence := func(v value) (d sim.Dependence) { v.unmarshal(&d); return d }
	v.object(fields{
		"like":             nil,
		"mapping":          func(v value) { behavior.Mapping = dependence(v) },
		"filtering":        func(v value) { behavior.Filtering = dependence(v) },
		"ports":            func(v value) { v.unmarshal(&behavior.Ports) },
		"timeout":          func(v value) { behavior.Timeout = v.duration(time.Second, maxDuration) },
		"outbound-refresh": func(v value) { behavior.OutboundRefresh = v.flag() },
		"hairpin":          func(v value) { behavior.Hairpin = v.flag() },
		"early-takes":      func(v value) { behavior.EarlyTakes = v.flag() },
		"udp-blocked":      func(v value) { behavior.NoUDP = v.flag() },
		"routed":           func(v value) { behavior.Routed = v.flag() },
		"limit":            func(v value) { behavior.Limit = int(v.count(1, maxMappings)) },
	})
	return behavior
}

// gatewayEntry is a gateway of the file before it is known where it is.
type gatewayEntry struct {
	entry
	Gateway
	at    value
	count int
	done  bool
}

func (p *parser) readGateways(v value) {
	list := map[string]*gatewayEntry{}
	var order []*gatewayEntry
	for _, e := range v.entries("names of gateways") {
		g := &gatewayEntry{entry: e, Gateway: Gateway{At: internet, NAT: sim.PortRestricted(), Line: defaultLine}, count: 0}
		e.object(fields{
			"at":     func(v value) { g.at = v },
			"nat":    func(v value) { inside := g.NAT.Inside; g.NAT = nat(v); g.NAT.Inside = inside },
			"line":   func(v value) { g.Line = p.line(v) },
			"inside": func(v value) { g.NAT.Inside = prefix(v) },
			"count":  func(v value) { g.count = int(v.count(1, maxGateways)) },
		})
		list[e.name] = g
		order = append(order, g)
	}
	for _, g := range order {
		p.placeGateway(g, list, nil)
	}
}

// placeGateway adds a gateway once what it is behind is there.
func (p *parser) placeGateway(g *gatewayEntry, list map[string]*gatewayEntry, inner []*gatewayEntry) {
	if g.done {
		return
	}
	if slices.Contains(inner, g) {
		g.at.fail("%s is behind itself; want a way out to the internet", g.name)
		g.done = true
		p.gateways.add(g.name, g.name) // who is there has no error of its own
		return
	}
	places := []string{internet}
	if g.at.at != nil {
		if name, ok := g.at.word("internet or a gateway"); ok && name != internet {
			outer := list[name]
			if outer != nil {
				p.placeGateway(outer, list, append(inner, g))
			}
			places = p.places(g.at)
		}
	}
	if g.done {
		return // found to be behind itself
	}
	g.done = true
	if n := len(p.topology.Gateways) + g.count; n > maxGateways {
		g.fail("makes %d gateways; want at most %d in all", n, maxGateways)
		p.gateways.add(g.name, g.name)
		return
	}
	names, ok := p.spread(g.value, g.name, g.count)
	if !ok {
		p.gateways.add(g.name, g.name)
		return
	}
	for i, name := range names {
		one := g.Gateway
		one.Name, one.At = name, places[i%len(places)]
		p.topology.Gateways = append(p.topology.Gateways, one)
	}
	p.gateways.add(g.name, names...)
	p.checkRouted(g, len(p.topology.Gateways)-len(names))
}

// defaultInside is the network inside a gateway for which the file gives none.
var defaultInside = netip.MustParsePrefix("192.168.1.0/24")

// inside returns the network behind a gateway.
func (g *Gateway) inside() netip.Prefix {
	if g.NAT.Inside.IsValid() {
		return g.NAT.Inside
	}
	return defaultInside
}

// checkRouted holds that what is routed at one place has networks of its own: a
// packet to an address finds one way. The gateways of g are those from first on.
func (p *parser) checkRouted(g *gatewayEntry, first int) {
	if !g.NAT.Routed {
		return
	}
	list := p.topology.Gateways
	for i := first; i < len(list); i++ {
		one := &list[i]
		for j := range i {
			other := &list[j]
			if !other.NAT.Routed || other.At != one.At || !other.inside().Overlaps(one.inside()) {
				continue
			}
			at := g.value
			if inside, ok := g.get("inside"); ok {
				at = inside
			}
			at.fail("%s is routed at %s, as %s of %s is; want inside: a network of its own for each",
				one.inside(), one.At, other.inside(), other.Name)
			return
		}
	}
}

// spread returns the names of a group: of one thing if count is zero.
func (p *parser) spread(v value, name string, count int) ([]string, bool) {
	if !p.claim(v, name) {
		return nil, false
	}
	if count == 0 {
		return []string{name}, true
	}
	var names []string
	for i := range count {
		member := name + "-" + strconv.Itoa(i+1)
		if !p.claim(v, member) {
			return nil, false
		}
		names = append(names, member)
	}
	return names, true
}

// places reads where something is plugged in: several gateways if the name
// stands for several.
func (p *parser) places(v value) []string {
	name, ok := v.word("internet or a gateway")
	if !ok || name == internet {
		return []string{internet}
	}
	if gateways := p.gateways.of[name]; gateways != nil {
		return gateways
	}
	v.fail("no gateway %q; want internet%s", clip(name), orOneOf(p.gateways.names))
	return []string{internet}
}

func prefix(v value) netip.Prefix {
	const want = "an IPv4 network such as 192.168.1.0/24"
	text, ok := v.word(want)
	if !ok {
		return netip.Prefix{}
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || !network.Addr().Is4() || network.Bits() < 8 || network.Bits() > 29 {
		v.fail("is %q; want %s, /8 to /29", clip(text), want)
		return netip.Prefix{}
	}
	return network.Masked()
}

// hostFields are those that hosts and groups share.
func (p *parser) hostFields(h *Host, places *[]string) fields {
	return fields{
		"at":         func(v value) { *places = p.places(v) },
		"line":       func(v value) { h.Line = p.line(v) },
		"start":      func(v value) { h.Start = p.within(v) },
		"ipv6":       func(v value) { h.IPv6 = v.flag() },
		"relay-only": func(v value) { h.RelayOnly = v.flag() },
	}
}

func (p *parser) readHosts(v value) {
	for _, e := range v.entries("names of hosts") {
		h, places := Host{Name: e.name, Line: defaultLine}, []string{internet}
		e.object(p.hostFields(&h, &places))
		if !p.claim(e.value, e.name) {
			continue
		}
		h.At = places[0]
		p.topology.Hosts = append(p.topology.Hosts, h)
		p.hosts.add(e.name, e.name)
	}
}

func (p *parser) readGroups(v value) {
	for _, e := range v.entries("names of groups") {
		h, places, count, over := Host{Line: defaultLine}, []string{internet}, 0, time.Second
		allowed := p.hostFields(&h, &places)
		allowed["count"] = func(v value) { count = int(v.count(1, maxHosts)) }
		allowed["over"] = func(v value) { over = p.within(v) }
		there := e.object(allowed)
		e.need(there, "count", "how many clients the group has")
		if n := len(p.topology.Hosts) + count; n > maxHosts {
			e.fail("makes %d clients; want at most %d in all", n, maxHosts)
			continue
		}
		names, ok := p.spread(e.value, e.name, count)
		if !ok || count == 0 {
			continue
		}
		for i, name := range names {
			one := h
			one.Name, one.At = name, places[i%len(places)]
			one.Start += over * time.Duration(i) / time.Duration(count)
			p.topology.Hosts = append(p.topology.Hosts, one)
		}
		p.hosts.add(e.name, names...)
	}
}

// checkRoom holds that there are addresses enough behind each gateway.
func (p *parser) checkRoom(section map[string]value) {
	behind := map[string]int{}
	for _, g := range p.topology.Gateways {
		behind[g.At]++
	}
	for _, h := range p.topology.Hosts {
		behind[h.At]++
	}
	for _, f := range p.topology.Faults {
		for _, place := range f.Place { // all may come, and an address that was left is not given again at once
			behind[place] += len(f.Hosts)
		}
	}
	for _, g := range p.topology.Gateways {
		if room := 1<<(32-g.inside().Bits()) - 3; behind[g.Name] > room {
			section["gateways"].fail("%d things may be behind %s, and its inside has %d addresses; want inside: 10.0.0.0/16 or so, or count: gateways",
				behind[g.Name], g.Name, room)
		}
	}
}
