package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// peerID is the id by which a peer reaches its own actor here ([Remote.OnPeer]).
const peerID = "peer"

// PeerConfig says which actors there are for peers ([Remote.OnPeer]): a peer's actor is
// spawned with its first channel, or its first message, or, with Present, as soon as the
// peer is attached. Zero fields mean the defaults.
type PeerConfig struct {
	// Props returns the props of the actor for a peer; nil means that it gets none.
	Props func(peer string) *actor.Props
	// Who has an actor. If nil, all peers.
	Who Who
	// Present is a pattern of names ([messages.CheckPattern]). Peers that match have an
	// actor as soon as they are attached to the coordinator, and count as present while
	// they are, or have a channel; what they publish about themselves is told as
	// [PeerMetadata]. If empty, peers are present while they have a channel.
	Present string
	// Leave is how long a peer may be absent until it has left for good. If zero, 10
	// minutes; if negative, it never does.
	Leave time.Duration
	// Supervisor decides about an actor that fails. If nil, a [Backoff] with its
	// defaults; a peer whose actor gave up gets a new one when it speaks again.
	Supervisor actor.SupervisorStrategy
}

// What the actor of a peer is told.
type (
	// PeerPresent comes first, and each time that the peer is there again.
	PeerPresent struct {
		// Peer is its name.
		Peer string
		// Again tells that it was there before, and Restarted that this is another
		// process of it: what the former one had is gone.
		Again, Restarted bool
	}
	// PeerPath comes when there is a way to the peer, or another one.
	PeerPath struct {
		// Peer is its name.
		Peer string
		// Relayed tells whether its packets take the coordinator's relay.
		Relayed bool
		// Remote is the address that they go to.
		Remote string
	}
	// PeerAbsent comes when there is no way to the peer now, and it is not known to be
	// attached.
	PeerAbsent struct {
		// Peer is its name.
		Peer string
		// Err is why.
		Err error
	}
	// PeerMetadata comes with PeerConfig.Present, when the peer publishes something else
	// about itself. It is not to be changed.
	PeerMetadata struct {
		// Peer is its name.
		Peer string
		// Metadata is what it publishes now.
		Metadata map[string]string
	}
	// PeerLeft comes last, when the peer has left for good. The actor is stopped after it.
	PeerLeft struct {
		// Peer is its name.
		Peer string
	}
)

// Noticed is what a client has noticed of a peer ([Remote.Notice]).
type Noticed struct {
	// Peer is its name.
	Peer string
	// Up tells that a channel to it was opened, Down that one was lost.
	Up, Down bool
	// Path is set if the path of a channel has changed.
	Path *PeerPath
	// Err is why it was lost.
	Err error
}

// onPeers is what OnPeer has made. Its actor is the parent of the peers' actors.
type onPeers struct {
	remote *Remote
	config PeerConfig
	pid    *actor.PID

	mu     sync.Mutex
	actors map[string]*actor.PID // by peer
}

// OnPeer has one actor for each peer, supervised, which knows what becomes of it: it
// receives [PeerPresent], [PeerPath], [PeerAbsent] and at last [PeerLeft]. The peer
// reaches it as PID(<this client>, "peer"); [Remote.PeerActor] returns it. A second call
// returns an error. Errors are those of [System.Spawn], and of a pattern in
// PeerConfig.Present.
func (r *Remote) OnPeer(config PeerConfig) error {
	if config.Leave == 0 {
		config.Leave = 10 * time.Minute
	}
	if config.Supervisor == nil {
		config.Supervisor = &Backoff{}
	}
	if err := r.checkPresent(config.Present); err != nil {
		return fmt.Errorf("actors of peers: %w", err)
	}
	o := &onPeers{remote: r, config: config, actors: map[string]*actor.PID{}}
	pid, err := r.sys.SpawnSupervised(r.sys.Props(func() actor.Actor { return &peersActor{on: o} }, actor.WithSupervisor(config.Supervisor)), "peers", Permanent())
	if err != nil {
		return err
	}
	o.pid = pid
	r.noticing.Lock()
	defer r.noticing.Unlock()
	r.onPeers.Store(o)
	r.mu.Lock()
	channels := maps.Clone(r.channels)
	r.mu.Unlock()
	for _, peer := range slices.Sorted(maps.Keys(channels)) {
		r.sys.Root.Send(pid, noticed{Noticed{Peer: peer, Up: true}, channels[peer]})
	}
	return nil
}

// PeerActor returns the actor of a peer, nil if it has none now.
func (r *Remote) PeerActor(peer string) *actor.PID {
	o := r.onPeers.Load()
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.actors[peer]
}

// peerActor returns the actor of a peer that speaks to it. It blocks for a moment.
func (r *Remote) peerActor(peer string) *actor.PID {
	if pid := r.PeerActor(peer); pid != nil {
		return pid
	}
	o := r.onPeers.Load()
	if o == nil {
		return nil
	}
	const patience = 5 * time.Second // it answers at once, unless the program's Props does not
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pid, err := Ask[*actor.PID](ctx, r.sys, o.pid, spawnPeer{peer})
	if err != nil || pid.GetId() == "" {
		return nil
	}
	return pid
}

// Notice tells the system what its client has noticed of a peer. It does not block.
func (r *Remote) Notice(n Noticed) {
	r.noticing.Lock()
	defer r.noticing.Unlock()
	channels := r.count(n)
	if o := r.onPeers.Load(); o != nil {
		r.sys.Root.Send(o.pid, noticed{n, channels})
	}
}

// count returns how many channels to the peer are up then.
func (r *Remote) count(n Noticed) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	channels := r.channels[n.Peer]
	switch {
	case n.Up:
		channels++
	case n.Down:
		channels = max(channels-1, 0)
	}
	if r.channels[n.Peer] = channels; channels == 0 {
		delete(r.channels, n.Peer)
	}
	return channels
}

// lost hears that a peer's process is gone, whose actors had an address.
func (o *onPeers) lost(peer, address string, why error) {
	if errors.Is(why, ErrPeerGone) {
		o.remote.sys.Root.Send(o.pid, peerRestarts{peer, address})
	}
}

// Told to the parent of the peers' actors.
type (
	noticed struct {
		Noticed
		channels int // that are up
	}
	spawnPeer    struct{ peer string }
	peerRestarts struct{ peer, address string }
	peerLeaves   struct {
		Life
		peer string
		wait uint64
	}
)

// peersActor is the parent of the actors of peers.
//
//	behavior  message       does
//	any       noticed       spawns an actor, or tells it
//	any       spawnPeer     spawns an actor, and answers with its PID
//	any       peerRestarts  notes that the peer's process is gone, and tells its actor if there is another
//	any       sighted       spawns an actor, or tells it
//	any       peerLeaves    tells the actor that its peer has left, and stops it
//	any       Terminated    forgets an actor
//
// Parent: the system's root, which restarts it; the actors of peers end with it, and
// are spawned again when something is noticed.
type peersActor struct {
	on    *onPeers
	life  Life
	known map[string]*knownPeer
	there map[string]bool // peers that are attached, with PeerConfig.Present
	apart Apart
}

// knownPeer is what is known of a peer that has, or could have, an actor.
type knownPeer struct {
	pid      *actor.PID
	channels int               // that are up
	present  bool              // as the actor was told
	greeted  bool              // the actor was told at all
	gone     bool              // its process is gone since it was present
	address  string            // of its actors in the last process that was sighted; empty: none was
	ended    string            // of those in the last process that is known to be gone
	metadata map[string]string // as the actor was told
	timer    *time.Timer
	wait     uint64 // of the timer
}

// Receive implements actor.Actor.
func (a *peersActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		a.life, a.known, a.there = Begin(), map[string]*knownPeer{}, map[string]bool{}
		if a.on.config.Present != "" {
			a.look(ctx)
		}
	case *actor.Stopping, *actor.Restarting:
		a.life.End()
		for _, peer := range slices.Sorted(maps.Keys(a.known)) {
			a.forget(peer)
		}
	case noticed:
		a.noticed(ctx, msg)
	case sighted:
		if msg.Of(a.life) {
			a.sight(ctx, msg.Sighted)
		}
	case spawnPeer:
		pid := &actor.PID{}
		if k := a.ensure(ctx, msg.peer); k != nil {
			a.update(ctx, msg.peer, k, nil)
			pid = k.pid
		}
		ctx.Respond(pid)
	case peerRestarts:
		if k := a.known[msg.peer]; k != nil {
			if k.ends(msg.address) && a.reachable(msg.peer, k) {
				a.update(ctx, msg.peer, k, nil)
			}
		}
	case peerLeaves:
		if k := a.known[msg.peer]; msg.Of(a.life) && k != nil && k.wait == msg.wait && !a.reachable(msg.peer, k) {
			ctx.Send(k.pid, &PeerLeft{Peer: msg.peer})
			ctx.Poison(k.pid)
			a.forget(msg.peer)
		}
	case *actor.Terminated:
		for peer, k := range a.known {
			if same(k.pid, msg.GetWho()) {
				a.forget(peer)
				return
			}
		}
	}
}

// noticed acts on what was noticed of a peer.
func (a *peersActor) noticed(ctx actor.Context, n noticed) {
	k := a.known[n.Peer]
	if k == nil && n.Up {
		k = a.ensure(ctx, n.Peer)
	}
	if k == nil {
		return
	}
	k.channels = n.channels
	a.update(ctx, n.Peer, k, n.Err)
	if n.Path != nil {
		ctx.Send(k.pid, n.Path)
	}
}

// ensure returns what is known of a peer, with an actor; nil if it is to have none.
func (a *peersActor) ensure(ctx actor.Context, peer string) *knownPeer {
	if k := a.known[peer]; k != nil {
		return k
	}
	if !a.on.config.Who.allows(peer) || len(a.known) >= maxPeers {
		return nil
	}
	props := a.on.config.Props(peer)
	if props == nil {
		return nil
	}
	pid, err := ctx.SpawnNamed(props, peer)
	if err != nil {
		ctx.Logger().Error("no actor for a peer", "peer", peer, "err", err)
		return nil
	}
	k := &knownPeer{pid: pid}
	a.known[peer] = k
	return k
}

// reachable reports whether there is a way to a peer, or it is attached.
func (a *peersActor) reachable(peer string, k *knownPeer) bool {
	return k.channels > 0 || a.there[peer]
}

// update tells an actor whether its peer is present, if that has changed.
func (a *peersActor) update(ctx actor.Context, peer string, k *knownPeer, why error) {
	present := a.reachable(peer, k) || !k.greeted
	if k.greeted && present == k.present && (!present || !k.gone) {
		return
	}
	again := k.greeted
	k.greeted, k.present = true, present
	if present {
		ctx.Send(k.pid, &PeerPresent{Peer: peer, Again: again, Restarted: again && k.gone})
		a.on.reaches(peer, k.pid) // not before: that comes first
		k.gone = false
		a.stop(k)
		if !a.reachable(peer, k) { // it spoke, over a channel that is not known to be up
			a.leave(ctx, peer, k)
		}
		return
	}
	ctx.Send(k.pid, &PeerAbsent{Peer: peer, Err: why})
	a.leave(ctx, peer, k)
}

// leave has a peer taken for gone for good if it stays away.
func (a *peersActor) leave(ctx actor.Context, peer string, k *knownPeer) {
	a.stop(k)
	if a.on.config.Leave < 0 {
		return
	}
	k.wait++
	msg := peerLeaves{a.life, peer, k.wait}
	root, self := ctx.ActorSystem().Root, ctx.Self()
	k.timer = a.apart.AfterFunc(a.on.config.Leave, func() { root.Send(self, msg) })
}

func (a *peersActor) stop(k *knownPeer) {
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}

// reaches lets a peer reach its actor.
func (o *onPeers) reaches(peer string, pid *actor.PID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.actors[peer] = pid
}

// forget takes a peer whose actor ends out of the tables.
func (a *peersActor) forget(peer string) {
	a.stop(a.known[peer])
	delete(a.known, peer)
	a.on.mu.Lock()
	defer a.on.mu.Unlock()
	delete(a.on.actors, peer)
}
