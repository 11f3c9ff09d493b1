package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// maxHead is more bytes than a frame has before its body.
const maxHead = 3*maxID + maxHeader + 2*maxHeaders*5 + 64

// lane carries frames to a peer over one resumable stream, and hears what became of
// them. Its actor owns the stream; who sends hands frames to it directly, under mu of
// the peer, which guards all fields that have no other owner here.
//
//	behavior  message       does                                          then
//	opening   Started       starts the pump that opens the stream         -
//	opening   laneOpened    sends what is for any process of the peer     opened
//	any       laneEnded     has the peer know what is in doubt            stops
//	opened    laneAnswered  has everything sent that waits                open
//	opened    laneRefused   has what was sent wait again                  opening
//	any       Stopping      ends the pumps and the stream                 -
//
// Parent: the system's root. Never restarted: the next message makes another one.
type lane struct {
	peer  *peer
	index int

	pid     *actor.PID
	stream  LaneStream // nil until it is open
	known   bool       // the peer has answered: it is known which process that is
	over    bool       // nothing is sent any more
	tables  tables
	credits []credit  // by the number of the target
	waiting []*flow   // that could not send
	batch   laneBatch // of frames that the stream has not got
	pushed  laneBatch // of those before, for which the stream has no room yet
	pushing bool      // a pump waits for the stream to take them
	early   bool      // the stream has the batch, but the peer has not accepted the stream yet
	gathers bool      // the stream is to say when it has written what it has
	sent    uint64    // frames, with those in the batch
	handled uint64    // of them, by the peer
	flushed uint64    // sent when a flush was asked for
	scratch []byte    // of write
	head    []byte    // of frame

	frames  ring[sentFrame]  // that are not handled
	refused map[uint64]error // why some of them were not delivered
}

// credit is what may be sent to a target.
type credit struct{ used, limit uint64 }

// sentFrame is a frame that the peer has not said to have handled.
type sentFrame struct {
	pid     *actor.PID
	message any // nil if it is none of the program's
	confirm func(error)
}

// Told by the pumps.
type (
	laneOpened struct {
		Life
		stream LaneStream
	}
	laneRefused  struct{ Life }
	laneAnswered struct{ Life }
	laneEnded    struct {
		Life
		err error
	}
)

// newLane starts a lane. Called with mu of the peer held.
func newLane(p *peer, index int) *lane {
	l := &lane{peer: p, index: index, tables: newTables(p.remote.passes)}
	sys := p.remote.sys
	sys.Pumps.Go(func() { l.spawn(sys) }) // which may not be done with a lock held
	return l
}

// spawn starts the lane's actor.
func (l *lane) spawn(sys *System) {
	name := ownPrefix + "lane/" + l.peer.name + "/" + strconv.Itoa(l.index) + "/" + strconv.FormatUint(l.peer.remote.stats.lanes.Add(1), 10)
	pid, err := sys.SpawnSupervised(sys.Props(func() actor.Actor { return &laneActor{lane: l} }), name, Never())
	l.peer.mu.Lock()
	defer l.peer.unlock()
	if l.pid = pid; err != nil {
		l.peer.down(l, ErrClosed)
	}
}

// hasCredit reports whether a message may be sent to its target. Called with mu held.
func (l *lane) hasCredit(out *outgoing) bool {
	if out.frame.kind != frameTell {
		return true
	}
	number, known := l.tables.targets.find(out.frame.target)
	return !known || l.credits[number].used < l.credits[number].limit
}

// hear acts on what the peer says about frames.
func (l *lane) hear(b []byte) error {
	l.peer.mu.Lock()
	defer l.peer.unlock()
	if l.peer.lanes[l.index] != l {
		return nil // it was given up
	}
	for len(b) > 0 {
		r, rest, err := cutRecord(b)
		if err == nil {
			err = l.heard(r)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (l *lane) heard(r record) error {
	switch r.kind {
	case recordHandled:
		if r.number > l.sent || r.number < l.handled {
			return fmt.Errorf("%w: %d frames handled, %d sent", messages.ErrProtocol, r.number, l.sent)
		}
		l.settle(r.number)
		l.peer.resume(l)
	case recordGranted:
		if r.number >= uint64(len(l.credits)) {
			return fmt.Errorf("%w: credit for a target that was not named", messages.ErrProtocol)
		}
		c := &l.credits[r.number]
		c.limit = max(c.limit, min(r.limit, c.used+fullCredit)) // it may have been for the name before
		if f := l.peer.flows[l.tables.targets.list[r.number]]; f != nil && f.listed == nil {
			l.peer.drain(f)
		}
	case recordRefused:
		if r.number < l.handled || r.number >= l.sent {
			return fmt.Errorf("%w: frame %d refused, %d to %d wait", messages.ErrProtocol, r.number, l.handled, l.sent)
		}
		if l.refused == nil {
			l.refused = map[uint64]error{}
		}
		l.refused[r.number] = messages.FromCode(r.code, r.text)
	case recordTerminated:
		l.peer.terminated(r.text, r.why)
	}
	return nil
}

// settle takes frames off the list that were handled. Called with mu held.
func (l *lane) settle(handled uint64) {
	for ; l.handled < handled; l.handled++ {
		f := l.frames.pop(&sentRooms)
		why := l.refused[l.handled]
		delete(l.refused, l.handled)
		switch {
		case why != nil:
			l.peer.fail(f, why, false)
		case f.confirm != nil:
			confirm := f.confirm
			l.peer.told = append(l.peer.told, func() { confirm(nil) })
		}
	}
}

// up has everything sent that waits for the stream, now that it is known which process it
// leads to. Called with mu held.
func (p *peer) up(l *lane) {
	if p.lanes[l.index] != l {
		return // it was given up
	}
	l.known = true
	if l.early {
		l.early = false
		l.batch.empty()
	}
	address := l.stream.Address()
	switch {
	case address < p.address: // it has taken so long to open that it leads to a former process
		p.told = append(p.told, l.stream.Reset)
		p.again(p.drop(l, ErrPeerGone), ErrPeerGone, true)
		return
	case address > p.address && p.address != "":
		p.gone(ErrPeerGone, address, l)
	}
	p.address = address
	p.resume(l)
}

// met notes which process of the peer speaks: if it is a later one than that which the
// lanes lead to, or which has spoken, that is gone. Addresses of one client are in the
// order of its processes.
func (p *peer) met(address string) {
	p.mu.Lock()
	defer p.unlock()
	switch {
	case p.address == "":
		p.address = address
	case address > p.address:
		p.gone(ErrPeerGone, address, nil)
	}
}

// gone acts on the end of the peer's process. It has another one, if address is not
// empty, to which one lane may lead already. Called with mu held.
func (p *peer) gone(why error, address string, but *lane) {
	former := p.address
	p.address = address
	var stranded []*flow
	for _, l := range p.lanes {
		if l != nil && l != but && l.known {
			stranded = append(stranded, p.drop(l, why)...)
		}
	}
	p.again(stranded, why, errors.Is(why, ErrPeerGone)) // another process may have its name
	p.loseWatches(former, why)
}

// down acts on the end of a lane. If it was open, the peer forgets what came on it,
// watches too: then the others end as well. Called with mu held.
func (p *peer) down(l *lane, why error) {
	switch {
	case p.lanes[l.index] != l: // that is known
	case !l.known:
		p.again(p.drop(l, why), why, false)
	default:
		p.gone(why, "", nil)
	}
}

// drop gives up a lane: what was sent and not handled is in doubt. It returns the flows
// for which something may wait. Called with mu held.
func (p *peer) drop(l *lane, why error) (stranded []*flow) {
	if !l.early { // else it may be taken yet: it is in doubt, too
		l.untaken(&l.batch)
	}
	if !l.pushing {
		l.untaken(&l.pushed)
	}
	l.over, l.pushing, l.early, l.batch, l.pushed = true, false, false, laneBatch{}, laneBatch{}
	p.lanes[l.index] = nil
	if l.pid != nil {
		pid, as := l.pid, p.remote.sys.as
		p.told = append(p.told, func() { stopActor(as, pid) })
	}
	for i := range l.frames.len() {
		f := l.frames.at(i)
		if f.message != nil || f.confirm != nil {
			p.fail(*f, why, true)
		}
	}
	l.frames = ring[sentFrame]{}
	for _, f := range p.flows {
		if f.lane == l || f.listed == l {
			f.lane, f.listed = nil, nil
			stranded = append(stranded, f)
		}
	}
	return stranded
}

// again sends what waited for lanes that are over on other ones, if keep is set and it is
// not for a former process, or gives it up. Called with mu held.
func (p *peer) again(stranded []*flow, why error, keep bool) {
	slices.SortFunc(stranded, func(a, b *flow) int { return cmp.Compare(a.target, b.target) })
	for _, f := range stranded {
		queue := f.queue
		p.queued -= f.queued
		f.queue, f.queued = ring[*outgoing]{}, 0
		for queue.len() > 0 {
			if out := queue.pop(&outgoingRooms); keep && !p.isFormer(out.pid) {
				p.enqueue(f, out)
			} else {
				p.fail(out.sent(), why, false)
				out.free()
			}
		}
		p.tellRoom(f)
	}
}

// laneActor is the actor of a [lane].
type laneActor struct {
	lane *lane
	life Life
}

// Receive implements actor.Actor.
func (a *laneActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.life = Begin()
		life, root, self := a.life, ctx.ActorSystem().Root, ctx.Self()
		a.lane.peer.remote.sys.Pumps.Go(func() {
			tell := func(message any) { root.Send(self, message) }
			root.Send(self, laneEnded{life, a.lane.carry(life, tell)})
		})
	case laneOpened:
		a.lane.peer.mu.Lock()
		a.lane.peer.opened(a.lane, msg.stream)
		a.lane.peer.unlock()
	case laneRefused:
		a.lane.peer.mu.Lock()
		a.lane.peer.refused(a.lane)
		a.lane.peer.unlock()
	case laneAnswered:
		a.lane.peer.mu.Lock()
		a.lane.peer.up(a.lane)
		a.lane.peer.unlock()
	case laneEnded:
		a.lane.peer.mu.Lock()
		a.lane.peer.down(a.lane, lostReason(msg.err))
		a.lane.peer.unlock()
		ctx.Stop(ctx.Self())
	case *actor.Stopping:
		a.life.End()
		a.lane.peer.mu.Lock()
		a.lane.peer.down(a.lane, ErrClosed)
		stream := a.lane.stream
		a.lane.peer.unlock()
		if stream != nil {
			stream.Reset()
		}
	}
}

// listen is a pump: it hears what the peer says until the stream is over.
func (l *lane) listen(ctx context.Context, stream LaneStream) error {
	err := stream.ReceiveAll(ctx, func(b []byte, _ bool) error { return l.hear(b) })
	if errors.Is(err, messages.ErrProtocol) {
		stream.Reset()
	}
	return err
}
