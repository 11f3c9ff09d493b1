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
	epochTimeout = 5 * time.Second        // for the peer's answer when they are prepared
	epochPause   = time.Second            // before they are prepared again if that failed; doubles…
	epochPauses  = time.Minute            // …up to this
)

// epoch is what a path set knows of QUIC's.
type epoch struct {
	ours, theirs        bool // who has moved since the last one began
	preparing, prepared bool
	pause               time.Duration // before the last attempt to prepare them
	timer               *time.Timer
}

// pending reports whether QUIC still thinks of a former path.
func (e *epoch) pending() bool { return e.ours || e.theirs }

// begins reports whether QUIC is about to think of another.
func (e *epoch) begins() bool { return e.prepared && e.pending() }

// Told by the timer and the pump.
type (
	epochDue       struct{ Life }
	epochsPrepared struct {
		Life
		err error
	}
)

// moved has an epoch begin: when both sides have moved, or after a while.
func (p *paths) moved(ctx actor.Context) {
	if p.epoch.ours && p.epoch.theirs {
		p.beginEpoch(ctx)
		return
	}
	p.epochLater(ctx, min(max(epochWait, 2*p.spec.conn.RTT()), epochWaitMax))
}

// back has an epoch begin because the network was away: QUIC takes what it had sent for lost, and waits for nothing.
func (p *paths) back(ctx actor.Context) {
	if p.spec.dialed {
		p.epoch.ours = true
		p.beginEpoch(ctx)
	}
}

// sayMoved tells the peer that QUIC is to begin an epoch, or has begun one: it follows
// when it hears something.
func (p *paths) sayMoved(ctx actor.Context) {
	ctx.Send(ctx.Parent(), &conecv1.Control{Said: &conecv1.Control_PathMoved{PathMoved: &conecv1.PathMoved{}}})
}

func (p *paths) epochLater(ctx actor.Context, wait time.Duration) {
	if !p.spec.dialed {
		return
	}
	if p.epoch.timer != nil {
		p.epoch.timer.Stop()
	}
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	p.epoch.timer = p.apart.AfterFunc(wait, func() { root.Send(self, epochDue{life}) })
}

// nextEpoch begins an epoch if somebody has moved. Before the first, what all of them need is prepared: that needs an answer,
// which would be late or lost once the packets of a busy channel have moved.
func (p *paths) nextEpoch(ctx actor.Context) {
	p.prepareEpochs(ctx)
	p.beginEpoch(ctx)
}

func (p *paths) prepareEpochs(ctx actor.Context) {
	if p.epoch.preparing || p.epoch.prepared {
		return
	}
	p.epoch.preparing = true
	limited, cancel := context.WithTimeout(p.life.Context(), epochTimeout)
	life, root, self := p.life, ctx.ActorSystem().Root, ctx.Self()
	p.sys.Pumps.Go(func() {
		defer cancel()
		root.Send(self, epochsPrepared{life, p.spec.conn.PrepareEpochs(limited)})
	})
}

func (p *paths) epochsPrepared(ctx actor.Context, err error) {
	p.epoch.preparing, p.epoch.prepared = false, err == nil
	if err != nil {
		p.epochFailed(ctx, err)
		p.epoch.pause = min(max(2*p.epoch.pause, epochPause), epochPauses)
		p.epochLater(ctx, p.epoch.pause)
	}
	p.beginEpoch(ctx) // what was too early
}

func (p *paths) beginEpoch(ctx actor.Context) {
	if !p.epoch.pending() || p.epoch.preparing {
		return
	}
	if err := p.spec.conn.BeginEpoch(); err != nil {
		p.epochFailed(ctx, err)
		return
	}
	p.epoch.ours, p.epoch.theirs = false, false
	p.sayMoved(ctx)
}

func (p *paths) epochFailed(ctx actor.Context, err error) {
	ctx.Logger().Debug("QUIC was not told of a path", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer, "err", err)
}
