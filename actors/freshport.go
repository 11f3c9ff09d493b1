package actors

import (
	"net/netip"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of a path set that tries once more from a fresh port.
//
// A gateway that masquerades and takes itself what comes unasked (Linux without a firewall) gives a probe of the peer that
// comes before ours the pair of addresses that ours would have had: ours leaves from another port then, which the peer's NAT
// does not let in, for ever. From a port that the peer has not heard of yet we are the first.

// Times of a fresh port.
const (
	freshAfter     = 5 * time.Second  // after the peer's first addresses, at the side that dialed: one round has found nothing…
	freshAfterThat = 10 * time.Second // …and at the other side, if that was of no use
	freshLasts     = 10 * time.Second // until it is given up
	freshAsks      = 300 * time.Millisecond
)

// freshPort is what a path set knows of its fresh port.
type freshPort struct {
	opened bool       // once is enough
	looked bool       // it was found out whether there is a NAT, since the host's addresses changed
	link   netio.Link // nil unless there is one
	told   bool       // the peer was told of it
	due    time.Time  // when to ask again how it is seen
	until  time.Time
}

// Told by the pump that opens a fresh port, and by the client. A link is closed when its life ends.
type (
	freshOpened struct {
		Life
		link netio.Link
	}
	freshSeen struct {
		Life
		addr netip.AddrPort
	}
)

// lookFresh has a fresh port opened when it is time, and closed when it is of no use. It returns when to look again.
func (p *paths) lookFresh(ctx actor.Context) time.Duration {
	f, now := &p.fresh, p.now()
	switch {
	case f.link == nil && p.wantsFresh(now):
		if f.looked, f.opened = true, p.hasNAT(); f.opened {
			p.openFresh(ctx)
		}
	case f.link == nil || p.set.link() == f.link:
	case p.set.current != nil, now.After(f.until):
		p.endFresh()
	case !f.told && !now.Before(f.due):
		p.askFresh(ctx)
		return freshAsks
	}
	return relayTick
}

// wantsFresh reports whether to try from a fresh port, now, if there is a NAT. Where ports are searched, or change with each
// destination, it would be of no use.
func (p *paths) wantsFresh(now time.Time) bool {
	s, after := &p.search, freshAfterThat
	if p.spec.dialed {
		after = freshAfter
	}
	return !p.fresh.opened && !p.fresh.looked && s.done == nil && !s.varies && !p.varies() && p.spec.config.Observe != nil &&
		len(p.set.candidates) > 0 && p.inVain(now, after)
}

// hasNAT reports whether this client is seen under an address that is not its own. That costs system calls.
func (p *paths) hasNAT() bool {
	config := p.spec.config
	return config.Kinds != nil && slices.Contains(config.Kinds(config.Addrs()), conecv1.AddressKind_ADDRESS_KIND_OBSERVED)
}

func (p *paths) openFresh(ctx actor.Context) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	p.openLinks(1, func(life Life, links []netio.Link) {
		if len(links) > 0 {
			root.Send(self, freshOpened{life, links[0]})
		}
	})
}

// freshOpened probes all of the peer's addresses from a fresh port, before the peer hears of it.
func (p *paths) freshOpened(ctx actor.Context, link netio.Link) {
	p.spec.config.Transport.Switch().AddLink(link)
	p.fresh.link, p.fresh.until = link, p.now().Add(freshLasts)
	p.syncLinks()
	p.look(ctx)
}

// askFresh has the coordinator say under which address it sees the fresh port.
func (p *paths) askFresh(ctx actor.Context) {
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	p.fresh.due = p.now().Add(freshAsks)
	p.spec.config.Observe(p.fresh.link, func(addr netip.AddrPort) { root.Send(self, freshSeen{life, addr}) })
}

// freshSeen tells the peer of it.
func (p *paths) freshSeen(ctx actor.Context, addr netip.AddrPort) {
	if p.fresh.link == nil || p.fresh.told {
		return
	}
	p.fresh.told = true
	ctx.Logger().Debug("tries from a fresh port", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer)
	said := offer(p.spec.conn, p.spec.mode, p.spec.config)
	candidates := said.GetOfferCandidates()
	rest := min(len(candidates.Addresses), maxCandidates-1)
	candidates.Addresses = append([]*conecv1.Address{messages.FromAddrPort(addr)}, candidates.Addresses[:rest]...)
	kinds := candidates.Kinds[:min(len(candidates.Kinds), rest)]
	candidates.Kinds = append([]conecv1.AddressKind{conecv1.AddressKind_ADDRESS_KIND_OBSERVED}, kinds...)
	ctx.Send(ctx.Parent(), said)
}

// endFresh closes the fresh port.
func (p *paths) endFresh() {
	link := p.fresh.link
	p.fresh.link = nil
	p.syncLinks()
	p.spec.config.Transport.Switch().RemoveLink(link)
}
