package suite_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/netio/portmap"
	"github.com/conec-go/conec/sim"
)

// onHost asks the gateway of a host in a namespace.
type onHost struct {
	*portmap.Mapper
	host *netlab.Host
}

// Map implements client.PortMapper.
func (m onHost) Map(ctx context.Context, inner netip.AddrPort) (mapping portmap.Mapping, err error) {
	err = m.host.Do(func() (err error) {
		mapping, err = m.Mapper.Map(ctx, inner)
		return err
	})
	return mapping, err
}

// Unmap implements client.PortMapper.
func (m onHost) Unmap(ctx context.Context) error {
	return m.host.Do(func() error { return m.Mapper.Unmap(ctx) })
}

// TestPortMapping has two clients behind hard NATs find a direct path, because the gateway of one maps ports. It is given back.
func TestPortMapping(t *testing.T) {
	playNetns(t, func(w *world) {
		w.begin()
		g := w.ground.(kernel)
		home, office := g.gateway("home-alice", nil, sim.Symmetric()), g.gateway("home-bob", nil, sim.Symmetric())
		w.behind(home, "alice")
		w.behind(office, "bob")
		gateway, host := home.(netlabPlace).Gateway, w.machine("alice").(netlabHost).Host
		gateway.MapPorts(false)
		office.(netlabPlace).Reach(gateway)
		off := func(c *client.Config) { c.NoPortSearch = true }
		alice := w.client("alice", off, func(c *client.Config) { c.PortMapper = onHost{portmap.New(), host} })
		here, there := w.stream(alice, w.client("bob", off), nil)
		w.direct("the channel", here, there)
		outer := netip.AddrPortFrom(netlab.MappedAddr, alice.LocalAddr().Port())
		if got := there.Channel().Path().Remote; got != outer {
			t.Errorf("bob sends to %v, want %v", got, outer)
		}
		w.both(here, there)
		inner := netip.AddrPortFrom(host.Addr(), outer.Port())
		if !gateway.Maps(inner) {
			t.Error("the gateway has no rule")
		}
		w.close(alice)
		if gateway.Maps(inner) {
			t.Error("the gateway still has a rule")
		}
	})
}
