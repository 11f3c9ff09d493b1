package netio

import (
	"sync"
	"time"
)

// Times of a [HostWatcher].
const (
	sleepTick  = 5 * time.Second  // how often it looks at the clock
	sleepLeast = 10 * time.Second // what it is late by then counts as sleep
	pollEvery  = 2 * time.Second  // where the system does not tell of changes
)

// HostWatcher is a [Watcher] of this host. On Linux the kernel tells it of addresses, interfaces and default routes
// (rtnetlink(7)); elsewhere, or if that is denied, it looks every 2 seconds. It notices by the clock that the host has
// slept, or that the process was stopped, for 10 seconds or more, at most 5 seconds after that.
//
// Any number may watch at the same time, and share its one goroutine, which ends with the last of them.
type HostWatcher struct {
	life sync.Mutex // held while the source starts or ends
	end  func()     // of the source; nil if there is none

	mu    sync.Mutex
	hints []*func(Hint)
}

// NewHostWatcher makes a watcher that nobody uses yet.
func NewHostWatcher() *HostWatcher { return &HostWatcher{} }

// Watch implements [Watcher].
func (w *HostWatcher) Watch(hint func(Hint)) (stop func(), err error) {
	w.life.Lock()
	defer w.life.Unlock()
	if w.end == nil {
		if w.end, err = watchHost(w.tell); err != nil {
			return nil, err
		}
	}
	entry := &hint
	w.mu.Lock()
	w.hints = append(w.hints, entry)
	w.mu.Unlock()
	return sync.OnceFunc(func() { w.forget(entry) }), nil
}

func (w *HostWatcher) forget(entry *func(Hint)) {
	w.life.Lock()
	defer w.life.Unlock()
	w.mu.Lock()
	kept := make([]*func(Hint), 0, len(w.hints))
	for _, other := range w.hints {
		if other != entry {
			kept = append(kept, other)
		}
	}
	w.hints = kept
	w.mu.Unlock()
	if len(kept) == 0 && w.end != nil {
		w.end()
		w.end = nil
	}
}

func (w *HostWatcher) tell(hint Hint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, told := range w.hints {
		(*told)(hint)
	}
}

// drowse notices by a clock that goes on while the host sleeps that this did.
type drowse struct{ last time.Duration }

// slept is how long the host was asleep when somebody looks who looks every sleepTick at least; 0 if it was not.
func (d *drowse) slept(now time.Duration) time.Duration {
	late := now - d.last - sleepTick
	d.last = now
	if late < sleepLeast {
		return 0
	}
	return late
}
