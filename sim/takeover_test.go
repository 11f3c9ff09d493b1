package sim_test

import (
	"errors"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestTakeoverUnheard has a process take over the name of one that does not hear of it, for a moment
// or until it has given the coordinator up: it is told when it comes back, instead of taking the name for itself again.
func TestTakeoverUnheard(t *testing.T) {
	for name, deaf := range map[string]time.Duration{"heard": 0, "moment": 300 * time.Millisecond, "given up": 40 * time.Second} {
		t.Run(name, func(t *testing.T) {
			id := identity(t, nil, netio.Order{Name: "alice"})
			inWorld(t, 1, func(w *world) {
				former := w.client("former", near, as(id, called("alice")))
				cut := w.Add(sim.Cut(w.hub, former.Host()))
				if deaf == 0 {
					cut()
				}
				began := time.Now()
				latter := w.client("latter", near, as(id, called("alice")))
				time.Sleep(deaf)
				cut()
				time.Sleep(time.Minute)
				last := ends(former, began)
				if len(last) == 0 || !last[len(last)-1].Final || !errors.Is(last[len(last)-1].Err, messages.ErrSuperseded) {
					w.T.Errorf("the former process heard %v, want superseded at the end", last)
				}
				if deaf == 0 && len(last) != 1 {
					w.T.Errorf("the former process heard %v, want one end", last)
				}
				if heard := ends(latter, began); heard != nil || w.coordinator.Stats().Attached != 1 {
					w.T.Errorf("the latter process was detached: %v", heard)
				}
			})
		})
	}
}

// TestTakeoverByTurns has processes take over a name from each other in turn, and each stay away.
func TestTakeoverByTurns(t *testing.T) {
	id := identity(t, nil, netio.Order{Name: "alice"})
	inWorld(t, 1, func(w *world) {
		began := time.Now()
		var all []*program
		for _, name := range []string{"one", "two", "three", "four"} {
			all = append(all, w.client(name, near, as(id, called("alice"))))
		}
		cutOff := w.Add(sim.Isolate(all[3].Host()))
		time.Sleep(time.Minute)
		cutOff() // who was away for itself comes back
		w.attached(time.Minute, all[3])
		for i, p := range all {
			heard := ends(p, began)
			if final := heard[len(heard)-1].Final; final != (i < 3) || i < 3 && len(heard) != 1 {
				w.T.Errorf("process %d heard %v", i, heard)
			}
		}
	})
}

// called has a client take another name than its host's.
func called(name string) func(*client.Config) { return func(c *client.Config) { c.Name = name } }

// ends returns how a client was detached since an instant.
func ends(p *program, since time.Time) (list []client.Detached) {
	for _, e := range p.since(since) {
		if detached, ok := e.Event.(client.Detached); ok {
			list = append(list, detached)
		}
	}
	return list
}
