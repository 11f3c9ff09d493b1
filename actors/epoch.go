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
	urgent       bool // one is to begin as soon as the pump has ended
	cancel       func()
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

// back has an epoch begin because the network was away: QUIC takes what it had sent for lost, and waits for nothing.
func (p *paths) back(ctx actor.Context) {
	if !p.spec.dialed {
		return
	}
	p.epoch.ours = true
	if p.epoch.busy { // what it has asked is lost, and it would ask again late
		p.epoch.urgent = true
		p.epoch.cancel()
		return
	}
	p.nextEpoch(ctx)
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
	limited, cancel := context.WithTimeout(p.life.Context(), epochTimeout)
	p.epoch = epoch{busy: true, begins: begins, cancel: cancel, timer: p.epoch.timer}
	life, root, self, do := p.life, ctx.ActorSystem().Root, ctx.Self(), p.spec.conn.PrepareEpoch
	if begins {
		do = p.spec.conn.BeginEpoch
	}
	p.sys.Pumps.Go(func() {
		defer cancel()
		root.Send(self, epochDone{life, begins, do(limited)})
	})
}

func (p *paths) epochDone(ctx actor.Context, done epochDone) {
	urgent := p.epoch.urgent
	p.epoch.busy, p.epoch.begins, p.epoch.urgent = false, false, false
	if done.begun && done.err == nil {
		p.sayMoved(ctx)
	}
	switch {
	case urgent:
		p.nextEpoch(ctx)
	case done.err != nil:
		ctx.Logger().Debug("QUIC was not told of a path", "actor", ctx.Self().GetId(), "peer", p.spec.about.peer, "err", done.err)
		p.epoch.ours = p.epoch.ours || done.begun
		p.epochLater(ctx, epochPause)
	case done.begun:
		p.epochLater(ctx, epochPause)
	case p.epoch.pending():
		p.moved(ctx)
	}
}
