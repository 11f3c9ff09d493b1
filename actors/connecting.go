package actors

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of a channel from its start until it is up: introduction, connection, proof.

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
	if c.due.IsZero() {
		c.due = time.Now().Add(timeout)
	}
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.timer = c.apart.AfterFunc(time.Until(c.due), func() { root.Send(self, upTimeout{life}) })
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
	case *conecv1.ChannelOffered: // the peer opens a channel to us at the same time: one is enough
		c.anew(ctx)
		c.connect(ctx, msg.GetIntroduction())
	case *conecv1.OpenRefused:
		c.lost(ctx, messages.FromCode(msg.GetCode(), msg.GetReason()), msg.GetByPeer())
	default:
		c.waiting(ctx)
	}
}

// dialing has dialed ahead, and waits to hear whom.
func (c *channel) dialing(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *conecv1.ChannelIntroduced:
		c.introduced(ctx, msg.GetIntroduction())
	default:
		c.introducing(ctx)
	}
}

// anew ends an attempt to connect and begins another life, in the time that is left.
func (c *channel) anew(ctx actor.Context) {
	c.endLife(messages.ErrCanceled, nil)
	c.life = Begin()
	c.startTimer(ctx)
}

// openPort opens a port, or ends the channel.
func (c *channel) openPort(ctx actor.Context) (ok bool) {
	port, err := c.spec.Config.Transport.Switch().OpenPort()
	if err != nil {
		c.lost(ctx, fmt.Errorf("%w: %w", messages.ErrLimit, err), false)
		return false
	}
	c.port = port
	return true
}

// dialAhead dials a peer that the coordinator is just being asked for. What QUIC sends
// first travels right behind the question.
func (c *channel) dialAhead(ctx actor.Context) {
	pause := time.Duration(0)
	switch {
	case c.ended:
		return
	case c.conn != nil:
		c.lost(ctx, fmt.Errorf("%w: the coordinator was lost while the channel connected", messages.ErrUnreachable), false)
		return
	case c.port != nil: // the coordinator that was asked before has forgotten it, and all that others asked it, who dial now, too
		c.anew(ctx)
		pause = c.apart.Pause()
	}
	if !c.openPort(ctx) {
		return
	}
	c.behavior.Become(ctx, "dialing", c.dialing)
	transport, port, pin, peer := c.spec.Config.Transport, c.port, &netio.Pin{}, c.shared.Peer
	life, root, self, config := c.life, ctx.ActorSystem().Root, ctx.Self(), c.spec.Config
	c.pin = pin
	port.PassOn(func(packet []byte) { root.Send(self, packetWritten{life, packet}) })
	c.attempt = c.sys.attempt(func(a *attempt) {
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-life.Context().Done():
			}
		}
		conn, err := transport.DialAhead(life.Context(), port, peer, pin)
		conn, err = config.checked(peer, conn, err)
		a.pump(life, root, self, conn, err, true)
	})
}

// introduced lets what was dialed ahead reach the peer.
func (c *channel) introduced(ctx actor.Context, introduction *conecv1.Introduction) {
	c.introduction = introduction
	c.pin.Set(introduction.GetCertificate())
	c.behavior.Become(ctx, "connecting", c.connecting)
	c.route(ctx)
}

// route has the port's packets take the relay. The handshake shows the certificate that the
// peer was told.
func (c *channel) route(ctx actor.Context) {
	c.port.SetIdentity(c.spec.Config.Transport.Was(c.introduction.GetOwn()))
	c.port.SetRoute(c.introduction.GetRoute())
	c.port.SetPath(c.spec.Config.Relay())
	c.doubtLater(ctx, relayDoubt)
}

// connect answers an offer: it opens a port and dials the peer through it, or waits for it to dial.
func (c *channel) connect(ctx actor.Context, introduction *conecv1.Introduction) {
	c.behavior.Become(ctx, "connecting", c.connecting)
	c.introduction = introduction
	if !c.openPort(ctx) {
		return
	}
	c.route(ctx)
	transport, port := c.spec.Config.Transport, c.port
	life, root, self, config := c.life, ctx.ActorSystem().Root, ctx.Self(), c.spec.Config
	peer, certificate := introduction.GetPeer(), introduction.GetCertificate()
	if introduction.GetDials() {
		ctx.Request(ctx.Parent(), &conecv1.AnswerOffer{Channel: introduction.GetChannel()})
		c.attempt = c.sys.attempt(func(a *attempt) {
			conn, err := transport.DialChannel(life.Context(), port, peer, certificate)
			conn, err = config.checked(peer, conn, err)
			a.pump(life, root, self, conn, err, true)
		})
		return
	}
	await := transport.Expect(port, peer, certificate)
	ctx.Request(ctx.Parent(), &conecv1.AnswerOffer{Channel: introduction.GetChannel()})
	c.attempt = c.sys.attempt(func(a *attempt) {
		conn, err := await(life.Context())
		conn, err = config.checked(peer, conn, err)
		a.pump(life, root, self, conn, err, false)
	})
}

// doubtRelay tells who wants to know that the relay is in doubt.
func (c *ChannelConfig) doubtRelay() {
	if c.DoubtRelay != nil {
		c.DoubtRelay()
	}
}

// checked asks whether a peer that is connected is trusted.
func (c *ChannelConfig) checked(peer string, conn *netio.Conn, err error) (*netio.Conn, error) {
	if err != nil || c.Check == nil {
		return conn, err
	}
	if err = c.Check(peer, conn.Certificate()); err != nil {
		conn.Close(messages.ErrUntrusted)
		return nil, err
	}
	return conn, nil
}

// doubtLater listens whether the relay is silent for that long: this host may have
// moved without anybody noticing. Once the channel is connected, the path set
// listens.
func (c *channel) doubtLater(ctx actor.Context, after time.Duration) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.listen = c.apart.AfterFunc(after, func() { root.Send(self, relayQuiet{life, after}) })
}

// doubtRelay has the relay asked whether it knows where we are, and later again.
func (c *channel) doubtRelay(ctx actor.Context, after time.Duration) {
	switch {
	case c.conn != nil || c.port == nil:
	case time.Since(c.port.Stats().LastRelayed) < after:
		c.doubtLater(ctx, relayDoubt)
	default:
		c.spec.Config.doubtRelay()
		c.doubtLater(ctx, 2*after)
	}
}

func (c *channel) connectHome(ctx actor.Context) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	home, dials := c.spec.Home, c.spec.HomeDialed
	c.attempt = c.sys.attempt(func(a *attempt) {
		conn, err := home(life.Context())
		a.pump(life, root, self, conn, err, dials)
	})
}

// pump opens the control stream, which is the first of a connection, tells the
// actor of both, and then of the end of the connection.
func (a *attempt) pump(life Life, root *actor.RootContext, self *actor.PID, conn *netio.Conn, err error, dialed bool) {
	var control *netio.Control
	if err == nil {
		a.conn.Store(conn)
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
	case *conecv1.PassPacket:
		if port := c.port; port != nil && !c.introduction.GetDials() { // else both ends are here
			c.sys.Pumps.Go(func() { port.Take(msg.GetPacket()) })
		}
	default:
		c.introducing(ctx)
	}
}

// withdrawn ends an attempt that the other side gave up. If this side wanted the
// channel too, it asks again.
func (c *channel) withdrawn(ctx actor.Context, msg *conecv1.OfferWithdrawn) {
	if c.conn != nil {
		return // the connection's own end tells more
	}
	if msg.GetCode() == conecv1.Code_CODE_FORBIDDEN {
		c.forbidden(ctx, msg)
		return
	}
	if c.spec.Introduction != nil || c.introduction.GetDials() {
		c.lost(ctx, messages.FromCode(msg.GetCode(), ""), msg.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER)
		return
	}
	c.endLife(messages.ErrCanceled, nil)
	c.start(ctx)
}

// timeoutReason says what took too long.
func (c *channel) timeoutReason() error {
	switch c.behavior.Name() {
	case "introducing", "dialing":
		return fmt.Errorf("%w: waiting for the coordinator's introduction", messages.ErrTimeout)
	case "proving":
		return fmt.Errorf("%w: no direct path was found, and only those are allowed", messages.ErrUnreachable)
	default:
		return fmt.Errorf("%w: waiting for the peer to connect", messages.ErrTimeout)
	}
}

func (c *channel) connected(ctx actor.Context, conn *netio.Conn, stream *netio.Control) {
	c.conn = conn
	c.confirmed = !c.introduction.GetDials() // who accepts has heard of the control stream
	if c.pin != nil {
		ctx.Request(ctx.Parent(), ChannelAnswered{})
	}
	c.control = ctx.Spawn(controlProps(c.sys, c.about(), stream))
	if c.spec.Home != nil {
		c.becomeUp(ctx)
		return
	}
	mode := c.mode()
	c.paths = ctx.Spawn(pathsProps(c.sys, pathsSpec{
		about: c.about(), shared: c.shared, mode: mode, conn: conn, dialed: c.introduction.GetDials(), config: c.spec.Config,
	}))
	c.offer(ctx)
	if mode == conecv1.Mode_MODE_DIRECT {
		c.behavior.Become(ctx, "proving", c.proving)
		return
	}
	c.becomeUp(ctx)
}

// about says what the logs call this life of the channel.
func (c *channel) about() about {
	id := c.introduction.GetChannel()
	return about{peer: c.shared.Peer, channel: hex.EncodeToString(id[:min(len(id), 4)])}
}

// relayChanged takes a new route, also while the channel is still connecting.
func (c *channel) relayChanged(ctx actor.Context, msg *conecv1.RelayChanged) {
	switch {
	case c.paths != nil:
		ctx.Send(c.paths, msg)
		c.offer(ctx)
	case c.port != nil:
		c.port.SetRoute(msg.GetRoute())
		c.port.SetPath(c.spec.Config.Relay())
	}
}

// offer tells the peer where it may reach us now, if it is connected.
func (c *channel) offer(ctx actor.Context) {
	if c.paths != nil {
		ctx.Send(c.control, offer(c.conn, c.mode(), c.spec.Config))
	}
}

// addrsChanged offers the peer our addresses, and has the packet sent again that may have been the last to be lost.
func (c *channel) addrsChanged(ctx actor.Context, msg AddrsChanged) {
	if c.paths != nil {
		ctx.Send(c.paths, linksChanged{moved: msg.Moved})
	}
	c.offer(ctx)
	if c.port != nil {
		c.port.Replay()
	}
}

// mode says which paths this side uses.
func (c *channel) mode() conecv1.Mode {
	if c.spec.Config.RelayOnly {
		return conecv1.Mode_MODE_RELAY
	}
	if c.introduction.GetDirectOnly() {
		return conecv1.Mode_MODE_DIRECT
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
	if c.spec.Home == nil || c.spec.Offer != nil {
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
