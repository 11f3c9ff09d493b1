package suite_test

import (
	"net/netip"
	"testing"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
)

// dualLink claims addresses of a family that its peers can not send to.
type dualLink struct{ netio.Link }

func (l dualLink) Addrs() []netip.AddrPort {
	port := l.LocalAddr().Port()
	return append([]netip.AddrPort{
		netip.AddrPortFrom(netip.IPv6Loopback(), port),
		netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), port),
	}, l.Link.Addrs()...)
}

// B5: a candidate that can not even be sent to, such as an IPv6 address at a client
// bound to IPv4, harms nothing: the channel finds the other path, and the client
// goes on to open channels.
func TestCandidateOfAnotherFamily(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		alice := w.client("alice")
		bob := w.client("bob", func(c *client.Config) { c.Link = dualLink{c.Link} })
		for range 3 {
			here, there := w.channel(alice, bob, &client.ChannelOptions{Mode: client.DirectOnly})
			if path := here.Path(); path.Relayed || !path.Remote.Addr().Is4() {
				w.Errorf("path is %v", path)
			}
			w.both(w.streamOn(here, there))
			if err := here.Close(w.ctx); err != nil {
				w.Error(err)
			}
		}
	})
}
