package actors

import (
	"net/netip"
	"slices"
	"time"
)

// Timing of probes. The gaps of a punching round double like those of RFC 8445
// implementations do; a link that answers is asked again at the pace of the
// shortest usual mapping timeout of NATs, 30 seconds (RFC 4787 section 4.3).
const (
	tick          = 250 * time.Millisecond // how often a path set looks around
	urgentTick    = 50 * time.Millisecond  // while the path in use is in doubt
	probeIdle     = 5 * time.Second        // between probes of a path that answers
	probeUrgent   = 100 * time.Millisecond // between probes of the path in doubt
	doubtAfter    = 250 * time.Millisecond // silence, while sending, until the path is in doubt
	deadAfter     = 700 * time.Millisecond // silence, while probing, until it is given up
	roundPause    = 10 * time.Second       // between punching rounds that found nothing
	holdDown      = 3 * time.Second        // before a path that died may be used again
	gainNeeded    = 5 * time.Millisecond   // advantage that is worth a move…
	gainFraction  = 10                     // …and at least a tenth of the round trip
	maxCandidates = 32                     // addresses per peer
	answersNeeded = 2                      // so that the peer too has had an answer from us, and takes our packets
)

// punchGaps are the pauses between the probes of one punching round.
var punchGaps = [...]time.Duration{
	0, 33 * time.Millisecond, 33 * time.Millisecond, 67 * time.Millisecond, 133 * time.Millisecond,
	267 * time.Millisecond, 533 * time.Millisecond, 1070 * time.Millisecond, 2 * time.Second,
}

// pathSet decides which path a channel takes: it says whom to probe and which
// path to use. It is plain state without goroutine or clock; [paths] runs it.
type pathSet struct {
	allowRelay, allowDirect bool

	candidates []*candidate
	current    *candidate // nil: the relay, if allowed
	nextTx     uint64
}

// candidate is an address at which the peer might be reached.
type candidate struct {
	addr     netip.AddrPort
	reflexed bool // not offered by the peer but seen as the source of its probe

	round    int       // probes sent in this punching round
	due      time.Time // when to probe next
	asked    time.Time // when the oldest unanswered probe was sent; zero if none
	answered time.Time // when the last answer came; zero if never
	answers  int       // answers since it was last given up
	dead     time.Time // when it was last given up
	rtt      time.Duration
	sent     map[uint64]sentProbe
}

type sentProbe struct {
	at   time.Time
	size int
}

// ping is a probe that the path set wants sent.
type ping struct {
	to netip.AddrPort
	tx uint64
}

// offer replaces the addresses that the peer offered.
func (p *pathSet) offer(now time.Time, addrs []netip.AddrPort) {
	if !p.allowDirect {
		return
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c *candidate) bool {
		return c != p.current && !c.reflexed && !slices.Contains(addrs, c.addr)
	})
	for _, addr := range addrs {
		if known := p.find(addr); known != nil {
			known.round, known.due = 0, now
			continue
		}
		p.add(now, addr, false)
	}
}

// seen notes the source of an authentic probe: it is worth probing, even if the
// peer did not offer it (peer-reflexive, RFC 8445 section 7.3.1.3).
func (p *pathSet) seen(now time.Time, addr netip.AddrPort) {
	if !p.allowDirect {
		return
	}
	if known := p.find(addr); known != nil {
		if known.answered.IsZero() && known.round >= len(punchGaps) {
			known.round, known.due = 0, now // it lives: ask again at once
		}
		return
	}
	p.add(now, addr, true)
}

func (p *pathSet) add(now time.Time, addr netip.AddrPort, reflexed bool) {
	if len(p.candidates) >= maxCandidates || !addr.IsValid() || addr.Port() == 0 {
		return
	}
	p.candidates = append(p.candidates, &candidate{addr: addr, reflexed: reflexed, due: now, sent: map[uint64]sentProbe{}})
}

func (p *pathSet) find(addr netip.AddrPort) *candidate {
	for _, c := range p.candidates {
		if c.addr == addr {
			return c
		}
	}
	return nil
}

// heard says when something was last received on the path in use, and whether
// something was sent on it since then.
type heard struct {
	last    time.Time
	sending bool
}

// look advances time. It returns the probes to send now and when to look again.
// Whether the choice changed is seen by comparing [pathSet.choice].
func (p *pathSet) look(now time.Time, on heard) (pings []ping, again time.Duration) {
	again = tick
	if p.doubtful(now, on) {
		again = urgentTick
		p.current.due = earliest(p.current.due, p.lastAsked(p.current).Add(probeUrgent))
		silent := now.Sub(latest(on.last, p.current.answered))
		if silent > deadAfter && !p.current.asked.IsZero() && now.Sub(p.current.asked) > deadAfter-doubtAfter {
			p.giveUp(now, p.current)
		}
	}
	for _, c := range p.candidates {
		if now.Before(c.due) {
			again = min(again, c.due.Sub(now))
			continue
		}
		p.expire(now, c)
		p.nextTx++
		c.sent[p.nextTx] = sentProbe{at: now}
		if c.asked.IsZero() {
			c.asked = now
		}
		pings = append(pings, ping{to: c.addr, tx: p.nextTx})
		c.due = now.Add(c.pause())
		c.round++
	}
	p.choose(now)
	return pings, max(again, time.Millisecond)
}

// doubtful reports whether the path in use is in doubt: silent although we send,
// or a probe of it was not answered.
func (p *pathSet) doubtful(now time.Time, on heard) bool {
	c := p.current
	if c == nil {
		return false
	}
	patience := doubtAfter + 2*c.rtt
	silent := now.Sub(latest(on.last, c.answered)) > patience
	unanswered := !c.asked.IsZero() && now.Sub(c.asked) > patience
	return silent && (on.sending || unanswered)
}

func (p *pathSet) lastAsked(c *candidate) time.Time {
	var last time.Time
	for _, sent := range c.sent {
		last = latest(last, sent.at)
	}
	return last
}

// pause returns the time until the next probe of a candidate.
func (c *candidate) pause() time.Duration {
	if !c.answered.IsZero() {
		return probeIdle
	}
	if c.round+1 < len(punchGaps) {
		return punchGaps[c.round+1]
	}
	c.round = -1
	return roundPause
}

// expire forgets probes that are answered no more, and gives up a candidate that
// stopped answering.
func (p *pathSet) expire(now time.Time, c *candidate) {
	for tx, sent := range c.sent {
		if now.Sub(sent.at) > 2*probeIdle {
			delete(c.sent, tx)
		}
	}
	if !c.answered.IsZero() && c != p.current && !c.asked.IsZero() && now.Sub(c.asked) > probeIdle {
		p.giveUp(now, c)
	}
}

// giveUp returns a candidate to the state of one that never answered.
func (p *pathSet) giveUp(now time.Time, c *candidate) {
	c.answered, c.asked, c.dead = time.Time{}, time.Time{}, now
	c.round, c.due, c.answers = 0, now, 0
	if p.current == c {
		p.current = nil
	}
}

// answer notes the answer to a probe: the path works in both directions. It
// returns false for an answer to nothing.
func (p *pathSet) answer(now time.Time, from netip.AddrPort, tx uint64) bool {
	for _, c := range p.candidates {
		sent, ok := c.sent[tx]
		if !ok || c.addr != from { // an answer proves only the address that was asked
			continue
		}
		rtt := now.Sub(sent.at)
		if c.rtt == 0 || c.answered.IsZero() {
			c.rtt = rtt
		} else {
			c.rtt += (rtt - c.rtt) / 8
		}
		c.answers++
		c.due = now.Add(probeIdle)
		if c.answers < answersNeeded {
			c.due = now
		}
		c.answered, c.asked = now, time.Time{}
		for other, probe := range c.sent {
			if !probe.at.After(sent.at) {
				delete(c.sent, other)
			}
		}
		p.choose(now)
		return true
	}
	return false
}

// choose picks the path: direct before relay, and among direct ones the faster
// by a margin, so that the choice does not flap.
func (p *pathSet) choose(now time.Time) {
	for _, c := range p.candidates {
		if c.answers < answersNeeded || !c.dead.IsZero() && now.Sub(c.dead) < holdDown {
			continue
		}
		if p.current == nil {
			p.current = c
			continue
		}
		gain := p.current.rtt - c.rtt
		if c != p.current && gain > gainNeeded && gain > p.current.rtt/gainFraction {
			p.current = c
		}
	}
}

// choice returns the address of the direct path in use, or relayed, or neither
// if no allowed path is there.
func (p *pathSet) choice() (addr netip.AddrPort, relayed bool) {
	if p.current != nil {
		return p.current.addr, false
	}
	return netip.AddrPort{}, p.allowRelay
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
