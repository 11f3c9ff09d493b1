package actors

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of a channel that tells the program how it is: the round trip, and why the path is what it is.

// maxPings is how many pings may wait for the peer.
const maxPings = 64

// pings are the program's, while the peer has not answered them.
type pings struct {
	waiting []waitingPing
	known   bool // the peer has said whether it answers
	answers bool // it does
}

type waitingPing struct {
	id    uint64
	asker *actor.PID
	at    time.Time // when it was said; zero if not yet
}

// ask answers the program, or has the peer or the path set answer it.
func (c *channel) ask(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case Ping:
		if c.ended {
			result := c.overResult()
			ctx.Respond(&PingResult{Err: result.Err, Remote: result.Remote})
			return
		}
		if len(c.pings.waiting) == maxPings {
			ctx.Respond(&PingResult{Err: fmt.Errorf("%w: %d pings wait for the peer", messages.ErrLimit, maxPings)})
			return
		}
		c.pings.waiting = append(c.pings.waiting, waitingPing{id: msg.ID, asker: ctx.Sender()})
		c.sayPings(ctx)
	case CancelPing:
		c.pings.take(msg.ID)
	case *conecv1.DescribePaths:
		if c.paths == nil {
			ctx.Respond(&conecv1.PathsDescribed{})
			return
		}
		ctx.Forward(c.paths)
	}
}

// take removes a ping and returns it, if it is there.
func (p *pings) take(id uint64) (waitingPing, bool) {
	for i, ping := range p.waiting {
		if ping.id == id {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return ping, true
		}
	}
	return waitingPing{}, false
}

// sayPings says those that were not said yet, once it is known whether the peer
// answers. If it does not, it would end the channel.
func (c *channel) sayPings(ctx actor.Context) {
	switch {
	case !c.pings.known:
		return
	case !c.pings.answers:
		c.failPings(ctx, fmt.Errorf("%w: the peer does not answer pings", messages.ErrVersion), true)
		return
	}
	for i := range c.pings.waiting {
		if ping := &c.pings.waiting[i]; ping.at.IsZero() {
			ping.at = time.Now()
			c.sendControl(ctx, &conecv1.Control{Said: &conecv1.Control_Ping{Ping: &conecv1.Ping{Request: ping.id}}})
		}
	}
}

// pinged answers the peer.
func (c *channel) pinged(ctx actor.Context, msg *conecv1.Ping) {
	c.sendControl(ctx, &conecv1.Control{Said: &conecv1.Control_Pong{Pong: &conecv1.Pong{
		Request: msg.GetRequest(), Relayed: c.conn.Port().Path().Relayed,
	}}})
}

// ponged takes the peer's answer. Nobody may wait for it any more.
func (c *channel) ponged(ctx actor.Context, msg *conecv1.Pong) {
	if ping, ok := c.pings.take(msg.GetRequest()); ok {
		ctx.Send(ping.asker, &PingResult{RTT: time.Since(ping.at), Relayed: msg.GetRelayed()})
	}
}

// failPings tells who waits for the peer's answer that none comes.
func (c *channel) failPings(ctx actor.Context, err error, remote bool) {
	for _, ping := range c.pings.waiting {
		ctx.Send(ping.asker, &PingResult{Err: err, Remote: remote})
	}
	c.pings.waiting = nil
}
