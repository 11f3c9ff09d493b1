package sim_test

import (
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/sim"
)

// TestNATFound has clients behind all kinds of NATs find out what they are behind, also when they move, and not where the
// coordinator has no second port.
func TestNATFound(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		line := sim.Line{Latency: 5 * time.Millisecond}
		w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
		office := w.Gateway("office", w.Internet(), sim.Symmetric(), line)
		for _, at := range []struct {
			name string
			nat  sim.NAT
			want client.Mapping
		}{
			{"full-cone", sim.FullCone(), client.EndpointIndependent},
			{"address-restricted", sim.AddressRestricted(), client.EndpointIndependent},
			{"port-restricted", sim.PortRestricted(), client.EndpointIndependent},
			{"symmetric", sim.Symmetric(), client.EndpointDependent},
		} {
			host := w.Host("behind-"+at.name, w.Gateway(at.name, w.Internet(), at.nat, line), line)
			found(w, w.Client(host, nil), at.want)
		}
		roams := w.Client(w.Host("public", w.Internet(), line), nil)
		found(w, roams, client.NoMapping)
		if err := roams.Host().Move(office, line); err != nil {
			t.Fatal(err)
		}
		found(w, roams, client.EndpointDependent)
	})
	sim.Test(t, nil, func(w *sim.World) {
		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
		asked := 0
		w.Add(func(p sim.Packet) sim.Verdict {
			if p.To.Port() != coord.DefaultPort+1 {
				return sim.Verdict{}
			}
			asked++
			return sim.Drop()
		})
		c := w.Client(w.Host("alice", w.Gateway("home", w.Internet(), sim.Symmetric(), sim.Line{}), sim.Line{}), nil)
		time.Sleep(5 * time.Minute)
		if nat := c.Current().NAT(); nat.Mapping != client.MappingUnknown || !nat.Observed.IsValid() || asked != 4 {
			t.Errorf("found %+v after %d questions without an answer, want 4", nat, asked)
		}
	})
}

// found waits until a client knows its mapping.
func found(w *sim.World, c *sim.Client, want client.Mapping) {
	w.T.Helper()
	w.Eventually(20*time.Second, "the mapping of "+c.Host().Name(), func() bool { return c.Current().NAT().Mapping == want })
	nat := c.Current().NAT()
	if same := nat.Observed == nat.Alternate; same != (want != client.EndpointDependent) {
		w.T.Errorf("%s: found %+v", c.Host().Name(), nat)
	}
}
