package actors

import (
	"net/netip"
	"slices"
	"time"

	"github.com/conec-go/conec/netio"
)

// Timing of probes. The gaps of a punching round double like those of RFC 8445
// implementations do; a link that answers is asked again at the pace of the
// shortest usual mapping timeout of NATs, 30 seconds (RFC 4787 section 4.3).
const (
	tick          = 250 * time.Millisecond // how often a path set looks around
	urgentTick    = 50 * time.Millisecond  // while the path in use is in doubt
	probeIdle     = 5 * time.Second        // between probes of a path that answers
	idleDeadAfter = 3 * probeIdle / 2      // silence until a path that is not in use is given up: two probes, as one may get lost
	probeUrgent   = 100 * time.Millisecond // between probes of the path in doubt
	doubtAfter    = 250 * time.Millisecond // silence, while sending, until the path is in doubt; at least two round trips
	deadAfter     = 700 * time.Millisecond // silence until a path in doubt may be given up…
	proofAfter    = 400 * time.Millisecond // …if probes were not answered for so long; at least two round trips
	probesToDie   = 2                      // …and so many: one may get lost
	followAfter   = 50 * time.Millisecond  // the same where the peer has left the path, beyond one and a half round trips
	pressedAgain  = 300 * time.Millisecond // pings closer than this come from a peer that is in doubt
	pressedPause  = time.Second            // after an answer, until a peer's doubt makes us probe again
	maxTriggered  = 8                      // probes at once because the peer probed (RFC 8445 section 7.3.1.4), until it answers
	roundPause    = 10 * time.Second       // between punching rounds that found nothing
	holdDown      = 3 * time.Second        // before a path that died may be used again
	freshFor      = time.Second            // after an answer, until a path has to answer again before it is moved to
	gainNeeded    = 5 * time.Millisecond   // advantage that is worth a move…
	gainFraction  = 10                     // …and at least a tenth of the round trip
	roundAgain    = time.Second            // least time between the beginnings of rounds that the peer's offers begin
	maxCandidates = 32                     // addresses per peer, and link of ours

	answersNeeded = 2 // so that the peer too has had an answer from us, and takes our packets
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
	silence    silence    // of the path in use
	size       int        // in bytes, of datagrams that QUIC sends on it
	nextTx     uint64
	spend      func(now time.Time) bool // takes a ping to an address that never answered from a budget; nil: from none
	account    account
	guesses    *guesses  // nil unless the peer's address is guessed
	movedAt    time.Time // when this host's network changed

	links []netio.Link          // of the client, beside its first one
	names map[netio.Link]string // of these
	use   linkUse
}

// candidate is an address at which the peer might be reached.
type candidate struct {
	link     netio.Link // nil: the client's own
	addr     netip.AddrPort
	reflexed bool // not offered by the peer but seen as the source of its probe

	round     int       // probes sent in this punching round
	due       time.Time // when to probe next
	asked     time.Time // when the oldest unanswered probe was sent; zero if none
	answered  time.Time // when the last answer came; zero if never
	answers   int       // answers since it was last given up
	began     time.Time // when this punching round began
	pinged    time.Time // when the peer's last ping came from there
	triggered int       // probes because of such pings since it was last given up
	dead      time.Time // when it was last given up
	rtt       time.Duration
	sent      map[uint64]sentProbe
	tally     tally
}

type sentProbe struct {
	at   time.Time
	size int // in bytes
}

// ping is a probe that the path set wants sent.
type ping struct {
	link netio.Link // nil: the client's own
	to   netip.AddrPort
	tx   uint64
	size int // bytes
}

// offer replaces the addresses that the peer offered.
func (p *pathSet) offer(now time.Time, addrs []netip.AddrPort) {
	defer p.noteOffer(addrs)
	if !p.allowDirect {
		return
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c *candidate) bool {
		return c != p.current && !c.reflexed && !slices.Contains(addrs, c.addr)
	})
	for _, link := range p.ways() {
		for _, addr := range addrs {
			known := p.findOn(link, addr)
			if known != nil {
				known.reflexed = false // its probe was faster than its offer
			}
			switch {
			case known == nil:
				p.add(now, link, addr, false)
			case known.answered.IsZero() && now.Sub(known.began) < roundAgain: // a round for it is under way
			default:
				known.round, known.due = 0, now
			}
		}
	}
}

// seen notes the source of an authentic probe: it is worth probing, even if the
// peer did not offer it (peer-reflexive, RFC 8445 section 7.3.1.3).
func (p *pathSet) seen(now time.Time, link netio.Link, addr netip.AddrPort) {
	if !p.allowDirect {
		return
	}
	known := p.findOn(link, addr)
	if known == nil {
		p.add(now, link, addr, true)
		p.peerMoved(now) // its address may have changed
		return
	}
	pressed := now.Sub(known.pinged) < pressedAgain
	known.pinged = now
	switch {
	case known == p.current && pressed:
		p.verify(now) // the peer does not hear us: do we still reach it?
	case known.answered.IsZero() && now.Add(pressedPause).Before(known.due):
		known.round, known.due = 0, now // it lives: do not wait for the next round
		p.verify(now)
	case known.answered.IsZero() && known.triggered < maxTriggered:
		known.triggered++
		known.due = now // once answered, the peer sends on this path; until we are, that is dropped
	}
}

// verify has the path in use probed now, if that was not done lately.
func (p *pathSet) verify(now time.Time) {
	if c := p.current; c != nil && c.asked.IsZero() && now.Sub(c.answered) > pressedPause {
		c.due = now
	}
}

func (p *pathSet) add(now time.Time, link netio.Link, addr netip.AddrPort, reflexed bool) {
	if !addr.IsValid() || addr.Port() == 0 || len(p.candidates) >= maxCandidates*(1+len(p.links)) && !p.evict(now, reflexed) {
		return
	}
	added := &candidate{link: link, addr: addr, reflexed: reflexed, due: now, sent: map[uint64]sentProbe{}, tally: tally{since: now}}
	if reflexed {
		added.pinged = now
	}
	p.candidates = append(p.candidates, added)
}

// evict makes room for an address that the peer offered, or that was seen as the
// source of a probe. One that was seen goes before one that was offered, the
// one quiet for longest first; for an offered one, only what was not seen lately.
// Paths that answer stay.
func (p *pathSet) evict(now time.Time, reflexed bool) bool {
	worst := -1
	for i, c := range p.candidates {
		switch {
		case c == p.current || c.proven():
		case !reflexed && (!c.reflexed || now.Sub(c.pinged) < roundPause):
		case worst < 0 || c.worse(p.candidates[worst]):
			worst = i
		}
	}
	if worst < 0 {
		return false
	}
	p.candidates = slices.Delete(p.candidates, worst, worst+1)
	return true
}

// worse reports whether c is less likely than other to be where the peer is.
func (c *candidate) worse(other *candidate) bool {
	if c.reflexed != other.reflexed {
		return c.reflexed
	}
	return c.pinged.Before(other.pinged)
}

// forget drops the candidates of a link that is closed.
func (p *pathSet) forget(link netio.Link) {
	p.candidates = slices.DeleteFunc(p.candidates, func(c *candidate) bool { return c.link == link && c != p.current })
}

// find returns what is known of an address, as it is reached by the client's own link.
func (p *pathSet) find(addr netip.AddrPort) *candidate { return p.findOn(nil, addr) }

func (p *pathSet) findOn(link netio.Link, addr netip.AddrPort) *candidate {
	for _, c := range p.candidates {
		if c.link == link && c.addr == addr {
			return c
		}
	}
	return nil
}

// heard says when packets were last received, directly and over the relay, and
// whether any were sent directly since the last look.
type heard struct {
	last, relayed time.Time
	sending       bool
}

// look advances time. It returns the probes to send now and when to look again.
// Whether the choice changed is seen by comparing [pathSet.choice].
func (p *pathSet) look(now time.Time, on heard) (pings []ping, again time.Duration) {
	again = min(tick, p.hear(now, on))
	if p.doubtful(now, on) {
		again = urgentTick
		c := p.current
		c.due = earliest(c.due, p.lastAsked(c).Add(probeUrgent))
		if p.overdue(now, on) {
			p.giveUp(now, c)
		}
	}
	p.watchChosen(now, on.sending)
	for _, c := range p.candidates {
		if now.Before(c.due) {
			again = min(again, c.due.Sub(now))
			continue
		}
		p.expire(now, c)
		if c.answered.IsZero() && p.spend != nil && !p.spend(now) {
			c.due = now.Add(time.Second / strangersPerSecond)
			again = min(again, c.due.Sub(now))
			continue
		}
		if c.round == 0 {
			c.began = now
		}
		p.nextTx++
		size := p.probeSize(c)
		c.sent[p.nextTx] = sentProbe{at: now, size: size}
		c.tally.noteProbe()
		if c.asked.IsZero() {
			c.asked = now
		}
		pings = append(pings, ping{link: c.link, to: c.addr, tx: p.nextTx, size: size})
		c.due = now.Add(c.pause())
		c.round++
		again = min(again, c.due.Sub(now))
	}
	p.choose(now)
	guesses, soon := p.guess(now)
	return append(pings, guesses...), max(min(again, soon), time.Millisecond)
}

// probeSize returns the size in bytes of probes of a candidate, the least if it is nil: the path in use has to carry what
// QUIC sends.
func (p *pathSet) probeSize(c *candidate) int {
	if c == nil || c != p.current {
		return minProbe
	}
	return max(minProbe, p.size)
}

// hear listens to the path in use. It returns when it may be in doubt.
func (p *pathSet) hear(now time.Time, on heard) time.Duration {
	if p.current == nil {
		p.silence = silence{looked: now}
		return tick
	}
	return p.current.patience() - p.silence.hear(now, latest(on.last, p.current.answered), on.sending)
}

// patience is how long the path may be silent while we send.
func (c *candidate) patience() time.Duration { return max(doubtAfter, 2*c.rtt) }

// doubtful reports whether the path in use is in doubt: silent although we send,
// or a probe of it was not answered, or the peer has left it.
func (p *pathSet) doubtful(now time.Time, on heard) bool {
	c := p.current
	if c == nil {
		return false
	}
	unheard := !p.silence.since.IsZero() && now.Sub(p.silence.since) >= c.patience()
	unanswered := !c.asked.IsZero() && now.Sub(c.asked) >= c.patience()
	return unheard || unanswered || p.left(on) || p.shaken()
}

// left reports whether the peer now sends over the relay.
func (p *pathSet) left(on heard) bool {
	return p.allowRelay && on.relayed.After(latest(on.last, p.current.answered))
}

// overdue reports whether the path in doubt is to be given up: it is silent for
// too long and so are our probes of it. Probes alone decide if the peer has given
// it up, for it may be we whom the peer does not hear, and if another path
// answers, for what we hear may come from there.
func (p *pathSet) overdue(now time.Time, on heard) bool {
	c := p.current
	if c.asked.IsZero() {
		return false
	}
	asked := now.Sub(c.asked)
	if (p.left(on) || p.shaken()) && asked >= followAfter+c.rtt*3/2 {
		return true
	}
	for _, other := range p.candidates {
		if other.proven() && other.answered.After(c.asked) && asked >= c.patience() {
			return true
		}
	}
	return now.Sub(latest(on.last, c.answered)) >= deadAfter && asked >= max(proofAfter, 2*c.rtt) && c.unanswered(now) >= probesToDie
}

// unanswered counts the probes since the last answer to which one would have come by now.
func (c *candidate) unanswered(now time.Time) int {
	count := 0
	for _, sent := range c.sent {
		if !sent.at.Before(c.asked) && now.Sub(sent.at) >= c.rtt*3/2 {
			count++
		}
	}
	return count
}

// held reports whether it died too recently to be used.
func (c *candidate) held(now time.Time) bool { return !c.dead.IsZero() && now.Sub(c.dead) < holdDown }

// proven reports whether packets pass in both directions.
func (c *candidate) proven() bool { return c.answers >= answersNeeded }

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
	if !c.answered.IsZero() && c != p.current && !c.asked.IsZero() && now.Sub(c.asked) > idleDeadAfter {
		p.giveUp(now, c)
	}
}

// giveUp returns a candidate to the state of one that never answered. If it is
// the path in use, others that have not answered since it was silent have to
// answer again before they are used: they may have died with it.
func (p *pathSet) giveUp(now time.Time, c *candidate) {
	silent, shaken := c.asked, c == p.current && p.shaken()
	c.answered, c.asked, c.dead = time.Time{}, time.Time{}, now
	if shaken {
		c.dead = time.Time{} // it was the way there that went
	}
	c.round, c.due, c.answers, c.triggered = 0, now, 0, 0
	if p.current != c {
		return
	}
	p.current, p.silence = nil, silence{looked: now}
	p.account.died, p.account.diedAt = now, c.addr
	for _, other := range p.candidates {
		if other.answers == 0 {
			continue
		}
		if other.due = now; !other.answered.After(silent) {
			other.answers = 0
		}
	}
	p.choose(now)
}

// answer notes the answer to a probe: the path works in both directions. It
// returns false for an answer to nothing.
func (p *pathSet) answer(now time.Time, link netio.Link, from netip.AddrPort, tx uint64) bool {
	for _, c := range p.candidates {
		sent, ok := c.sent[tx]
		if !ok || c.addr != from || c.link != link { // an answer proves only the address that was asked
			continue
		}
		rtt := now.Sub(sent.at)
		if c.rtt == 0 || c.answered.IsZero() {
			c.rtt = rtt
		} else {
			c.rtt += (rtt - c.rtt) / 8
		}
		c.answers++
		c.tally.noteAnswer(now, rtt, sent.size)
		c.due = now.Add(probeIdle)
		if c.held(now) {
			c.due = earliest(c.due, c.dead.Add(holdDown))
		}
		if !c.proven() {
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
	return link == nil && p.guessed(now, from, tx)
}

// choose picks the path: direct before relay, and among direct ones those over the preferred link, then the faster
// by a margin, so that the choice does not flap.
func (p *pathSet) choose(now time.Time) {
	for _, c := range p.candidates {
		if !c.proven() || c.held(now) || now.Sub(c.answered) > freshFor || !p.may(c) {
			continue
		}
		if p.current == nil || p.better(c) {
			p.current = c
		}
	}
}

// link returns the link of the direct path in use, nil if that is the client's own.
func (p *pathSet) link() netio.Link {
	if p.current == nil {
		return nil
	}
	return p.current.link
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
