package actors

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// Lanes to a peer. Messages for one actor take one lane, so that they stay in order;
// those for different actors may take different ones, so that the loss of a packet
// does not stop them all. Large messages have a lane of their own, which gives way:
// see flow.
const (
	smallLanes   = 4
	bulkLane     = smallLanes
	numLanes     = smallLanes + 1
	largeMessage = 32 << 10 // bytes, from which on a message is large
)

// maxPeers is how many peers a system remembers.
const maxPeers = 1 << 16

// Credit for one target, in cost.
const (
	firstCredit = 64 << 10 // at first, as both sides know
	fullCredit  = 2 << 20  // while the receiver has memory for the peer
)

// peer is the process behind all PIDs of one other client: it sends to its actors. A
// message is encoded by who sends it, and handed to the stream of its lane at once if
// that takes it; else it waits with its flow.
//
// Shared by all who send and by the pumps of its lanes, under mu, which is held while
// a stream's lock is wanted and not the other way around.
type peer struct {
	remote *Remote
	name   string
	inward inward // what the peer may reach here

	answers atomic.Bool // something has come from the peer since something was sent to it

	mu      sync.Mutex
	address string // of the process that the lanes lead to; empty if it is not known
	flows   map[string]*flow
	recent  *flow                          // the one of them that was used last; nil: none
	lanes   [numLanes]*lane                // nil: there is none now
	crowd   int                            // of flows, at which idle ones are forgotten
	unsent  bool                           // lanes have frames in their batches
	queued  int                            // cost of what waits with flows
	watches map[string]map[string]watcher  // by the watched actor's id, and the watcher's
	byWho   map[string]map[string]struct{} // what actors of this system watch: ids by id
	drains  []chan struct{}                // of those who wait until everything was handled
	told    []func()                       // to be called when mu is given back
}

// flow is all that goes to one actor of a peer.
type flow struct {
	target string
	home   int    // the lane of its small messages
	number uint32 // of the target where it was sent last
	lane   *lane  // that carried its last frame; nil if that was handled
	last   uint64 // frames on that lane, with its last
	queue  ring[*outgoing]
	queued int           // cost
	room   chan struct{} // closed when there is some for who waits; nil if nobody does
	listed *lane         // that it waits for; nil if it waits for credit, or for nothing
}

// idle reports whether there is nothing to remember. Called with mu held.
func (f *flow) idle() bool {
	return f.queue.len() == 0 && (f.lane == nil || f.last <= f.lane.handled)
}

func newPeer(r *Remote, name string) *peer {
	return &peer{
		remote: r, name: name, flows: map[string]*flow{}, crowd: maxFlows,
		watches: map[string]map[string]watcher{}, byWho: map[string]map[string]struct{}{},
	}
}

// SendUserMessage implements actor.Process: it does not block.
func (p *peer) SendUserMessage(pid *actor.PID, message any) {
	if err := p.send(pid, message, nil); err != nil {
		p.remote.sys.undeliverable(pid, message, err, false)
	}
}

// send takes a message, or says why not. confirm, if not nil, is called once with
// whether a message that was taken was delivered.
func (p *peer) send(pid *actor.PID, message any, confirm func(error)) error {
	out, err := p.encode(pid, message)
	if err == nil {
		out.confirm = confirm
		p.mu.Lock()
		defer p.unlock()
		err = p.take(out)
	}
	if err != nil {
		out.free()
	}
	return err
}

// sendWait is send, but waits until there is room, or ctx ends.
func (p *peer) sendWait(ctx context.Context, pid *actor.PID, message any, confirm func(error)) error {
	out, err := p.encode(pid, message)
	if err == nil {
		out.confirm = confirm
		p.mu.Lock()
		defer p.unlock()
		err = p.await(ctx, out)
	}
	if err != nil {
		out.free()
	}
	return err
}

// await takes a message as soon as there is room. If it is small, that is when no other waits for
// the same actor: who sends it writes it to the lane's batch then, which is cheaper than to queue
// it for another to do so. Called with mu held.
func (p *peer) await(ctx context.Context, out *outgoing) error {
	for {
		f := p.flow(out.frame.target) // anew: it may have been forgotten
		if p.remote.closed.Load() || f.queue.len() == 0 || out.isAlone() && p.hasRoom(f, out, waitQueue, waitShare) {
			return p.takeFor(f, out)
		}
		if f.room == nil {
			f.room = make(chan struct{})
		}
		room := f.room
		p.unlock()
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if p.mu.Lock(); err != nil {
			return err
		}
	}
}

// Messages that go alone may wait for an actor although others do and their sender waits for room,
// so that it need not wake up for each: as long as not more wait than so many bytes, and than a
// part of the limit for all actors.
const (
	waitQueue = 256 << 10
	waitShare = 8
)

// tellRoom lets those look again who wait for room for messages to an actor. Called with mu
// held.
func (p *peer) tellRoom(f *flow) {
	if f.room != nil {
		close(f.room)
		f.room = nil
	}
}

// unlock gives mu back, and tells what was lost, since who hears of it may send.
func (p *peer) unlock() {
	p.settleDrains()
	if p.unsent {
		p.unsent = false
		for _, l := range p.lanes {
			if l != nil {
				l.sendIdle()
			}
		}
	}
	told := p.told
	p.told = nil
	p.mu.Unlock()
	for _, tell := range told {
		tell()
	}
}

// fail has it told that a message was not delivered. Called with mu held.
func (p *peer) fail(out sentFrame, err error, inDoubt bool) {
	pid, message, confirm := out.pid, out.message, out.confirm
	p.told = append(p.told, func() {
		if confirm != nil && inDoubt {
			confirm(fmt.Errorf("%w: %w", err, ErrInDoubt))
		} else if confirm != nil {
			confirm(err)
		}
		if message != nil {
			p.remote.stats.lost(inDoubt)
			p.remote.sys.undeliverable(pid, message, err, inDoubt)
		}
	})
}

// encode makes what is sent of a message. What it returns is to be freed, whether there
// is an error or not.
func (p *peer) encode(pid *actor.PID, message any) (*outgoing, error) {
	header, body, sender := actor.UnwrapEnvelope(message)
	out := newOutgoing(pid)
	out.message = message
	if body == nil {
		return out, fmt.Errorf("%w: nil message", messages.ErrRefused)
	}
	if err := checkID(pid); err != nil {
		return out, err
	}
	if _, isPill := body.(*actor.PoisonPill); isPill {
		out.about(frameStop, stopAfter)
		return out, nil
	}
	typ, buffer, err := p.remote.codecs.encode(out.buffer, body)
	if err != nil {
		return out, err
	}
	out.buffer = buffer
	if size, limit := len(buffer)-headRoom, p.remote.config.MaxMessage-maxHead; size > limit {
		return out, &messages.SizeError{Size: size, Limit: limit}
	}
	return out, p.head(out, typ, header, sender)
}

// head makes the frame of a message whose body is there.
func (p *peer) head(out *outgoing, typ string, header actor.ReadonlyMessageHeader, sender *actor.PID) (err error) {
	f := &out.frame // which is zero
	f.kind, f.target, f.targetRequest, f.typ = frameTell, out.pid.GetId(), out.pid.GetRequestId(), typ
	if header != nil && header.Length() > 0 {
		f.headers = header.ToMap()
		if err = checkHeaders(f.headers); err != nil {
			return err
		}
	}
	if sender != nil {
		if err = p.remote.passes.senderOf(sender, p.remote.sys.as.Address(), f); err != nil {
			return err
		}
		if f.sender == asksID && !f.signed {
			p.remote.sys.asks.sentTo(sender.RequestId, p.name)
		}
	}
	out.cost = f.cost(len(out.buffer) - headRoom)
	return nil
}

// Bodies of frames that stop an actor.
const (
	stopNow   = "\x00"
	stopAfter = "\x01" // what is in its mailbox
)

// checkID says why an actor of a peer can not be named.
func checkID(pid *actor.PID) error {
	if len(pid.GetId()) > maxID || pid.GetId() == "" {
		return fmt.Errorf("%w: an actor's id has 1 to %d bytes", messages.ErrRefused, maxID)
	}
	return nil
}

// hasRoom reports whether a message may wait, within so many bytes for its target and a part of the
// limit for all. Called with mu held.
func (p *peer) hasRoom(f *flow, out *outgoing, most, share int) bool {
	limits := &p.remote.config.Limits
	return f.queued == 0 || f.queued+out.cost <= min(most, limits.TargetQueue) && p.queued+out.cost <= limits.PeerQueue/share
}

// take sends a message or has it wait. It is the caller's to free it if there is an
// error. Called with mu held.
func (p *peer) take(out *outgoing) error { return p.takeFor(p.flow(out.frame.target), out) }

func (p *peer) takeFor(f *flow, out *outgoing) error {
	if p.remote.closed.Load() {
		return ErrClosed
	}
	if p.isFormer(out.pid) {
		return ErrPeerGone
	}
	if f.queue.len() == 0 {
		if sent, err := p.write(f, out); sent || err != nil {
			return err
		}
	}
	if !p.hasRoom(f, out, math.MaxInt, 1) {
		p.remote.stats.overflows.Add(1)
		return fmt.Errorf("%w: %d bytes wait for this actor, and %d for all of its client", ErrOverflow, f.queued, p.queued)
	}
	p.enqueue(f, out)
	return nil
}

// enqueue has a message wait, whatever waits already. Called with mu held.
func (p *peer) enqueue(f *flow, out *outgoing) {
	f.queue.push(&outgoingRooms, out)
	f.queued += out.cost
	p.queued += out.cost
	if f.listed == nil { // it waits for credit on a lane that may not be the one to take any more
		p.drain(f)
	}
}

// isFormer reports whether a PID is of another process than the one that the lanes
// lead to.
func (p *peer) isFormer(pid *actor.PID) bool {
	return p.address != "" && pid.Address != p.address && !p.isForAny(pid)
}

// maxFlows is how many flows a peer may have until those that are idle are forgotten.
const maxFlows = 2 * maxTargets

func (p *peer) flow(target string) *flow {
	if p.recent != nil && p.recent.target == target {
		return p.recent
	}
	if f := p.flows[target]; f != nil {
		p.recent = f
		return f
	}
	if len(p.flows) >= p.crowd {
		maps.DeleteFunc(p.flows, func(_ string, f *flow) bool { return f.idle() })
		p.crowd, p.recent = max(maxFlows, 2*len(p.flows)), nil
	}
	f := &flow{target: target, home: home(target)}
	p.flows[target], p.recent = f, f
	return f
}

// home returns the lane of small messages for a target.
func home(target string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(target)) // never fails (package hash)
	return int(hash.Sum32() % smallLanes)
}

// laneOf returns the lane that the next message of a flow takes, nil if it must wait
// until its present one has nothing to be handled. A large message takes the bulk
// lane, and what follows it, too, until all of it was handled: else it would be
// overtaken. Called with mu held.
func (p *peer) laneOf(f *flow, out *outgoing) *lane {
	want := f.home
	if out.isLarge() {
		want = bulkLane
	}
	switch {
	case f.lane == nil || f.lane.index == want:
	case f.last <= f.lane.handled:
		f.lane = nil
	case want == bulkLane:
		return nil
	default:
		want = bulkLane
	}
	if p.lanes[want] == nil {
		p.lanes[want] = newLane(p, want)
	}
	return p.lanes[want]
}

// write hands a message to the stream of its lane, which frees it. It returns false if it
// has to wait; an error is the message's. Called with mu held.
func (p *peer) write(f *flow, out *outgoing) (sent bool, err error) {
	on := p.laneOf(f, out)
	if on == nil || !on.ready() || !on.known && !p.isForAny(out.pid) {
		return false, nil
	}
	if p.isFormer(out.pid) {
		return false, ErrPeerGone
	}
	on.tables.targets.last = f.number // most likely
	if !on.hasCredit(out) || !on.write(out) {
		return false, nil
	}
	f.number = on.tables.targets.last
	f.lane, f.last = on, on.sent
	return true, nil
}

// list puts a flow that could not send on the list of the lane that it waits for, unless
// it waits for credit: then a grant has it sent. Called with mu held.
func (p *peer) list(f *flow) {
	if f.queue.len() == 0 {
		return
	}
	on := p.laneOf(f, *f.queue.at(0))
	switch {
	case on == nil:
		on = f.lane
		on.flush()
	case on.ready() && !on.hasCredit(*f.queue.at(0)):
		if f.lane == nil {
			f.lane, f.last = on, 0
		}
		return
	}
	f.listed = on
	on.waiting = append(on.waiting, f)
}

// resume sends what waits for a lane. Called with mu held.
func (p *peer) resume(on *lane) {
	waiting := on.waiting
	on.waiting = nil
	for _, f := range waiting {
		f.listed = nil
		p.drain(f)
	}
}

// drain sends what a flow has, as far as it may. Called with mu held.
func (p *peer) drain(f *flow) {
	for f.queue.len() > 0 {
		out := *f.queue.at(0)
		cost := out.cost // it may be the lane's then
		sent, err := p.write(f, out)
		if !sent && err == nil {
			break
		}
		f.queue.pop(&outgoingRooms)
		f.queued -= cost
		p.queued -= cost
		if err != nil {
			p.fail(out.sent(), err, false)
			out.free()
		}
	}
	p.list(f)
	if f.queue.len() == 0 || f.queued <= waitQueue/2 && (*f.queue.at(0)).isAlone() {
		p.tellRoom(f)
	}
}
