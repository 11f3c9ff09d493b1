package coord

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// expiry is how often the coordinator looks for what took too long.
const expiry = time.Second

// coordinator owns the registry: who is attached, and what was introduced.
//
//	behavior  message        does
//	any       Started        starts the pump that accepts connections, and the timer
//	any       homeAccepted   spawns a home channel, unless there are too many
//	any       Control        the first must be Attach; then asks the registry what to say to whom
//	any       ChannelLost    detaches the client
//	any       setRevoked     detaches whose certificate is revoked
//	any       introduce      asks the registry
//	any       cancelIntroduce  asks the registry
//	any       flushMore, flushDue  tells watches what has changed
//	any       listUsage      answers with who is attached and has which channels
//	any       streamOffered  passes it on to a group, which it brings to life if need be
//	any       groupEmpty     ends the group, unless somebody is about to join
//	any       memberList     ends the memberships that are not allowed any more
//	any       Terminated     forgets a group that failed
//	any       drain          takes no clients any more, sends the first away
//	any       drainNext      sends the next away; tells who waits when there is none
//	any       listHalls      answers with the groups
//	any       setPolicy, kick, ban, unban, listBans  see govern
//	any       expired        closes what did not attach in time; asks the registry
//	any       Stopping       ends its pump and timer
//
// Children: one home channel per connection, one [groupActor] per group; they are not
// restarted: the client dials again, and joins again.
type coordinator struct {
	sys       *actors.System
	config    *Config
	transport *netio.Transport
	relay     *netio.Relay
	counters  *counters
	alternate uint16 // port, 0: none

	life     actors.Life
	timer    *time.Timer
	apart    actors.Apart
	registry *registry
	bans     banList
	drains   drains
	presence *presence
	telling  telling
	homes    map[string]*home // by the home channel's actor id
	attached map[uint64]*home // by client id
	halls    map[string]*hall // by the group's name
	revoked  netio.Revoked
}

// home is the coordinator's end of one home channel.
type home struct {
	pid      *actor.PID
	conn     *netio.Conn
	client   *attachment // nil until attached
	deadline time.Time   // to attach
}

// counters are shared with whoever asks for [Stats].
type counters struct {
	connections, attached, refused, channels, pending, introductions, groups atomic.Int64

	draining atomic.Bool
}

// Sent by the pump, the timer and [Coordinator.Introduce].
type (
	homeAccepted struct {
		actors.Life
		conn *netio.Conn
	}
	expired   struct{ actors.Life }
	introduce struct {
		ticket        uint64
		a, b, purpose string
		mode          conecv1.Mode
	}
	introduceResult struct{ err error }
	cancelIntroduce struct{ ticket uint64 }
)

// Receive implements actor.Actor.
func (c *coordinator) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		c.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		c.life.End()
		c.timer.Stop()
		c.drains.stop()
		if c.telling.timer != nil {
			c.telling.timer.Stop()
		}
		return
	case homeAccepted:
		if msg.Of(c.life) {
			c.accepted(ctx, msg.conn)
		} else {
			msg.conn.Close(messages.ErrShutdown)
		}
	case expired:
		if msg.Of(c.life) {
			c.expire(ctx)
		}
	case *conecv1.Control:
		if h := c.homes[ctx.Sender().GetId()]; h != nil {
			c.said(ctx, h, msg)
		}
	case *conecv1.ChannelLost:
		c.lost(ctx, msg)
	case streamOffered:
		c.offered(ctx, msg)
	case groupEmpty:
		c.emptied(ctx, msg)
	case memberList:
		c.review(ctx, msg)
	case *actor.Terminated:
		c.hallGone(msg.Who)
	case introduce:
		c.introduce(ctx, msg)
	case cancelIntroduce:
		c.say(ctx, c.registry.cancelIntroduce(msg.ticket))
	case drain:
		c.drain(ctx, msg)
	case drainNext:
		if msg.Of(c.life) {
			c.drainNext(ctx)
		}
	case listHalls:
		ctx.Respond(c.listHalls())
	case flushMore, flushDue:
		c.toldOfPresence(ctx)
	case listUsage:
		ctx.Respond(c.registry.usage())
	case setPolicy, kick, ban, unban, listBans:
		c.govern(ctx)
	case setRevoked:
		c.revoke(ctx, msg.revoked)
		ctx.Respond(&revocationDone{})
	}
	c.count()
	c.tell(ctx)
}

// count has the counters show what there is. It is done before anybody is told.
func (c *coordinator) count() {
	c.counters.channels.Store(int64(len(c.registry.channels)))
	c.counters.pending.Store(int64(len(c.registry.pending)))
	c.counters.groups.Store(int64(len(c.halls)))
}

func (c *coordinator) start(ctx actor.Context) {
	c.life, c.revoked = actors.Begin(), c.config.revoked()
	c.registry = newRegistry(c.config.Limits, c.relay)
	c.homes, c.attached, c.halls = map[string]*home{}, map[uint64]*home{}, map[string]*hall{}
	c.registry.policy = c.config.Policy
	c.presence = newPresence(c.config.Limits, c.registry.sees)
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.sys.Pumps.Go(func() {
		for {
			conn, err := c.transport.AcceptHome(life.Context())
			if err != nil {
				return // the life or the transport has ended
			}
			root.Send(self, homeAccepted{life, conn})
		}
	})
	c.again(ctx)
}

// again sets the timer for the next expiry.
func (c *coordinator) again(ctx actor.Context) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.timer = c.apart.AfterFunc(expiry, func() { root.Send(self, expired{life}) })
}

// accepted spawns a home channel for a new connection.
func (c *coordinator) accepted(ctx actor.Context, conn *netio.Conn) {
	if len(c.homes) >= c.config.Limits.connections() {
		c.counters.refused.Add(1)
		err := fmt.Errorf("%w: %d connections", messages.ErrLimit, len(c.homes))
		c.sys.Pumps.Go(func() { conn.Close(err) })
		return
	}
	h := &home{conn: conn, deadline: time.Now().Add(c.config.Limits.AttachTimeout)}
	root, self := ctx.ActorSystem().Root, ctx.Self()
	h.pid = ctx.Spawn(homeProps(c.sys, conn, func(in actors.Incoming) error {
		root.Send(self, streamOffered{h, in})
		return nil
	}))
	c.homes[h.pid.GetId()] = h
	c.counters.connections.Store(int64(len(c.homes)))
}

// said acts on what a client says.
func (c *coordinator) said(ctx actor.Context, h *home, message *conecv1.Control) {
	attach, isAttach := message.GetSaid().(*conecv1.Control_Attach)
	if isAttach != (h.client == nil) {
		c.disconnect(ctx, h, fmt.Errorf("%w: attach comes first, and once", messages.ErrProtocol))
		return
	}
	if isAttach {
		if err := c.attach(ctx, h, attach.Attach); err != nil {
			c.counters.refused.Add(1)
			c.disconnect(ctx, h, err)
		}
		return
	}
	if c.attached[h.client.id] != h {
		return // superseded, and not yet gone
	}
	now, id := time.Now(), h.client.id
	var says []say
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_OpenChannel:
		says = c.registry.open(now, id, said.OpenChannel)
	case *conecv1.Control_PassPacket:
		says = c.registry.pass(id, said.PassPacket)
	case *conecv1.Control_CancelOpen:
		says = c.registry.cancel(id, said.CancelOpen)
	case *conecv1.Control_AnswerOffer:
		says = c.registry.answer(id, said.AnswerOffer)
	case *conecv1.Control_ReleaseChannel:
		says = c.registry.release(id, said.ReleaseChannel)
	case *conecv1.Control_RestoreChannel:
		says = c.registry.restore(now, id, said.RestoreChannel)
	case *conecv1.Control_IntroducePeers:
		says = c.registry.introducePeers(now, id, said.IntroducePeers)
	case *conecv1.Control_RenewIdentity:
		says = c.renew(h, said.RenewIdentity)
	default:
		if err := c.saidOfPresence(ctx, h, message); err != nil {
			c.disconnect(ctx, h, err)
		}
		return
	}
	c.say(ctx, says)
}

// attach registers a client under the name that its certificate is for.
func (c *coordinator) attach(ctx actor.Context, h *home, msg *conecv1.Attach) error {
	if c.counters.draining.Load() {
		return errDraining
	}
	if err := messages.CheckName(msg.GetName()); err != nil {
		return err
	}
	if err := messages.CheckLabels(msg.GetMetadata()); err != nil {
		return err
	}
	name, certificate := msg.GetName(), h.conn.Certificate()
	subject, err := c.subject(h, name, h.conn.Vouched(), msg.GetToken())
	if err != nil {
		return err
	}
	key, err := h.conn.ExportKey("bind")
	if err != nil {
		return err
	}
	client := &attachment{
		id: newClientID(), subject: *subject, since: c.config.Now(), name: name, instance: msg.GetInstance(), accepts: msg.GetAccepts(),
		key: certificate.RawSubjectPublicKeyInfo, shows: c.credentials(h.conn.Vouched()),
	}
	superseded, says, err := c.registry.attach(time.Now(), client)
	if old := c.attached[superseded]; old != nil {
		c.forget(old)
		c.end(ctx, old, messages.ErrSuperseded)
	}
	c.say(ctx, says)
	if err != nil {
		return err
	}
	if err := c.relay.AddClient(client.id, key); err != nil {
		c.say(ctx, c.registry.detach(time.Now(), client.id))
		return fmt.Errorf("%w: %w", messages.ErrLimit, err)
	}
	c.relay.LimitClient(client.id, client.limits.RelayRate)
	h.client = client
	c.attached[client.id] = h
	c.counters.attached.Store(int64(len(c.attached)))
	c.config.Logger.Info("client attached", "peer", name, "addr", c.real(h).String())
	ctx.Send(h.pid, &conecv1.Control{Said: &conecv1.Control_Attached{Attached: &conecv1.Attached{
		ClientId: client.id, Observed: messages.FromAddrPort(c.real(h)), AlternatePort: uint32(c.alternate),
		Clock: uint64(max(c.config.Now().UnixMicro(), 0)),
	}}})
	c.presence.attach(time.Now(), client, msg.GetInstance(), msg.GetMetadata())
	return nil
}

// real is where a client has connected from, by UDP or TCP.
func (c *coordinator) real(h *home) netip.AddrPort { return c.transport.Switch().Real(h.conn.Remote()) }

// lost detaches a client whose home channel has ended.
func (c *coordinator) lost(ctx actor.Context, msg *conecv1.ChannelLost) {
	h := c.homes[ctx.Sender().GetId()]
	if h == nil {
		return
	}
	delete(c.homes, h.pid.GetId())
	c.counters.connections.Store(int64(len(c.homes)))
	if h.client == nil || c.attached[h.client.id] != h {
		return
	}
	c.config.Logger.Info("client gone", "peer", h.client.name, "err", messages.FromCode(msg.GetCode(), msg.GetReason()))
	says := c.registry.detach(time.Now(), h.client.id)
	c.forget(h)
	c.say(ctx, says)
}

// forget ends a client's time at the relay, and shows that it has gone.
func (c *coordinator) forget(h *home) {
	delete(c.attached, h.client.id)
	c.relay.RemoveClient(h.client.id)
	c.counters.attached.Store(int64(len(c.attached)))
	c.presence.detach(h.client.id)
}

// disconnect ends a home channel because of what the client did.
func (c *coordinator) disconnect(ctx actor.Context, h *home, why error) {
	c.config.Logger.Info("client refused", "addr", c.real(h).String(), "err", why)
	c.end(ctx, h, why)
}

// end ends a home channel and tells the client why.
func (c *coordinator) end(ctx actor.Context, h *home, why error) {
	code, reason := messages.ToCode(why)
	ctx.Send(h.pid, &conecv1.AbortChannel{Code: code, Reason: reason})
}

func (c *coordinator) say(ctx actor.Context, says []say) {
	c.count()
	for _, s := range says {
		if h := c.attached[s.to]; h != nil {
			ctx.Send(h.pid, s.message)
		}
		if _, ok := s.message.GetSaid().(*conecv1.Control_ChannelOffered); ok {
			c.counters.introductions.Add(1)
		}
	}
}

// introduce is asked by the coordinator's own program.
func (c *coordinator) introduce(ctx actor.Context, msg introduce) {
	root, asker := ctx.ActorSystem().Root, ctx.Sender()
	done := func(err error) { root.Send(asker, &introduceResult{err}) }
	says, err := c.registry.introduce(time.Now(), msg, done)
	if err != nil {
		done(err)
		return
	}
	c.say(ctx, says)
}

func (c *coordinator) expire(ctx actor.Context) {
	now := time.Now()
	for _, h := range c.homes {
		if h.client == nil && now.After(h.deadline) {
			h.deadline = now.Add(c.config.Limits.AttachTimeout) // say it once
			c.config.Logger.Info("client refused", "addr", h.conn.Remote().String(), "err", messages.ErrTimeout)
			c.counters.refused.Add(1)
			c.sys.Pumps.Go(func() { // the channel may not have the connection yet, and so could not say why
				h.conn.Close(fmt.Errorf("%w: nothing said who is there", messages.ErrTimeout))
			})
		}
	}
	c.say(ctx, c.registry.expire(now))
	c.again(ctx)
}

func newClientID() uint64 {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(id[:])
}
