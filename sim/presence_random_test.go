package sim_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// TestPresenceWorld has clients come, go, crash, publish and watch each other at random for some minutes, while lines are cut
// and the coordinator is started again. Each event fits those before ([watching.note]), and when all has been quiet for a while,
// each watch knows who is there, as which process, and what it publishes.
func TestPresenceWorld(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inWorld(t, seed+1, func(w *world) { presenceWorld(w, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func presenceWorld(w *world, random *rand.Rand) {
	const clients, steps = 12, 120
	watches := make([]*watching, clients) // of the client's present process
	published := make([]map[string]string, clients)
	for i := range clients {
		watches[i] = w.client(fmt.Sprint("c", i), near, nil).watches("*")
	}
	restart := func(i int) {
		for w.clients[i].Start() != nil { // its line is cut for up to 20 seconds
			w.T.Logf("c%d tries again after %v", i, w.Elapsed())
		}
		published[i], watches[i] = nil, w.clients[i].watches("*")
	}
	for range steps {
		i := random.IntN(clients)
		p := w.clients[i]
		switch random.IntN(10) {
		case 0:
			p.Crash()
			restart(i)
		case 1:
			w.must(p.Stop())
			<-time.After(time.Duration(random.IntN(20_000)) * time.Millisecond)
			restart(i)
		case 2:
			heal := w.Add(sim.Block(p.Host(), w.hub))
			lasts := time.Duration(random.IntN(20_000)) * time.Millisecond
			w.Go(func() { <-time.After(lasts); heal() })
		case 3:
			if random.IntN(5) == 0 {
				w.coordinator.Crash()
				<-time.After(time.Duration(random.IntN(10_000)) * time.Millisecond)
				w.coordinator.Start()
			}
		case 4:
			watches[i].watch.Close()
			watches[i] = p.watches("*")
		case 5, 6, 7:
			published[i] = map[string]string{"n": fmt.Sprint(random.IntN(1000))}
			w.must(p.SetMetadata(published[i]))
		}
		<-time.After(time.Duration(random.IntN(1000)) * time.Millisecond)
	}
	<-time.After(2 * time.Minute)
	for i := range clients {
		w.agrees(i, watches, published)
	}
}

// agrees holds that a watch knows all others.
func (w *world) agrees(of int, watches []*watching, published []map[string]string) {
	w.T.Helper()
	one := watches[of]
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.ended != nil || len(one.there) != len(watches)-1 {
		w.T.Errorf("watch of c%d knows %d peers, %v", of, len(one.there), one.ended)
	}
	instances := map[string]uint64{}
	for i, p := range w.clients {
		if i == of {
			continue
		}
		info := one.there[p.Host().Name()]
		if !maps.Equal(info.Metadata, published[i]) {
			w.T.Errorf("watch of c%d knows that %s publishes %v, want %v", of, p.Host().Name(), info.Metadata, published[i])
		}
		instances[info.Name] = info.Instance
	}
	other := watches[(of+1)%len(watches)]
	if other == one {
		return
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	for name, instance := range instances {
		if info, known := other.there[name]; known && info.Instance != instance {
			w.T.Errorf("%s is process %x to c%d, and %x to another", name, instance, of, info.Instance)
		}
	}
}
