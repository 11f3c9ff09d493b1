package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of a path set that tells QUIC when packets take another path (see
// [netio.Conn.BeginEpoch]). The side that dialed does, also when the peer has moved.

// Times of epochs.
const (
	epochWait    = 100 * time.Millisecond // for the other side to move, too, as it mostly does; at least two round trips…
	epochWaitMax = 500 * time.Millisecond // …and at most this
	epochTimeout = 5 * time.Second        // for the peer's answer
	epochPause   = time.Second            // before another attempt, and before the next one is prepared
)

// epoch is what a path set knows of QUIC's.
type epoch struct {
	ours, theirs bool // who has moved since the last one began
	busy         bool // a pump prepares or begins one
	begins       bool // it begins
	timer        *time.Timer
}

// pending reports whether QUIC still thinks of a former path.
func (e *epoch) pending() bool { return e.begins || e.ours || e.theirs }

// Told by the timer and the pump.
type (
	epochDue  struct{ Life }
	epochDone struct {
		Life
		begun bool // and not prepared
		err   error
	}
)

// moved has an epoch begin: when both sides have moved, or after a while.
func (p *paths) moved(ctx actor.Context) {
	if p.epoch.ours && p.epoch.theirs {
		p.nextEpoch(ctx)
		return
	}
	p.epochLater(ctx, min(max(epochWait, 2*p.spec.conn.RTT()), epochWaitMax))
}

// sayMoved tells the peer that QUIC is to begin an epoch, or has begun one: it follows
// when it hears something.
func (p *paths) sayMoved(ctx actor.Context) {
	ctx.Send(ctx.Parent(), &conecv1.Control{Said: &conecv1.Control_PathMoved{PathMoved: &conecv1.PathMoved{}}})
}

func (p *paths) epochLater(ctx actor.Context, wait time.Duration) {
	if !p.spec.dialed || p.epoch.busy {
		return // when the pump is done, it is looked what is to be done
	}
	if p.epoch.timer != nil {
		p.epoch.timer.Stop()
	}
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	p.epoch.timer = p.apart.AfterFunc(wait, func() { root.Send(self, epochDue{life}) })
}

// nextEpoch begins an epoch if somebody has moved, or prepares one: long before it is
// needed, for the packets of a busy channel overtake what is asked for it on a slower path.
func (p *paths) nextEpoch(ctx actor.Context) {
	if !p.spec.dialed || p.epoch.busy {
		return
	}
	begins := p.epoch.ours || p.epoch.theirs
	p.epoch = epoch{busy: true, begins: begins, timer: p.epoch.timer}
	life, root, self, do := p.life, ctx.ActorSystem().Root, ctx.Self(), p.spec.conn.PrepareEpoch
	if begins {
		do = p.spec.conn.BeginEpoch
	}
	p.sys.Pumps.Go(func() {
		ctx, cancel := context.WithTimeout(life.Context(), epochTimeout)
		defer cancel()
		root.Send(self, epochDone{life, begins, do(ctx)})
	})
}

func (p *paths) epochDone(ctx actor.Context, done epochDone) {
	p.epoch.busy, p.epoch.begins = false, false
	if done.err != nil {
		ctx.Logger().Debug("QUIC was not told of a path", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer, "err", done.err)
		p.epoch.ours = p.epoch.ours || done.begun
		p.epochLater(ctx, epochPause)
		return
	}
	switch {
	case done.begun:
		p.sayMoved(ctx)
		p.epochLater(ctx, epochPause)
	case p.epoch.pending():
		p.moved(ctx)
	}
}
