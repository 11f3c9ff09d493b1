package netlab_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// bench is a lab with an echo on the internet.
type bench struct {
	*netlab.Lab
	t    *testing.T
	hub  *netlab.Host
	echo netip.AddrPort
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{Lab: netlab.New(t), t: t}
	b.hub = b.Host("hub", b.Internet())
	b.echo = echo(t, b.hub.Listen)
	return b
}

// end opens a socket that knows its public address.
func (b *bench) end(h *netlab.Host) *end {
	b.t.Helper()
	link, err := h.Listen(netip.AddrPort{})
	if err != nil {
		b.t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { link.Close() })
	b.t.Cleanup(func() {
		limit.Stop()
		link.Close()
	})
	e := &end{link: link, echo: b.echo}
	b.settle(e)
	return e
}

func (b *bench) settle(e *end) {
	b.t.Helper()
	if err := e.settle(); err != nil {
		b.t.Fatal(err)
	}
}

// reaches tells whether a packet to an address comes to an end.
func (b *bench) reaches(from *end, addr netip.AddrPort, to *end) bool {
	b.t.Helper()
	b.settle(to)
	from.peer, to.heard = addr, false
	if err := from.say(); err != nil {
		b.t.Fatal(err)
	}
	b.settle(from)
	b.settle(to)
	return to.heard
}

func (b *bench) want(want bool, from *end, addr netip.AddrPort, to *end, when string) {
	b.t.Helper()
	if got := b.reaches(from, addr, to); got != want {
		b.t.Errorf("a packet to %v arrives %s: %v, want %v", addr, when, got, want)
	}
}

// TestLink shows that a link is the one that programs use, in its host's namespace.
func TestLink(t *testing.T) {
	b := newBench(t)
	home := b.Gateway("home", b.Internet(), sim.PortRestricted())
	alice := b.Host("alice", home)
	link, err := alice.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if _, ok := link.(interface{ SetReadBuffer(int) error }); !ok {
		t.Errorf("%T has not what a UDPLink has", link)
	}
	want := []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("192.168.1.2"), link.LocalAddr().Port())}
	if got := link.Addrs(); !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	if _, err := alice.Listen(netip.AddrPortFrom(b.hub.Addr(), 0)); err == nil {
		t.Error("a socket has the address of another host")
	}
	here, err := netio.ListenUDP(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if slices.Equal(here.Addrs(), want) {
		t.Error("this process is in the lab")
	}
	e := b.end(alice)
	if e.seen.Addr() != home.Addr() || e.seen.Port() != e.link.LocalAddr().Port() {
		t.Errorf("seen as %v, want the gateway's address %v and its own port %d", e.seen, home.Addr(), e.link.LocalAddr().Port())
	}
}

func TestHairpin(t *testing.T) {
	b := newBench(t)
	for _, hairpin := range []bool{false, true} {
		nat := sim.FullCone()
		nat.Hairpin = hairpin
		home := b.Gateway("home", b.Internet(), nat)
		one, two := b.end(b.Host("one", home)), b.end(b.Host("two", home))
		if hairpin {
			b.want(true, one, two.seen, two, "through a hairpin")
			if two.peer != one.seen {
				t.Errorf("came from %v, want the outside address %v", two.peer, one.seen)
			}
		} else {
			b.want(false, one, two.seen, two, "without a hairpin")
		}
		b.want(true, one, two.link.Addrs()[0], two, "inside")
	}
}

// TestCarrier has two homes behind one carrier's gateway.
func TestCarrier(t *testing.T) {
	b := newBench(t)
	for _, hairpin := range []bool{false, true} {
		nat := sim.FullCone()
		nat.Hairpin = hairpin
		nat.Inside = netip.MustParsePrefix("100.64.0.0/10")
		carrier := b.Gateway("carrier", b.Internet(), nat)
		one := b.end(b.Host("one", b.Gateway("first", carrier, sim.PortRestricted())))
		two := b.end(b.Host("two", b.Gateway("second", carrier, sim.PortRestricted())))
		if one.seen.Addr() != carrier.Addr() || two.seen.Addr() != carrier.Addr() {
			t.Errorf("seen as %v and %v, want the carrier's address %v", one.seen, two.seen, carrier.Addr())
		}
		b.want(false, one, two.seen, two, "before the other has spoken")
		b.want(hairpin, two, one.seen, one, "then")
		b.want(hairpin, one, two.seen, two, "then, back")
	}
}

func TestReboot(t *testing.T) {
	b := newBench(t)
	home := b.Gateway("home", b.Internet(), sim.FullCone())
	inside, outside := b.end(b.Host("inside", home)), b.end(b.Host("outside", b.Internet()))
	b.want(true, outside, inside.seen, inside, "at first")
	home.Reboot()
	outside.peer, inside.heard = inside.seen, false
	if err := outside.say(); err != nil {
		t.Fatal(err)
	}
	b.settle(outside)
	b.settle(inside) // which makes a mapping again
	if inside.heard {
		t.Error("the gateway remembers")
	}
	b.want(true, outside, inside.seen, inside, "with a new mapping")
	blocked := sim.FullCone()
	blocked.NoUDP = true
	home.SetNAT(blocked)
	if err := inside.link.Write(b.echo, netio.Packets{Data: []byte("lost")}, true); err != nil {
		t.Fatal(err)
	}
	home.SetNAT(sim.Symmetric())
	before := inside.seen
	b.settle(inside) // fails if "lost" is answered
	if inside.seen == before {
		t.Errorf("seen as %v as before behind a symmetric gateway", before)
	}
	b.want(false, outside, inside.seen, inside, "at another's mapping of a symmetric gateway")
}

func TestFaults(t *testing.T) {
	b := newBench(t)
	home, office := b.Gateway("home", b.Internet(), sim.FullCone()), b.Gateway("office", b.Internet(), sim.FullCone())
	host, peer := b.Host("host", home), b.Host("peer", b.Internet())
	near, far := b.end(host), b.end(peer)

	heal := b.Cut(host, peer)
	b.want(false, near, far.seen, far, "over a cut")
	b.want(true, far, near.seen, near, "against a cut")
	heal()
	b.want(true, near, far.seen, far, "after a cut")

	host.SetUp(false)
	if err := near.say(); err == nil {
		t.Error("sent without an interface")
	}
	host.SetUp(true)
	b.want(true, near, far.seen, far, "with the interface back")

	before := near.seen
	host.Move(office)
	b.want(true, near, far.seen, far, "from elsewhere")
	if before.Addr() != home.Addr() || near.seen.Addr() != office.Addr() {
		t.Errorf("seen as %v, then %v; want the addresses %v and %v", before, near.seen, home.Addr(), office.Addr())
	}
	b.want(true, far, near.seen, near, "at the new place")
}
