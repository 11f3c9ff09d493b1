package client

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Limits and times of a client actor.
const (
	maxWaiting    = 4096                   // messages that wait for the coordinator
	retryAtLeast  = 2 * time.Second        // longest pause between attempts to connect what was lost
	bindFirst     = 100 * time.Millisecond // until a bind that was not answered is repeated; doubles
	bindSlowest   = 150 * time.Millisecond // between later ones: for so long the return of the network may go unnoticed
	bindTries     = 100                    // unanswered binds, over 15 seconds, until the coordinator counts as lost
	bindDoubt     = 500 * time.Millisecond // from the relay's first word that it does not know us to believing it
	outageTries   = 3                      // unanswered binds; an answer to one that follows means that the network is back
	bindKeepAlive = 15 * time.Second       // half the shortest usual NAT timeout (RFC 4787 section 4.3)
)

// clientActor owns a client: its attachment to the coordinator and its channels.
//
//	behavior  message            does
//	any       Started            spawns the home channel
//	any       ChannelUp          home: attaches; else tells the program
//	any       Control            home: does what the coordinator says
//	any       ChannelLost        home: waits for its restart, or gives up; else releases the channel
//	any       boundHeard         the relay knows us: says what waited
//	any       bindDue            binds (again); gives the coordinator up if it does not answer
//	any       sizeDue            asks the coordinator again for a large packet
//	any       notKnown           asks again, then gives the coordinator up: it was restarted
//	any       askDue             over TCP: asks the coordinator by UDP
//	any       tcpDialed          goes over to TCP, unless UDP has been answered meanwhile
//	any       tcpLost            dials TCP again
//	any       relayDoubted       binds, unless it waits for an answer
//	any       networkChanged     opens and closes links, binds, tells the channels
//	any       linkOpened         takes it, tells the channels
//	any       observeLink        asks the coordinator
//	any       portChanged        tells the channels
//	any       watchBegun, watchClosed, metadataSet, metadataDue  tells the coordinator
//	any       OpenChannel        asks the coordinator for an introduction, for a channel
//	any       PassPacket         says it, if the request is open
//	any       ChannelAnswered    the request is over
//	any       AnswerOffer        passes it on, once bound
//	any       vetted             accepts or refuses an offered channel, as the program says
//	any       peerDistrusted     tells the program
//	any       setIdentity        tells the coordinator, and uses it once that has taken it
//	any       distrustNow        ends what is there and not trusted any more
//	any       findChannel        answers with a channel that fits, or spawns one
//	any       joinGroup          spawns a group
//	any       awaitHome          answers with the home channel, once attached
//	any       Terminated         forgets the group, or the channel once its last words were heard, and takes its request back
//	any       Stopping           ends timers
//
// Children: the home channel, the channels, the groups and, behind a gateway, a [portKeeper]; supervised by [actors.Backoff]
// without a limit; a channel itself decides when to stop for good.
type clientActor struct {
	cl *Client

	life     actors.Life
	home     *actor.PID
	homeInfo *actors.Channel
	timer    *time.Timer
	apart    actors.Apart

	key      [32]byte  // of bind frames
	id       uint64    // of this attachment, 0 while there is none
	sequence uint64    // of bind frames
	bound    bool      // the relay knows our address
	tries    int       // bind frames since the last answer…
	first    uint64    // …and the sequence of the first of them
	gaveUp   uint64    // the attachment that was given up
	doubted  time.Time // when the relay first said that it does not know it, zero if it does
	final    error     // why the client does not attach again
	asks     time.Time // when this attachment was asked for
	look     look      // for the NAT before this client
	tcp      overTCP
	size     homeSize
	links    linkState
	presence presenceState
	port     *actor.PID // keeps a port at the gateway; nil if none was needed yet

	requests map[uint64]*actor.PID // channels that wait to be introduced
	between  map[uint64]*between   // introductions of others, by request
	request  uint64                // last request number
	waiting  []*conecv1.Control    // to say once bound
	channels map[string]*entry     // by actor id
	spawned  uint64                // channels so far
	attached []*actor.PID          // want to know when the client is attached
	homeless []*actor.PID          // want the home channel once the client is attached
	groups   map[*Group]*actor.PID
	vetting  map[string]*vetting // by channel
	renewal  *renewal            // nil: the coordinator knows who we are
}

// entry is one channel.
type entry struct {
	number  uint64 // in the order of spawning
	ticket  uint64 // of the call that it was spawned for, 0 if a peer opened it
	ref     *channelRef
	id      string // of the introduction, empty if there is none
	request uint64 // its open request, 0 if there is none
	asks    bool   // its request is open, or about to be made
	up      bool   // it is connected
	served  bool   // a peer's offer was faster than its request

	restored uint64 // the attachment in which its route was last made anew
}

// channelRef is what the program holds of a channel.
type channelRef struct {
	*actors.Channel
	pid *actor.PID
}

// shared is what the client actor keeps up to date for everybody.
type shared struct {
	pid      atomic.Pointer[actor.PID]
	relay    atomic.Pointer[netio.Path]
	observed atomic.Pointer[netip.AddrPort]
	nat      atomic.Pointer[NAT]
	mapped   atomic.Pointer[PortMapping] // nil: nothing was asked for yet
	home     atomic.Pointer[actors.Channel]
	clock    atomic.Pointer[clockReading] // nil: not told
	links    atomic.Pointer[[]ownLink]    // beside the first one
}

// Sent by timers, the switch and the program.
type (
	bindDue      struct{ actors.Life }
	relayDoubted struct{}
	boundHeard   struct {
		frame netio.BoundFrame
		link  netio.Link
		from  netip.AddrPort
	}
	notKnown    struct{ id, sequence uint64 }
	findChannel struct {
		peer    string
		purpose string
		mode    conecv1.Mode
		links   actors.LinkChoice
		fresh   bool // not one that is there already
		ticket  uint64
	}
	channelGone   struct{ who *actor.PID }
	forgetFind    struct{ ticket uint64 } // nobody waits for what was found
	dropChannel   struct{ pid *actor.PID }
	awaitAttached struct{}
	listChannels  struct{}
	attachResult  struct {
		err    error
		remote bool
	}
	channelResult struct {
		ref *channelRef
		err error
	}
	channelList struct{ pids []*actor.PID }
)

// Receive implements actor.Actor.
func (c *clientActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		c.life.End()
		c.stopTimer()
		if c.presence.timer != nil {
			c.presence.timer.Stop()
		}
		c.leaveTCP()
		c.forgetSize()
	case *actor.Terminated:
		c.groupGone(msg.Who)
		ctx.Send(ctx.Self(), channelGone{msg.Who}) // it has overtaken the channel's last words
	case channelGone:
		c.terminated(ctx, msg.who)
	case *conecv1.ChannelUp:
		c.up(ctx, msg)
	case *conecv1.ChannelLost:
		c.lost(ctx, msg)
	case *conecv1.PathChosen:
		c.cl.events.put(PathChanged{
			Peer: msg.GetPeer(), Relayed: msg.GetRelayed(), Remote: msg.GetRemote(), Reason: PathReason(msg.GetReason()), Link: msg.GetLink(),
		})
		c.cl.remote.Notice(actors.Noticed{Peer: msg.GetPeer(), Path: &actors.PeerPath{
			Peer: msg.GetPeer(), Relayed: msg.GetRelayed(), Remote: msg.GetRemote(),
		}})
	case *conecv1.Control:
		c.said(ctx, msg)
	case *conecv1.OpenChannel:
		c.open(ctx, msg)
	case *conecv1.PassPacket:
		c.passOn(ctx, msg)
	case actors.ChannelAnswered:
		c.accepted(ctx)
	case *conecv1.AnswerOffer:
		c.say(ctx, &conecv1.Control{Said: &conecv1.Control_AnswerOffer{AnswerOffer: msg}})
	case watchBegun, watchClosed, metadataSet, metadataDue:
		c.askedOfPresence(ctx)
	case vetted:
		if msg.Of(c.life) {
			c.vetted(ctx, msg)
		}
	case peerDistrusted:
		c.noteDistrust(msg.peer, msg.err)
	default:
		c.network(ctx)
	}
}

// network acts on what is heard of the network, and of the coordinator on it.
func (c *clientActor) network(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case linkOpened:
		if msg.Of(c.life) {
			c.linkOpened(ctx, msg)
		}
	case observeLink:
		c.observe(msg)
	case bindDue:
		if msg.Of(c.life) {
			c.bind(ctx)
		}
	case relayDoubted:
		if c.bound && c.tries == 0 {
			c.bind(ctx)
		}
	case boundHeard:
		c.boundTo(ctx, msg)
	case sizeDue:
		if msg.Of(c.life) {
			c.sizeNotHeard(ctx)
		}
	case notKnown:
		c.notKnown(ctx, msg)
	case askDue:
		if msg.Of(c.life) {
			c.askUDP(ctx)
		}
	case tcpDialed:
		c.tcpDialed(ctx, msg)
	case tcpLost:
		c.tcpLost(ctx, msg)
	case networkChanged:
		c.networkChanged(ctx, msg.change)
	case portChanged:
		c.tellChannels(ctx, actors.AddrsChanged{})
	default:
		c.asked(ctx)
	}
}

// asked answers the program.
func (c *clientActor) asked(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case findChannel:
		ref, err := c.find(ctx, msg)
		ctx.Respond(&channelResult{ref, err})
	case setIdentity:
		c.setIdentity(ctx, msg.identity)
	case distrustNow:
		c.distrustNow(ctx)
		ctx.Respond(&distrustDone{})
	case forgetFind:
		c.forgetFind(ctx, msg.ticket)
	case dropChannel:
		code, reason := messages.ToCode(messages.ErrCanceled)
		ctx.Send(msg.pid, &conecv1.AbortChannel{Code: code, Reason: reason})
	case awaitAttached:
		switch {
		case c.final != nil:
			ctx.Respond(&attachResult{err: c.final})
		case c.bound:
			ctx.Respond(&attachResult{})
		default:
			c.attached = append(c.attached, ctx.Sender())
		}
	case awaitHome:
		c.awaitHome(ctx)
	case joinGroup:
		c.joinGroup(ctx, msg)
	case abandonGroup:
		if pid := c.groups[msg.group]; pid != nil {
			ctx.Stop(pid)
		}
	case listGroups:
		ctx.Respond(&groupList{slices.Collect(maps.Values(c.groups))})
	case introducePeers:
		c.introducePeers(ctx, msg)
	case cancelIntroduce:
		c.cancelIntroduce(ctx, msg)
	case listChannels:
		list := &channelList{}
		for _, e := range c.inOrder() {
			list.pids = append(list.pids, e.ref.pid)
		}
		ctx.Respond(list)
	}
}

// up attaches when the home channel is there.
func (c *clientActor) up(ctx actor.Context, msg *conecv1.ChannelUp) {
	if !actors.SentBy(ctx, c.home) {
		c.cl.config.Logger.Info("channel opened", "peer", msg.GetPeer())
		c.cl.events.put(ChannelOpened{Peer: msg.GetPeer()})
		if e := c.channels[ctx.Sender().GetId()]; e != nil {
			e.up = true
			c.cl.remote.Notice(actors.Noticed{Peer: msg.GetPeer(), Up: true})
			if e.ref.Accepted {
				c.cl.incoming.addChannel(e.ref)
			}
		}
		return
	}
	c.asks = time.Now()
	ctx.Send(c.home, &conecv1.Control{Said: &conecv1.Control_Attach{Attach: c.attaching()}})
}

// lost acts on the end of a channel, or of one of its lives.
func (c *clientActor) lost(ctx actor.Context, msg *conecv1.ChannelLost) {
	err := messages.FromCode(msg.GetCode(), msg.GetReason())
	if actors.SentBy(ctx, c.home) {
		c.detached(ctx, err, msg.GetRemote())
		return
	}
	e := c.channels[ctx.Sender().GetId()]
	if e == nil {
		return
	}
	if msg.GetLast() {
		c.cl.incoming.dropChannel(e.ref)
	}
	if e.up {
		e.up = false
		c.cl.remote.Notice(actors.Noticed{Peer: msg.GetPeer(), Down: true, Err: err})
	}
	if e.ref.WasUp() {
		c.cl.config.Logger.Info("channel closed", "peer", msg.GetPeer(), "err", err, "restarting", !msg.GetLast())
		c.cl.events.put(ChannelClosed{Peer: msg.GetPeer(), Err: err, Restarting: !msg.GetLast()})
	}
	e.asks = false
	if !msg.GetLast() { // else when it has stopped: until then it tells the peer
		c.release(ctx, e)
	}
}

// release takes a channel's request back and gives its route back.
func (c *clientActor) release(ctx actor.Context, e *entry) {
	if e.request != 0 {
		delete(c.requests, e.request)
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_CancelOpen{CancelOpen: &conecv1.CancelOpen{Request: e.request}}})
		e.request = 0
	}
	if e.id != "" {
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: []byte(e.id)}}})
		e.id = ""
	}
}

// said does what the coordinator says.
func (c *clientActor) said(ctx actor.Context, message *conecv1.Control) {
	if !actors.SentBy(ctx, c.home) {
		return
	}
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_Attached:
		c.attach(ctx, said.Attached)
	case *conecv1.Control_ChannelOffered:
		c.offered(ctx, said.ChannelOffered)
	case *conecv1.Control_IdentityRenewed:
		c.renewed(ctx, said.IdentityRenewed)
	case *conecv1.Control_OfferWithdrawn:
		c.unvetWithdrawn(ctx, string(said.OfferWithdrawn.GetChannel()))
		if e := c.byID(string(said.OfferWithdrawn.GetChannel())); e != nil {
			if said.OfferWithdrawn.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER && !said.OfferWithdrawn.GetDirectOnly() { // the peer may come back to the channel
				e.id = ""
			}
			ctx.Send(e.ref.pid, said.OfferWithdrawn)
		}
	case *conecv1.Control_ChannelIntroduced:
		c.introduced(ctx, said.ChannelIntroduced)
	case *conecv1.Control_PassPacket:
		c.passIn(ctx, said.PassPacket)
	case *conecv1.Control_OpenRefused:
		c.refused(ctx, said.OpenRefused)
	case *conecv1.Control_PeersIntroduced:
		c.peersIntroduced(ctx, said.PeersIntroduced)
	case *conecv1.Control_ChannelRestored:
		if e := c.toRestore(string(said.ChannelRestored.GetChannel())); e != nil {
			e.restored = c.id
			ctx.Send(e.ref.pid, &conecv1.RelayChanged{Route: said.ChannelRestored.GetRoute()})
		}
	default:
		if !c.saidOfPresence(ctx, message) {
			code, reason := messages.ToCode(fmt.Errorf("%w: %T from a coordinator", messages.ErrProtocol, said))
			ctx.Send(c.home, &conecv1.AbortChannel{Code: code, Reason: reason})
		}
	}
}

// find returns a channel to the peer: one that streams may share, or a new one. Of
// several it is the latest: a peer that opens another has lost the one before.
func (c *clientActor) find(ctx actor.Context, want findChannel) (*channelRef, error) {
	if !want.fresh {
		for _, e := range slices.Backward(c.inOrder()) {
			if e.ref.Peer == want.peer && e.ref.Mode == want.mode && e.ref.Shared && !e.ref.Draining() {
				return e.ref, nil
			}
		}
	}
	if len(c.channels) >= 2*c.cl.config.MaxChannels {
		return nil, fmt.Errorf("%w: %d channels", messages.ErrLimit, len(c.channels))
	}
	channel := &actors.Channel{Peer: want.peer, Purpose: want.purpose, Mode: want.mode, Shared: !want.fresh}
	channel.Choose(want.links)
	e := c.spawn(ctx, channel, nil)
	e.ticket = want.ticket
	return e.ref, nil
}

// forgetFind ends a channel that was spawned for a caller who has gone meanwhile,
// unless it is shared and another wants it too.
func (c *clientActor) forgetFind(ctx actor.Context, ticket uint64) {
	for _, e := range c.channels {
		if e.ticket != ticket {
			continue
		}
		if e.ref.Shared {
			ctx.Send(e.ref.pid, actors.CancelStream{})
		} else {
			code, reason := messages.ToCode(messages.ErrCanceled)
			ctx.Send(e.ref.pid, &conecv1.AbortChannel{Code: code, Reason: reason})
		}
	}
}

// spawn starts a channel actor.
func (c *clientActor) spawn(ctx actor.Context, channel *actors.Channel, intro *conecv1.Introduction) *entry {
	pid := ctx.Spawn(actors.ChannelProps(c.cl.sys, actors.ChannelSpec{
		Channel: channel, Config: &c.cl.channels, Introduction: intro,
	}))
	c.spawned++
	e := &entry{number: c.spawned, ref: &channelRef{channel, pid}, asks: intro == nil}
	c.channels[pid.GetId()] = e
	return e
}

// terminated forgets a channel that has stopped.
func (c *clientActor) terminated(ctx actor.Context, who *actor.PID) {
	e := c.channels[who.GetId()]
	if e == nil {
		return
	}
	delete(c.channels, who.GetId())
	c.cl.incoming.dropChannel(e.ref)
	c.release(ctx, e)
}

// inOrder returns the channels in the order in which they were spawned: what is
// said must not depend on the order of a map.
func (c *clientActor) inOrder() []*entry {
	return slices.SortedFunc(maps.Values(c.channels), func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
}

func (c *clientActor) byID(id string) *entry {
	for _, e := range c.inOrder() {
		if e.id == id && id != "" {
			return e
		}
	}
	return nil
}

// toRestore returns the channel that a new route is for. A channel of the client to
// itself has two ends here, and each gets a route.
func (c *clientActor) toRestore(id string) *entry {
	for _, e := range c.inOrder() {
		if e.id == id && id != "" && e.restored != c.id {
			return e
		}
	}
	return c.byID(id)
}
