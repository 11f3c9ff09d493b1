package actors

import (
	"fmt"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// PeerLost is published on a system's EventStream when the process of a peer with
// which actors had to do is gone or given up; those that watch its actors receive
// Terminated just after.
type PeerLost struct {
	// Peer is its name.
	Peer string
	// Err is [ErrPeerGone], [ErrPeerUnreachable], or why there is no way to it.
	Err error
}

// watcher is an actor here that watches one of a peer, with its PID as the watcher named
// it. There is one frame for all that watch the same.
type watcher struct{ who, watched *actor.PID }

// SendSystemMessage implements actor.Process.
func (p *peer) SendSystemMessage(pid *actor.PID, message any) {
	switch message := message.(type) {
	case *actor.Watch:
		p.watch(pid, message.GetWatcher())
	case *actor.Unwatch:
		p.unwatch(pid, message.GetWatcher())
	case *actor.Stop:
		p.Stop(pid)
	default:
		p.remote.sys.undeliverable(pid, message, fmt.Errorf("%w: %T does not cross the network", messages.ErrRefused, message), false)
	}
}

// Stop implements actor.Process: it stops an actor that was spawned from here.
func (p *peer) Stop(pid *actor.PID) {
	out := newOutgoing(pid)
	out.message = &actor.Stop{}
	out.about(frameStop, stopNow)
	if err := p.system(pid, out); err != nil {
		p.remote.sys.undeliverable(pid, &actor.Stop{}, err, false)
	}
}

// system sends a frame that is no message.
func (p *peer) system(pid *actor.PID, out *outgoing) error {
	if err := checkID(pid); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	return p.take(out)
}

// frameOf makes a frame of a kind about an actor.
func (p *peer) frameOf(pid *actor.PID, kind byte) *outgoing {
	out := newOutgoing(pid)
	out.about(kind, "")
	return out
}

// watch has an actor told of the end of one of the peer's.
func (p *peer) watch(pid, who *actor.PID) {
	if who == nil {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	if p.isFormer(pid) || checkID(pid) != nil || p.remote.closed.Load() {
		p.tell(watcher{who, pid}, actor.TerminatedReason_NotFound)
		return
	}
	watchers := p.watches[pid.GetId()]
	if watchers == nil {
		watchers = map[string]watcher{}
		p.watches[pid.GetId()] = watchers
	}
	watchers[who.GetId()] = watcher{who, pid}
	if p.byWho[who.GetId()] == nil {
		p.byWho[who.GetId()] = map[string]struct{}{}
	}
	p.byWho[who.GetId()][pid.GetId()] = struct{}{}
	p.told = append(p.told, func() { p.remote.heed(who) })
	if len(watchers) > 1 {
		return
	}
	out := p.frameOf(pid, frameWatch)
	out.confirm = func(err error) { // if it was not delivered, nobody will answer
		if err != nil {
			p.mu.Lock()
			defer p.unlock()
			p.terminated(pid.GetId(), reasonOf(err))
		}
	}
	if err := p.take(out); err != nil {
		p.terminated(pid.GetId(), reasonOf(err))
	}
}

// reasonOf is why an actor is taken for terminated that could not be watched.
func reasonOf(err error) actor.TerminatedReason {
	if code, _ := messages.ToCode(err); code == codeNoSuchActor {
		return actor.TerminatedReason_NotFound
	}
	return actor.TerminatedReason_AddressTerminated
}

var codeNoSuchActor, _ = messages.ToCode(messages.ErrNoSuchActor)

// unwatch ends that.
func (p *peer) unwatch(pid, who *actor.PID) {
	p.mu.Lock()
	defer p.unlock()
	p.endWatch(pid, who)
}

// endWatch does so. Called with mu held.
func (p *peer) endWatch(pid, who *actor.PID) {
	watchers := p.watches[pid.GetId()]
	if watchers == nil {
		return
	}
	delete(watchers, who.GetId())
	p.unlist(who.GetId(), pid.GetId())
	if len(watchers) == 0 {
		delete(p.watches, pid.GetId())
		_ = p.take(p.frameOf(pid, frameUnwatch)) // if the peer is lost, nothing is watched any more
	}
}

// heed has the end of an actor that watches one of a peer noticed, since proto.actor does
// not take its watches back.
func (r *Remote) heed(who *actor.PID) {
	process, _ := r.sys.as.ProcessRegistry.Get(who)
	if _, ok := process.(*actor.ActorProcess); ok { // others, such as futures, take it for an answer
		process.SendSystemMessage(who, &actor.Watch{Watcher: r.keeper})
	}
}

// keeper is the process that hears of the end of local actors that watch others.
type keeper struct{ remote *Remote }

// SendSystemMessage implements actor.Process. It runs on the goroutine of the actor that
// has ended.
func (k keeper) SendSystemMessage(_ *actor.PID, message any) {
	ended, ok := message.(*actor.Terminated)
	if !ok {
		return
	}
	for _, p := range k.remote.list() {
		p.mu.Lock()
		for _, id := range slices.Sorted(maps.Keys(p.byWho[ended.GetWho().GetId()])) {
			w := p.watches[id][ended.GetWho().GetId()]
			p.endWatch(w.watched, w.who)
		}
		p.unlock()
	}
}

// SendUserMessage does nothing: nobody knows the PID.
func (keeper) SendUserMessage(*actor.PID, any) {}

// Stop does nothing.
func (keeper) Stop(*actor.PID) {}

// terminated tells who watches an actor that it has ended. Called with mu held.
func (p *peer) terminated(id string, why actor.TerminatedReason) {
	watchers := p.watches[id]
	delete(p.watches, id)
	for _, who := range slices.Sorted(maps.Keys(watchers)) {
		p.unlist(who, id)
		p.tell(watchers[who], why)
	}
}

// unlist takes a watch off the list of who watches. Called with mu held.
func (p *peer) unlist(who, watched string) {
	delete(p.byWho[who], watched)
	if len(p.byWho[who]) == 0 {
		delete(p.byWho, who)
	}
}

// tell tells one watcher, when mu is given back. Called with mu held.
func (p *peer) tell(w watcher, why actor.TerminatedReason) {
	p.told = append(p.told, func() {
		process, _ := p.remote.sys.as.ProcessRegistry.GetLocal(w.who.GetId())
		process.SendSystemMessage(w.who, &actor.Terminated{Who: w.watched, Why: why})
	})
}

// loseWatches tells everybody who watches an actor of the peer that its process, which
// had the address former, has ended. Called with mu held.
func (p *peer) loseWatches(former string, why error) {
	name, sys := p.name, p.remote.sys
	p.told = append(p.told, func() {
		publish(sys.as, &PeerLost{Peer: name, Err: why})
		if peers := p.remote.onPeers.Load(); peers != nil {
			peers.lost(name, former, why)
		}
	})
	for _, id := range slices.Sorted(maps.Keys(p.watches)) {
		p.terminated(id, actor.TerminatedReason_AddressTerminated)
	}
}
