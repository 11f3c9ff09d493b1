package sim

import (
	"slices"
	"time"

	"github.com/conec-go/conec/netio"
)

// noticeAfter is how long a change of a host's network takes until its programs hear of it.
const noticeAfter = time.Millisecond

// Watch has hint told when the host's interfaces change, or Resume ends its sleep. It makes a socket a [netio.Watcher].
// hint is called by the network's goroutine.
func (s *socket) Watch(hint func(netio.Hint)) (stop func(), err error) {
	n := s.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	entry := &hint
	s.hints = append(s.hints, entry)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		s.hints = slices.DeleteFunc(s.hints, func(other *func(netio.Hint)) bool { return other == entry })
	}, nil
}

// changed lets programs on the host hear, if there are any that listen. Called with the network's mu held.
func (h *Host) changed(hint netio.Hint) {
	if slices.ContainsFunc(h.sockets, func(s *socket) bool { return len(s.hints) > 0 }) {
		h.network.schedule(event{at: h.network.elapsed() + noticeAfter, step: stepHint, host: h, hint: hint})
	}
}

// hear calls who listens on the host. Called without the network's mu.
func (h *Host) hear(hint netio.Hint) {
	h.network.mu.Lock()
	var hints []*func(netio.Hint)
	for _, s := range h.sockets {
		hints = append(hints, s.hints...)
	}
	h.network.mu.Unlock()
	for _, told := range hints {
		(*told)(hint)
	}
}
