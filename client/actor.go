package client

import (
	"cmp"
	"context"
	"errors"
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
	bindSlowest   = time.Second            // between later ones
	bindTries     = 8                      // unanswered binds, over 5 seconds, until the coordinator counts as lost
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
//	any       relayDoubted       binds, unless it waits for an answer
//	any       OpenChannel        asks the coordinator for an introduction, for a channel
//	any       AnswerOffer        passes it on, once bound
//	any       findChannel        answers with a channel that fits, or spawns one
//	any       Terminated         forgets the channel, takes its request back
//	any       Stopping           ends timers
//
// Children: the home channel and the channels, supervised by [actors.Backoff]
// without a limit; a channel itself decides when to stop for good.
type clientActor struct {
	cl *Client

	life     actors.Life
	home     *actor.PID
	homeInfo *actors.Channel
	timer    *time.Timer

	key      [32]byte // of bind frames
	id       uint64   // of this attachment, 0 while there is none
	sequence uint64   // of bind frames
	bound    bool     // the relay knows our address
	tries    int      // bind frames since the last answer
	final    error    // why the client does not attach again

	requests map[uint64]*actor.PID // channels that wait to be introduced
	request  uint64                // last request number
	waiting  []*conecv1.Control    // to say once bound
	channels map[string]*entry     // by actor id
	spawned  uint64                // channels so far
	attached []*actor.PID          // want to know when the client is attached
}

// entry is one channel.
type entry struct {
	number  uint64 // in the order of spawning
	ref     *channelRef
	id      string // of the introduction, empty if there is none
	request uint64 // its open request, 0 if there is none
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
}

// Sent by timers, the switch and the program.
type (
	bindDue      struct{ actors.Life }
	relayDoubted struct{}
	boundHeard   struct {
		frame netio.BoundFrame
	}
	findChannel struct {
		peer    string
		purpose string
		mode    conecv1.Mode
		fresh   bool // not one that is there already
	}
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
	case *actor.Terminated:
		c.terminated(msg.Who)
	case *conecv1.ChannelUp:
		c.up(ctx, msg)
	case *conecv1.ChannelLost:
		c.lost(ctx, msg)
	case *conecv1.PathChosen:
		c.cl.events.put(PathChanged{Peer: msg.GetPeer(), Relayed: msg.GetRelayed(), Remote: msg.GetRemote()})
	case *conecv1.Control:
		c.said(ctx, msg)
	case *conecv1.OpenChannel:
		c.open(ctx, msg)
	case *conecv1.AnswerOffer:
		c.say(ctx, &conecv1.Control{Said: &conecv1.Control_AnswerOffer{AnswerOffer: msg}})
	case bindDue:
		if msg.Of(c.life) {
			c.bind(ctx)
		}
	case relayDoubted:
		if c.bound && c.tries == 0 {
			c.bind(ctx)
		}
	case boundHeard:
		c.boundTo(ctx, msg.frame)
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
	case dropChannel:
		ctx.Stop(msg.pid)
	case awaitAttached:
		switch {
		case c.final != nil:
			ctx.Respond(&attachResult{err: c.final})
		case c.bound:
			ctx.Respond(&attachResult{})
		default:
			c.attached = append(c.attached, ctx.Sender())
		}
	case listChannels:
		list := &channelList{}
		for _, e := range c.inOrder() {
			list.pids = append(list.pids, e.ref.pid)
		}
		ctx.Respond(list)
	}
}

func (c *clientActor) start(ctx actor.Context) {
	c.life = actors.Begin()
	c.requests, c.channels = map[uint64]*actor.PID{}, map[string]*entry{}
	c.homeInfo = &actors.Channel{Peer: c.cl.config.Coordinator}
	c.home = ctx.Spawn(actors.ChannelProps(c.cl.sys, actors.ChannelSpec{
		Channel: c.homeInfo, Home: c.cl.dialHome, HomeDialed: true,
	}))
}

// up attaches when the home channel is there.
func (c *clientActor) up(ctx actor.Context, msg *conecv1.ChannelUp) {
	if !actors.SentBy(ctx, c.home) {
		c.cl.events.put(ChannelOpened{Peer: msg.GetPeer()})
		if e := c.channels[ctx.Sender().GetId()]; e != nil && e.ref.Accepted {
			c.cl.incoming.addChannel(e.ref)
		}
		return
	}
	ctx.Send(c.home, &conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{
		Name: c.cl.config.Name, Accepts: !c.cl.config.NotAccepting,
	}}})
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
	if e.ref.WasUp() {
		c.cl.events.put(ChannelClosed{Peer: msg.GetPeer(), Err: err, Restarting: !msg.GetLast()})
	}
	if !msg.GetLast() { // else when it has stopped: until then it tells the peer
		c.release(ctx, e)
	}
}

// release gives the route of a channel back.
func (c *clientActor) release(ctx actor.Context, e *entry) {
	if e.id != "" {
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: []byte(e.id)}}})
		e.id = ""
	}
}

// detached waits for the home channel's restart, unless it would be of no use.
func (c *clientActor) detached(ctx actor.Context, err error, remote bool) {
	if c.id != 0 {
		c.cl.transport.Switch().RemoveBindKey(c.id)
	}
	c.id, c.bound = 0, false
	c.stopTimer()
	if errors.Is(err, messages.ErrSuperseded) {
		c.final = err
		ctx.Stop(c.home)
	}
	c.cl.config.Logger.Warn("coordinator lost", "addr", c.cl.config.Coordinator, "err", err)
	c.cl.events.put(Detached{Err: err, Final: c.final != nil})
	for _, asker := range c.attached {
		ctx.Send(asker, &attachResult{err, remote})
	}
	c.attached, c.waiting = nil, nil
	for _, e := range c.inOrder() { // requests that were said to the lost attachment are said again
		if e.request != 0 && c.requests[e.request] != nil {
			delete(c.requests, e.request)
			c.ask(ctx, e)
		}
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
	case *conecv1.Control_OfferWithdrawn:
		if e := c.byID(string(said.OfferWithdrawn.GetChannel())); e != nil {
			e.id = ""
			ctx.Send(e.ref.pid, said.OfferWithdrawn)
		}
	case *conecv1.Control_ChannelIntroduced:
		c.introduced(ctx, said.ChannelIntroduced)
	case *conecv1.Control_OpenRefused:
		if pid := c.take(said.OpenRefused.GetRequest()); pid != nil {
			ctx.Send(pid, said.OpenRefused)
		}
	case *conecv1.Control_ChannelRestored:
		if e := c.byID(string(said.ChannelRestored.GetChannel())); e != nil {
			ctx.Send(e.ref.pid, &conecv1.RelayChanged{Route: said.ChannelRestored.GetRoute()})
		}
	default:
		code, reason := messages.ToCode(fmt.Errorf("%w: %T from a coordinator", messages.ErrProtocol, said))
		ctx.Send(c.home, &conecv1.AbortChannel{Code: code, Reason: reason})
	}
}

// attach takes the attachment and makes it known to the relay.
func (c *clientActor) attach(ctx actor.Context, msg *conecv1.Attached) {
	conn := c.homeInfo.Conn()
	if conn == nil || c.id != 0 {
		return // a former life's
	}
	key, err := conn.ExportKey("bind")
	if err != nil {
		c.cl.config.Logger.Error("no key for bind frames", "err", err)
		return
	}
	sw := c.cl.transport.Switch()
	c.id, c.key, c.sequence, c.tries = msg.GetClientId(), key, 0, 0
	sw.SetBindKey(c.id, key)
	c.cl.shared.relay.Store(&netio.Path{Link: sw.Links()[0], To: conn.Remote(), Relayed: true})
	c.bind(ctx)
}

// bind sends a bind frame and sets the timer for the next.
func (c *clientActor) bind(ctx actor.Context) {
	if c.id == 0 {
		return
	}
	if c.tries == bindTries { // its connection may take much longer to notice
		code, reason := messages.ToCode(fmt.Errorf("%w: the relay does not answer", messages.ErrUnreachable))
		ctx.Send(c.home, &conecv1.AbortChannel{Code: code, Reason: reason})
		return
	}
	c.sequence++
	relay := c.cl.shared.relay.Load()
	frame := netio.EncodeBind(nil, c.id, c.sequence, c.key)
	_ = c.cl.transport.Switch().Send(relay.Link, relay.To, frame) // lost, it is sent again
	next := min(bindFirst<<min(c.tries, 5), bindSlowest)
	c.tries++
	c.again(ctx, next)
}

func (c *clientActor) again(ctx actor.Context, after time.Duration) {
	c.stopTimer()
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.timer = time.AfterFunc(after, func() { root.Send(self, bindDue{life}) })
}

func (c *clientActor) stopTimer() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// boundTo takes the relay's answer to a bind frame: from now on it forwards.
func (c *clientActor) boundTo(ctx actor.Context, frame netio.BoundFrame) {
	if frame.ID != c.id {
		return
	}
	c.tries = 0
	c.again(ctx, bindKeepAlive)
	observed := frame.Observed
	c.cl.shared.observed.Store(&observed)
	if c.bound {
		return
	}
	c.bound = true
	c.cl.config.Logger.Info("attached", "addr", c.cl.config.Coordinator, "observed", observed.String())
	c.cl.events.put(Attached{Observed: observed.String()})
	for _, asker := range c.attached {
		ctx.Send(asker, &attachResult{})
	}
	c.attached = nil
	for _, e := range c.inOrder() {
		if e.id != "" {
			c.say(ctx, &conecv1.Control{Said: &conecv1.Control_RestoreChannel{RestoreChannel: &conecv1.RestoreChannel{
				Channel: []byte(e.id), Peer: e.ref.Peer,
			}}})
		}
	}
	waiting := c.waiting
	c.waiting = nil
	for _, message := range waiting {
		c.say(ctx, message)
	}
}

// say says something to the coordinator, now or once the client is attached.
func (c *clientActor) say(ctx actor.Context, message *conecv1.Control) {
	if c.bound {
		ctx.Send(c.home, message)
		return
	}
	if len(c.waiting) < maxWaiting { // beyond, the channel's own timeout says so
		c.waiting = append(c.waiting, message)
	}
}

// sayIfBound says what a lost attachment makes void.
func (c *clientActor) sayIfBound(ctx actor.Context, message *conecv1.Control) {
	if c.bound {
		ctx.Send(c.home, message)
	}
}

// open asks the coordinator to introduce a channel's peer.
func (c *clientActor) open(ctx actor.Context, _ *conecv1.OpenChannel) {
	e := c.channels[ctx.Sender().GetId()]
	if e == nil {
		return
	}
	if c.final != nil {
		code, reason := messages.ToCode(c.final)
		ctx.Send(e.ref.pid, &conecv1.OpenRefused{Code: code, Reason: reason})
		return
	}
	c.ask(ctx, e)
}

func (c *clientActor) ask(ctx actor.Context, e *entry) {
	c.request++
	e.request = c.request
	c.requests[c.request] = e.ref.pid
	c.say(ctx, &conecv1.Control{Said: &conecv1.Control_OpenChannel{OpenChannel: &conecv1.OpenChannel{
		Request: c.request, Peer: e.ref.Peer, Purpose: e.ref.Purpose, Mode: e.ref.Mode, Shared: e.ref.Shared,
	}}})
}

// take returns the channel whose request was answered.
func (c *clientActor) take(request uint64) *actor.PID {
	pid := c.requests[request]
	delete(c.requests, request)
	if pid != nil {
		c.channels[pid.GetId()].request = 0
	}
	return pid
}

// introduced passes an introduction to the channel that asked for it. If nobody
// does any more, the route is given back.
func (c *clientActor) introduced(ctx actor.Context, msg *conecv1.ChannelIntroduced) {
	id := msg.GetIntroduction().GetChannel()
	pid := c.take(msg.GetRequest())
	if pid == nil {
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: id}}})
		return
	}
	c.channels[pid.GetId()].id = string(id)
	ctx.Send(pid, msg)
}

// offered accepts or refuses a channel that a peer opens. If this client is
// opening one to the same peer, one is enough.
func (c *clientActor) offered(ctx actor.Context, msg *conecv1.ChannelOffered) {
	intro := msg.GetIntroduction()
	if err := c.refusal(intro); err != nil {
		code, reason := messages.ToCode(err)
		c.say(ctx, &conecv1.Control{Said: &conecv1.Control_AnswerOffer{AnswerOffer: &conecv1.AnswerOffer{
			Channel: intro.GetChannel(), Code: code, Reason: reason,
		}}})
		return
	}
	if intro.GetShared() && intro.GetPeer() != c.cl.config.Name {
		for _, e := range c.inOrder() {
			waits := e.request != 0 && c.requests[e.request] != nil
			if waits && e.ref.Peer == intro.GetPeer() && e.ref.Shared && e.ref.Mode == intro.GetMode() {
				delete(c.requests, e.request)
				e.request, e.id = 0, string(intro.GetChannel())
				ctx.Send(e.ref.pid, msg)
				return
			}
		}
	}
	e := c.spawn(ctx, &actors.Channel{
		Peer: intro.GetPeer(), Purpose: intro.GetPurpose(), Mode: intro.GetMode(), Shared: intro.GetShared(), Accepted: true,
	}, intro)
	e.id = string(intro.GetChannel())
}

// refusal says why an offered channel is not wanted.
func (c *clientActor) refusal(intro *conecv1.Introduction) error {
	switch {
	case c.cl.config.NotAccepting:
		return messages.ErrNotAccepting
	case c.cl.config.RelayOnly && intro.GetMode() == conecv1.Mode_MODE_DIRECT:
		return fmt.Errorf("%w: this client uses the relay only", messages.ErrRefused)
	case len(c.channels) >= c.cl.config.MaxChannels:
		return fmt.Errorf("%w: %d channels", messages.ErrLimit, len(c.channels))
	case len(intro.GetChannel()) == 0 || messages.CheckName(intro.GetPeer()) != nil:
		return fmt.Errorf("%w: introduction", messages.ErrProtocol)
	}
	return nil
}

// find returns a channel to the peer: one that streams may share, or a new one.
func (c *clientActor) find(ctx actor.Context, want findChannel) (*channelRef, error) {
	if !want.fresh {
		for _, e := range c.inOrder() {
			if e.ref.Peer == want.peer && e.ref.Mode == want.mode && e.ref.Shared && !e.ref.Draining() {
				return e.ref, nil
			}
		}
	}
	if len(c.channels) >= 2*c.cl.config.MaxChannels {
		return nil, fmt.Errorf("%w: %d channels", messages.ErrLimit, len(c.channels))
	}
	return c.spawn(ctx, &actors.Channel{
		Peer: want.peer, Purpose: want.purpose, Mode: want.mode, Shared: !want.fresh,
	}, nil).ref, nil
}

// spawn starts a channel actor.
func (c *clientActor) spawn(ctx actor.Context, channel *actors.Channel, intro *conecv1.Introduction) *entry {
	pid := ctx.Spawn(actors.ChannelProps(c.cl.sys, actors.ChannelSpec{
		Channel: channel, Config: &c.cl.channels, Introduction: intro,
	}))
	c.spawned++
	e := &entry{number: c.spawned, ref: &channelRef{channel, pid}}
	c.channels[pid.GetId()] = e
	return e
}

// terminated forgets a channel that has stopped.
func (c *clientActor) terminated(who *actor.PID) {
	e := c.channels[who.GetId()]
	if e == nil {
		return
	}
	delete(c.channels, who.GetId())
	c.cl.incoming.dropChannel(e.ref)
	root := c.cl.sys.Root
	if e.request != 0 && c.requests[e.request] != nil {
		delete(c.requests, e.request)
		if c.bound {
			root.Send(c.home, &conecv1.Control{Said: &conecv1.Control_CancelOpen{CancelOpen: &conecv1.CancelOpen{Request: e.request}}})
		}
	}
	if e.id != "" && c.bound {
		root.Send(c.home, &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: []byte(e.id)}}})
	}
}

// inOrder returns the channels in the order in which they were spawned: what is
// said must not depend on the order of a map.
func (c *clientActor) inOrder() []*entry {
	return slices.SortedFunc(maps.Values(c.channels), func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
}

func (c *clientActor) byID(id string) *entry {
	for _, e := range c.channels {
		if e.id == id && id != "" {
			return e
		}
	}
	return nil
}

// dialHome is called by the home channel's pump. It tries all addresses of the
// coordinator.
func (cl *Client) dialHome(ctx context.Context) (*netio.Conn, error) {
	host, port, err := splitHostPort(cl.config.Coordinator)
	if err != nil {
		return nil, err
	}
	addrs, err := lookup(ctx, host, port, cl.link.LocalAddr().Addr())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrUnreachable, err)
	}
	return dialFirst(ctx, addrs, func(ctx context.Context, addr netip.AddrPort) (*netio.Conn, error) {
		return cl.transport.DialHome(ctx, addr, netio.Coordinator{
			Host: host, Fingerprint: cl.config.Fingerprint, Roots: cl.config.Roots,
		})
	})
}
