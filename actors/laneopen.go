package actors

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// Pauses between attempts to open a lane. They double.
const (
	openFirst  = 50 * time.Millisecond
	openSlowly = time.Second
)

// carry is a pump: it opens the stream and hears what the peer says, until that is over.
func (l *lane) carry(life Life, tell func(message any)) error {
	stream, err := l.open(life, tell)
	if err != nil {
		return err
	}
	tell(laneAnswered{life})
	return l.listen(life.Context(), stream)
}

// open opens the stream, as long as that may help, and returns when the peer has accepted
// it. The first attempt carries messages before that.
func (l *lane) open(life Life, tell func(message any)) (LaneStream, error) {
	r := l.peer.remote
	ctx, cancel := context.WithTimeout(life.Context(), r.config.Limits.OpenWait)
	defer cancel()
	early := true
	for pause := openFirst; ; pause = min(2*pause, openSlowly) {
		stream, err := r.config.Open(ctx, l.peer.name, l.index == bulkLane, early)
		if err == nil {
			tell(laneOpened{life, stream})
			var refused bool
			if refused, err = stream.Answered(life.Context()); err == nil {
				return stream, nil
			} else if !refused {
				return nil, err
			}
			tell(laneRefused{life})
			early = false
		}
		if !mayHelp(err) {
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// mayHelp reports whether a peer that could not be reached may be there a moment later.
func mayHelp(err error) bool {
	for _, passing := range []error{messages.ErrNoSuchPeer, messages.ErrUnreachable, messages.ErrTimeout, messages.ErrShutdown, messages.ErrBusy} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// opened has what is for any process of the peer sent with the opening, as much as goes in
// a batch, which is kept: the peer may refuse. Called with mu held.
func (p *peer) opened(l *lane, stream LaneStream) {
	if p.lanes[l.index] != l {
		p.told = append(p.told, stream.Reset)
		return
	}
	l.stream = stream
	p.resume(l)
}

// refused has what was sent with an opening wait again, for another attempt: nobody has got
// it. Called with mu held.
func (p *peer) refused(l *lane) {
	if p.lanes[l.index] != l {
		return
	}
	l.untaken(&l.batch)
	l.untaken(&l.pushed)
	l.pushing, l.early, l.gathers = false, false, false
	l.over, l.stream, l.flushed = false, nil, 0
	l.tables, l.credits = newTables(p.remote.passes), nil
	var back []*flow
	for _, f := range p.flows {
		if f.lane == l {
			f.lane, f.last, f.number = nil, 0, 0
			if f.listed == nil {
				back = append(back, f)
			}
		}
	}
	slices.SortFunc(back, func(a, b *flow) int { return cmp.Compare(a.target, b.target) })
	for _, f := range back {
		p.list(f)
	}
}

// isForAny reports whether a PID is of whatever process has the peer's name.
func (p *peer) isForAny(pid *actor.PID) bool {
	return len(pid.Address) == len(addressPrefix)+len(p.name)
}
