package actors

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// kindsID is the name of the actor that spawns for peers.
const kindsID = ownPrefix + "kinds"

// defaultKindLimit is how many actors of a kind one peer may have spawned.
const defaultKindLimit = 100

// KindConfig says what peers may spawn ([Remote.ExportKind]). Zero fields mean the
// defaults.
type KindConfig struct {
	// Props returns the props of an actor that a peer wants, or why it gets none. args
	// are what the peer gave, nil if nothing. It is called in an actor's Receive: it
	// must not block.
	Props func(peer string, args any) (*actor.Props, error)
	// Who may spawn. If nil, all peers.
	Who Who
	// Limit is how many actors of the kind one peer may have at a time. If zero, 100.
	Limit int
	// Supervisor decides about actors that fail. If nil, [SystemConfig.Supervisor].
	Supervisor actor.SupervisorStrategy
	// Keep keeps the actors when the peer's process is gone or unreachable for too
	// long; otherwise they are stopped then.
	Keep bool
}

// spawnFor is a wish of a peer, as it came on a lane.
type spawnFor struct {
	lane *inlane
	want *conecv1.SpawnActor
}

// kinds is what peers may spawn, and what they have spawned.
type kinds struct {
	remote *Remote
	pid    *actor.PID // of the actor that spawns; nil until there is a kind

	mu      sync.Mutex
	configs map[string]KindConfig
	spawned map[string]spawnedActor // by id
	count   uint64
}

// spawnedActor is an actor that a peer has spawned.
type spawnedActor struct {
	peer, kind string
	pid        *actor.PID
	lane       *inlane // with which it ends; nil if it does not
}

// ExportKind lets peers spawn actors of a kind here. A kind of the same name is
// replaced. Errors are those of [System.Spawn].
func (r *Remote) ExportKind(kind string, config KindConfig) error {
	if config.Limit == 0 {
		config.Limit = defaultKindLimit
	}
	k := &r.kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pid == nil {
		pid, err := r.sys.SpawnSupervised(r.sys.Props(func() actor.Actor { return &kindsActor{k} }), kindsID, Permanent())
		if err != nil {
			return err
		}
		k.pid = pid
		r.Export(kindsID, pid)
	}
	k.configs[kind] = config
	return nil
}

// SpawnAt has a peer spawn an actor of a kind that it exports, and returns its PID. args
// are what the peer's KindConfig.Props gets: a message, or nil. It blocks until the actor
// is there or refused, or ctx ends; then it may be there all the same, and is stopped
// when this process is gone. [actor.RootContext.Stop] and Poison stop it. Errors match
// [messages.ErrNoSuchActor] if there is no such kind, [messages.ErrRefused],
// [messages.ErrLimit], and what [Ask] returns.
func (r *Remote) SpawnAt(ctx context.Context, peer, kind string, args any) (*actor.PID, error) {
	spawn := &conecv1.SpawnActor{Kind: kind}
	if args != nil {
		var err error
		if spawn.Type, spawn.Args, err = r.codecs.encode(nil, args); err != nil {
			return nil, fmt.Errorf("spawn %q at %q: %w", kind, peer, err)
		}
	}
	spawned, err := Ask[*conecv1.ActorSpawned](ctx, r.sys, r.PID(peer, kindsID), spawn)
	if err == nil && spawned.GetCode() != conecv1.Code_CODE_UNSPECIFIED {
		err = messages.FromCode(spawned.GetCode(), spawned.GetReason())
	}
	if name, _, ok := parseAddress(spawned.GetAddress()); err == nil && (!ok || name != peer) {
		err = fmt.Errorf("%w: it names an actor at %q", messages.ErrProtocol, spawned.GetAddress())
	}
	if err != nil {
		return nil, fmt.Errorf("spawn %q at %q: %w", kind, peer, err)
	}
	return actor.NewPID(spawned.GetAddress(), spawned.GetId()), nil
}

// kindsActor spawns actors for peers.
//
//	behavior  message     does
//	any       SpawnActor  spawns for this very client and answers, or says why not
//	any       spawnFor    does so for a peer
//	any       Terminated  forgets an actor
//
// Parent: the system's root, which restarts it. What was spawned is not its child: it
// goes on.
type kindsActor struct{ kinds *kinds }

// Receive implements actor.Actor.
func (a *kindsActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *conecv1.SpawnActor:
		a.spawn(ctx, a.kinds.remote.config.Name, msg, nil)
	case spawnFor:
		a.spawn(ctx, msg.lane.from.name, msg.want, msg.lane)
	case *actor.Terminated:
		a.kinds.mu.Lock()
		defer a.kinds.mu.Unlock()
		delete(a.kinds.spawned, msg.GetWho().GetId())
	}
}

func (a *kindsActor) spawn(ctx actor.Context, peer string, want *conecv1.SpawnActor, lane *inlane) {
	pid, err := a.kinds.spawn(peer, want, lane)
	switch {
	case err != nil:
		code, reason := messages.ToCode(err)
		ctx.Respond(&conecv1.ActorSpawned{Code: code, Reason: reason})
		return
	case lane == nil:
		ctx.Respond(&conecv1.ActorSpawned{Address: pid.Address, Id: pid.Id})
	default:
		ctx.Respond(&conecv1.ActorSpawned{Address: pid.Address, Id: a.kinds.remote.passes.here(pid.Id)})
	}
	ctx.Watch(pid)
}

// spawn spawns an actor for a peer.
func (k *kinds) spawn(peer string, want *conecv1.SpawnActor, lane *inlane) (pid *actor.PID, err error) {
	k.mu.Lock()
	config, ok := k.configs[want.GetKind()]
	have := 0
	for _, other := range k.spawned {
		if other.peer == peer && other.kind == want.GetKind() {
			have++
		}
	}
	k.count++
	id := "kind/" + peer + "/" + want.GetKind() + "/" + strconv.FormatUint(k.count, 10)
	k.mu.Unlock()
	switch {
	case !ok || !config.Who.allows(peer):
		return nil, fmt.Errorf("%w: no kind %q for this peer", messages.ErrNoSuchActor, want.GetKind())
	case have >= config.Limit:
		return nil, fmt.Errorf("%w: %d actors of kind %q", messages.ErrLimit, have, want.GetKind())
	}
	var args any
	if want.GetType() != "" {
		if args, err = k.remote.codecs.decode(want.GetType(), want.GetArgs(), &slab{keeps: true}); err != nil {
			return nil, fmt.Errorf("%w: arguments: %w", messages.ErrRefused, err)
		}
	}
	props, err := propsFor(config, peer, args)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrRefused, err)
	}
	if pid, err = k.remote.sys.SpawnSupervised(props, id, config.Supervisor); err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrRefused, err)
	}
	if config.Keep {
		lane = nil
	}
	k.mu.Lock()
	k.spawned[pid.Id] = spawnedActor{peer: peer, kind: want.GetKind(), pid: pid, lane: lane}
	k.mu.Unlock()
	if lane != nil && lane.isOver() { // it may have ended before the actor was on the list
		k.laneOver(lane)
	}
	return pid, nil
}

// propsFor asks the program for props. Its panic is an error.
func propsFor(config KindConfig, peer string, args any) (props *actor.Props, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = faultOf(r)
		}
	}()
	return config.Props(peer, args)
}

// stop stops an actor that a peer has spawned, at once or after what waits for it.
func (k *kinds) stop(peer, named string, after bool) error {
	pid := k.remote.passes.redeem(named, k.remote.sys.as.Address())
	k.mu.Lock()
	spawned, ok := k.spawned[pid.GetId()]
	k.mu.Unlock()
	if !ok || spawned.peer != peer {
		return fmt.Errorf("%w: only who had an actor spawned may stop it", messages.ErrRefused)
	}
	if after {
		k.remote.sys.Root.Poison(spawned.pid)
	} else {
		stopActor(k.remote.sys.as, spawned.pid)
	}
	return nil
}

// laneOver stops what a peer has spawned by a lane that is over: the peer's process is
// gone, or has given this one up.
func (k *kinds) laneOver(lane *inlane) {
	k.mu.Lock()
	var gone []*actor.PID
	for _, id := range slices.Sorted(maps.Keys(k.spawned)) {
		if spawned := k.spawned[id]; spawned.lane == lane {
			gone = append(gone, spawned.pid)
		}
	}
	k.mu.Unlock()
	for _, pid := range gone {
		stopActor(k.remote.sys.as, pid)
	}
}
