package sim_test

import (
	"net/netip"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// What the steps of a schedule do, but for those that use streams.

// do does one step, at its time. It does not block.
func (p *play) do(s step) {
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if over {
		return
	}
	switch s.do { //nolint:exhaustive // the others need somebody
	case doOpen:
		p.open(s)
		return
	case doSend, doTry, doCloseSend, doClose, doReset, doStall, doDrain, doAbort:
		p.use(s)
		return
	case doReboot, doRenumber, doBlockUDP, doChangeNAT:
		if s.place >= 0 && s.place < len(p.inside) {
			p.disturbGateway(s)
		}
		return
	}
	who, whom := p.party(s.who), p.party(s.whom)
	switch {
	case who == nil || s.has("whom") && (whom == nil || who == whom):
	case s.do == doCrash || s.do == doStop:
		p.endAndStart(s, who)
	case s.do == doMove:
		p.trouble(s.who, everybody, moveTakes, false)
		p.move(who, s.place)
	case s.do == doLine:
		p.check(who.host.SetLine(p.lineOf(s.how)))
	default:
		p.disturb(s, who, whom)
	}
}

// check notes what a simulation should never say.
func (p *play) check(err error) {
	if err != nil {
		p.fault("simulation", "%v", err)
	}
}

func (p *play) move(who *player, place int) {
	if place >= len(p.inside) {
		place = outside
	}
	p.check(who.host.Move(p.place(place, len(p.inside)), p.lineOf(0)))
	p.mu.Lock()
	defer p.mu.Unlock()
	who.place = place
}

// How long a fault may be felt after it.
const (
	moveTakes    = 7 * time.Second  // until a client's keepalive tells the coordinator where it is
	healTakes    = 2 * time.Second  // until packets flow again
	restartTakes = 12 * time.Second // until clients have noticed that the coordinator is a new one
	forgetTakes  = 45 * time.Second // until a channel whose peer has crashed is given up
)

// disturb is a fault of the network that ends by itself.
func (p *play) disturb(s step, who, whom *player) {
	var rule sim.Rule
	b := everybody
	switch s.do { //nolint:exhaustive // called with these
	case doCut:
		rule, b = sim.Cut(who.host, whom.host), s.whom
	case doBlock:
		rule, b = sim.Block(who.host, whom.host), s.whom
	case doIsolate:
		rule = sim.Isolate(who.host)
	case doLate:
		rule = func(packet sim.Packet) sim.Verdict {
			if packet.Source == who.name {
				return sim.DeliverAfter(500 * time.Millisecond)
			}
			return sim.Verdict{}
		}
	case doPause:
		who.host.Pause()
		p.trouble(s.who, everybody, s.last+healTakes, false)
		p.w.After(s.last, who.host.Resume)
		return
	}
	if s.do != doLate {
		p.trouble(s.who, b, s.last+healTakes, false)
	}
	p.w.After(s.last, p.w.Add(rule))
}

// disturbGateway is a fault of a gateway. Everybody inside suffers.
func (p *play) disturbGateway(s step) {
	g, nat := p.inside[s.place], p.natOf(s.place, p.gateways[s.place].nat)
	switch s.do { //nolint:exhaustive // called with these
	case doReboot:
		g.Reboot()
	case doRenumber:
		at := p.place(p.gateways[s.place].at, s.place)
		p.check(g.Renumber(at.IPv4()))
	case doBlockUDP:
		nat.NoUDP = true
		p.check(g.SetNAT(nat))
		p.w.After(s.last, func() {
			nat.NoUDP = false
			p.check(g.SetNAT(nat))
		})
	case doChangeNAT:
		if !nat.Routed {
			p.check(g.SetNAT(p.natOf(s.place, s.how)))
		}
	}
	for i := range p.clients {
		if s.last > 0 || p.isInside(p.party(i), s.place) { // who is elsewhere now may move in before it ends
			p.trouble(i, everybody, s.last+moveTakes, false)
		}
	}
}

// isInside reports whether a client is inside a gateway, or further inside.
func (p *play) isInside(who *player, gateway int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for place := who.place; place >= 0; place = p.gateways[place].at {
		if place == gateway {
			return true
		}
	}
	return false
}

// endAndStart ends a program, in order or not, and starts it again after a while.
func (p *play) endAndStart(s step, who *player) {
	p.mu.Lock()
	busy := who.down
	who.down = true
	p.mu.Unlock()
	if busy {
		return
	}
	trouble := p.trouble(s.who, everybody, time.Hour, who.client != nil)
	p.w.Go(func() {
		switch {
		case who.client == nil && s.do == doCrash:
			p.hub.Crash()
		case who.client == nil:
			p.hub.Stop()
		case s.do == doCrash:
			who.client.Crash()
		default:
			p.stop(s.who, who)
		}
		<-time.After(s.last)
		takes := restartTakes
		if who.client == nil {
			p.hub.Start()
		} else {
			takes = forgetTakes
			p.startClient(s.who, who)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		trouble.until = p.w.Elapsed() + takes
		who.down = false
	})
}

// startClient starts a client again, however often it takes.
func (p *play) startClient(number int, who *player) {
	const tries = 10
	for range tries {
		p.mu.Lock()
		who.began = p.w.Elapsed()
		p.mu.Unlock()
		if err := who.client.Start(); err == nil {
			p.accept(number)
			return
		}
		<-time.After(time.Second)
	}
	p.fault("attach", "%s could not attach in %d tries", who.name, tries)
}

// stop ends a client in order. If it could, everything that it had sent is there.
func (p *play) stop(number int, who *player) {
	promises := p.promise(number, func(*client.Stream) bool { return true })
	if err := who.client.Stop(); err == nil {
		p.keep(promises)
	}
}

// prefixOf is a network inside a gateway.
func prefixOf(number, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(number), 0, 0}), bits)
}

// trouble is something that may break streams, or delay them.
type trouble struct {
	from, until time.Duration
	a, b        int  // whose packets are lost; b may be everybody
	fatal       bool // streams between a and b may break
	mode        int  // the mode of the streams, or anyMode
	stream      int  // the one stream, or anyStream
}

const (
	everybody = -2
	anyMode   = -1
	anyStream = -1
)

// trouble notes that there is trouble from now on, for at most that long.
func (p *play) trouble(a, b int, lasts time.Duration, fatal bool) *trouble {
	t := &trouble{from: p.w.Elapsed(), until: p.w.Elapsed() + lasts, a: a, b: b, fatal: fatal, mode: anyMode, stream: anyStream}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, t)
	return t
}

// hits reports whether packets between two parties may be lost.
func (t *trouble) hits(a, b int) bool {
	return t.b == everybody && (t.a == a || t.a == b) || t.a == a && t.b == b || t.a == b && t.b == a
}

// survivable is the longest outage that channels have to survive: their idle
// timeout of 30 seconds less the keepalive of 10, and less the time that QUIC may
// wait until it tries again.
const survivable = 10 * time.Second

// mayBreak reports whether streams between two clients, of a mode, may break that
// are open since an instant.
func (p *play) mayBreak(s *playedStream, since time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var blind, last time.Duration  // beginning and end of the outage so far
	for _, t := range p.troubles { // in the order of their beginnings
		relay := t.hits(s.from, hub) || t.hits(s.to, hub)
		directly := t.hits(s.from, s.to)
		now := t.until >= since
		switch {
		case t.fatal:
			if now && directly && (t.mode == anyMode || t.mode == s.mode) && (t.stream == anyStream || t.stream == s.number) {
				return true
			}
			if t.a == hub || t.b == hub {
				break
			}
			continue
		case s.mode == openDirect && (relay || directly) && now:
			return true
		}
		if !relay {
			continue
		}
		if t.from > last {
			blind = t.from
		}
		last = max(last, t.until)
		if now && min(last, p.w.Elapsed())-blind > survivable {
			return true
		}
	}
	return false
}

// mayRefuse reports whether a stream may fail to open that was asked for then.
func (p *play) mayRefuse(s *playedStream, asked time.Duration) bool {
	if s.mode == openDirect || s.patience < openWithin || p.backlog > 0 || p.schedule.streams > 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.troubles {
		if t.until+5*time.Second >= asked && (t.hits(s.from, hub) || t.hits(s.to, hub) || t.fatal && t.hits(s.from, s.to)) {
			return true
		}
	}
	return false
}
