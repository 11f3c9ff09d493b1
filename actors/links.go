package actors

import (
	"slices"
	"time"

	"github.com/conec-go/conec/netio"
)

// The part of a path set that knows that the client has several links.

// OwnLink is a link of a client beside its first one, which takes what way the system's routes say.
type OwnLink struct {
	// Name is what the program calls it.
	Name string
	// Link is the link.
	Link netio.Link
}

// LinkChoice says which links of this client the direct packets of a channel take. The zero LinkChoice is all alike: the
// fastest path is taken.
type LinkChoice struct {
	// Prefer is the name of the link that is taken whenever a path over it answers, however slow; empty: none.
	Prefer string
	// Only tells that no other link is taken.
	Only bool
	// Copy is the name of a link over which a copy of each packet goes while a path over it answers; empty: none.
	Copy string
}

// Choose has the channel take other links. The channel's actor is to be told by [AddrsChanged].
func (c *Channel) Choose(choice LinkChoice) { c.links.Store(&choice) }

// linkUse is a [LinkChoice] with the links that are there: nil is one that is not.
type linkUse struct {
	prefer, copies netio.Link
	only           bool
}

// syncLinks takes the links that the client has now, and what the program chooses among them.
func (p *paths) syncLinks() {
	var use linkUse
	var links []netio.Link
	p.set.names = map[netio.Link]string{}
	choice := p.spec.shared.links.Load()
	if p.spec.config.Links != nil && p.set.allowDirect {
		for _, own := range p.spec.config.Links() {
			links = append(links, own.Link)
			p.set.names[own.Link] = own.Name
			if choice != nil && own.Name == choice.Prefer {
				use.prefer = own.Link
			}
			if choice != nil && own.Name == choice.Copy {
				use.copies = own.Link
			}
		}
	}
	if p.fresh.link != nil {
		links = append(links, p.fresh.link)
	}
	use.only = choice != nil && choice.Only
	p.set.useLinks(p.now(), links, use)
}

// applyCopies points the switch at the path of copies.
func (p *paths) applyCopies() {
	var also netio.Path
	if c := p.set.copyPath(); c != nil {
		also = netio.Path{Link: c.link, To: c.addr}
	}
	if also != p.also {
		p.also = also
		p.spec.conn.Port().SetCopies(also)
	}
}

// useLinks takes the links beside the first one, and which of them to use.
func (p *pathSet) useLinks(now time.Time, links []netio.Link, use linkUse) {
	former := p.links
	if p.use != use {
		p.askAgain(now)
	}
	p.links, p.use = links, use
	for _, link := range former {
		if !slices.Contains(links, link) {
			p.lose(now, link)
		}
	}
	for _, link := range links {
		if !slices.Contains(former, link) {
			p.spread(now, link)
		}
	}
	if p.current != nil && !p.may(p.current) {
		p.current, p.silence = nil, silence{looked: now}
	}
	p.choose(now)
}

// lose forgets a link that is gone, and leaves it at once.
func (p *pathSet) lose(now time.Time, link netio.Link) {
	p.forget(link) // first, so that none of them takes the place of the path in use
	if p.current != nil && p.current.link == link {
		p.giveUp(now, p.current)
		p.forget(link)
	}
}

// chosenIdle is the time between probes of a path in use that the program has chosen: the peer may send by another one, and
// what comes from there says nothing of this.
const chosenIdle = time.Second

// watchChosen has the path in use probed often if the program has chosen it, and the others if it does not answer.
func (p *pathSet) watchChosen(now time.Time, sending bool) {
	c := p.current
	if c == nil || p.use.prefer == nil || !sending {
		return
	}
	if c.asked.IsZero() {
		c.due = earliest(c.due, c.answered.Add(chosenIdle))
		return
	}
	for _, other := range p.candidates {
		if other != c && other.proven() && other.asked.IsZero() && other.answered.Before(c.asked) && now.Sub(c.asked) >= c.patience() {
			other.due = now
		}
	}
}

// spread has the addresses that the peer offered tried over one more link.
func (p *pathSet) spread(now time.Time, link netio.Link) {
	for _, c := range slices.Clone(p.candidates) {
		if c.link != nil || c.reflexed || p.findOn(link, c.addr) != nil {
			continue
		}
		p.add(now, link, c.addr, false)
		if added := p.findOn(link, c.addr); added != nil {
			added.tally.offered, added.tally.kind = c.tally.offered, c.tally.kind
		}
	}
}

// ways are the links over which what the peer offers is tried: nil is the first one.
func (p *pathSet) ways() []netio.Link { return append([]netio.Link{nil}, p.links...) }

// isWay reports whether a probe that came over a link is for this path set.
func (p *pathSet) isWay(link netio.Link) bool { return link == nil || slices.Contains(p.links, link) }

// may reports whether the program lets a candidate be the path.
func (p *pathSet) may(c *candidate) bool {
	return !p.use.only || p.use.prefer != nil && c.link == p.use.prefer
}

// prefers reports whether a candidate is over the link that the program prefers.
func (p *pathSet) prefers(c *candidate) bool { return p.use.prefer != nil && c.link == p.use.prefer }

// better reports whether to move from the path in use to another one.
func (p *pathSet) better(c *candidate) bool {
	if p.prefers(c) != p.prefers(p.current) {
		return p.prefers(c)
	}
	gain := p.current.rtt - c.rtt
	return c != p.current && gain > gainNeeded && gain > p.current.rtt/gainFraction
}

// askAgain has all probed that have ever answered.
func (p *pathSet) askAgain(now time.Time) {
	for _, c := range p.candidates {
		if c.answers > 0 {
			c.due = now
		}
	}
}

// copyPath returns the candidate that copies go to, nil if none do: one over the link for them, if the path in use is not, to
// another address of the peer than that if there is one, and of these the fastest.
func (p *pathSet) copyPath() (best *candidate) {
	if p.use.copies == nil || p.current != nil && p.current.link == p.use.copies {
		return nil
	}
	apart := func(c *candidate) bool { return p.current == nil || c.addr.Addr() != p.current.addr.Addr() }
	for _, c := range p.candidates {
		switch {
		case c.link != p.use.copies || !c.proven():
		case best == nil, apart(c) && !apart(best), apart(c) == apart(best) && c.rtt < best.rtt:
			best = c
		}
	}
	return best
}
