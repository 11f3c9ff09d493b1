package actors

import (
	"context"
	"encoding/base32"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// RemotePurpose is the purpose of streams that carry actor messages.
const RemotePurpose = "conec.actors"

// An address of actors is "conec/", the name of their client, and "~" with the
// incarnation of its process. Without the last it means whatever process has the name.
const (
	addressPrefix = "conec/"
	addressMark   = "~"
)

// Address returns the address of the actors of a client's process, which incarnation
// names: its first 8 bytes are in it.
func Address(name string, incarnation []byte) string {
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(incarnation[:min(8, len(incarnation))])
	return addressPrefix + name + addressMark + strings.ToLower(text)
}

// parseAddress returns whose address it is, and of which incarnation; that is empty if
// it is of any.
func parseAddress(address string) (name, incarnation string, ok bool) {
	name, ok = strings.CutPrefix(address, addressPrefix)
	name, incarnation, _ = strings.Cut(name, addressMark)
	return name, incarnation, ok && messages.CheckName(name) == nil
}

// LaneStream is a resumable stream of whole messages, as package client has it.
type LaneStream interface {
	Send(ctx context.Context, message []byte) error
	TrySend(message []byte) error
	// Give is Send of the message that buffer[at:] is, which is not copied: unless there is an
	// error, buffer is the stream's until it calls used. What comes before at is overwritten.
	Give(ctx context.Context, buffer []byte, at int, used func()) error
	// TryGive is Give as TrySend is Send.
	TryGive(buffer []byte, at int, used func()) error
	// TrySendIdle is TrySend, unless something is being written: then it is busy, and idle,
	// which does not block, is called when that is over. If prompt is set, a message that is
	// small does not wait for others that may follow.
	TrySendIdle(message []byte, prompt bool, idle func()) (busy bool, err error)
	// ReceiveAll has all messages used, one after the other, by whoever reads them. It blocks
	// until use returns an error, there are no more or ctx ends, and returns why. The memory of
	// a message is used again after that, unless use was told to keep it. use must not wait for
	// anything that comes on the stream.
	ReceiveAll(ctx context.Context, use func(message []byte, keep bool) error) error
	// Close ends the stream: what was sent still arrives.
	Close()
	// Reset ends it at once.
	Reset()
	// Answered blocks until the peer has accepted the stream, which may carry messages before.
	// If it has refused, nobody has got what was sent.
	Answered(ctx context.Context) (refused bool, err error)
	// Address is the address of the peer's actors, in its present incarnation, once the
	// stream is accepted.
	Address() string
}

// RemoteConfig says how a system reaches those of other clients. Zero fields mean the
// defaults. It is never modified.
type RemoteConfig struct {
	// Name is the client's name.
	Name string
	// Open opens a stream to a peer's system; it blocks. If bulk is set, the stream
	// gives way to others; if early is set, it need not be accepted yet.
	Open func(ctx context.Context, peer string, bulk, early bool) (LaneStream, error)
	// MaxMessage is the largest message of such a stream in bytes. If zero, 16 MiB.
	MaxMessage int
	// Codecs encode messages that are neither protobuf messages nor a []byte. Those that decode
	// are called by what reads the network, and must not block.
	Codecs []Codec
	// Limits are those of what waits.
	Limits RemoteLimits
	// Sight tells which peers are there whose names match a pattern, at first all, and then
	// what changes, until ctx ends; it blocks. tell blocks, too. If nil, [Remote.OnPeer] can
	// not go by presence.
	Sight func(ctx context.Context, pattern string, tell func(Sighted)) error
}

// RemoteLimits limit what a system has waiting for its peers, and of them. Zero fields mean
// the defaults.
type RemoteLimits struct {
	// OpenWait is how long it is tried to open a stream to a peer that is not there,
	// while messages for it wait. If zero, 10 seconds.
	OpenWait time.Duration
	// TargetQueue is how many bytes of messages, 64 more counted for each, wait for
	// one actor of a peer, beside one message. [Remote.SendWait] waits while anything
	// does; with a message of 4 KiB or more, while 256 KiB do. If zero, 8 MiB.
	TargetQueue int
	// PeerQueue is how many wait for all actors of a peer, beside one message for each;
	// [Remote.SendWait] uses an eighth of it. If zero, 64 MiB.
	PeerQueue int
	// PeerMailboxes is how many bytes of messages of one peer, counted likewise, may
	// wait in the mailboxes of this system; more are refused. If zero, 128 MiB.
	PeerMailboxes int
	// PeerWatches is how many actors of this system one peer may watch. If zero,
	// 65,536.
	PeerWatches int
}

func (c *RemoteConfig) withDefaults() RemoteConfig {
	config := *c
	for _, field := range []struct {
		value *int
		zero  int
	}{
		{&config.MaxMessage, 16 << 20},
		{&config.Limits.TargetQueue, 8 << 20},
		{&config.Limits.PeerQueue, 64 << 20},
		{&config.Limits.PeerMailboxes, 128 << 20},
		{&config.Limits.PeerWatches, 1 << 16},
	} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	if config.Limits.OpenWait == 0 {
		config.Limits.OpenWait = 10 * time.Second
	}
	return config
}

// Remote lets the actors of a system send to those of other clients. A PID of
// another client ([Remote.PID]) is used like a local one: to send, request, respond,
// forward, watch and ask. Messages are protobuf messages, []byte, or what a [Codec]
// knows. They arrive once, in order per sender and target, as long as both processes
// live and find each other again in time; what does not, is an [Undeliverable]. Only
// what is exported can be reached, and an actor whose PID was in a message or who sent
// one: by whom it was sent to, and by whom that gave the PID. All methods may be called
// from any goroutine; what takes a context may block.
type Remote struct {
	sys    *System
	config RemoteConfig
	passes *passes
	codecs *codecs
	kinds  kinds
	keeper *actor.PID
	epoch  atomic.Uint64 // counts changes of exports
	stats  remoteStats

	onPeers  atomic.Pointer[onPeers]    // nil until OnPeer
	resolved atomic.Pointer[resolution] // the last one
	closed   atomic.Bool                // nothing is sent any more

	noticing sync.Mutex // held while it is told what was noticed, so that the order stays

	mu       sync.Mutex
	exports  map[string]export
	channels map[string]int // that are up, by peer
	peers    map[string]*peer
}

// export is an actor that peers may reach by a name.
type export struct {
	pid *actor.PID
	who Who
}

// Who says which peers something is for. A nil Who is all of them.
type Who func(peer string) bool

// Match returns the peers whose names match one of the patterns, in which * stands for
// any characters and ? for one (package path).
func Match(patterns ...string) Who {
	return func(peer string) bool {
		for _, pattern := range patterns {
			if ok, err := path.Match(pattern, peer); ok && err == nil {
				return true
			}
		}
		return false
	}
}

func (w Who) allows(peer string) bool { return w == nil || w(peer) }

// NewRemote connects a system, whose address is [Address], with those of other
// clients. It must be called before actors are spawned that send to others.
func NewRemote(sys *System, config *RemoteConfig) *Remote {
	r := &Remote{
		sys: sys, config: config.withDefaults(), passes: newPasses(), exports: map[string]export{},
		channels: map[string]int{}, peers: map[string]*peer{},
	}
	r.codecs = newCodecs(sys.Address(), r.passes, r.config.Codecs)
	r.kinds = kinds{remote: r, configs: map[string]KindConfig{}, spawned: map[string]spawnedActor{}}
	r.keeper, _ = sys.as.ProcessRegistry.Add(keeper{r}, ownPrefix+"keeper")
	sys.remote.Store(r)
	sys.ActorSystem().ProcessRegistry.RegisterAddressResolver(func(pid *actor.PID) (actor.Process, bool) {
		process := r.resolve(pid.GetAddress())
		return process, process != nil
	})
	return r
}

// resolve returns the process behind PIDs with an address, nil if there is none.
func (r *Remote) resolve(address string) actor.Process {
	if last := r.lastResolved(address); last != nil {
		return last
	}
	name, _, ok := parseAddress(address)
	if !ok {
		return nil
	}
	if name == r.config.Name {
		return loopback{r}
	}
	p := r.peer(name)
	if p == nil {
		return nil
	}
	r.resolved.Store(&resolution{address, p})
	return p
}

// lastResolved returns the peer of an address if that was resolved last, else nil.
func (r *Remote) lastResolved(address string) *peer {
	if last := r.resolved.Load(); last != nil && last.address == address {
		return last.peer
	}
	return nil
}

// resolution is what an address stands for.
type resolution struct {
	address string
	peer    *peer
}

// PID returns the PID of an actor that another client exports as name, whatever
// process of that client it will be in.
func (r *Remote) PID(peer, name string) *actor.PID { return actor.NewPID(addressPrefix+peer, name) }

// PeerOf returns the name of the client that an actor is of, empty if its PID names none:
// for the sender of a message, who has authenticated itself by that name.
func PeerOf(pid *actor.PID) string {
	name, _, ok := parseAddress(pid.GetAddress())
	if !ok {
		return ""
	}
	return name
}

// Export lets peers send to a local actor under name, and watch it: those that one of
// who is for, or all if there is none. Exporting another actor under the same name
// replaces the first.
func (r *Remote) Export(name string, pid *actor.PID, who ...Who) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exports[name] = export{pid: pid, who: anyOf(who)}
	r.epoch.Add(1)
}

// Unexport ends an export.
func (r *Remote) Unexport(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.exports, name)
	r.epoch.Add(1)
}

// anyOf returns the peers that one of several is for.
func anyOf(who []Who) Who {
	if len(who) == 0 {
		return nil
	}
	return func(peer string) bool {
		for _, w := range who {
			if w.allows(peer) {
				return true
			}
		}
		return false
	}
}

// exported returns the actor that a peer reaches by a name, nil if there is none.
func (r *Remote) exported(peer, name string) *actor.PID {
	r.mu.Lock()
	found, ok := r.exports[name]
	r.mu.Unlock()
	if !ok || !found.who.allows(peer) {
		return nil
	}
	return found.pid
}

// peer returns what there is of a peer. It is one and the same for the life of the
// system, because proto.actor keeps it in PIDs. It is nil if there are too many.
func (r *Remote) peer(name string) *peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[name]
	if p == nil && len(r.peers) < maxPeers {
		p = newPeer(r, name)
		r.peers[name] = p
	}
	return p
}

// list returns all peers.
func (r *Remote) list() []*peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*peer, 0, len(r.peers))
	for _, p := range r.peers {
		list = append(list, p)
	}
	return list
}

// loopback is the process behind PIDs of the client's own name that are not of this
// very process: what it exports is reached by name, as from elsewhere.
type loopback struct{ remote *Remote }

// target returns who is meant, nil if nobody is.
func (l loopback) target(pid *actor.PID) *actor.PID {
	if _, incarnation, _ := parseAddress(pid.GetAddress()); incarnation != "" {
		return nil // a former process of this name
	}
	return l.remote.exported(l.remote.config.Name, pid.GetId())
}

// SendUserMessage implements actor.Process.
func (l loopback) SendUserMessage(pid *actor.PID, message any) {
	target := l.target(pid)
	if target == nil {
		l.remote.sys.undeliverable(pid, message, messages.ErrNoSuchActor, false)
		return
	}
	l.remote.sys.Root.Send(target, message)
}

// SendSystemMessage implements actor.Process.
func (l loopback) SendSystemMessage(pid *actor.PID, message any) {
	target := l.target(pid)
	if target == nil {
		l.remote.sys.as.DeadLetter.SendSystemMessage(pid, message) // who watches is told so
		return
	}
	process, _ := l.remote.sys.as.ProcessRegistry.Get(target)
	process.SendSystemMessage(target, message)
}

// Stop implements actor.Process.
func (l loopback) Stop(pid *actor.PID) {
	if target := l.target(pid); target != nil {
		stopActor(l.remote.sys.as, target)
	}
}
