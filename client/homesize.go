package client

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// homeSize watches whether the network still takes packets as large as those of the home
// channel from the coordinator, which tries once how large they may be and, as QUIC does
// (RFC 8899 section 4.3 leaves it to others), does not notice when a route takes less than before:
// then small packets come and large ones do not, for ever.
//
// The client asks the coordinator for answers of that size, after answers to its bind frames
// so that nothing else is sent while nothing comes at all. What was answered to once and is
// not any more, though binds are, tells that the home channel has to be connected anew.
type homeSize struct {
	seen   int // bytes of the largest packet on this way
	proven int // bytes of the largest answer on it
	failed int // bytes that were never answered to, 0: none
	idle   int // binds answered since large packets came

	sequence uint64 // of the first ask that waits for an answer, 0 if none does
	tries    int
	asked    time.Time
	timer    *time.Timer
}

// Limits and times of asking for large packets.
const (
	sizePause = 500 * time.Millisecond // until an ask that was not answered is repeated
	sizeTries = 8                      // unanswered asks until large packets do not pass: with one packet of five lost, once in 3,500 times
	sizeIdle  = 4                      // answered binds between asks if no large packets came for longer than between two
)

// sizeDue is sent by the timer.
type sizeDue struct{ actors.Life }

// forgetSize begins anew: QUIC does so, too, when a client comes another way.
func (c *clientActor) forgetSize() {
	if c.size.timer != nil {
		c.size.timer.Stop()
	}
	c.size = homeSize{}
	c.cl.transport.Switch().TakeLargestRaw()
}

// lookAtSize asks for a large packet if it is time to: a bind was answered.
func (c *clientActor) lookAtSize(ctx actor.Context) {
	s := &c.size
	switch {
	case c.tcp.link != nil: // TCP takes any size
	case s.sequence == 0:
		came := c.cl.transport.Switch().TakeLargestRaw()
		if s.failed != 0 && came >= s.failed {
			came = s.proven
		}
		s.seen = max(s.seen, came)
		s.idle++
		if came > netio.FirstPacket {
			s.idle = 0
		}
		if s.seen > netio.FirstPacket && (s.idle < 2 || s.idle%sizeIdle == 0) {
			s.tries, s.sequence = 0, c.sequence+1
			c.askSize(ctx)
		}
	case time.Since(s.asked) < sizePause:
	case s.tries < sizeTries:
		c.askSize(ctx)
	case s.proven >= s.seen:
		c.giveUpHome(ctx, fmt.Sprintf("the network does not take packets of %d bytes any more", s.seen))
	default: // smaller ones may
		s.failed, s.seen, s.sequence = s.seen, s.proven, 0
	}
}

func (c *clientActor) askSize(ctx actor.Context) {
	s := &c.size
	s.tries++
	s.asked = time.Now()
	c.sequence++
	frame := netio.EncodeAsk(nil, c.id, c.sequence, c.key, s.seen)
	_ = c.cl.transport.Switch().Send(c.cl.link, c.cl.shared.relay.Load().To, frame) // lost, it is sent again
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	s.timer = c.apart.AfterFunc(sizePause, func() { root.Send(self, sizeDue{life}) })
}

// sizeNotHeard asks again, once it is known that the coordinator can be reached at all.
func (c *clientActor) sizeNotHeard(ctx actor.Context) {
	if c.size.sequence != 0 && c.tries == 0 {
		c.bind(ctx)
	}
}

// sizeHeard takes an answer, if it is one to what was asked for here.
func (c *clientActor) sizeHeard(msg boundHeard) bool {
	s := &c.size
	if s.sequence == 0 || msg.frame.Sequence < s.sequence || msg.frame.Size < s.seen {
		return false
	}
	s.timer.Stop()
	s.proven, s.sequence = s.seen, 0
	return true
}
