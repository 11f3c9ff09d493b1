package sim_test

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// Links of a host with two interfaces: the second one is slower.
const cable, radio = "eth0", "wlan0"

var radioLine = sim.Line{Latency: 15 * time.Millisecond}

// twoLinks attaches a client on a host with two interfaces.
func (w *world) twoLinks(name string) *program {
	w.T.Helper()
	host := w.host(name, near)
	w.must(host.Plug(radio, w.Internet(), radioLine, netip.AddrFrom4([4]byte{10, 9, 0, byte(len(w.clients) + 1)})))
	p := &program{w.Client(host, func(c *client.Config) { c.Links = []string{cable, radio} }), w}
	w.clients = append(w.clients, p)
	return p
}

// over opens a channel with a choice of links, and a flow in each direction on it.
func (w *world) over(from, to *program, choice client.LinkChoice) (*client.Channel, both) {
	w.T.Helper()
	ch, err := from.OpenChannel(within(20*time.Second), to.Name(), &client.ChannelOptions{Links: choice})
	w.must(err)
	near, err := ch.OpenStream(within(20*time.Second), nil)
	w.must(err)
	far, err := to.AcceptStream(within(20 * time.Second))
	w.must(err)
	return ch, w.flows(near, far, 20*time.Millisecond, 100)
}

// takes waits until a channel takes one of some links directly.
func (w *world) takes(within time.Duration, ch *client.Channel, links ...string) {
	w.T.Helper()
	w.Eventually(within, "direct on "+links[0], func() bool {
		path := ch.Path()
		return !path.Relayed && path.Remote.IsValid() && slices.Contains(links, path.Link)
	})
}

// Each channel takes the link that it is to take, whether that comes or goes, and what happens to one leaves the others alone.
func TestLinks(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.twoLinks("a"), w.twoLinks("b")
		fastest, flow1 := w.over(a, b, client.LinkChoice{})
		prefers, flow2 := w.over(a, b, client.LinkChoice{Prefer: radio})
		pinned, flow3 := w.over(a, b, client.LinkChoice{Prefer: cable, Only: true})
		w.takes(10*time.Second, fastest, "", cable)
		w.takes(10*time.Second, prefers, radio)
		w.takes(10*time.Second, pinned, cable)
		if reason := prefers.Path().Reason; reason != client.ReasonPreferredLink {
			t.Errorf("the slower link is taken: %v", reason)
		}
		<-time.After(2 * time.Second)
		first, third := fastest.Path().Remote, pinned.Path().Remote
		stays := func(what string, ch *client.Channel, remote netip.AddrPort) {
			t.Helper()
			if path := ch.Path(); path.Remote != remote || path.Relayed || path.Link == radio {
				t.Errorf("%s: another channel moved to %v", what, path)
			}
		}
		flow1.measure()
		flow2.measure()
		flow3.measure()
		w.must(a.Host().SetUp(radio, false))
		w.takes(time.Second, prefers, "", cable)
		<-time.After(3 * time.Second)
		stays("radio is down", fastest, first)
		stays("radio is down", pinned, third)
		w.must(a.Host().SetUp(radio, true))
		w.takes(6*time.Second, prefers, radio)
		<-time.After(3 * time.Second)
		if gap := max(flow1.gap(), flow2.gap(), flow3.gap()); gap > time.Second {
			t.Errorf("%v without a message", gap)
		}
		stays("radio is up", fastest, first)
		stays("radio is up", pinned, third)

		w.must(fastest.SetLinks(client.LinkChoice{Prefer: radio, Only: true}))
		w.takes(2*time.Second, fastest, radio)
		w.must(a.Host().Unplug(cable))
		w.Eventually(2*time.Second, "the only link is gone", func() bool {
			return pinned.Path().Relayed && pinned.Path().Reason == client.ReasonNoLink
		})
		<-time.After(3 * time.Second)
		w.takes(0, fastest, radio)
		w.must(a.Host().Plug(cable, w.Internet(), near, netip.AddrFrom4([4]byte{10, 8, 0, 1}))) // with another address
		w.takes(10*time.Second, pinned, cable)
		for _, f := range []both{flow1, flow2, flow3} {
			w.check(f.end())
		}
	})
}

// A choice of what is not there is refused with what to do.
func TestLinksRefused(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a := w.twoLinks("a")
		b := w.client("b", near, nil)
		ch, f := w.over(a, b, client.LinkChoice{})
		for want, choice := range map[string]client.LinkChoice{
			`LinkChoice.Prefer is "eth1": want one of Config.Links, ["eth0" "wlan0"]`: {Prefer: "eth1"},
			`LinkChoice.Copy is "x": want one of Config.Links, ["eth0" "wlan0"]`:      {Copy: "x"},
			"LinkChoice.Only is set: Prefer has to say which link":                    {Only: true},
			`LinkChoice.Copy is "wlan0", like Prefer: want another link`:              {Prefer: radio, Copy: radio},
		} {
			if err := ch.SetLinks(choice); err == nil || err.Error() != want {
				t.Errorf("%+v: %v, want %s", choice, err, want)
			}
			if _, err := a.OpenChannel(within(time.Second), "b", &client.ChannelOptions{Links: choice}); err == nil {
				t.Errorf("%+v: a channel was opened", choice)
			}
		}
		w.check(f.end())
	})
}

// When both hosts lose the interface in use at the same time, everything arrives over the other one.
func TestBothLoseALink(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		a, b := w.twoLinks("a"), w.twoLinks("b")
		ch, f := w.over(a, b, client.LinkChoice{Prefer: cable})
		w.takes(10*time.Second, ch, cable)
		<-time.After(3 * time.Second)
		f.measure()
		w.must(a.Host().Unplug(cable))
		w.must(b.Host().Unplug(cable))
		<-time.After(10 * time.Second)
		if gap := f.gap(); gap > time.Second {
			t.Errorf("%v without a message", gap)
		}
		w.takes(0, ch, radio, "")
		w.check(f.end())
	})
}

// With copies on another link, nobody notices that a path has died. Without them it takes as long as it does to find out.
func TestCopies(t *testing.T) {
	gaps := map[bool]time.Duration{}
	for _, copies := range []bool{true, false} {
		inWorld(t, 1, func(w *world) {
			a, b := w.twoLinks("a"), w.twoLinks("b")
			choice := client.LinkChoice{Prefer: cable}
			if copies {
				choice.Copy = radio
			}
			ch, f := w.over(a, b, choice)
			back, err := b.AcceptChannel(within(time.Second))
			w.must(err)
			w.must(back.SetLinks(choice))
			w.takes(10*time.Second, ch, cable)
			w.takes(10*time.Second, back, cable)
			<-time.After(7 * time.Second)
			f.measure()
			wires := []netip.Addr{a.Host().Addr(), b.Host().Addr()}
			heal := w.Add(func(p sim.Packet) sim.Verdict { // what goes from cable to cable, or from one of them to the other's radio
				if p.Source != w.hub.Name() && p.Destination != w.hub.Name() &&
					(slices.Contains(wires, p.From.Addr()) || slices.Contains(wires, p.To.Addr())) {
					return sim.Drop()
				}
				return sim.Verdict{}
			})
			<-time.After(5 * time.Second)
			gaps[copies] = f.gap()
			heal()
			<-time.After(20 * time.Second)
			w.takes(0, ch, cable)
			w.check(f.end())
		})
	}
	t.Logf("longest without a message: %v with copies, %v without", gaps[true], gaps[false])
	if gaps[true] > 60*time.Millisecond || gaps[false] < 200*time.Millisecond {
		t.Errorf("longest without a message: %v with copies, want at most 60ms; %v without", gaps[true], gaps[false])
	}
}

// The coordinator says how it sees each link, though the slower one's question arrives after the faster one's.
func TestLinksAreSeen(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		host := home(sim.PortRestricted())(w.World, "a", near)
		mobile := w.Gateway("mobile", w.Internet(), sim.PortRestricted(), near)
		w.must(host.Plug(radio, mobile, sim.Line{Latency: 50 * time.Millisecond}))
		a := &program{w.Client(host, func(c *client.Config) { c.Links = []string{radio, cable} }), w}
		w.clients = append(w.clients, a)
		b := w.client("b", near, nil)
		_, f := w.over(a, b, client.LinkChoice{})
		back, err := b.AcceptChannel(within(time.Second))
		w.must(err)
		w.Eventually(time.Minute, "the outside of both gateways is offered", func() bool {
			report, err := back.Paths(within(time.Second))
			seen := map[netip.Addr]bool{}
			for _, c := range report.Candidates {
				if c.Kind == client.KindObserved {
					seen[c.Addr.Addr()] = true
				}
			}
			return err == nil && len(seen) == 2
		})
		w.check(f.end())
	})
}

// Links that are not there are tried again once when the network has changed while they were being opened, and then not until it
// changes again.
func TestLinksAreAwaited(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		var tries atomic.Int64
		host := w.host("a", near)
		w.Client(host, func(c *client.Config) {
			c.Links = []string{"x", "y"}
			c.OpenLinkOn = func(name string) (netio.Link, error) {
				tries.Add(1)
				<-time.After(time.Second)
				return nil, errors.New("no such interface: " + name)
			}
		})
		w.must(host.Plug(radio, w.Internet(), radioLine))
		<-time.After(30 * time.Second)
		if got := tries.Load(); got != 4 {
			t.Errorf("opened %d times, want each when the client starts, and again after the change", got)
		}
	})
}
