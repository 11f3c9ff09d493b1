package suite_test

import (
	"slices"
	"testing"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/sim"
)

// Interfaces of machines that have two.
const cable, radio = "eth0", "wlan0"

// twoLinks attaches a client on a machine with a cable to the internet, and a radio behind a gateway.
func (w *world) twoLinks(name string) (*client.Client, *netlab.Host, *netlab.Gateway) {
	w.Helper()
	host := w.machine(name).(netlabHost).Host
	gateway := w.ground.gateway("radio-"+name, nil, sim.PortRestricted()).(netlabPlace).Gateway
	host.Plug(radio, gateway)
	return w.client(name, func(c *client.Config) { c.Links, c.OpenLinkOn = []string{cable, radio}, host.ListenOn }), host, gateway
}

// TestLinks has channels on links of their own, with real interfaces: one that comes and goes moves who mobile it and nobody
// else, and no message is lost.
func TestLinks(t *testing.T) {
	playNetns(t, func(w *world) {
		w.begin()
		alice, host, gateway := w.twoLinks("alice")
		bob, _, _ := w.twoLinks("bob")
		type one struct {
			*client.Channel
			here, there *client.Stream
		}
		over := func(choice client.LinkChoice) one {
			t.Helper()
			ch, far := w.channel(alice, bob, &client.ChannelOptions{Links: choice})
			here, there := w.streamOn(ch, far)
			return one{ch, here, there}
		}
		takes := func(what string, ch one, links ...string) {
			t.Helper()
			w.eventually(what, func() bool {
				path := ch.Path()
				return !path.Relayed && path.Remote.IsValid() && slices.Contains(links, path.Link)
			})
			w.both(ch.here, ch.there)
		}
		wired, mobile, pinned := over(client.LinkChoice{Prefer: cable}), over(client.LinkChoice{Prefer: radio}), over(client.LinkChoice{Prefer: cable, Only: true})
		takes("the cable", wired, cable)
		takes("the radio", mobile, radio)
		takes("the cable only", pinned, cable)
		stay := func(what string) {
			t.Helper()
			for _, ch := range []one{wired, pinned} {
				if path := ch.Path(); path.Link != cable || path.Relayed {
					t.Errorf("%s: another channel takes %v", what, path)
				}
			}
		}

		host.Unplug(radio)
		takes("no radio", mobile, "", cable)
		stay("no radio")
		host.Plug(radio, gateway)
		takes("the radio is back", mobile, radio)
		stay("the radio is back")
		w.both(wired.here, wired.there)

		if err := wired.SetLinks(client.LinkChoice{Prefer: radio, Only: true}); err != nil {
			t.Fatal(err)
		}
		takes("the radio only", wired, radio)
		takes("the cable still", pinned, cable)
		if err := wired.SetLinks(client.LinkChoice{Prefer: cable, Copy: radio}); err != nil {
			t.Fatal(err)
		}
		takes("the cable, and copies", wired, cable)
		host.Unplug(radio)
		takes("no copies", wired, cable)
	})
}
