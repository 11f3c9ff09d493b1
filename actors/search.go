package actors

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of a path set that searches for a direct path where one side's NAT shows it to
// each under another port: that side opens many sockets, the other one guesses.

// Limits of a search.
const (
	searchLinks = 256              // sockets of the side behind the harder NAT
	searchAfter = 5 * time.Second  // after the peer's first addresses: one punching round has found nothing
	searchAgain = 5 * time.Second  // between probes from all sockets, so that the NAT remembers them
	searchLasts = 15 * time.Second // until it is given up; the other side has made all guesses then
)

// search is what a path set knows of a search.
type search struct {
	began  time.Time      // when the peer first offered addresses
	first  netip.AddrPort // the first address that the peer offered: where the coordinator sees it
	varies bool           // that is not where we would
	able   bool           // the peer understands searches

	done    func()       // nil unless one goes on
	guesses bool         // this side guesses
	links   []netio.Link // opened for it; after it, the one that was found
	due     time.Time    // when to probe from them again
	until   time.Time
}

// linksOpened is told by the pump that opens links. They are closed when its life ends.
type linksOpened struct {
	Life
	links []netio.Link
}

// offered takes what the peer says about its addresses.
func (s *search) offered(now time.Time, msg *conecv1.OfferCandidates, addrs []netip.AddrPort) {
	s.varies, s.able = msg.GetVaries(), msg.GetSearches()
	if len(addrs) > 0 {
		s.first = addrs[0]
		if s.began.IsZero() {
			s.began = now
		}
	}
}

// varies reports whether this side is behind the harder kind of NAT.
func (p *paths) varies() bool { return p.spec.config.Varies != nil && p.spec.config.Varies() }

// lookSearch begins a search when it is time, goes on with one, and ends it. It returns when to
// look again.
func (p *paths) lookSearch(ctx actor.Context) time.Duration {
	s, now := &p.search, p.now()
	switch {
	case s.guesses:
		if p.set.guesses == nil {
			p.endSearch(p.set.link())
		}
	case s.done != nil && len(s.links) > 0 && (p.set.current != nil || now.After(s.until)):
		p.endSearch(p.set.link())
	case s.done != nil && len(s.links) > 0 && !now.Before(s.due):
		p.probeFromAll()
	case s.done == nil && p.wantsSearch(now):
		done, ok := p.spec.config.Search(p.spec.about.peer)
		if !ok {
			s.began = now // asked again after a while
			break
		}
		p.endSearch(nil) // what a former one found is of no use any more
		s.done = done
		p.openSearch(ctx)
	}
	if s.done != nil {
		return tick
	}
	return relayTick
}

// wantsSearch reports whether it is this side that is to begin a search, now.
func (p *paths) wantsSearch(now time.Time) bool {
	s := &p.search
	return s.able && !s.varies && p.varies() && p.spec.config.Search != nil && p.inVain(now, searchAfter)
}

// inVain reports whether no candidate has answered for so long after the peer's first addresses, though direct paths are looked
// for, and more links can be opened for that.
func (p *paths) inVain(now time.Time, after time.Duration) bool {
	began := p.search.began
	if !p.set.allowDirect || p.set.use.only || p.set.current != nil || began.IsZero() || now.Sub(began) < after || p.spec.config.OpenLink == nil {
		return false
	}
	return !slices.ContainsFunc(p.set.candidates, func(c *candidate) bool { return c.answers > 0 })
}

func (p *paths) openSearch(ctx actor.Context) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	p.openLinks(searchLinks, func(life Life, links []netio.Link) { root.Send(self, linksOpened{life, links}) })
}

// openLinks has a pump open so many links, or as many as there may be.
func (p *paths) openLinks(count int, tell func(life Life, links []netio.Link)) {
	life, open, sw := p.life, p.spec.config.OpenLink, p.spec.config.Transport.Switch()
	p.sys.Pumps.Go(func() {
		var links []netio.Link
		for range count {
			link, err := open()
			if err != nil {
				break
			}
			links = append(links, link)
		}
		context.AfterFunc(life.Context(), func() { // also if nobody hears of them
			for _, link := range links {
				sw.RemoveLink(link)
			}
		})
		tell(life, links)
	})
}

// searchFrom has the NAT open a port for each link, and the peer guess them.
func (p *paths) searchFrom(ctx actor.Context, links []netio.Link) {
	s := &p.search
	for _, link := range links {
		p.spec.config.Transport.Switch().AddLink(link)
	}
	s.links = links
	if len(links) == 0 || p.set.current != nil {
		p.endSearch(p.set.link())
		return
	}
	s.until = p.now().Add(searchLasts)
	ctx.Logger().Debug("ports are searched", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer, "addr", s.first.String())
	p.probeFromAll()
	ctx.Send(ctx.Parent(), &conecv1.Control{Said: &conecv1.Control_SearchPorts{SearchPorts: &conecv1.SearchPorts{}}})
}

func (p *paths) probeFromAll() {
	s := &p.search
	s.due = p.now().Add(searchAgain)
	for _, link := range s.links {
		p.set.nextTx++ // nobody waits for an answer: the peer's own probe tells
		_ = p.spec.conn.Port().SendProbe(link, s.first, netio.Ping, p.set.nextTx, netip.AddrPort{}, netio.MinProbe)
	}
}

// endSearch closes all links but one.
func (p *paths) endSearch(keep netio.Link) {
	s := &p.search
	var kept []netio.Link
	for _, link := range s.links {
		if link == keep {
			kept = append(kept, link)
			continue
		}
		p.spec.config.Transport.Switch().RemoveLink(link)
		p.set.forget(link)
	}
	s.links = kept
	if s.done != nil {
		s.done()
		s.done = nil
	}
	s.guesses = false
}

// guess does what the peer asks for, if this side is the one that can.
func (p *paths) guess(ctx actor.Context) {
	s := &p.search
	if !p.set.allowDirect || p.set.current != nil || s.done != nil || !s.varies || p.varies() || !guessable(s.first.Addr()) ||
		p.spec.config.Search == nil {
		return
	}
	if s.done, s.guesses = p.spec.config.Search(p.spec.about.peer); !s.guesses {
		return
	}
	p.set.startGuessing(p.now(), s.first, random64())
	p.look(ctx)
}

// guessable keeps guesses away from networks that are no NAT's outside.
func guessable(addr netip.Addr) bool { return addr.IsGlobalUnicast() && !addr.IsPrivate() }
