package actors

import (
	"cmp"
	"slices"

	"github.com/asynkron/protoactor-go/actor"
)

// Snapshot is what a system looks like from outside. Each part is true at an instant of
// its own: nothing is stopped to look at it.
type Snapshot struct {
	// Address is that of the system's actors.
	Address string
	// Stats are the system's counters, Remote those of what it exchanged with peers.
	Stats  SystemStats
	Remote RemoteStats
	// Actors are those without a parent but the root, in the order of their ids.
	Actors []ActorInfo
	// Peers are those that actors of this system have to do with, in the order of names.
	Peers []PeerInfo
}

// ActorInfo is one actor.
type ActorInfo struct {
	// ID is that of its PID.
	ID string
	// Mailbox is what waits for it.
	Mailbox MailboxStats
	// Restarts is how often it was restarted, Failing whether it waits for that now.
	Restarts uint64
	Failing  bool
	// Stopping tells that it has been told to stop.
	Stopping bool
	// Children are in the order of their ids.
	Children []ActorInfo
}

// PeerInfo is what there is of a peer.
type PeerInfo struct {
	// Name is its name, Address that of the process that the lanes lead to, if there is one.
	Name, Address string
	// Queued is how much waits to be sent to it, in bytes, 64 more for each message.
	Queued int
	// Waiting is how much of what it sent waits in mailboxes here, counted likewise.
	Waiting int
	// Watching is how many of its actors are watched from here, Watched how many here it
	// watches.
	Watching, Watched int
	// Lanes are those that are open or about to be.
	Lanes []LaneInfo
}

// LaneInfo is a stream that carries messages to a peer.
type LaneInfo struct {
	// Bulk tells that it carries large messages and gives way to others.
	Bulk bool
	// Open tells whether the stream is open.
	Open bool
	// Sent is how many messages and the like it was given, Handled how many of them the
	// peer is known to have handled.
	Sent, Handled uint64
	// Blocked is for how many of the peer's actors something waits for the lane.
	Blocked int
}

// Snapshot returns what the system looks like now. It takes as long as there are actors:
// about a microsecond for each.
func (s *System) Snapshot() Snapshot {
	snapshot := Snapshot{Address: s.Address(), Stats: s.Stats(), Actors: s.tree()}
	if r := s.remote.Load(); r != nil {
		snapshot.Remote = r.RemoteStats()
		for _, p := range r.list() {
			snapshot.Peers = append(snapshot.Peers, p.info())
		}
		slices.SortFunc(snapshot.Peers, func(a, b PeerInfo) int { return cmp.Compare(a.Name, b.Name) })
	}
	return snapshot
}

// tree returns all actors below the root.
func (s *System) tree() []ActorInfo {
	children := map[string][]*Mailbox{} // by the parent's id, in order
	for _, id := range s.ids() {
		m := mailboxOf(s.as, actor.NewPID(s.Address(), id))
		if m == nil {
			continue
		}
		m.mu.Lock()
		self := m.self
		m.mu.Unlock()
		if self != nil { // else it is being spawned
			children[self.Parent().GetId()] = append(children[self.Parent().GetId()], m)
		}
	}
	var below func(parent string) []ActorInfo
	below = func(parent string) (list []ActorInfo) {
		for _, m := range children[parent] {
			info := m.info()
			info.Children = below(info.ID)
			list = append(list, info)
		}
		return list
	}
	return below(rootID)
}

// info returns what there is to know of the actor.
func (m *Mailbox) info() ActorInfo {
	stats := m.stats()
	m.mu.Lock()
	defer m.mu.Unlock()
	return ActorInfo{ID: m.self.Self().Id, Mailbox: stats, Restarts: m.restarts, Failing: m.suspended, Stopping: m.stopping}
}

// info returns what there is to know of the peer.
func (p *peer) info() PeerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := PeerInfo{
		Name: p.name, Address: p.address, Queued: p.queued, Waiting: int(p.inward.waiting.Load()),
		Watching: len(p.watches), Watched: int(p.inward.watched.Load()),
	}
	for _, l := range p.lanes {
		if l != nil {
			info.Lanes = append(info.Lanes, LaneInfo{
				Bulk: l.index == bulkLane, Open: l.stream != nil && !l.over, Sent: l.sent, Handled: l.handled, Blocked: len(l.waiting),
			})
		}
	}
	return info
}
