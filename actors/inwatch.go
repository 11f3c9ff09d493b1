package actors

import (
	"fmt"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// watch has the peer told of the end of an actor.
func (l *inlane) watch(flow *inflow) error {
	if _, again := l.watched[flow.id]; again {
		return nil
	}
	if err := flow.find(); err != nil {
		return err
	}
	if l.from.inward.watched.Add(1) > int64(l.remote.config.Limits.PeerWatches) {
		l.from.inward.watched.Add(-1)
		return fmt.Errorf("%w: %d actors are watched", messages.ErrLimit, l.remote.config.Limits.PeerWatches)
	}
	registry := l.remote.sys.as.ProcessRegistry
	if l.watcher == nil {
		l.watcher, _ = registry.Add(l, "watcher/"+l.from.name+"/"+registry.NextID())
	}
	l.mu.Lock()
	l.watched[flow.id] = flow.target
	l.mu.Unlock()
	process, _ := registry.Get(flow.target)
	process.SendSystemMessage(flow.target, &actor.Watch{Watcher: l.watcher})
	return nil
}

// unwatch ends that.
func (l *inlane) unwatch(id string) {
	l.mu.Lock()
	target := l.watched[id]
	delete(l.watched, id)
	for _, other := range l.watched {
		if same(target, other) {
			target = nil // it has two names, and is still watched by one
		}
	}
	l.mu.Unlock()
	if target == nil {
		return
	}
	l.from.inward.watched.Add(-1)
	process, _ := l.remote.sys.as.ProcessRegistry.Get(target)
	process.SendSystemMessage(target, &actor.Unwatch{Watcher: l.watcher})
}

// SendSystemMessage hears of the end of an actor that the peer watches. It runs on the
// goroutine of that actor, and does not block.
func (l *inlane) SendSystemMessage(_ *actor.PID, message any) {
	ended, ok := message.(*actor.Terminated)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(l.watched)) {
		if same(l.watched[id], ended.GetWho()) {
			delete(l.watched, id)
			l.from.inward.watched.Add(-1)
			l.terminated = append(l.terminated, record{kind: recordTerminated, text: id, why: ended.GetWhy()})
			l.pump()
		}
	}
}

// SendUserMessage does nothing: nobody knows the lane's PID.
func (l *inlane) SendUserMessage(*actor.PID, any) {}

// Stop does nothing.
func (l *inlane) Stop(*actor.PID) {}
