package actors

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// channel owns one channel: the connection to one other side, and the actors on
// it: control stream, path set, streams. Home channels have no path set.
//
//	behavior     message            does                                       then
//	any          Started            asks to be introduced, or connects         introducing, connecting
//	introducing  ChannelAsked       opens a port and dials ahead               dialing
//	introducing, dialing  ChannelOffered  opens a port, expects                connecting
//	dialing      packetWritten      gives it to the parent, for the peer       -
//	dialing      ChannelIntroduced  has the port send to the peer              connecting
//	introducing, dialing, connecting  OpenRefused  tells who waits             lost
//	connecting   PassPacket         has QUIC take it                           -
//	connecting   ChannelAsked       (asked again: the attachment was lost)     dialing
//	connected    ChannelAsked       (its route was lost as it connected)       lost
//	connecting   connected          spawns control and path set                up, proving
//	connecting   OfferWithdrawn     asks again, or gives up                    introducing, lost
//	proving      PathChosen         - (only direct paths are allowed)          up
//	any          upTimeout          -                                          lost
//	connecting   relayQuiet         has the relay asked whether it knows us    -
//	up           OpenStream         spawns a stream
//	up           streamArrived      spawns a stream
//	up           DrainChannel       ends streams, tells the peer               draining
//	up           CloseChannel       waits for the ends of the peer's streams   drained
//	draining     ChannelDrained     -                                          lost, in order
//	draining     closeTimeout       (the peer's close was lost)                lost, in order
//	any          Control            does it, or gives it to the parent (home)
//	any          Ping               says it, once the peer is known to answer  -
//	any          DescribePaths      has the path set answer                    -
//	any          AddrsChanged       offers the peer our addresses, probes      -
//	any          connectionLost     -                                          lost
//	any          AbortChannel       -                                          lost
//	over         OpenStream, …      answers that it is over
//	(over)       lifeEnded          tells who drained                          stops
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
	pin          *netio.Pin // of what was dialed ahead
	due          time.Time  // when it must be up
	attempt      *attempt
	conn         *netio.Conn
	control      *actor.PID
	paths        *actor.PID
	timer        *time.Timer
	listen       *time.Timer // for the relay, while connecting
	apart        Apart

	waiters  []*actor.PID             // want to know when the channel is up
	drainers []*actor.PID             // want to know when it has ended in order
	pending  []pendingOpen            // streams to open once it is up
	streams  map[string]*netio.Stream // by the stream actor's id
	requests map[uint64]*actor.PID    // stream actors by request
	asked    map[string]uint64        // requests by the stream actor's id
	ended    bool                     // lost was called
	told     bool                     // over, and the connection has ended: nobody waits
	failure  ChannelResult            // why the channel is over

	confirmed bool   // the peer has said something on the connection
	arrived   uint64 // the last stream that the peer opened
	awaits    bool   // a pump waits for the ends of the streams that closing names
	pings     pings
	closing   *conecv1.CloseChannel // the peer's, until its streams were read
	read      bool                  // its streams were read to their ends
	drains    bool                  // this side drains the channel
	named     map[uint64]bool       // streams that the peer is to read for that
	done      bool                  // the peer has read our streams
}

type pendingOpen struct {
	OpenStream
	asker *actor.PID
}

// attempt is a pump that connects. The actor may end before it hears of the
// connection; the other side must hear of that end all the same.
type attempt struct {
	conn atomic.Pointer[netio.Conn]
	done chan struct{} // closed when the pump has ended
}

func (s *System) attempt(connect func(a *attempt)) *attempt {
	a := &attempt{done: make(chan struct{})}
	s.Pumps.Go(func() {
		defer close(a.done)
		connect(a)
	})
	return a
}

// close closes the connection, if there is one, and waits until the other side
// was told.
func (a *attempt) close(why error) {
	if a == nil {
		return
	}
	if conn := a.conn.Load(); conn != nil {
		conn.Close(why)
	}
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
	packetWritten struct {
		Life
		packet []byte
	}
	streamArrived struct {
		Life
		stream *netio.Stream
	}
	upTimeout  struct{ Life }
	relayQuiet struct {
		Life
		after time.Duration
	}
	drained      struct{ Life }
	closeTimeout struct {
		Life
		err error
	}
	lifeEnded struct {
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
		c.endLife(messages.ErrShutdown, nil) // "closed" is said only of what was read
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
		c.relayChanged(ctx, msg)
	case AddrsChanged:
		c.addrsChanged(ctx, msg)
	case ChannelAsked:
		c.dialAhead(ctx)
	case Ping, CancelPing, *conecv1.DescribePaths:
		c.ask(ctx)
	default:
		c.behavior.Receive(ctx)
	}
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
		if c.shared.Shared && !c.shared.Accepted && !c.shared.wasUp.Load() && len(c.pending)+len(c.waiters) == 0 {
			c.lost(ctx, messages.ErrCanceled, false) // nobody wants the channel any more
		}
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
		c.lost(ctx, messages.ErrClosed, false)
	case *conecv1.Control, *conecv1.PathChosen:
		c.heard(ctx)
	case *conecv1.OfferWithdrawn:
		c.peerGone(ctx, msg)
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
		pid := c.spawnStream(ctx, streamSpec{incoming: msg.stream})
		c.streams[pid.GetId()], c.arrived = msg.stream, msg.stream.ID()
		c.awaitEnds(ctx)
	case packetWritten:
		ctx.Request(ctx.Parent(), &conecv1.PassPacket{Packet: msg.packet})
	case upTimeout:
		if c.behavior.Name() != "up" && c.behavior.Name() != "draining" {
			c.lost(ctx, c.timeoutReason(), false)
		}
	case relayQuiet:
		c.doubtRelay(ctx, msg.after)
	case drained:
		c.closing, c.read = nil, true
		c.agree(ctx)
	case closeTimeout:
		c.lost(ctx, msg.err, true)
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
	case *conecv1.OfferWithdrawn:
		c.peerGone(ctx, msg)
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
		if !c.drains && !c.read { // the peer closes too; if it was told that we have read everything, it is about to end the channel
			c.stopTimer()
			c.drain(ctx)
		}
	default:
		c.serving(ctx)
	}
}

func (c *channel) openStream(ctx actor.Context, open pendingOpen) {
	pid := c.spawnStream(ctx, streamSpec{open: open.Open, resumable: open.Resumable, early: open.Early, asker: open.asker})
	c.requests[open.ID], c.asked[pid.GetId()] = pid, open.ID
}

func (c *channel) spawnStream(ctx actor.Context, spec streamSpec) *actor.PID {
	spec.peer, spec.conn = c.shared.Peer, c.conn
	offer := c.spec.Offer
	if c.spec.Home == nil {
		offer = c.spec.Config.Offer
	}
	spec.offer = func(incoming Incoming) error {
		incoming.Channel = c.shared
		return offer(incoming)
	}
	return ctx.Spawn(streamProps(c.sys, spec))
}

// streamGone forgets a stream whose actor has ended.
func (c *channel) streamGone(who *actor.PID) {
	c.confirmed = c.confirmed || c.heardOfStreams()
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
	c.confirmed = true
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_OfferCandidates:
		c.pings.known, c.pings.answers = true, said.OfferCandidates.GetAnswersPings()
		c.sayPings(ctx)
		ctx.Send(c.paths, said.OfferCandidates)
	case *conecv1.Control_PathMoved:
		ctx.Send(c.paths, said.PathMoved)
	case *conecv1.Control_SearchPorts:
		ctx.Send(c.paths, said.SearchPorts)
	case *conecv1.Control_Ping:
		c.pinged(ctx, said.Ping)
	case *conecv1.Control_Pong:
		c.ponged(ctx, said.Pong)
	case *conecv1.Control_CloseChannel:
		c.drainFor(ctx, said.CloseChannel)
	case *conecv1.Control_ChannelDrained:
		if !c.drains {
			c.controlLost(ctx, fmt.Errorf("%w: drained without having been asked", messages.ErrProtocol))
			return
		}
		for _, stream := range c.streams {
			if c.named[stream.ID()] {
				stream.Drained()
			}
		}
		c.done = true
		c.agree(ctx)
	default:
		c.controlLost(ctx, fmt.Errorf("%w: %T between clients", messages.ErrProtocol, said))
	}
}

func (c *channel) sendControl(ctx actor.Context, message *conecv1.Control) {
	if c.control != nil {
		ctx.Send(c.control, message)
	}
}
