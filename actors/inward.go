package actors

import (
	"sync"
	"sync/atomic"
)

// maxGrants is how many actors a peer may reach because their PIDs were sent to it.
// Beyond, the longest known is forgotten.
const maxGrants = 1 << 16

// inward is what a peer may reach in this system, and how much of its messages waits
// here. Shared by all who send to the peer and by its lanes that come in.
type inward struct {
	waiting atomic.Int64 // cost of its messages in mailboxes
	watched atomic.Int64 // actors that it watches

	mu     sync.Mutex
	grants map[string]struct{} // actors whose PIDs it was sent, by id
	order  []string            // the longest known first
}

// grant lets the peer reach an actor.
func (i *inward) grant(id string) {
	if id == asksID {
		return // each question is for one answer
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, known := i.grants[id]; known {
		return
	}
	if i.grants == nil {
		i.grants = map[string]struct{}{}
	}
	if len(i.order) >= maxGrants {
		delete(i.grants, i.order[0])
		i.order = i.order[1:]
	}
	i.grants[id] = struct{}{}
	i.order = append(i.order, id)
}

// has reports whether the peer may reach an actor by its PID.
func (i *inward) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, known := i.grants[id]
	return known
}
