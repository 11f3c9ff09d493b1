package client

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of the client actor that keeps the attachment to the coordinator.

func (c *clientActor) start(ctx actor.Context) {
	c.life = actors.Begin()
	c.requests, c.channels, c.groups = map[uint64]*actor.PID{}, map[string]*entry{}, map[*Group]*actor.PID{}
	c.between, c.vetting = map[uint64]*between{}, map[string]*vetting{}
	c.links = newLinkState()
	c.cl.shared.links.Store(nil) // a former life's are closed
	c.syncLinks(ctx)
	c.homeInfo = &actors.Channel{Peer: c.cl.config.Coordinator}
	c.cl.shared.home.Store(c.homeInfo)
	c.home = ctx.Spawn(actors.ChannelProps(c.cl.sys, actors.ChannelSpec{
		Channel: c.homeInfo, Home: c.cl.dialHome, HomeDialed: true,
	}))
}

// detached waits for the home channel's restart, unless it would be of no use.
func (c *clientActor) detached(ctx actor.Context, err error, remote bool) {
	if c.id != 0 {
		c.cl.transport.Switch().RemoveBindKey(c.id)
	}
	c.id, c.bound = 0, false
	c.stopTimer()
	c.leaveTCP()
	c.forgetSize()
	c.unvetAll()
	if c.renewal != nil {
		c.renewal.said = false
	}
	if errors.Is(err, messages.ErrSuperseded) {
		c.final = err
		c.endRenewal(ctx, err)
		ctx.Stop(c.home)
	}
	if remote && c.cl.turned.away(err, time.Now()) {
		c.endChannels(ctx)
	}
	c.cl.config.Logger.Warn("coordinator lost", "addr", c.cl.config.Coordinator, "err", err)
	c.cl.events.put(Detached{Err: err, Final: c.final != nil})
	c.presenceAway(err)
	for _, asker := range c.attached {
		ctx.Send(asker, &attachResult{err, remote})
	}
	c.attached, c.waiting = nil, nil
	if c.final != nil {
		c.tellHomeless(ctx, &homeResult{err: err, remote: remote})
	}
	c.failBetween(ctx, err)
	for _, e := range c.inOrder() { // requests that were said to the lost attachment are said again
		if e.request != 0 && c.requests[e.request] != nil {
			delete(c.requests, e.request)
			e.id = ""
			c.ask(ctx, e)
		}
	}
}

// endChannels ends all channels of a client that may not attach any more: the coordinator can
// cut those that it relays, and asks for the others.
func (c *clientActor) endChannels(ctx actor.Context) {
	code, reason := messages.ToCode(fmt.Errorf("%w: the coordinator does not admit one of the two any more", messages.ErrForbidden))
	for _, e := range c.inOrder() {
		ctx.Send(e.ref.pid, &conecv1.AbortChannel{Code: code, Reason: reason})
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
	c.cl.shared.clock.Store(readClock(msg.GetClock(), c.cl.config.Now(), time.Since(c.asks)))
	sw := c.cl.transport.Switch()
	c.id, c.key, c.sequence, c.tries, c.doubted = msg.GetClientId(), key, 0, 0, time.Time{}
	sw.SetBindKey(c.id, key)
	c.lookFrom(conn.Remote(), msg.GetAlternatePort())
	c.cl.shared.relay.Store(&netio.Path{To: conn.Remote(), Relayed: true}) // by whatever link the home channel takes
	c.enterTCP(ctx)
	c.bind(ctx)
}

// bind sends a bind frame and sets the timer for the next.
func (c *clientActor) bind(ctx actor.Context) {
	if c.id == 0 {
		return
	}
	if c.tries == bindTries { // its connection may take much longer to notice
		c.giveUpHome(ctx, "the relay does not answer")
		return
	}
	if c.tries >= tcpTries {
		c.noAnswer(ctx)
	}
	c.sequence++
	if c.tries == 0 {
		c.first = c.sequence
	}
	link, _, _ := c.cl.way.now()
	frame := netio.EncodeBind(nil, c.id, c.sequence, c.key)
	_ = c.cl.transport.Switch().Send(link, c.cl.shared.relay.Load().To, frame) // lost, it is sent again
	next := min(bindFirst<<min(c.tries, 5), bindSlowest)
	c.tries++
	c.again(ctx, next)
}

// notKnown takes the relay's word that it does not know this client. If the coordinator
// has ended the attachment, its word why is on its way: it counts for more.
func (c *clientActor) notKnown(ctx actor.Context, msg notKnown) {
	switch {
	case msg.id != c.id || msg.sequence > c.sequence:
	case c.doubted.IsZero():
		c.doubted = time.Now()
		c.sayIfBound(ctx, hereNow())
		c.again(ctx, bindDoubt)
	case time.Since(c.doubted) >= bindDoubt:
		c.giveUpHome(ctx, "the relay does not know this client any more")
	}
}

// giveUpHome has the home channel connected anew.
func (c *clientActor) giveUpHome(ctx actor.Context, why string) {
	if c.gaveUp == c.id {
		return // it was told to: the next one has another id
	}
	c.gaveUp = c.id
	code, reason := messages.ToCode(fmt.Errorf("%w: %s", messages.ErrUnreachable, why))
	ctx.Send(c.home, &conecv1.AbortChannel{Code: code, Reason: reason})
}

func (c *clientActor) again(ctx actor.Context, after time.Duration) {
	c.stopTimer()
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.timer = c.apart.AfterFunc(after, func() { root.Send(self, bindDue{life}) })
}

func (c *clientActor) stopTimer() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// boundTo takes the relay's answer to a bind frame: from now on it forwards.
func (c *clientActor) boundTo(ctx actor.Context, msg boundHeard) {
	if msg.frame.ID != c.id {
		return
	}
	if msg.from == c.look.at {
		c.seenAs(ctx, msg.frame.Observed)
		return
	}
	if c.linkSeen(ctx, msg) {
		return
	}
	if !c.byWay(ctx, msg.link) {
		return
	}
	if c.sizeHeard(msg) {
		return
	}
	silent := msg.frame.Sequence > c.first+outageTries // not an answer that is only slow
	c.tries, c.doubted, c.tcp.fresh = 0, time.Time{}, false
	c.again(ctx, bindKeepAlive)
	observed, overTCP := msg.frame.Observed, c.tcp.link != nil
	usable := observed // for peers
	if overTCP {
		usable = netip.AddrPort{}
	}
	former := c.cl.shared.observed.Swap(&usable)
	if former != nil && *former != usable {
		c.forgetSize()
	}
	c.lookAtSize(ctx)
	c.lookAgain(former == nil || *former != usable)
	defer c.askLinks()
	if silent || !c.bound || *former != usable {
		c.keepPort(ctx)
	}
	if c.bound {
		c.tellMoved(observed)
		switch {
		case silent: // the network was away: nobody waits for timers
			c.tellChannels(ctx, actors.AddrsChanged{Moved: true})
		case *former != usable: // we have moved, or a gateway has forgotten us
			c.tellChannels(ctx, actors.AddrsChanged{})
		}
		return
	}
	c.bound, c.tcp.told = true, overTCP
	c.cl.turned.attached()
	c.cl.config.Logger.Info("attached", "addr", c.cl.config.Coordinator, "observed", observed.String(), "tcp", overTCP)
	c.cl.events.put(Attached{Observed: observed.String(), TCP: overTCP})
	for _, asker := range c.attached {
		ctx.Send(asker, &attachResult{})
	}
	c.attached = nil
	c.tellHomeless(ctx, &homeResult{pid: c.home})
	for _, e := range c.inOrder() {
		if e.id != "" {
			c.say(ctx, &conecv1.Control{Said: &conecv1.Control_RestoreChannel{RestoreChannel: &conecv1.RestoreChannel{
				Channel: []byte(e.id), Peer: e.ref.Peer,
			}}})
		}
	}
	c.presenceBound(ctx)
	waiting := c.waiting
	c.waiting = nil
	for _, message := range waiting {
		c.say(ctx, message)
	}
	c.sayRenewal(ctx)
}

// say says something to the coordinator, now or once the client is attached.
func (c *clientActor) say(ctx actor.Context, message *conecv1.Control) {
	if c.bound {
		ctx.Send(c.home, message)
		if pid := c.requests[message.GetOpenChannel().GetRequest()]; pid != nil {
			ctx.Send(pid, actors.ChannelAsked{})
		}
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
