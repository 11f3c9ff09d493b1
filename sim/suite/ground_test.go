package suite_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// ground is what a world stands on.
type ground interface {
	// host adds a machine, on the internet if at is nil.
	host(name string, at place) machine
	// gateway adds a gateway, to the internet if at is nil.
	gateway(name string, at place, nat sim.NAT) place
	// cut lets nothing pass from one machine to another, until it is healed.
	cut(from, to machine) (heal func())
}

// place is the inside of a gateway.
type place interface {
	addr() netip.Addr // of its outside
	reboot()          // forgets all mappings
	become(sim.NAT)   // another kind of gateway
}

// machine is what clients and coordinators run on.
type machine interface {
	address() netip.Addr
	Listen(local netip.AddrPort) (netio.Link, error)
	setUp(up bool)
	move(at place)
	ListenTCP(local netip.AddrPort) (net.Listener, error)
	DialTCP(ctx context.Context, network, addr string) (net.Conn, error)
}

// The grounds there are.
const (
	virtual  = "virtual"  // package sim, on virtual time
	loopback = "loopback" // sockets of this machine
	netns    = "netns"    // network namespaces
)

// exception is why a scenario is not played on some ground.
type exception struct {
	ground string
	skip   func() bool
	why    string
}

// except says that a scenario is not played on a ground, and why.
func except(ground, why string) exception {
	return exception{ground, func() bool { return true }, why}
}

// slow says that a scenario takes seconds of real time, which go test -short does
// not have.
func slow(why string) []exception {
	return []exception{{loopback, testing.Short, why}, {netns, testing.Short, why}}
}

// everywhere plays a scenario on each ground.
func everywhere(t *testing.T, scenario func(w *world), exceptions ...exception) {
	t.Helper()
	for _, at := range []struct {
		name string
		play func(t *testing.T, scenario func(w *world))
	}{
		{virtual, playVirtual},
		{loopback, playLoopback},
		{netns, playNetns},
	} {
		t.Run(at.name, func(t *testing.T) {
			for _, e := range exceptions {
				if e.ground == at.name && e.skip() {
					t.Skip(e.why)
				}
			}
			at.play(t, scenario)
		})
	}
}

// playVirtual needs no look at the goroutines: the bubble ends with the last one.
func playVirtual(t *testing.T, scenario func(w *world)) {
	t.Helper()
	sim.Test(t, nil, func(s *sim.World) {
		w := newWorld(s.T, simulated{s})
		defer w.end()
		scenario(w)
	})
}

func playLoopback(t *testing.T, scenario func(w *world)) {
	t.Helper()
	w := newWorld(t, local{t})
	defer noGoroutines(t)
	defer w.end()
	scenario(w)
}

func playNetns(t *testing.T, scenario func(w *world)) {
	t.Helper()
	lab := netlab.New(t)
	w := newWorld(t, kernel{lab})
	defer noGoroutines(t)
	defer w.end()
	scenario(w)
}

// simulated is the ground of package sim.
type simulated struct{ *sim.World }

// near is the line of everybody: 0.4 ms from one to another.
var near = sim.Line{Latency: 200 * time.Microsecond}

func (s simulated) place(at place) sim.Place {
	if at == nil {
		return s.Internet()
	}
	return at.(simPlace).Gateway
}

func (s simulated) host(name string, at place) machine {
	return simHost{s.T, s.Host(name, s.place(at), near)}
}

func (s simulated) gateway(name string, at place, nat sim.NAT) place {
	return simPlace{s.T, s.Gateway(name, s.place(at), nat, near)}
}

func (s simulated) cut(from, to machine) func() {
	return s.Add(sim.Cut(from.(simHost).Host, to.(simHost).Host))
}

type simPlace struct {
	t *testing.T
	*sim.Gateway
}

func (p simPlace) addr() netip.Addr { return p.Addr() }
func (p simPlace) reboot()          { p.Reboot() }

func (p simPlace) become(nat sim.NAT) {
	p.t.Helper()
	if err := p.SetNAT(nat); err != nil {
		p.t.Fatal(err)
	}
}

type simHost struct {
	t *testing.T
	*sim.Host
}

func (h simHost) address() netip.Addr { return h.Addr() }

func (h simHost) setUp(up bool) {
	h.t.Helper()
	if err := h.SetUp("eth0", up); err != nil {
		h.t.Fatal(err)
	}
}

func (h simHost) move(at place) {
	h.t.Helper()
	if err := h.Move(at.(simPlace).Gateway, near); err != nil {
		h.t.Fatal(err)
	}
}

// kernel is the ground of package netlab.
type kernel struct{ lab *netlab.Lab }

func (k kernel) place(at place) netlab.Place {
	if at == nil {
		return k.lab.Internet()
	}
	return at.(netlabPlace).Gateway
}

func (k kernel) host(name string, at place) machine {
	return netlabHost{k.lab.Host(name, k.place(at))}
}

func (k kernel) gateway(name string, at place, nat sim.NAT) place {
	return netlabPlace{k.lab.Gateway(name, k.place(at), nat)}
}

func (k kernel) cut(from, to machine) func() {
	return k.lab.Cut(from.(netlabHost).Host, to.(netlabHost).Host)
}

type netlabPlace struct{ *netlab.Gateway }

func (p netlabPlace) addr() netip.Addr   { return p.Addr() }
func (p netlabPlace) reboot()            { p.Reboot() }
func (p netlabPlace) become(nat sim.NAT) { p.SetNAT(nat) }

type netlabHost struct{ *netlab.Host }

func (h netlabHost) address() netip.Addr { return h.Addr() }
func (h netlabHost) setUp(up bool)       { h.SetUp(up) }
func (h netlabHost) move(at place)       { h.Move(at.(netlabPlace).Gateway) }

// local is this machine, which everybody is on.
type local struct{ t *testing.T }

var home = netip.MustParseAddr("127.0.0.1")

func (l local) host(string, place) machine {
	return localHost{l}
}

func (l local) gateway(string, place, sim.NAT) place {
	l.t.Fatal("no gateways on loopback")
	return nil
}

func (l local) cut(_, _ machine) func() {
	l.t.Fatal("no cuts on loopback")
	return nil
}

type localHost struct{ local }

func (h localHost) address() netip.Addr { return home }

func (h localHost) Listen(local netip.AddrPort) (netio.Link, error) {
	return netio.ListenUDP(netip.AddrPortFrom(home, local.Port()))
}

func (h localHost) ListenTCP(local netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(local))
}

func (h localHost) DialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func (h localHost) setUp(bool) { h.t.Fatal("loopback stays up") }
func (h localHost) move(place) { h.t.Fatal("nobody moves on loopback") }
