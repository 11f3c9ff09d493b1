package actors

import (
	"fmt"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// inwatches are the actors that a peer watches by a lane, each perhaps by several names.
type inwatches struct {
	targets map[string]*actor.PID          // by the name that the peer used
	names   map[string]map[string]struct{} // by the actor, as nameOf has it
}

func (w *inwatches) add(name string, target *actor.PID) {
	if w.targets == nil {
		w.targets, w.names = map[string]*actor.PID{}, map[string]map[string]struct{}{}
	}
	if key := nameOf(target); w.names[key] == nil {
		w.names[key] = map[string]struct{}{name: {}}
	} else {
		w.names[key][name] = struct{}{}
	}
	w.targets[name] = target
}

// remove returns what a name stood for, nil if it did not; last if it was the only name.
func (w *inwatches) remove(name string) (target *actor.PID, last bool) {
	if target = w.targets[name]; target == nil {
		return nil, false
	}
	key := nameOf(target)
	delete(w.targets, name)
	delete(w.names[key], name)
	if len(w.names[key]) > 0 {
		return target, false
	}
	delete(w.names, key)
	return target, true
}

// watch has the peer told of the end of an actor.
func (l *inlane) watch(flow *inflow) error {
	l.mu.Lock()
	again := l.watched.targets[flow.id] != nil
	l.mu.Unlock()
	if again {
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
	l.watched.add(flow.id, flow.target)
	l.mu.Unlock()
	process, _ := registry.Get(flow.target)
	process.SendSystemMessage(flow.target, &actor.Watch{Watcher: l.watcher})
	return nil
}

// unwatch ends that.
func (l *inlane) unwatch(name string) {
	l.mu.Lock()
	target, last := l.watched.remove(name)
	l.mu.Unlock()
	if target != nil {
		l.from.inward.watched.Add(-1)
	}
	if last {
		l.endWatch(target)
	}
}

// unwatchAll ends all watches.
func (l *inlane) unwatchAll() {
	l.mu.Lock()
	watched := l.watched
	l.watched = inwatches{}
	l.mu.Unlock()
	l.from.inward.watched.Add(-int64(len(watched.targets)))
	for name := range watched.targets {
		if target, last := watched.remove(name); last {
			l.endWatch(target)
		}
	}
}

func (l *inlane) endWatch(target *actor.PID) {
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
	for _, name := range slices.Sorted(maps.Keys(l.watched.names[nameOf(ended.GetWho())])) {
		l.watched.remove(name)
		l.from.inward.watched.Add(-1)
		l.terminated = append(l.terminated, record{kind: recordTerminated, text: name, why: ended.GetWhy()})
	}
	l.pump()
}

// SendUserMessage does nothing: nobody knows the lane's PID.
func (l *inlane) SendUserMessage(*actor.PID, any) {}

// Stop does nothing.
func (l *inlane) Stop(*actor.PID) {}
