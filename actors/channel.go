package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// channel owns one channel: the connection to one other side, and the actors on
// it: control stream, path set, streams. Home channels have only the first.
//
//	behavior     message            does                                       then
//	any          Started            asks to be introduced, or starts to dial   introducing, connecting
//	introducing  ChannelIntroduced  opens a port, dials or expects             connecting
//	introducing  OpenRefused        tells who waits                            lost
//	connecting   connected          spawns control and path set                up, proving
//	connecting   OfferWithdrawn     asks again, or gives up                    introducing, lost
//	proving      PathChosen         - (only direct paths are allowed)          up
//	any          upTimeout          -                                          lost
//	up           OpenStream         spawns a stream
//	up           streamArrived      spawns a stream
//	up           DrainChannel       ends streams, tells the peer               draining
//	up           CloseChannel       waits for the ends of the peer's streams   drained
//	draining     ChannelDrained     -                                          lost, in order
//	draining     closeTimeout       (the peer's close was lost)                lost, in order
//	any          Control            does it, or gives it to the parent (home)
//	any          connectionLost     -                                          lost
//	any          AbortChannel       -                                          lost
//	over         OpenStream, …      answers that it is over
//	over         lifeEnded          tells who drained                          stops
//
// lost tells the parent, ends the connection, and restarts the actor if this
// side opened the channel and it was up before; else the actor stops.
//
// Parent: client or coordinator, which supervises it with [Backoff].
type channel struct {
	sys      *System
	spec     ChannelSpec
	shared   *Channel
	behavior Behavior
	life     Life

	introduction *conecv1.Introduction
	port         *netio.Port
	conn         *netio.Conn
	control      *actor.PID
	paths        *actor.PID
	timer        *time.Timer

	waiters  []*actor.PID             // want to know when the channel is up
	drainers []*actor.PID             // want to know when it has ended in order
	pending  []pendingOpen            // streams to open once it is up
	streams  map[string]*netio.Stream // by the stream actor's id
	requests map[uint64]*actor.PID    // stream actors by request
	asked    map[string]uint64        // requests by the stream actor's id
	ended    bool                     // lost was called
	told     bool                     // over, and the connection has ended: nobody waits
}

type pendingOpen struct {
	OpenStream
	asker *actor.PID
}

// Sent by pumps and timers. They stay in this process.
type (
	connected struct {
		Life
		conn    *netio.Conn
		control *netio.Control
	}
	connectionLost struct {
		Life
		err error
	}
	streamArrived struct {
		Life
		stream *netio.Stream
	}
	upTimeout    struct{ Life }
	drained      struct{ Life }
	closeTimeout struct{ Life }
	lifeEnded    struct {
		err    error
		remote bool
	}
)

// Receive implements actor.Actor.
func (c *channel) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		why := c.shared.StopReason
		if why == nil {
			why = messages.ErrClosed
		}
		c.endLife(why, nil)
		c.failWaiters(ctx, messages.ErrClosed, false)
		c.told = true
		c.answerDrainers(ctx, messages.ErrClosed, false)
		c.behavior.Become(ctx, "over", c.over)
	case *actor.Terminated:
		c.streamGone(msg.Who)
	case Pumped:
		if msg.Of(c.life) {
			c.pumped(ctx, msg)
		}
	case controlLost:
		if SentBy(ctx, c.control) {
			c.controlLost(ctx, msg.err)
		}
	case *conecv1.AbortChannel:
		c.lost(ctx, messages.FromCode(msg.GetCode(), msg.GetReason()), false)
	case *conecv1.RelayChanged:
		if c.paths != nil {
			ctx.Send(c.paths, msg)
			ctx.Send(c.control, offer(c.conn, c.mode(), c.spec.Config.Addrs()))
		}
	default:
		c.behavior.Receive(ctx)
	}
}

func (c *channel) start(ctx actor.Context) {
	c.life = Begin()
	c.shared.pid.Store(ctx.Self())
	if c.spec.Home == nil {
		c.startTimer(ctx)
	}
	switch {
	case c.spec.Home != nil:
		c.behavior.Become(ctx, "connecting", c.connecting)
		c.connectHome(ctx)
	case c.spec.Introduction != nil:
		c.connect(ctx, c.spec.Introduction)
	default:
		c.introduce(ctx)
	}
}

func (c *channel) startTimer(ctx actor.Context) {
	timeout := c.spec.Config.UpTimeout
	if timeout == 0 {
		timeout = defaultUpTimeout
	}
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.timer = time.AfterFunc(timeout, func() { root.Send(self, upTimeout{life}) })
}

func (c *channel) stopTimer() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// introduce asks the parent, and that the coordinator, for the peer.
func (c *channel) introduce(ctx actor.Context) {
	c.behavior.Become(ctx, "introducing", c.introducing)
	ctx.Request(ctx.Parent(), &conecv1.OpenChannel{
		Peer: c.shared.Peer, Purpose: c.shared.Purpose, Mode: c.shared.Mode, Shared: c.shared.Shared,
	})
}

func (c *channel) introducing(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *conecv1.ChannelIntroduced:
		c.connect(ctx, msg.GetIntroduction())
	case *conecv1.ChannelOffered: // the peer opens a channel to us at the same time: one is enough
		c.connect(ctx, msg.GetIntroduction())
	case *conecv1.OpenRefused:
		err := messages.FromCode(msg.GetCode(), msg.GetReason())
		c.lost(ctx, err, true)
	default:
		c.waiting(ctx)
	}
}

// connect opens a port and dials the peer through it, or waits for it to dial.
func (c *channel) connect(ctx actor.Context, introduction *conecv1.Introduction) {
	c.behavior.Become(ctx, "connecting", c.connecting)
	transport := c.spec.Config.Transport
	port, err := transport.Switch().OpenPort()
	if err != nil {
		c.lost(ctx, fmt.Errorf("%w: %w", messages.ErrLimit, err), false)
		return
	}
	c.introduction, c.port = introduction, port
	port.SetRoute(introduction.GetRoute())
	port.SetPath(c.spec.Config.Relay())
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	peer, certificate := introduction.GetPeer(), introduction.GetCertificate()
	if introduction.GetDials() {
		if c.spec.Introduction != nil {
			ctx.Request(ctx.Parent(), &conecv1.AnswerOffer{Channel: introduction.GetChannel()})
		}
		c.sys.Pumps.Go(func() {
			conn, err := transport.DialChannel(life.Context(), port, peer, certificate)
			pump(life, root, self, conn, err, true)
		})
		return
	}
	await := transport.Expect(port, peer, certificate)
	ctx.Request(ctx.Parent(), &conecv1.AnswerOffer{Channel: introduction.GetChannel()})
	c.sys.Pumps.Go(func() {
		conn, err := await(life.Context())
		pump(life, root, self, conn, err, false)
	})
}

func (c *channel) connectHome(ctx actor.Context) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	home, dials := c.spec.Home, c.spec.HomeDialed
	c.sys.Pumps.Go(func() {
		conn, err := home(life.Context())
		pump(life, root, self, conn, err, dials)
	})
}

// pump opens the control stream, which is the first of a connection, tells the
// actor of both, and then of the end of the connection.
func pump(life Life, root *actor.RootContext, self *actor.PID, conn *netio.Conn, err error, dialed bool) {
	var control *netio.Control
	if err == nil {
		open := conn.AcceptControl
		if dialed {
			open = conn.OpenControl
		}
		if control, err = open(life.Context()); err != nil {
			conn.Close(err)
		}
	}
	if err != nil {
		root.Send(self, connectionLost{life, err})
		return
	}
	root.Send(self, connected{life, conn, control})
	// The rest of the pump's work needs no goroutine: an idle channel costs none for it.
	conn.OnDone(func() { root.Send(self, connectionLost{life, conn.Err()}) })
	context.AfterFunc(life.Context(), func() { conn.Close(messages.ErrClosed) }) // if the actor has not
}

func (c *channel) connecting(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *conecv1.OfferWithdrawn:
		c.withdrawn(ctx, msg)
	default:
		c.waiting(ctx)
	}
}

// withdrawn ends an attempt that the other side gave up. If this side wanted the
// channel too, it asks again.
func (c *channel) withdrawn(ctx actor.Context, msg *conecv1.OfferWithdrawn) {
	if c.introduction.GetDials() || c.conn != nil {
		return
	}
	if c.spec.Introduction != nil {
		c.lost(ctx, messages.FromCode(msg.GetCode(), ""), true)
		return
	}
	c.endLife(messages.ErrCanceled, nil)
	c.start(ctx)
}

// waiting serves callers while the channel is not up.
func (c *channel) waiting(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case AwaitUp:
		c.waiters = append(c.waiters, ctx.Sender())
	case OpenStream:
		if len(c.pending) == maxPendingOpens {
			ctx.Respond(&StreamResult{Err: fmt.Errorf("%w: %d streams wait for the channel", messages.ErrLimit, len(c.pending))})
			return
		}
		c.pending = append(c.pending, pendingOpen{msg, ctx.Sender()})
	case CancelStream:
		for i, open := range c.pending {
			if open.ID == msg.ID {
				c.pending = append(c.pending[:i], c.pending[i+1:]...)
				break
			}
		}
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
		c.lost(ctx, messages.ErrClosed, false)
	case *conecv1.Control, *conecv1.PathChosen:
		c.heard(ctx)
	default:
		c.behavior.Unexpected(ctx)
	}
}

// pumped acts on what a pump of this life says.
func (c *channel) pumped(ctx actor.Context, message Pumped) {
	switch msg := message.(type) {
	case connected:
		c.connected(ctx, msg.conn, msg.control)
	case connectionLost:
		c.lost(ctx, msg.err, netio.IsRemote(msg.err))
	case streamArrived:
		c.spawnStream(ctx, streamSpec{incoming: msg.stream})
	case upTimeout:
		if c.behavior.Name() != "up" && c.behavior.Name() != "draining" {
			c.lost(ctx, c.timeoutReason(), false)
		}
	case drained:
		c.sendControl(ctx, &conecv1.Control{Said: &conecv1.Control_ChannelDrained{ChannelDrained: &conecv1.ChannelDrained{}}})
		// The peer closes the connection now. It says so in one packet, which may get lost.
		life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
		c.stopTimer()
		c.timer = time.AfterFunc(closeWait, func() { root.Send(self, closeTimeout{life}) })
	case closeTimeout:
		c.lost(ctx, messages.ErrClosed, true)
	}
}

// timeoutReason says what took too long.
func (c *channel) timeoutReason() error {
	switch c.behavior.Name() {
	case "introducing":
		return fmt.Errorf("%w: waiting for the coordinator's introduction", messages.ErrTimeout)
	case "proving":
		return fmt.Errorf("%w: no direct path was found, and only those are allowed", messages.ErrUnreachable)
	default:
		return fmt.Errorf("%w: waiting for the peer to connect", messages.ErrTimeout)
	}
}

func (c *channel) connected(ctx actor.Context, conn *netio.Conn, stream *netio.Control) {
	c.conn = conn
	c.control = ctx.Spawn(controlProps(c.sys, stream))
	if c.spec.Home != nil {
		c.becomeUp(ctx)
		return
	}
	mode := c.mode()
	c.paths = ctx.Spawn(pathsProps(c.sys, pathsSpec{
		peer: c.shared.Peer, mode: mode, conn: conn, dialed: c.introduction.GetDials(), config: c.spec.Config,
	}))
	ctx.Send(c.control, offer(conn, mode, c.spec.Config.Addrs()))
	if mode == conecv1.Mode_MODE_DIRECT {
		c.behavior.Become(ctx, "proving", c.proving)
		return
	}
	c.becomeUp(ctx)
}

// mode says which paths this side uses.
func (c *channel) mode() conecv1.Mode {
	if c.spec.Config.RelayOnly {
		return conecv1.Mode_MODE_RELAY
	}
	return c.introduction.GetMode()
}

// proving waits for a direct path, where nothing else may carry data.
func (c *channel) proving(ctx actor.Context) {
	if chosen, ok := ctx.Message().(*conecv1.PathChosen); ok && !chosen.GetRelayed() && chosen.GetRemote() != "" {
		c.becomeUp(ctx)
	}
	c.waiting(ctx)
}

func (c *channel) becomeUp(ctx actor.Context) {
	c.behavior.Become(ctx, "up", c.up)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.shared.conn.Store(c.conn)
	c.shared.wasUp.Store(true)
	c.shared.failures.Store(0)
	ctx.Request(ctx.Parent(), &conecv1.ChannelUp{Channel: c.introduction.GetChannel(), Peer: c.shared.Peer})
	for _, waiter := range c.waiters {
		ctx.Send(waiter, &ChannelResult{})
	}
	c.waiters = nil
	pending := c.pending
	c.pending = nil
	for _, open := range pending {
		c.openStream(ctx, open)
	}
	if c.spec.Home == nil {
		life, root, self, conn := c.life, ctx.ActorSystem().Root, ctx.Self(), c.conn
		c.sys.Pumps.Go(func() { acceptStreams(life, root, self, conn) })
	}
}

// acceptStreams is a pump: it tells the actor of streams that the peer opens.
func acceptStreams(life Life, root *actor.RootContext, self *actor.PID, conn *netio.Conn) {
	for {
		stream, err := conn.AcceptStream(life.Context())
		if err != nil {
			return // the connection's own pump says why
		}
		root.Send(self, streamArrived{life, stream})
	}
}

func (c *channel) up(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case OpenStream:
		c.openStream(ctx, pendingOpen{msg, ctx.Sender()})
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
		c.drain(ctx)
	default:
		c.serving(ctx)
	}
}

// serving does what is the same while the channel is up and while it drains.
func (c *channel) serving(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case CancelStream:
		if stream := c.requests[msg.ID]; stream != nil {
			ctx.Stop(stream)
		}
	case streamStarted:
		c.streams[ctx.Sender().GetId()] = msg.stream
	case AwaitUp:
		ctx.Respond(&ChannelResult{})
	case *conecv1.Control, *conecv1.PathChosen:
		c.heard(ctx)
	case *conecv1.OfferWithdrawn: // too late: the channel is there
	default:
		c.behavior.Unexpected(ctx)
	}
}

// draining refuses new streams and waits for the end.
func (c *channel) draining(ctx actor.Context) {
	switch ctx.Message().(type) {
	case OpenStream:
		ctx.Respond(&StreamResult{Err: messages.ErrClosed})
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
	default:
		c.serving(ctx)
	}
}

func (c *channel) openStream(ctx actor.Context, open pendingOpen) {
	pid := c.spawnStream(ctx, streamSpec{open: open.Open, asker: open.asker})
	c.requests[open.ID], c.asked[pid.GetId()] = pid, open.ID
}

func (c *channel) spawnStream(ctx actor.Context, spec streamSpec) *actor.PID {
	spec.peer, spec.conn = c.shared.Peer, c.conn
	spec.offer = func(incoming Incoming) error {
		incoming.Channel = c.shared
		return c.spec.Config.Offer(incoming)
	}
	return ctx.Spawn(streamProps(c.sys, spec))
}

// streamGone forgets a stream whose actor has ended.
func (c *channel) streamGone(who *actor.PID) {
	delete(c.streams, who.GetId())
	delete(c.requests, c.asked[who.GetId()])
	delete(c.asked, who.GetId())
}

// heard acts on control messages and on the path set's choices.
func (c *channel) heard(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *conecv1.PathChosen:
		ctx.Request(ctx.Parent(), msg)
	case *conecv1.Control:
		switch {
		case !SentBy(ctx, c.control): // for the other side
			c.sendControl(ctx, msg)
		case c.spec.Home != nil:
			ctx.Request(ctx.Parent(), msg)
		default:
			c.said(ctx, msg)
		}
	}
}

// said acts on what the peer says on the control stream.
func (c *channel) said(ctx actor.Context, message *conecv1.Control) {
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_OfferCandidates:
		ctx.Send(c.paths, said.OfferCandidates)
	case *conecv1.Control_CloseChannel:
		c.drainFor(ctx, said.CloseChannel)
	case *conecv1.Control_ChannelDrained:
		if c.behavior.Name() != "draining" {
			c.controlLost(ctx, fmt.Errorf("%w: drained without having been asked", messages.ErrProtocol))
			return
		}
		c.lost(ctx, messages.ErrClosed, false)
	default:
		c.controlLost(ctx, fmt.Errorf("%w: %T between clients", messages.ErrProtocol, said))
	}
}

func (c *channel) sendControl(ctx actor.Context, message *conecv1.Control) {
	if c.control != nil {
		ctx.Send(c.control, message)
	}
}

// drain ends the sending side of every stream and asks the peer to say when it
// has read them all.
func (c *channel) drain(ctx actor.Context) {
	if c.spec.Home != nil {
		c.lost(ctx, messages.ErrClosed, false)
		return
	}
	c.becomeDraining(ctx)
	closing := &conecv1.CloseChannel{Code: conecv1.Code_CODE_CLOSED}
	for _, child := range ctx.Children() {
		if stream := c.streams[child.GetId()]; stream != nil {
			closing.Streams = append(closing.Streams, stream.ID())
		}
		if !same(child, c.control) && !same(child, c.paths) {
			ctx.Send(child, &conecv1.EndStream{})
		}
	}
	c.sendControl(ctx, &conecv1.Control{Said: &conecv1.Control_CloseChannel{CloseChannel: closing}})
}

func (c *channel) becomeDraining(ctx actor.Context) {
	c.behavior.Become(ctx, "draining", c.draining)
	c.shared.ending.Store(true)
}

// drainFor waits, in a pump, until the peer's streams were read to their end.
func (c *channel) drainFor(ctx actor.Context, closing *conecv1.CloseChannel) {
	if c.behavior.Name() == "up" {
		c.becomeDraining(ctx)
	}
	var ends []<-chan struct{}
	for _, stream := range c.streams {
		for _, id := range closing.GetStreams() {
			if stream.ID() == id {
				ends = append(ends, stream.ReceiveEnded())
			}
		}
	}
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.sys.Pumps.Go(func() {
		for _, end := range ends {
			select {
			case <-end:
			case <-life.Context().Done():
				return
			}
		}
		root.Send(self, drained{life})
	})
}

// controlLost ends a connection whose control stream failed.
func (c *channel) controlLost(ctx actor.Context, err error) {
	c.lost(ctx, err, netio.IsRemote(err))
}

// lost ends this life of the channel. See the table above.
func (c *channel) lost(ctx actor.Context, err error, remote bool) {
	if c.ended {
		return
	}
	c.ended = true
	last := c.isLast(err, remote)
	if last {
		c.shared.ending.Store(true)
	}
	code, reason := messages.ToCode(err)
	ctx.Request(ctx.Parent(), &conecv1.ChannelLost{
		Channel: c.introduction.GetChannel(), Peer: c.shared.Peer, Code: code, Reason: reason, Remote: remote, Last: last,
	})
	c.failWaiters(ctx, err, remote)
	if !last {
		c.endLife(err, nil)
		c.answerDrainers(ctx, err, remote)
		Fail(err)
	}
	c.behavior.Become(ctx, "over", c.over)
	root, self := ctx.ActorSystem().Root, ctx.Self()
	c.endLife(err, func() { root.Send(self, lifeEnded{err, remote}) })
}

// over stops once the peer has been told: the parent takes that as leave to give
// the route back, and who waits for the drain to close the client.
func (c *channel) over(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case lifeEnded:
		c.told = true
		c.answerDrainers(ctx, msg.err, msg.remote)
		ctx.Stop(ctx.Self())
	case OpenStream:
		ctx.Respond(&StreamResult{Err: messages.ErrClosed})
	case AwaitUp:
		ctx.Respond(&ChannelResult{Err: messages.ErrClosed})
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
		if c.told {
			c.answerDrainers(ctx, messages.ErrClosed, false)
		}
	}
}

// isLast decides between a restart and the end.
func (c *channel) isLast(err error, remote bool) bool {
	inOrder := errors.Is(err, messages.ErrClosed) || errors.Is(err, messages.ErrShutdown)
	switch {
	case c.spec.Home != nil:
		return !c.spec.HomeDialed || !remote && errors.Is(err, messages.ErrClosed)
	case c.spec.Introduction != nil, !c.introductionDials(), inOrder, errors.Is(err, messages.ErrCanceled):
		return true
	case !c.shared.wasUp.Load():
		return true
	}
	return c.shared.failures.Add(1) > channelRestarts
}

// introductionDials reports whether this side is the one that has to dial again.
func (c *channel) introductionDials() bool {
	return c.introduction == nil || c.introduction.GetDials()
}

// endLife ends the pumps and the connection of this life, and then calls ended,
// which may be nil.
func (c *channel) endLife(why error, ended func()) {
	c.stopTimer()
	c.shared.conn.Store(nil)
	life, conn, port := c.life, c.conn, c.port
	c.life, c.conn, c.port, c.control, c.paths, c.introduction = Life{}, nil, nil, nil, nil, nil
	c.sys.Pumps.Go(func() {
		if conn != nil {
			conn.Close(why) // before the life ends, for then its pump closes it too, for no reason
		}
		life.End()
		if port != nil {
			port.Close()
		}
		if ended != nil {
			ended()
		}
	})
}

// failWaiters tells who waits for the channel that it is over.
func (c *channel) failWaiters(ctx actor.Context, err error, remote bool) {
	for _, waiter := range c.waiters {
		ctx.Send(waiter, &ChannelResult{Err: err, Remote: remote})
	}
	for _, open := range c.pending {
		ctx.Send(open.asker, &StreamResult{Err: err, Remote: remote})
	}
	c.waiters, c.pending = nil, nil
}

// answerDrainers tells who waits for the end how it came.
func (c *channel) answerDrainers(ctx actor.Context, err error, remote bool) {
	for _, drainer := range c.drainers {
		result := &ChannelResult{Err: err, Remote: remote}
		if errors.Is(err, messages.ErrClosed) {
			result.Err = nil
		}
		ctx.Send(drainer, result)
	}
	c.drainers = nil
}
