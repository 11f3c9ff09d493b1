package client

import (
	"context"
	"net/netip"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// The part of the client actor that goes over to TCP when UDP does not reach the
// coordinator any more, and back to UDP as soon as it does.

// Times of going over.
const (
	tcpTries  = 5                      // unanswered binds, over 0.7 seconds, until TCP is dialed
	askFirst  = 500 * time.Millisecond // until the coordinator is asked by UDP again; doubles
	askSlower = 5                      // doublings at most: every 16 seconds
	tcpLinger = 10 * time.Second       // a TCP link stays open after UDP took over: what is under way still comes
)

// overTCP is what the client actor knows of TCP. It lasts as long as an attachment.
type overTCP struct {
	round uint64         // of dialing the home channel; see way
	link  *netio.TCPLink // the way to the coordinator; nil: UDP
	told  bool           // the program knows that it is TCP
	falls int            // from UDP to TCP
	fresh bool           // nothing was heard over the link yet

	dialing bool
	cancel  context.CancelFunc // ends the dialing
	asks    int                // since TCP was taken, and a few more for each fall
	timer   *time.Timer        // until the next
}

// Sent by pumps and the timer.
type (
	askDue    struct{ actors.Life }
	tcpDialed struct {
		actors.Life
		id   uint64 // of the attachment that it is for
		link *netio.TCPLink
		err  error
	}
	tcpLost struct {
		actors.Life
		link *netio.TCPLink
	}
)

// enterTCP begins an attachment.
func (c *clientActor) enterTCP(ctx actor.Context) {
	_, link, round := c.cl.way.now()
	c.tcp = overTCP{round: round, link: link}
	if link != nil {
		c.watchTCP(ctx, link)
		c.askUDP(ctx)
	}
}

// leaveTCP ends an attachment. Its link is removed by who dials next, or with the switch.
func (c *clientActor) leaveTCP() {
	if c.tcp.cancel != nil {
		c.tcp.cancel()
	}
	if c.tcp.timer != nil {
		c.tcp.timer.Stop()
	}
	c.tcp = overTCP{}
}

// watchTCP starts a pump that tells when the connection has broken.
func (c *clientActor) watchTCP(ctx actor.Context, link *netio.TCPLink) {
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.cl.sys.Pumps.Go(func() {
		select {
		case <-link.Done():
			root.Send(self, tcpLost{life, link})
		case <-life.Context().Done():
		}
	})
}

// tcpLost has it dialed again. The home channel waits for it as long as its binds may go unanswered.
func (c *clientActor) tcpLost(ctx actor.Context, msg tcpLost) {
	if !msg.Of(c.life) || c.tcp.link != msg.link {
		return
	}
	c.cl.config.Logger.Debug("TCP connection lost", "addr", c.cl.config.TCPAddr, "err", msg.link.Err())
	c.tries, c.tcp.fresh = max(c.tries, tcpTries), false
	c.bind(ctx)
}

// noAnswer looks for another way while binds are not answered.
func (c *clientActor) noAnswer(ctx actor.Context) {
	if c.tries == tcpTries { // then its own timer has it asked
		c.askUDP(ctx)
	}
	if !c.tcp.fresh {
		c.dialTCP(ctx)
	}
}

// dialTCP starts a pump that dials, unless there is one.
func (c *clientActor) dialTCP(ctx actor.Context) {
	if c.tcp.dialing || c.cl.config.TCPAddr == none {
		return
	}
	c.tcp.dialing = true
	life, id, root, self := c.life, c.id, ctx.ActorSystem().Root, ctx.Self()
	dialing, cancel := context.WithCancel(life.Context())
	c.tcp.cancel = cancel
	to := []netip.AddrPort{c.cl.shared.relay.Load().To}
	c.cl.sys.Pumps.Go(func() {
		defer cancel()
		link, err := c.cl.dialTCP(dialing, to)
		if err == nil {
			c.cl.transport.Switch().AddLink(link) // whose it is, should nobody hear this
		}
		root.Send(self, tcpDialed{life, id, link, err})
	})
}

// tcpDialed goes over to TCP, if that is still wanted.
func (c *clientActor) tcpDialed(ctx actor.Context, msg tcpDialed) {
	current := msg.Of(c.life) && c.id != 0 && msg.id == c.id
	if current {
		c.tcp.dialing = false
	}
	switch {
	case msg.err != nil:
		c.cl.config.Logger.Debug("TCP not connected", "addr", c.cl.config.TCPAddr, "err", msg.err) // the next bind dials again
	case !current, c.tries < tcpTries:
		c.remove(msg.link, 0)
	default:
		if c.tcp.link == nil {
			c.tcp.falls++
			c.tcp.asks = c.tcp.falls // UDP that works now and then is tried less often
		}
		c.move(ctx, msg.link)
	}
}

// move makes TCP the way to the coordinator, or UDP if link is nil.
func (c *clientActor) move(ctx actor.Context, link *netio.TCPLink) {
	former, ok := c.cl.way.take(c.tcp.round, link)
	if !ok { // the home channel is being dialed anew
		c.remove(link, 0)
		return
	}
	c.remove(former, tcpLinger)
	c.forgetSize()
	c.tcp.link, c.tcp.fresh = link, link != nil
	if link != nil { // it is still to be heard whether the coordinator knows us
		c.watchTCP(ctx, link)
		c.askUDPAgain(ctx)
	} else {
		c.tries = 0
	}
	c.bind(ctx)
	c.sayIfBound(ctx, hereNow())
}

// remove closes a link later. It may be nil.
func (c *clientActor) remove(link *netio.TCPLink, after time.Duration) {
	if link == nil {
		return
	}
	life := c.life
	c.cl.sys.Pumps.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-link.Done():
		case <-life.Context().Done():
		}
		c.cl.transport.Switch().RemoveLink(link)
	})
}

// askUDP finds out whether UDP reaches the coordinator, with datagrams as large as the
// channels need.
func (c *clientActor) askUDP(ctx actor.Context) {
	if c.id == 0 || c.tcp.link == nil {
		return
	}
	sw := c.cl.transport.Switch()
	c.sequence++
	frame := netio.EncodeAsk(nil, c.id, c.sequence, c.key, sw.Largest())
	_ = sw.Send(c.cl.link, c.cl.shared.relay.Load().To, frame) // that it is lost is to be expected
	c.askUDPAgain(ctx)
}

func (c *clientActor) askUDPAgain(ctx actor.Context) {
	if c.tcp.timer != nil {
		c.tcp.timer.Stop()
	}
	after := askFirst << min(c.tcp.asks, askSlower)
	c.tcp.asks++
	life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
	c.tcp.timer = c.apart.AfterFunc(after, func() { root.Send(self, askDue{life}) })
}

// byWay says whether an answer came the way that is taken. One by UDP, while that is TCP, is
// what was asked for: UDP takes over.
func (c *clientActor) byWay(ctx actor.Context, link netio.Link) bool {
	switch {
	case c.tcp.link == nil:
		return link == c.cl.link
	case link == c.cl.link:
		c.move(ctx, nil)
		return false // the answer to the bind says the rest
	}
	return link == netio.Link(c.tcp.link)
}

// tellMoved tells the program what the way is, if that is news.
func (c *clientActor) tellMoved(observed netip.AddrPort) {
	now := c.tcp.link != nil
	if c.tcp.told == now {
		return
	}
	c.tcp.told = now
	c.cl.config.Logger.Info("moved", "addr", c.cl.config.Coordinator, "observed", observed.String(), "tcp", now)
	c.cl.events.put(HomeMoved{Observed: observed.String(), TCP: now})
}

// OverTCP tells whether the client reaches its coordinator, and with it the relay, over TCP:
// UDP does not get through. Direct paths are always UDP.
func (cl *Client) OverTCP() bool {
	_, tcp, _ := cl.way.now()
	return tcp != nil
}
