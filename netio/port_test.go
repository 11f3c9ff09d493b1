package netio_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/netio"
)

// TestPortReplaysAfterOutage moves a port after an outage: QUIC's last packet is
// sent again, but not if the path has delivered something since.
func TestPortReplaysAfterOutage(t *testing.T) {
	for _, test := range []struct {
		name  string
		heard bool
		move  func(p *netio.Port)
		want  []string
	}{
		{"new path", false, func(p *netio.Port) { p.SetPath(netio.Path{To: peerAddr}) }, []string{"@2"}},
		{"new route", false, func(p *netio.Port) { p.SetRoute(8) }, []string{"@2"}},
		{"new path, not needed", true, func(p *netio.Port) { p.SetPath(netio.Path{To: peerAddr}) }, nil},
		{"same path", false, func(p *netio.Port) { p.SetPath(netio.Path{To: coordinatorAddr, Relayed: true}) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				link, peer, coordinator := n.link("10.0.0.3:3"), n.link(peerAddr.String()), n.link(coordinatorAddr.String())
				s := newSwitch(t, netio.SwitchConfig{}, link)
				s.AllowRaw(coordinatorAddr)
				p := openPort(t, s)
				p.SetRoute(7)
				p.SetPeerTag(9)
				p.SetPath(netio.Path{To: coordinatorAddr, Relayed: true})
				r := read(s)
				for _, packet := range []string{"@1", "@2"} {
					if _, err := s.WriteTo([]byte(packet), p.Addr()); err != nil {
						t.Fatal(err)
					}
					<-coordinator.in
				}
				time.Sleep(time.Second)
				if test.heard {
					link.deliver(coordinatorAddr, frame(32, 7, "@heard"))
					r.take()
				}
				test.move(p)
				var got []string
				for _, l := range []*fakeLink{peer, coordinator} {
					for len(l.in) > 0 {
						b := <-l.in
						got = append(got, string(b.Buf[netio.HeaderSize:b.N]))
					}
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("sent %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestPortLargestOut has QUIC try a path's MTU with packets that do not pass: the
// size that is used afterwards counts.
func TestPortLargestOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSwitch(t, netio.SwitchConfig{}, new(fakeNet).link("10.0.0.3:3"))
		p := openPort(t, s)
		for _, step := range []struct{ size, count, want int }{
			{1200, 4, 1200}, {1326, 3, 1200}, {900, 1, 1200}, {1263, 1, 1200}, {1294, 3, 1200}, {1263, 4, 1263}, {1200, 9, 1263},
		} {
			for range step.count {
				if _, err := s.WriteTo(slices.Repeat([]byte{'@'}, step.size), p.Addr()); err != nil {
					t.Fatal(err)
				}
			}
			if got := p.Stats().LargestOut; got != step.want {
				t.Errorf("after %d packets of %d bytes: %d, want %d", step.count, step.size, got, step.want)
			}
		}
	})
}
