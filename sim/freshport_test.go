package sim_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestFreshPort has a client whose gateway masquerades and takes what comes unasked open a channel to one behind a NAT that lets in
// only what was sent for. The peer's probe comes first, and the way is shut; a fresh port opens it. Where both are such gateways
// it can not, and no socket is left.
func TestFreshPort(t *testing.T) {
	for _, test := range []struct {
		name   string
		peer   sim.NAT
		none   bool // there are no fresh ports
		direct bool
	}{
		{"port-restricted", sim.PortRestricted(), false, true},
		{"port-restricted, without fresh ports", sim.PortRestricted(), true, false},
		{"both", sim.OpenMasquerade(), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				var opened, open atomic.Int64
				join := func(name string, nat sim.NAT) *program {
					host := home(nat)(w.World, name, near)
					p := &program{w.Client(host, func(c *client.Config) {
						c.OpenLink = func() (netio.Link, error) {
							if test.none {
								return nil, errors.New("none")
							}
							link, err := host.ListenOn(cable)
							opened.Add(1)
							open.Add(1)
							return &countedLink{Link: link, open: &open}, err
						}
					}), w}
					w.clients = append(w.clients, p)
					return p
				}
				a, b := join("a", sim.OpenMasquerade()), join("b", test.peer)
				near, far := w.open(a, b, nil)
				f := w.flows(near, far, 20*time.Millisecond, 100)
				if test.direct {
					w.direct(6*time.Second, near, far)
				}
				<-time.After(time.Minute)
				path := near.Channel().Path()
				if path.Relayed == test.direct {
					t.Errorf("after a minute: %v", path)
				}
				switch want := opened.Load(); {
				case test.direct && (want != 1 || open.Load() != 1):
					t.Errorf("%d sockets opened, %d open, want 1 in use", want, open.Load())
				case !test.direct && !test.none && (want != 2 || open.Load() != 0):
					t.Errorf("%d sockets opened, %d open, want one at each side, closed", want, open.Load())
				}
				w.check(f.end())
				w.must(near.Channel().Close(within(10 * time.Second)))
				<-time.After(time.Second)
				if open.Load() != 0 {
					t.Errorf("%d sockets are open after the channel's end", open.Load())
				}
			})
		})
	}
}
