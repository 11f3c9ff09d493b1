package actors

import (
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of a channel from the wish to end it until it has stopped or failed.

// drain ends the sending side of every stream and asks the peer to say when it
// has read them all.
func (c *channel) drain(ctx actor.Context) {
	if c.spec.Home != nil {
		c.lost(ctx, messages.ErrClosed, false)
		return
	}
	c.becomeDraining(ctx)
	c.drains, c.named = true, map[uint64]bool{}
	closing := &conecv1.CloseChannel{Code: conecv1.Code_CODE_CLOSED}
	for _, child := range ctx.Children() {
		if stream := c.streams[child.GetId()]; stream != nil {
			closing.Streams = append(closing.Streams, stream.ID())
			c.named[stream.ID()] = true
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

// drainFor begins to end the channel because the peer wants to. If this side does
// too, each waits for the other.
func (c *channel) drainFor(ctx actor.Context, closing *conecv1.CloseChannel) {
	if c.closing != nil || c.awaits {
		c.controlLost(ctx, fmt.Errorf("%w: closed twice", messages.ErrProtocol))
		return
	}
	if c.behavior.Name() == "up" {
		c.becomeDraining(ctx)
	}
	c.closing = closing
	c.awaitEnds(ctx)
}

// awaitEnds waits, in a pump, until the peer's streams were read to their end, those that it names and those that it
// has ended before. A stream may come later than the message that names it.
func (c *channel) awaitEnds(ctx actor.Context) {
	if c.closing == nil || c.awaits {
		return
	}
	ids := map[uint64]bool{}
	for _, id := range c.closing.GetStreams() {
		const accepted = 1 // the lowest bit of a stream's number tells who opened it (RFC 9000 section 2.1)
		byPeer := (id&accepted != 0) == c.introduction.GetDials()
		if byPeer && id > c.arrived {
			return
		}
		ids[id] = true
	}
	c.awaits = true
	var ends []<-chan struct{}
	for _, stream := range c.streams { // the peer has ended what it knows and does not name: its last messages may be on their way
		if ids[stream.ID()] || stream.Heard() {
			ends = append(ends, stream.ReceiveEnded())
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

// agree ends the channel once both have read what the other has sent. If both close
// it, the one that dialed says so last, when it has heard it of the other: that
// one then knows that nothing is left to say, and ends the connection.
func (c *channel) agree(ctx actor.Context) {
	both := c.drains && (c.awaits || c.closing != nil)
	switch last := c.introduction.GetDials(); {
	case !c.drains:
		c.sayDrained(ctx)
		c.awaitClose(ctx, messages.ErrClosed)
	case !both:
		c.lost(ctx, messages.ErrClosed, false)
	case !c.read, last && !c.done: // the peer has yet to read ours, or we have yet to read its
	case last:
		c.sayDrained(ctx)
		c.awaitClose(ctx, messages.ErrClosed)
	case c.done:
		c.lost(ctx, messages.ErrClosed, false)
	default:
		c.sayDrained(ctx)
	}
}

func (c *channel) sayDrained(ctx actor.Context) {
	c.sendControl(ctx, &conecv1.Control{Said: &conecv1.Control_ChannelDrained{ChannelDrained: &conecv1.ChannelDrained{}}})
}

// awaitClose gives the peer a while to close the connection, which it is about to.
// It says so in one packet, which may get lost: then the channel ends with err.
func (c *channel) awaitClose(ctx actor.Context, err error) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.stopTimer()
	c.timer = c.apart.AfterFunc(closeWait, func() { root.Send(self, closeTimeout{life, err}) })
}

// peerGone acts on the coordinator's word that the peer has ended its side, or has
// lost the coordinator. The connection itself tells more, unless the peer never
// got to know of it: it may have left between the two ends of the handshake.
func (c *channel) peerGone(ctx actor.Context, msg *conecv1.OfferWithdrawn) {
	switch {
	case msg.GetCode() == conecv1.Code_CODE_FORBIDDEN:
		c.forbidden(ctx, msg)
	case !c.confirmed && !c.heardOfStreams():
		const why = "the peer left before it was connected"
		c.lostAs(ctx, fmt.Errorf("%w: %s", messages.ErrClosed, why), true, fmt.Errorf("%w: %s", messages.ErrUnreachable, why))
	case msg.GetCode() == conecv1.Code_CODE_NO_SUCH_PEER: // it may come back to the channel
	case c.done && c.read: // all was said, only its last packet may be lost
	case c.behavior.Name() != "draining" || c.drains:
		c.awaitClose(ctx, fmt.Errorf("%w: the other side has ended the channel", messages.ErrUnreachable))
	}
}

// forbidden acts on the coordinator's word that its policy does not allow the channel any
// more, or the relay for it: then it goes on if it has a direct path.
func (c *channel) forbidden(ctx actor.Context, msg *conecv1.OfferWithdrawn) {
	switch {
	case msg.GetDirectOnly() && c.mode() == conecv1.Mode_MODE_DIRECT: // it does without
	case msg.GetDirectOnly() && c.paths != nil:
		ctx.Send(c.paths, relayForbidden{msg.GetReason()})
	default:
		c.lost(ctx, messages.FromCode(msg.GetCode(), msg.GetReason()), false)
	}
}

// heardOfStreams reports whether the peer has said something on a stream, which may be
// faster than the control stream.
func (c *channel) heardOfStreams() bool {
	for _, stream := range c.streams {
		if stream.Heard() {
			return true
		}
	}
	return false
}

// controlLost ends a connection whose control stream failed.
func (c *channel) controlLost(ctx actor.Context, err error) {
	c.lost(ctx, err, netio.IsRemote(err))
}

// lost ends this life of the channel. See the table above.
func (c *channel) lost(ctx actor.Context, err error, remote bool) { c.lostAs(ctx, err, remote, err) }

// lostAs is lost with another reason for the streams and the peer: a resumable stream, of
// which nobody can have closed anything, goes on.
func (c *channel) lostAs(ctx actor.Context, err error, remote bool, told error) {
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
	c.failure = ChannelResult{Err: err, Remote: remote}
	if !last {
		c.endLife(told, nil)
		c.answerDrainers(ctx, err, remote)
		Fail(err)
	}
	result := c.overResult()
	c.shared.over.Store(&result)
	c.behavior.Become(ctx, "over", c.over)
	root, self := ctx.ActorSystem().Root, ctx.Self()
	c.endLife(told, func() { root.Send(self, lifeEnded{err, remote}) })
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
		result := c.overResult()
		ctx.Respond(&StreamResult{Err: result.Err, Remote: result.Remote})
	case AwaitUp:
		result := c.overResult()
		ctx.Respond(&result)
	case DrainChannel:
		c.drainers = append(c.drainers, ctx.Sender())
		if c.told {
			c.answerDrainers(ctx, messages.ErrClosed, false)
		}
	}
}

// overResult is what who comes too late is told: why the channel never was up, or
// that it is over.
func (c *channel) overResult() ChannelResult {
	if c.failure.Err == nil || c.shared.wasUp.Load() || errors.Is(c.failure.Err, messages.ErrCanceled) {
		return ChannelResult{Err: messages.ErrClosed}
	}
	return c.failure
}

// isLast decides between a restart and the end.
func (c *channel) isLast(err error, remote bool) bool {
	meant := errors.Is(err, messages.ErrClosed) || errors.Is(err, messages.ErrShutdown) || errors.Is(err, messages.ErrReset) ||
		errors.Is(err, messages.ErrForbidden)
	switch {
	case c.spec.Home != nil:
		return !c.spec.HomeDialed || !remote && errors.Is(err, messages.ErrClosed)
	case c.spec.Introduction != nil, !c.introductionDials(), meant, errors.Is(err, messages.ErrCanceled):
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
	if c.listen != nil {
		c.listen.Stop()
	}
	c.shared.conn.Store(nil)
	life, attempt, port := c.life, c.attempt, c.port
	c.life, c.attempt, c.conn, c.port, c.control, c.paths, c.introduction, c.pin = Life{}, nil, nil, nil, nil, nil, nil, nil
	c.sys.Pumps.Go(func() {
		attempt.close(why) // before the life ends, for then its pump closes it too, for no reason
		life.End()
		if attempt != nil { // its connection may have come just now
			<-attempt.done
			attempt.close(why)
		}
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
	c.failPings(ctx, err, remote)
}

// answerDrainers tells who waits for the end how it came.
func (c *channel) answerDrainers(ctx actor.Context, err error, remote bool) {
	for _, drainer := range c.drainers {
		result := &ChannelResult{Err: err, Remote: remote}
		if errors.Is(err, messages.ErrClosed) || !c.shared.wasUp.Load() { // or nothing was there to drain
			result.Err = nil
		}
		ctx.Send(drainer, result)
	}
	c.drainers = nil
}
