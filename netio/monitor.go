package netio

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Times of a [Monitor].
const (
	settleFor  = 250 * time.Millisecond // from the first sign of a change until it is told: they come in groups
	tellBurst  = 4                      // changes told at once…
	tellsAfter = 1                      // …and per second where an interface flaps
)

// Watcher notices that a host's network may have changed: a [HostWatcher], or a [Link] of a simulator.
type Watcher interface {
	// Watch has hint called, by any goroutine, when addresses or routes may have changed, or the host has slept. stop ends
	// that; a call that has begun may still be under way when it returns. hint must not call stop.
	Watch(hint func(Hint)) (stop func(), err error)
}

// Hint says what a [Watcher] noticed. The zero Hint says that addresses may have changed.
type Hint struct {
	// Rerouted tells that packets may take another way, whether addresses have changed or not.
	Rerouted bool
	// Slept is for how long the host was asleep, or the process did not run; zero if it did not notice that.
	Slept time.Duration
}

// NetworkChange says how a host's network has changed.
type NetworkChange struct {
	Hint
	// Former and Addrs are the addresses at which the host could and can be reached; see [Link].
	Former, Addrs []netip.AddrPort
}

// MonitorConfig says what a [Monitor] watches.
type MonitorConfig struct {
	// Watcher notices changes.
	Watcher Watcher
	// Link is whose addresses count.
	Link Link
	// Tell is told what has changed, by one goroutine at a time. It must be quick and must not call Close.
	Tell func(NetworkChange)
	// AfterFunc is for timers. If nil, [time.AfterFunc].
	AfterFunc func(d time.Duration, f func()) *time.Timer
}

// Monitor tells of changes of the network, once for each group of signs that come within 250 ms. That an address has
// gone, or that the host slept, is told at once. Where an interface comes and goes all the time, it tells once per second.
//
// It has no goroutine: it runs where its watcher calls, and in timers.
type Monitor struct {
	cfg  MonitorConfig
	stop func()

	mu     sync.Mutex
	state  settling
	timer  *time.Timer // nil if none is set
	closed bool
}

// NewMonitor starts watching, until Close.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = time.AfterFunc
	}
	m := &Monitor{cfg: cfg, state: settling{known: cfg.Link.Addrs()}}
	var err error
	m.stop, err = cfg.Watcher.Watch(m.hint)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends watching. When it has returned, nothing is told any more.
func (m *Monitor) Close() {
	m.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

func (m *Monitor) hint(hint Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step(hint)
}

// step looks at the addresses, tells what is to be told, and sets the timer for what is not yet.
func (m *Monitor) step(hint Hint) {
	if m.closed {
		return
	}
	change, again := m.state.step(time.Now(), m.cfg.Link.Addrs(), hint)
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	if again > 0 {
		var timer *time.Timer
		timer = m.cfg.AfterFunc(again, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.timer == timer { // else it was set anew meanwhile
				m.step(Hint{})
			}
		})
		m.timer = timer
	}
	if change != nil {
		m.cfg.Tell(*change)
	}
}

// settling decides when a change is told. It is plain state without a clock; a [Monitor] runs it.
type settling struct {
	known []netip.AddrPort // what was told last
	hint  Hint             // what has come together since
	due   time.Time        // when to tell it; zero if nothing has changed
	told  time.Time        // when something was told last
	spent float64          // of the burst
}

// step takes the addresses of now and what is hinted at. It returns what to tell now, or when to look again, 0 for never.
func (s *settling) step(now time.Time, addrs []netip.AddrPort, hint Hint) (change *NetworkChange, again time.Duration) {
	s.hint.Rerouted = s.hint.Rerouted || hint.Rerouted
	s.hint.Slept += hint.Slept
	if s.hint == (Hint{}) && slices.Equal(addrs, s.known) {
		s.due = time.Time{}
		return nil, 0
	}
	if s.due.IsZero() {
		s.due = now.Add(settleFor)
	}
	gone := slices.ContainsFunc(s.known, func(addr netip.AddrPort) bool { return !slices.Contains(addrs, addr) })
	if gone || s.hint.Slept > 0 {
		s.due = now
	}
	spent := max(0, s.spent-now.Sub(s.told).Seconds()*tellsAfter)
	wait := s.due.Sub(now)
	if spent > tellBurst-1 {
		wait = max(wait, time.Duration((spent-(tellBurst-1))/tellsAfter*float64(time.Second))+1)
	}
	if wait > 0 {
		return nil, wait
	}
	change = &NetworkChange{Hint: s.hint, Former: s.known, Addrs: addrs}
	*s = settling{known: addrs, told: now, spent: spent + 1}
	return change, 0
}
