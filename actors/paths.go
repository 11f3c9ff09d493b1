package actors

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Times of a channel on the relay.
const (
	relayTick  = time.Second // how often a channel looks that can take no other path
	relayDoubt = time.Second // silence, while sending, until the relay is asked whether it knows us; doubles
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
//	any       hostMoved        probes all paths
//	any       Stopping         stops its timer
//
// Parent: channel, which hears PathChosen.
type paths struct {
	spec pathsSpec
	set  pathSet
	life Life

	timer   *time.Timer
	apart   Apart
	chosen  bool // a choice was told to the parent
	addr    netip.AddrPort
	onRelay bool
	out     uint64 // bytes sent directly at the last look
	relay   silence
	relayed struct {
		out    uint64 // bytes sent over the relay at the last look
		doubts int    // how often we told that it is silent, since it was not
	}
}

// pathsSpec is what a path set is about.
type pathsSpec struct {
	about  about
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
	hostMoved struct{} // from the channel
)

func pathsProps(sys *System, spec pathsSpec) *actor.Props {
	return sys.Props(func() actor.Actor { return &paths{spec: spec} })
}

// Receive implements actor.Actor.
func (p *paths) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		p.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		p.life.End()
		if p.timer != nil {
			p.timer.Stop()
		}
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
	case hostMoved:
		p.set.moved(p.now())
		p.look(ctx)
	}
}

func (p *paths) start(ctx actor.Context) {
	p.life = Begin()
	p.set.allowRelay = true // in direct mode until the first direct path is found
	p.set.allowDirect = p.spec.mode != conecv1.Mode_MODE_RELAY
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
	p.spec.conn.Port().SetProbeKeys(send, receive, func(probe netio.Probe) {
		root.Send(self, probed{life, probe})
	})
	p.look(ctx)
}

// offer tells the peer our tag and where it may reach us.
func offer(conn *netio.Conn, mode conecv1.Mode, addrs []netip.AddrPort) *conecv1.Control {
	candidates := &conecv1.OfferCandidates{Tag: conn.Port().Tag()}
	if mode != conecv1.Mode_MODE_RELAY {
		for _, addr := range addrs[:min(len(addrs), maxCandidates)] {
			candidates.Addresses = append(candidates.Addresses, messages.FromAddrPort(addr))
		}
	}
	return &conecv1.Control{Said: &conecv1.Control_OfferCandidates{OfferCandidates: candidates}}
}

// offered takes the peer's tag and addresses.
func (p *paths) offered(ctx actor.Context, msg *conecv1.OfferCandidates) {
	p.spec.conn.Port().SetPeerTag(msg.GetTag())
	addrs := make([]netip.AddrPort, 0, len(msg.GetAddresses()))
	for _, address := range msg.GetAddresses() {
		if addr, err := messages.ToAddrPort(address); err == nil && probeable(addr.Addr()) {
			addrs = append(addrs, addr)
		}
	}
	p.set.offer(p.now(), addrs)
	p.look(ctx)
}

// probeable keeps probes away from addresses that can be no peer's.
func probeable(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// probed answers a ping, or notes a pong.
func (p *paths) probed(ctx actor.Context, probe netio.Probe) {
	if !p.set.allowDirect {
		return
	}
	switch probe.Kind {
	case netio.Ping:
		// An error means that the link did not take it: like a probe lost on the way.
		_ = p.spec.conn.Port().AnswerProbe(probe)
		p.set.seen(p.now(), probe.From)
	case netio.Pong:
		if p.set.answer(p.now(), probe.From, probe.Tx) {
			p.spec.conn.Port().Allow(p.link(), probe.From)
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
	pings, again := p.set.look(p.now(), on)
	if len(p.set.candidates) == 0 {
		again = relayTick
	}
	again = min(again, p.hearRelay(stats))
	size := min(max(minProbe, stats.LargestOut+netio.HeaderSize), netio.MaxProbe)
	for _, ping := range pings {
		_ = port.SendProbe(p.link(), ping.to, netio.Ping, ping.tx, netip.AddrPort{}, size) // as lost on the way
	}
	p.tell(ctx)
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
	if silent == 0 {
		p.relayed.doubts = 0
		return relayTick
	}
	if silent >= relayDoubt<<p.relayed.doubts {
		p.relayed.doubts++
		if p.spec.config.DoubtRelay != nil {
			p.spec.config.DoubtRelay()
		}
	}
	return relayDoubt<<p.relayed.doubts - silent
}

// tell applies a changed choice and tells it to the channel.
func (p *paths) tell(ctx actor.Context) {
	addr, relayed := p.set.choice()
	if p.chosen && addr == p.addr && relayed == p.onRelay {
		return
	}
	p.chosen, p.addr, p.onRelay = true, addr, relayed
	if addr.IsValid() && p.spec.mode == conecv1.Mode_MODE_DIRECT {
		p.set.allowRelay = false
	}
	p.apply()
	chosen, kind := &conecv1.PathChosen{Peer: p.spec.about.peer, Relayed: relayed}, "none"
	if addr.IsValid() {
		kind = "direct"
	}
	if relayed {
		addr, kind = p.spec.config.Relay().To, "relayed"
	}
	if addr.IsValid() {
		chosen.Remote = addr.String()
	}
	if log := ctx.Logger(); log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("path changed", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer,
			"channel", p.spec.about.channel, "path", kind, "addr", chosen.GetRemote())
	}
	ctx.Send(ctx.Parent(), chosen)
}

// apply points the switch at the chosen path.
func (p *paths) apply() {
	path := netio.Path{}
	switch {
	case p.onRelay:
		path = p.spec.config.Relay()
	case p.addr.IsValid():
		path = netio.Path{Link: p.link(), To: p.addr}
	}
	p.spec.conn.Port().SetPath(path)
}

// link returns the link that probes and direct packets take.
func (p *paths) link() netio.Link { return p.spec.config.Transport.Switch().Links()[0] }

func (p *paths) now() time.Time { return time.Now() }
