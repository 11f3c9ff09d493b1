package actors

import (
	"maps"
	"sync"
	"time"
)

// A peer can name addresses of strangers: pings to what never answered are limited, for all channels to a peer together.
const (
	strangerBurst      = 96
	strangersPerSecond = 32
	maxStrangers       = 1024 // peers that are remembered before those are forgotten who have all of their budget again
)

// strangers keeps the budgets of the peers of a client. All path sets share it.
type strangers struct {
	mu      sync.Mutex
	budgets map[string]*budget // by the peer's name
}

// budget is how many pings may go to addresses that never answered.
type budget struct {
	left float64
	at   time.Time // when that was computed
}

// spend takes a ping from a peer's budget, if there is one left.
func (s *strangers) spend(peer string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.budgets[peer]
	if b == nil {
		if len(s.budgets) >= maxStrangers {
			maps.DeleteFunc(s.budgets, func(_ string, b *budget) bool { return b.earned(now) == strangerBurst })
		}
		if s.budgets == nil {
			s.budgets = map[string]*budget{}
		}
		b = &budget{left: strangerBurst, at: now}
		s.budgets[peer] = b
	}
	return b.spend(now)
}

// earned returns what is left with what came since.
func (b *budget) earned(now time.Time) float64 {
	return min(strangerBurst, b.left+now.Sub(b.at).Seconds()*strangersPerSecond)
}

func (b *budget) spend(now time.Time) bool {
	b.left, b.at = b.earned(now), now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
