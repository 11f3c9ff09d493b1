package actors

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Times of a channel on the relay.
const (
	relayTick  = time.Second            // how often a channel looks that can take no other path
	relayDoubt = 500 * time.Millisecond // silence, while sending, until the relay is asked whether it knows us; doubles
)

// minProbe is the smallest probe in bytes: a path must carry what QUIC may always send.
const minProbe = 1200 + netio.HeaderSize

// paths owns the choice of the path of one connected channel. It runs a
// [pathSet]: it sends the probes that this wants and answers those of the peer.
//
//	behavior  message          does
//	any       Started          takes the keys, offers our addresses, looks
//	any       looked           looks around, again after a while
//	any       probed           answers a ping, notes a pong, looks
//	any       OfferCandidates  takes the peer's tag and addresses, looks
//	any       RelayChanged     takes the new route
//	any       PathMoved        has QUIC begin an epoch, if this side dialed
//	any       epochDue         has QUIC begin one, and prepare for all before the first
//	any       epochsPrepared   begins one that was too early; prepares again later if it failed
//	any       SearchPorts      guesses ports of the peer
//	any       linksOpened      sends from them to the peer, and has it guess
//	any       freshOpened      probes the peer's addresses from it
//	any       freshSeen        tells the peer of it
//	any       DescribePaths    answers what it knows
//	any       linksChanged     takes them; if the host moved, probes all paths, and has QUIC begin an epoch, if this side dialed
//	any       networkBack      has QUIC begin an epoch, if this side dialed
//	any       Stopping, Restarting  stops its timers, ends a search and closes a fresh port
//
// Parent: channel, which hears PathChosen.
type paths struct {
	sys  *System
	spec pathsSpec
	set  pathSet
	life Life

	own     netio.Link // the client's, that probes and direct packets take
	timer   *time.Timer
	apart   Apart
	chosen  bool // a choice was told to the parent
	addr    netip.AddrPort
	onLink  netio.Link // nil: own
	onRelay bool
	also    netio.Path        // of copies
	since   time.Time         // of the choice
	began   netio.PacketCount // of the connection, until then
	out     uint64            // bytes sent directly at the last look
	relay   silence
	relayed struct {
		out    uint64 // bytes sent over the relay at the last look
		doubts int    // how often we told that it is silent, since it was not
	}
	epoch  epoch
	search search
	fresh  freshPort
}

// pathsSpec is what a path set is about.
type pathsSpec struct {
	about  about
	shared *Channel
	mode   conecv1.Mode
	conn   *netio.Conn
	dialed bool
	config *ChannelConfig
}

// What the timer and the switch tell. They stay in this process.
type (
	looked struct{ Life }
	probed struct {
		Life
		netio.Probe
	}
	linksChanged   struct{ moved bool } // from the channel
	relayForbidden struct{ why string } // from the channel
	networkBack    struct{ Life }       // from the switch
)

func pathsProps(sys *System, spec pathsSpec) *actor.Props {
	return sys.Props(func() actor.Actor { return &paths{sys: sys, spec: spec} })
}

// Receive implements actor.Actor.
func (p *paths) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		p.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		p.life.End()
		for _, timer := range []*time.Timer{p.timer, p.epoch.timer} {
			if timer != nil {
				timer.Stop()
			}
		}
		p.endSearch(nil)
	case looked:
		if msg.Of(p.life) {
			p.look(ctx)
		}
	case probed:
		if msg.Of(p.life) {
			p.probed(ctx, msg.Probe)
		}
	case *conecv1.OfferCandidates:
		p.offered(ctx, msg)
	case *conecv1.RelayChanged:
		p.spec.conn.Port().SetRoute(msg.GetRoute())
		p.apply()
	case *conecv1.PathMoved:
		if p.spec.dialed { // else QUIC follows the peer's, which has been heard
			p.epoch.theirs = true
			p.moved(ctx)
		}
	case epochDue:
		if msg.Of(p.life) {
			p.nextEpoch(ctx)
		}
	case epochsPrepared:
		if msg.Of(p.life) {
			p.epochsPrepared(ctx, msg.err)
		}
	case *conecv1.SearchPorts:
		p.guess(ctx)
	case linksOpened:
		if msg.Of(p.life) {
			p.searchFrom(ctx, msg.links)
		}
	case freshOpened:
		if msg.Of(p.life) {
			p.freshOpened(ctx, msg.link)
		}
	case freshSeen:
		if msg.Of(p.life) {
			p.freshSeen(ctx, msg.addr)
		}
	case *conecv1.DescribePaths:
		ctx.Respond(p.describe())
	case linksChanged:
		p.fresh.looked = false
		p.syncLinks()
		if msg.moved {
			p.set.moved(p.now())
		}
		if p.look(ctx); msg.moved {
			p.back(ctx)
		}
	case relayForbidden:
		p.forbidRelay(ctx, msg.why)
	case networkBack:
		if msg.Of(p.life) {
			p.back(ctx)
		}
	}
}

func (p *paths) start(ctx actor.Context) {
	p.life = Begin()
	p.own = p.spec.config.Transport.Switch().Links()[0]
	p.set.allowRelay = true // in direct mode until the first direct path is found
	p.set.allowDirect = p.spec.mode != conecv1.Mode_MODE_RELAY
	p.spec.conn.Port().SetCopies(netio.Path{}) // a former life's
	p.syncLinks()
	p.set.spend = func(now time.Time) bool { return p.spec.config.strangers.spend(p.spec.about.peer, now) }
	dialer, err := p.spec.conn.ExportKey("probe-dialer")
	if err != nil {
		Fail(err)
	}
	acceptor, err := p.spec.conn.ExportKey("probe-acceptor")
	if err != nil {
		Fail(err)
	}
	send, receive := dialer, acceptor
	if !p.spec.dialed {
		send, receive = acceptor, dialer
	}
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	p.spec.conn.Port().OnBack(func() { root.Send(self, networkBack{life}) })
	p.spec.conn.Port().SetProbeKeys(send, receive, func(probe netio.Probe) {
		root.Send(self, probed{life, probe})
	})
	p.epochLater(ctx, 0) // prepares epochs
	p.look(ctx)
}

// offer tells the peer our tag and where it may reach us.
func offer(conn *netio.Conn, mode conecv1.Mode, config *ChannelConfig) *conecv1.Control {
	addrs := config.Addrs()
	candidates := &conecv1.OfferCandidates{Tag: conn.Port().Tag(), AnswersPings: true}
	if mode != conecv1.Mode_MODE_RELAY {
		for _, addr := range addrs[:min(len(addrs), maxCandidates)] {
			candidates.Addresses = append(candidates.Addresses, messages.FromAddrPort(addr))
		}
		if config.Kinds != nil {
			candidates.Kinds = config.Kinds(addrs[:len(candidates.Addresses)])
		}
		candidates.Varies = config.Varies != nil && config.Varies()
		candidates.Searches = config.Search != nil
	}
	return &conecv1.Control{Said: &conecv1.Control_OfferCandidates{OfferCandidates: candidates}}
}

// offered takes the peer's tag and addresses.
func (p *paths) offered(ctx actor.Context, msg *conecv1.OfferCandidates) {
	p.spec.conn.Port().SetPeerTag(msg.GetTag())
	addrs := make([]netip.AddrPort, 0, len(msg.GetAddresses()))
	kinds := map[netip.AddrPort]conecv1.AddressKind{}
	for i, address := range msg.GetAddresses() {
		addr, err := messages.ToAddrPort(address)
		if err != nil || !probeable(addr.Addr()) {
			continue
		}
		if addrs = append(addrs, addr); i < len(msg.GetKinds()) {
			kinds[addr] = msg.GetKinds()[i]
		}
	}
	p.set.offer(p.now(), addrs)
	p.set.noteKinds(kinds)
	p.search.offered(p.now(), msg, addrs)
	p.look(ctx)
}

// probeable keeps probes away from addresses that can be no peer's.
func probeable(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// probed answers a ping, or notes a pong.
func (p *paths) probed(ctx actor.Context, probe netio.Probe) {
	link := p.foreign(probe.Link)
	if !p.set.allowDirect || !p.set.isWay(link) && !slices.Contains(p.search.links, link) {
		return
	}
	switch probe.Kind {
	case netio.Ping:
		// An error means that the link did not take it: like a probe lost on the way.
		_ = p.spec.conn.Port().AnswerProbe(probe)
		p.set.seen(p.now(), link, probe.From)
	case netio.Pong:
		if p.set.answer(p.now(), link, probe.From, probe.Tx) {
			p.spec.conn.Port().Allow(probe.Link, probe.From)
		}
	}
	p.look(ctx)
}

// look lets the path set act, and sets the timer for the next time.
func (p *paths) look(ctx actor.Context) {
	port := p.spec.conn.Port()
	stats := port.Stats()
	on := heard{last: stats.LastDirect, relayed: stats.LastRelayed, sending: stats.DirectOut.Bytes != p.out}
	p.out = stats.DirectOut.Bytes
	p.set.size = 0
	if !p.epoch.begins() { // else QUIC is about to send smaller ones
		p.set.size = min(stats.LargestOut+netio.HeaderSize, netio.MaxProbe)
	}
	pings, again := p.set.look(p.now(), on)
	if len(p.set.candidates) == 0 {
		again = relayTick
	}
	again = min(again, p.hearRelay(stats))
	for _, ping := range pings {
		err := port.SendProbe(p.link(ping.link), ping.to, netio.Ping, ping.tx, netip.AddrPort{}, ping.size)
		if err != nil && !errors.Is(err, netio.ErrNoProbeKeys) { // as lost on the way
			p.set.noteUnsent(ping.link, ping.to, err)
		}
	}
	p.tell(ctx)
	again = min(again, p.lookSearch(ctx), p.lookFresh(ctx))
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	if p.timer != nil {
		p.timer.Stop()
	}
	if len(p.set.candidates) > 0 || p.onRelay {
		p.timer = p.apart.AfterFunc(again, func() { root.Send(self, looked{life}) })
	}
}

// hearRelay tells the client when the relay is silent though we send over it, the
// more rarely the longer that lasts: the peer may be gone. It returns when to
// listen again.
func (p *paths) hearRelay(stats netio.PortStats) time.Duration {
	sending := stats.RelayedOut.Bytes != p.relayed.out
	p.relayed.out = stats.RelayedOut.Bytes
	silent := p.relay.hear(p.now(), stats.LastRelayed, sending && p.onRelay)
	if silent < relayDoubt { // more than none while we send all the time
		p.relayed.doubts = 0
	}
	if silent == 0 {
		return relayTick
	}
	if silent >= relayDoubt<<p.relayed.doubts {
		p.relayed.doubts++
		p.spec.config.doubtRelay()
	}
	return relayDoubt<<p.relayed.doubts - silent
}

// tell applies a changed choice and tells it to the channel.
func (p *paths) tell(ctx actor.Context) {
	p.applyCopies()
	addr, relayed := p.set.choice()
	reason := p.set.reason(p.now())
	p.spec.shared.reason.Store(int32(reason))
	if p.chosen && addr == p.addr && p.set.link() == p.onLink && relayed == p.onRelay {
		return
	}
	moved := p.chosen && (relayed || addr.IsValid())
	p.chosen, p.addr, p.onLink, p.onRelay = true, addr, p.set.link(), relayed
	p.since, p.began = p.now(), p.spec.conn.PacketCount()
	if addr.IsValid() && p.spec.mode == conecv1.Mode_MODE_DIRECT {
		p.set.allowRelay = false
	}
	p.apply()
	chosen, kind := &conecv1.PathChosen{Peer: p.spec.about.peer, Relayed: relayed, Reason: reason}, "none"
	if addr.IsValid() {
		kind, chosen.Link = "direct", p.set.names[p.onLink]
	}
	if relayed {
		addr, kind = p.spec.config.Relay().To, "relayed"
	}
	if addr.IsValid() {
		chosen.Remote = addr.String()
	}
	if log := ctx.Logger(); log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("path changed", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer,
			"channel", p.spec.about.channel, "path", kind, "addr", chosen.GetRemote(), "reason", reasonName(reason))
	}
	ctx.Send(ctx.Parent(), chosen)
	if relayed && moved {
		p.spec.config.doubtRelay() // what has ended the direct path may have given us another address
	}
	switch {
	case moved && p.spec.dialed:
		p.epoch.ours = true
		p.moved(ctx)
	case moved:
		p.sayMoved(ctx)
	}
}

// forbidRelay goes on over direct paths only, as if the channel had been opened so; without
// one, that is the end.
func (p *paths) forbidRelay(ctx actor.Context, why string) {
	if p.spec.mode == conecv1.Mode_MODE_DIRECT {
		return // told again: it does without already
	}
	if p.onRelay || !p.addr.IsValid() {
		ctx.Send(ctx.Parent(), &conecv1.AbortChannel{Code: conecv1.Code_CODE_FORBIDDEN, Reason: why})
		return
	}
	p.spec.mode, p.set.allowRelay = conecv1.Mode_MODE_DIRECT, false
	p.look(ctx)
}

// describe says which candidates there are, and why the path is what it is.
func (p *paths) describe() *conecv1.PathsDescribed {
	described := p.set.describe(p.now())
	described.Since, described.Relayed = stamp(p.since), p.onRelay
	if to := p.path().To; to.IsValid() {
		described.Remote = to.String()
	}
	packets := p.spec.conn.PacketCount()
	described.Sent, described.Lost = packets.Sent-p.began.Sent, packets.Lost-min(p.began.Lost, packets.Lost)
	return described
}

// reasonName is what a log calls a reason.
func reasonName(reason conecv1.PathReason) string {
	return strings.ToLower(strings.TrimPrefix(reason.String(), "PATH_REASON_"))
}

// apply points the switch at the chosen path.
func (p *paths) apply() { p.spec.conn.Port().SetPath(p.path()) }

// path returns the chosen path.
func (p *paths) path() netio.Path {
	switch {
	case p.onRelay:
		return p.spec.config.Relay()
	case p.addr.IsValid():
		return netio.Path{Link: p.link(p.onLink), To: p.addr}
	}
	return netio.Path{}
}

// link returns the link that the path set means, to which nil is the client's own.
func (p *paths) link(foreign netio.Link) netio.Link {
	if foreign == nil {
		return p.own
	}
	return foreign
}

// foreign is the inverse of link.
func (p *paths) foreign(link netio.Link) netio.Link {
	if link == p.own {
		return nil
	}
	return link
}

func (p *paths) now() time.Time { return time.Now() }
