package client

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio/portmap"
)

// Times of a port mapping.
const (
	unmapTimeout  = 500 * time.Millisecond // at the client's end
	askAgainLeast = 5 * time.Second        // between attempts, whatever happens to the network
	keepTryLeast  = 15 * time.Second       // between attempts to renew what still lasts
	refusedPause  = 10 * time.Minute       // after a failure; doubles
	refusedDouble = 3                      // doublings at most: every 80 minutes
)

// portPlan decides when the gateway is asked. It is plain state without a clock; a [portKeeper] runs it.
type portPlan struct {
	until    time.Time // the end of the mapping; zero if there is none
	failures int       // attempts without one, since there was one or the network changed
}

// mapped takes that there is a mapping, and returns when to renew it (RFC 6886 section 3.3, RFC 6887 section 11.2.1).
func (p *portPlan) mapped(now time.Time, lifetime time.Duration) (again time.Duration) {
	*p = portPlan{until: now.Add(lifetime)}
	return lifetime / 2
}

// failed takes that an attempt failed, and returns when to make the next. What there was before lasts until then if kept.
func (p *portPlan) failed(now time.Time) (again time.Duration, kept bool) {
	if left := p.until.Sub(now); left > 0 {
		return min(max(left/2, keepTryLeast), left), true
	}
	p.until = time.Time{}
	p.failures++
	return refusedPause << min(p.failures-1, refusedDouble), false
}

// portKeeper keeps the client's port mapped at the gateway, by one attempt at a time. It is spawned when the client is
// found to be behind a gateway; what it knows is in Client.shared.mapped, which it alone writes.
//
//	behavior  message      does
//	any       Started      asks
//	any       addrsMoved   asks anew, after an attempt that is under way
//	any       portDue      asks (again)
//	any       portAnswered tells the client what has changed, sets the timer
//	any       Stopping     ends its timer and attempt, has the mapping deleted
//
// Parent: client, which hears portChanged.
type portKeeper struct {
	cl    *Client
	life  actors.Life
	timer *time.Timer
	apart actors.Apart
	plan  portPlan

	asking bool      // an attempt is under way
	anew   bool      // another is to follow
	began  time.Time // the last attempt
}

// Sent by the client actor, the timer, the pump, and to the client actor.
type (
	addrsMoved   struct{}
	portDue      struct{ actors.Life }
	portAnswered struct {
		actors.Life
		mapping portmap.Mapping
		err     error
	}
	portChanged struct{}
)

// keepPort has a port mapped at the gateway if that is of use, or looked after: the way to the coordinator has changed,
// or was gone for a while.
func (c *clientActor) keepPort(ctx actor.Context) {
	switch {
	case c.port != nil:
		ctx.Send(c.port, addrsMoved{})
	case c.cl.mapper != nil && c.cl.wantsPort():
		c.port = ctx.Spawn(c.cl.sys.Props(func() actor.Actor { return &portKeeper{cl: c.cl} }))
	}
}

// Receive implements actor.Actor.
func (k *portKeeper) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		k.life = actors.Begin()
		k.ask(ctx)
	case *actor.Restarting:
		k.end()
	case *actor.Stopping:
		k.end()
		k.cl.shared.mapped.Store(nil)
		k.unmap()
	case addrsMoved:
		k.plan.failures = 0
		k.askSoon(ctx)
	case portDue:
		if msg.Of(k.life) {
			k.ask(ctx)
		}
	case portAnswered:
		if msg.Of(k.life) {
			k.answered(ctx, msg)
		}
	}
}

// askSoon asks now, or as soon as that may be.
func (k *portKeeper) askSoon(ctx actor.Context) {
	if k.asking {
		k.anew = true
		return
	}
	k.later(ctx, max(0, askAgainLeast-time.Since(k.began)))
}

func (k *portKeeper) later(ctx actor.Context, after time.Duration) {
	if k.timer != nil {
		k.timer.Stop()
	}
	life, root, self := k.life, ctx.ActorSystem().Root, ctx.Self()
	k.timer = k.apart.AfterFunc(after, func() { root.Send(self, portDue{life}) })
}

// ask starts an attempt, if a mapping is of use and there is none under way.
func (k *portKeeper) ask(ctx actor.Context) {
	if k.asking {
		return
	}
	if !k.cl.wantsPort() { // not here; if the network changes, it is asked again
		k.plan = portPlan{}
		k.set(ctx, PortMapping{})
		return
	}
	if k.cl.PortMapping().State == PortMapUnneeded {
		k.set(ctx, PortMapping{State: PortMapAsking})
	}
	k.asking, k.anew, k.began = true, false, time.Now()
	life, root, self, inner := k.life, ctx.ActorSystem().Root, ctx.Self(), k.cl.link.LocalAddr()
	k.cl.sys.Pumps.Go(func() {
		mapping, err := k.cl.mapper.Map(life.Context(), inner)
		root.Send(self, portAnswered{life, mapping, err})
	})
}

// answered takes what came of an attempt.
func (k *portKeeper) answered(ctx actor.Context, msg portAnswered) {
	k.asking = false
	now, log := time.Now(), k.cl.config.Logger
	var again time.Duration
	if msg.err == nil {
		again = k.plan.mapped(now, msg.mapping.Lifetime)
		k.set(ctx, PortMapping{
			State: PortMapped, Protocol: msg.mapping.Protocol, Addr: msg.mapping.Outer, inner: msg.mapping.Inner,
		})
		log.Debug("port mapped", "protocol", msg.mapping.Protocol, "lifetime", msg.mapping.Lifetime)
	} else {
		if !k.cl.mappedAddr(k.cl.link.Addrs()).IsValid() { // this host has moved
			k.plan.until = time.Time{}
		}
		var kept bool
		if again, kept = k.plan.failed(now); !kept {
			k.set(ctx, PortMapping{State: PortNotMapped, Err: msg.err})
		}
		log.Debug("port not mapped", "err", msg.err, "kept", kept)
	}
	if k.anew {
		k.askSoon(ctx)
		return
	}
	k.later(ctx, again)
}

// set makes known what there is, and tells the client if peers should know.
func (k *portKeeper) set(ctx actor.Context, now PortMapping) {
	former := k.cl.shared.mapped.Swap(&now)
	if former == nil && now.Addr.IsValid() || former != nil && (former.Addr != now.Addr || former.inner != now.inner) {
		ctx.Send(ctx.Parent(), portChanged{})
	}
}

// end ends the timer, and with its life the attempt.
func (k *portKeeper) end() {
	k.life.End()
	if k.timer != nil {
		k.timer.Stop()
	}
}

// unmap has the mapping deleted, by a pump: the client's end waits for it, but not for long.
func (k *portKeeper) unmap() {
	k.cl.sys.Pumps.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unmapTimeout)
		defer cancel()
		_ = k.cl.mapper.Unmap(ctx) // else it lasts for the rest of its lifetime
	})
}
