package sim_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// gateway adds a gateway.
func (w *wire) gateway(name string, at sim.Place, nat sim.NAT) *sim.Gateway {
	w.Helper()
	g, err := w.Gateway(name, at, nat, sim.Line{Latency: time.Millisecond})
	if err != nil {
		w.Fatal(err)
	}
	return g
}

// insidePort is where hosts behind gateways listen.
const insidePort = 4001

// inside adds a host with a socket, and reads that.
func (w *wire) inside(name string, at sim.Place, addrs ...netip.Addr) (*sim.Host, netio.Link) {
	w.Helper()
	h, err := w.Host(name, at, sim.Line{}, addrs...)
	if err != nil {
		w.Fatal(err)
	}
	link := w.listen(h, netip.AddrPortFrom(netip.Addr{}, insidePort))
	w.read(link)
	return h, link
}

// came returns what arrives now, each "payload from address", in some order.
func (w *wire) came() []string {
	var list []string
	for _, a := range w.take(time.Second) {
		list = append(list, a.payload+" from "+a.from.String())
	}
	slices.Sort(list)
	return list
}

func (w *wire) want(list ...string) {
	w.Helper()
	if got := w.came(); !slices.Equal(got, list) {
		w.Errorf("came %q, want %q; %v", got, list, w.Stats())
	}
}

// mapped is where a gateway's outside shows insidePort of a host inside.
func mapped(g *sim.Gateway) netip.AddrPort { return netip.AddrPortFrom(g.Addr(), insidePort) }

// TestGateway goes out through a NAT and back, and not otherwise.
func TestGateway(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		home := w.gateway("home", w.Internet(), sim.PortRestricted())
		carol, link := w.inside("carol", home)
		w.read(w.a)
		if got, want := carol.Addr().String(), "192.168.1.2"; got != want {
			t.Errorf("carol has %s, want %s", got, want)
		}
		w.write(w.b, mapped(home), "unasked")
		w.want()
		w.write(link, bobAddr, "out")
		w.want("out from " + mapped(home).String())
		w.write(w.b, mapped(home), "back")
		w.write(w.a, mapped(home), "stranger")
		w.write(w.b, netip.AddrPortFrom(home.Addr(), 99), "other port")
		w.want("back from " + bobAddr.String())
		if got := w.Stats().Ended; got[sim.Filtered]+got[sim.Unmapped] != 3 {
			t.Errorf("%v", w.Stats())
		}

		heal := w.Add(sim.Cut(w.bob, carol)) // looked up through the gateway
		w.write(w.b, mapped(home), "cut")
		w.write(link, bobAddr, "other way")
		w.want("other way from " + mapped(home).String())
		heal()

		home.Reboot()
		w.write(w.b, mapped(home), "forgotten")
		w.want()
		w.write(link, bobAddr, "again")
		w.want("again from " + mapped(home).String())

		old, fresh := mapped(home), netip.MustParseAddr("198.51.100.7")
		if err := home.Renumber(fresh); err != nil || home.Addr() != fresh {
			t.Fatalf("outside is %v: %v", home.Addr(), err)
		}
		w.write(link, bobAddr, "renumbered")
		w.want("renumbered from 198.51.100.7:4001")
		w.write(w.b, old, "to the old one")
		w.write(w.b, mapped(home), "to the new one")
		w.want("to the new one from " + bobAddr.String())
		if err := home.Renumber(bobAddr.Addr()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("renumbered to bob's: %v", err)
		}

		if home.Mappings() == 0 {
			t.Error("no mapping")
		}
		blocked := sim.PortRestricted()
		blocked.NoUDP = true
		if err := home.SetNAT(blocked); err != nil || home.Mappings() != 0 {
			t.Fatal(err, home.Mappings())
		}
		w.write(link, bobAddr, "blocked")
		w.want()
		if w.Stats().Ended[sim.Blocked] != 1 {
			t.Errorf("%v", w.Stats())
		}
		if err := home.SetNAT(sim.FullCone()); err != nil {
			t.Fatal(err)
		}
		w.write(link, bobAddr, "open")
		w.write(w.a, mapped(home), "early") // comes after the mapping is there
		w.want("early from "+aliceAddr.String(), "open from "+mapped(home).String())
		home.SetUp(false)
		w.write(link, bobAddr, "unplugged")
		w.want()
	})
}

// TestHomes has two hosts with the same address, each behind its own gateway,
// reach each other, and two behind one gateway without it.
func TestHomes(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		homes := [2]*sim.Gateway{w.gateway("one", w.Internet(), sim.PortRestricted()), w.gateway("two", w.Internet(), sim.PortRestricted())}
		carol, c := w.inside("carol", homes[0])
		dave, d := w.inside("dave", homes[1])
		if carol.Addr() != dave.Addr() {
			t.Errorf("addresses %v, %v", carol.Addr(), dave.Addr())
		}
		w.write(c, mapped(homes[1]), "punch")
		w.want()
		w.write(d, mapped(homes[0]), "punch back")
		w.want("punch back from " + mapped(homes[1]).String())
		w.write(c, mapped(homes[1]), "through")
		w.want("through from " + mapped(homes[0]).String())
		heal := w.Add(sim.Block(carol, dave)) // seen through both gateways
		w.write(c, mapped(homes[1]), "blocked")
		w.want()
		heal()

		erin, e := w.inside("erin", homes[0])
		sent := w.Stats()
		w.write(e, netip.AddrPortFrom(carol.Addr(), insidePort), "neighbor")
		w.want("neighbor from " + netip.AddrPortFrom(erin.Addr(), insidePort).String())
		if after := w.Stats(); after.Delivered != sent.Delivered+1 {
			t.Errorf("%v", after)
		}
	})
}

// TestCarrier goes through two NATs, one behind the other.
func TestCarrier(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		nat := sim.PortRestricted()
		nat.Inside = netip.MustParsePrefix("100.64.0.0/10")
		carrier := w.gateway("carrier", w.Internet(), nat)
		home := w.gateway("home", carrier, sim.PortRestricted())
		carol, link := w.inside("carol", home)
		if !nat.Inside.Contains(home.Addr()) {
			t.Errorf("the home is at %v", home.Addr())
		}
		w.write(link, bobAddr, "out")
		w.want("out from " + mapped(carrier).String())
		w.write(w.b, mapped(carrier), "back")
		w.want("back from " + bobAddr.String())
		w.Add(sim.Cut(w.bob, carol))
		w.write(w.b, mapped(carrier), "cut")
		w.want()
		home.Reboot()
		if got := w.Stats().Ended[sim.Ruled]; got != 1 {
			t.Errorf("%v", w.Stats())
		}
	})
}

// TestHairpin sends to the outside address from the inside.
func TestHairpin(t *testing.T) {
	for _, hairpin := range []bool{true, false} {
		onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
			nat := sim.FullCone()
			nat.Hairpin = hairpin
			home := w.gateway("home", w.Internet(), nat)
			_, c := w.inside("carol", home)
			_, d := w.inside("dave", home)
			w.write(c, bobAddr, "out")
			w.want("out from " + mapped(home).String())
			w.write(d, mapped(home), "hairpin")
			if got := w.came(); (len(got) == 1) != hairpin || hairpin && !strings.HasPrefix(got[0], "hairpin from "+home.Addr().String()) {
				t.Errorf("hairpin %v: came %q", hairpin, got)
			}
		})
	}
}

// TestFirewall has hosts with public addresses behind a filter, and IPv6 behind a
// NAT, which is a filter only.
func TestFirewall(t *testing.T) {
	firewall := sim.Firewall()
	firewall.Inside = netip.MustParsePrefix("198.51.100.0/24")
	for name, nat := range map[string]sim.NAT{"IPv4, routed": firewall, "IPv6": sim.PortRestricted()} {
		t.Run(name, func(t *testing.T) {
			onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
				outer := sim.FullCone()
				outer.Routed = true
				outer.Inside = netip.MustParsePrefix("198.51.0.0/16")
				office := w.gateway("office", w.gateway("provider", w.Internet(), outer), nat)
				own, far := office.IPv4(), bobAddr.Addr()
				if name == "IPv6" {
					own, far = office.IPv6(), w.Internet().IPv6()
				}
				_, outside := w.inside("far", w.Internet(), map[bool]netip.Addr{true: w.Internet().IPv4(), false: far}[own.Is4()])
				carol, link := w.inside("carol", office, own)
				target := outside.Addrs()[0]
				w.write(outside, netip.AddrPortFrom(own, insidePort), "unasked")
				w.want()
				w.write(link, target, "out")
				w.want("out from " + netip.AddrPortFrom(own, insidePort).String())
				w.write(outside, netip.AddrPortFrom(own, insidePort), "back")
				w.want("back from " + target.String())
				w.Add(sim.Isolate(carol))
				w.write(outside, netip.AddrPortFrom(own, insidePort), "isolated")
				w.write(link, target, "isolated")
				w.want()
				if got := w.Stats().Ended; got[sim.Ruled] != 2 || got[sim.Filtered]+got[sim.Unmapped] != 1 {
					t.Errorf("%v", w.Stats())
				}
			})
		})
	}
}

func TestGatewayRefused(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		home := w.gateway("home", w.Internet(), sim.PortRestricted())
		w.gateway("routed", w.Internet(), sim.Firewall())
		elsewhere := sim.NewNetwork(2)
		defer elsewhere.Close()
		refused := map[string]func() error{
			"name taken": func() error {
				_, err := w.Gateway("home", w.Internet(), sim.FullCone(), sim.Line{})
				return err
			},
			"name of a host": func() error {
				_, err := w.Gateway("alice", w.Internet(), sim.FullCone(), sim.Line{})
				return err
			},
			"address taken": func() error {
				_, err := w.Gateway("x", w.Internet(), sim.FullCone(), sim.Line{}, home.Addr())
				return err
			},
			"line": func() error {
				_, err := w.Gateway("x", w.Internet(), sim.FullCone(), sim.Line{Loss: -1})
				return err
			},
			"NAT": func() error {
				_, err := w.Gateway("x", w.Internet(), sim.NAT{Timeout: -1}, sim.Line{})
				return err
			},
			"host with an address of elsewhere": func() error {
				_, err := w.Host("x", home, sim.Line{}, netip.MustParseAddr("10.0.0.9"))
				return err
			},
			"the gateway's own address": func() error {
				_, err := w.Host("x", home, sim.Line{}, netip.MustParseAddr("192.168.1.1"))
				return err
			},
			"in another network": func() error {
				_, err := w.Host("x", elsewhere.Internet(), sim.Line{})
				return err
			},
			"behind a gateway in another network": func() error {
				_, err := w.Gateway("x", elsewhere.Internet(), sim.FullCone(), sim.Line{})
				return err
			},
			"routed networks that overlap": func() error {
				_, err := w.Gateway("x", w.Internet(), sim.Firewall(), sim.Line{})
				return err
			},
			"routed from now on":    func() error { return home.SetNAT(sim.Firewall()) },
			"renumbered to nothing": func() error { return home.Renumber(netip.IPv4Unspecified()) },
			"no address": func() error {
				_, err := w.Host("x", home, sim.Line{}, netip.Addr{})
				return err
			},
		}
		for name, try := range refused {
			if err := try(); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if err := home.Renumber(home.Addr()); err != nil {
			t.Errorf("renumbered to what it has: %v", err)
		}
		if _, err := w.Host("x", home, sim.Line{}); err != nil { // nothing is left of those
			t.Error(err)
		}
	})
}
