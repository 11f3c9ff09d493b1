package coord

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestPresenceRandom has clients come, go, come back, publish, watch, take what they are told or not, while the policy changes;
// whatever a watch is told is true when it is told, and no repetition; when all is quiet, all watches know what is.
func TestPresenceRandom(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			s := newStage(t, Limits{Clients: 4 + random.IntN(20), WatchesPerClient: 3})
			s.budget = 1 + random.IntN(20)
			for range 10 {
				for range 60 {
					s.step(random)
				}
				for id := range s.stalled {
					if w := s.p.watchers[id]; w != nil {
						s.p.grant(id, &conecv1.GrantPeers{Limit: w.sent + firstGrant})
					}
				}
				clear(s.stalled)
				s.settle(2 * time.Second)
				s.agree()
			}
			for name := range s.ids {
				s.detach(name)
			}
			s.settle(time.Second)
			if n := len(s.p.sights) + len(s.p.watchers) + len(s.p.slots) - len(s.p.free) + s.p.gone + len(s.p.waiting) + len(s.p.queue); n != 0 {
				t.Errorf("%d things are left when everybody has gone", n)
			}
		})
	}
}

func (s *stage) step(random *rand.Rand) {
	s.told = nil
	name := fmt.Sprint("c", random.IntN(12))
	id := s.ids[name]
	switch action := random.IntN(14); {
	case id == 0:
		if len(s.ids) < s.p.limits.Clients {
			s.attach(name)
		}
	case action == 0:
		s.detach(name)
	case action == 1: // superseded
		s.attach(name)
	case action <= 3:
		s.publish(name, strings.Repeat("x", random.IntN(1000)))
	case action <= 5 && len(s.p.watchers[id].watches) < 3:
		number := s.last<<8 + uint64(random.IntN(256))
		if s.find(id, number) != nil {
			return
		}
		delete(s.views, fmt.Sprintf("%d %d", id, number))
		delete(s.begun, fmt.Sprintf("%d %d", id, number))
		s.watch(name, number, []string{"*", "c1*", "c?", "none"}[random.IntN(4)])
	case action == 6 && len(s.p.watchers[id].watches) > 0:
		s.p.endWatch(id, &conecv1.EndWatch{Watch: s.p.watchers[id].watches[0].number})
	case action == 7:
		s.stalled[id] = true
		s.p.watchers[id].limit = s.p.watchers[id].sent + uint64(random.IntN(3000))
	case action == 8:
		s.p.grant(id, &conecv1.GrantPeers{Limit: s.p.watchers[id].sent + uint64(random.IntN(3000))})
	case action == 9:
		pair := fmt.Sprintf("%s c%d", name, random.IntN(12))
		s.hidden[pair] = !s.hidden[pair]
		s.p.reevaluate()
	case action == 10: // looks at a few, and stops in between
		says, _, _ := s.p.flush(s.now, 1+random.IntN(5))
		s.hear(says)
	default:
		s.settle(time.Duration(random.IntN(300)) * time.Millisecond)
	}
}
