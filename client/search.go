package client

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/conec-go/conec/netio"
)

// Limits of searches for ports.
const (
	searchPause = time.Hour // between two for the same peer
	maxSearched = 4096      // peers that are remembered; more are searched for when some are forgotten
)

// searches keeps that there are few: one at a time, and one for each peer in an hour.
// Shared by the path sets of all channels.
type searches struct {
	mu   sync.Mutex
	last map[string]time.Time
	busy bool
}

// begin reports whether a search for a peer may begin. If so, done must be called when
// it has ended.
func (s *searches) begin(peer string) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.last, func(_ string, last time.Time) bool { return now.Sub(last) >= searchPause })
	if _, lately := s.last[peer]; lately || s.busy || len(s.last) == maxSearched {
		return nil, false
	}
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	s.last[peer], s.busy = now, true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy = false
	}, true
}

// openLink opens one more UDP socket, with a port of its own.
func (cl *Client) openLink() (netio.Link, error) {
	if cl.config.OpenLink != nil {
		return cl.config.OpenLink()
	}
	return netio.ListenUDP(netip.AddrPortFrom(cl.link.LocalAddr().Addr(), 0))
}
