package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// TestDoctorInNetworks has the doctor look at simulated networks.
func TestDoctorInNetworks(t *testing.T) {
	hairpin := sim.FullCone()
	hairpin.Hairpin = true
	narrow := func(p sim.Packet) sim.Verdict {
		if len(p.Payload) > 1300 {
			return sim.Drop()
		}
		return sim.Verdict{}
	}
	for _, test := range []struct {
		name  string
		nat   *sim.NAT // nil: none
		rule  sim.Rule // nil: none
		clock time.Duration
		says  []string
	}{
		{
			"open", nil, nil, 0,
			[]string{"NAT          none: ", "hairpin      not needed\n", "MTU          at least 1469 bytes", "clock        right, to 11.0 ms\n", "bob: direct ", "IPv6         no address\n"},
		},
		{
			"hard NAT", new(sim.Symmetric()), nil, 0,
			[]string{"mapped port  off\n", "NAT          yes, changes the port, mapping endpoint-dependent\n", "hairpin      no", "seen as      203.0.113.9:", "bob: direct ", "  203.0.113.2:49152  interface  in use"},
		},
		{
			"easy NAT with hairpin", &hairpin, nil, 0,
			[]string{"NAT          yes, keeps the port, mapping endpoint-independent\n", "hairpin      yes\n", "IPv4         192.168.1."},
		},
		{"narrow", nil, narrow, 0, []string{" bytes found over the relay, less than usual\n", "advice: " + doctorHints.narrow}},
		{"wrong clock", nil, nil, 5 * time.Minute, []string{"clock        5m0s ahead of the coordinator's\n", "advice: " + doctorHints.clock}},
		{
			"blocked", nil, func(p sim.Packet) sim.Verdict {
				if p.Source != "coordinator" && p.Destination != "coordinator" && p.Source != p.Destination {
					return sim.Drop()
				}
				return sim.Verdict{}
			}, 0,
			[]string{"bob: relayed via 203.0.113.1:1719: no candidate answers: 1 candidate tried, ", "advice: " + pathHints[client.ReasonNoAnswer], "silent"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			sim.Test(t, &sim.Options{Seed: 1}, func(w *sim.World) {
				line := sim.Line{Latency: 10 * time.Millisecond}
				w.Coordinator(w.Host("coordinator", w.Internet(), line, netip.MustParseAddr("203.0.113.1")), nil)
				w.Client(w.Host("bob", w.Internet(), line, netip.MustParseAddr("203.0.113.2")), nil)
				at := w.Internet()
				var place sim.Place = at
				if test.nat != nil {
					place = w.Gateway("router", at, *test.nat, line, netip.MustParseAddr("203.0.113.9"))
				}
				alice := w.Client(w.Host("alice", place, sim.Line{Latency: time.Millisecond}), func(c *client.Config) {
					c.Now = func() time.Time { return time.Now().Add(test.clock) }
				})
				if test.rule != nil {
					w.Add(test.rule)
				}
				d := &diagnosis{}
				cl := alice.Current()
				d.attached(cl.Attachment(), cl.OverTCP())
				if err := d.look(context.Background(), cl, &doctorFlags{joinFlags: joinFlags{peer: "bob"}, wait: 10 * time.Second}); err != nil {
					t.Error(err)
				}
				d.advise()
				for _, want := range test.says {
					if !strings.Contains(d.String(), want) {
						t.Errorf("no %q in:\n%v", want, d)
					}
				}
			})
		})
	}
}

// TestUnattached holds which errors show that UDP passes.
func TestUnattached(t *testing.T) {
	for _, test := range []struct {
		err error
		udp bool
	}{
		{messages.ErrNameTaken, true},
		{messages.ErrUntrusted, true},
		{messages.ErrUnreachable, false},
		{context.DeadlineExceeded, false},
	} {
		d := &diagnosis{Coordinator: "hub:1719"}
		d.unattached(&messages.OpError{Op: "attach", Err: test.err})
		d.advise()
		want := "coordinator  hub:1719, not attached\nUDP          no answer\n"
		if test.udp {
			want = "coordinator  hub:1719, not attached\nUDP          yes, the coordinator answers\n"
		}
		if d.UDP != test.udp || d.Error == "" || d.String() != want {
			t.Errorf("%v: got %+v:\n%v", test.err, d, d)
		}
	}
}

// TestMappedPort holds what is said of a port at the gateway.
func TestMappedPort(t *testing.T) {
	mapped := client.PortMapping{State: client.PortMapped, Protocol: "PCP", Addr: netip.MustParseAddrPort("203.0.113.9:7")}
	for _, test := range []struct {
		observed string
		mapping  client.PortMapping
		want     string
	}{
		{"203.0.113.9:33007", mapped, "203.0.113.9:7, by PCP"},
		{"198.51.100.1:33007", mapped, "203.0.113.9:7, by PCP; the gateway is behind another NAT"},
		{"[2001:db8::1]:7", mapped, "203.0.113.9:7, by PCP"},
		{"203.0.113.9:33007", client.PortMapping{State: client.PortNotMapped, Err: errors.Join(errors.New("PCP: refused"), errors.New("UPnP: no answer"))}, "none: PCP: refused; UPnP: no answer"},
		{"192.168.1.2:7", client.PortMapping{}, "not needed"},
		{"203.0.113.9:33007", client.PortMapping{State: client.PortMapAsking}, "asking"},
		{"203.0.113.9:33007", client.PortMapping{State: client.PortMapOff}, "off"},
	} {
		d := &diagnosis{Attached: true, Observed: test.observed}
		d.ported(test.mapping)
		if want := "\nmapped port  " + test.want + "\n"; !strings.Contains(d.String(), want) {
			t.Errorf("%v: no %q in:\n%v", test.mapping, want, d)
		}
	}
}

// TestPathHints holds that there is advice for each reason to be relayed that somebody can do something about.
func TestPathHints(t *testing.T) {
	for reason := client.ReasonUnknown; reason <= client.ReasonNoLink; reason++ {
		direct := reason >= client.ReasonOnlyDirect && reason <= client.ReasonSmallGain || reason == client.ReasonPreferredLink
		passing := reason == client.ReasonUnknown || reason == client.ReasonAwaitsOffer
		if has := pathHints[reason] != ""; has == (direct || passing) {
			t.Errorf("%v: advice %q", reason, pathHints[reason])
		}
	}
	if hintFor(errors.Join(errNoAnswer)) == "" {
		t.Error("no hint for a ping without answer")
	}
}

// TestDoctorPage holds what docs/operations.md shows to what the doctor says of such a network, but for figures.
func TestDoctorPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	sim.Test(t, &sim.Options{Seed: 1}, func(w *sim.World) {
		line := sim.Line{Latency: 5 * time.Millisecond}
		w.Coordinator(w.Host("coordinator", w.Internet(), line, netip.MustParseAddr("198.51.100.7")), nil)
		behind := func(name, outside, inside string) *sim.Client {
			nat := sim.Symmetric()
			nat.Inside = netip.MustParsePrefix(inside)
			router := w.Gateway(name+"-router", w.Internet(), nat, line, netip.MustParseAddr(outside))
			return w.Client(w.Host(name, router, sim.Line{Latency: time.Millisecond}), nil)
		}
		alice := behind("alice", "203.0.113.9", "192.168.1.0/24").Current()
		behind("bob", "203.0.113.44", "192.168.0.0/24")
		d := &diagnosis{}
		d.attached(alice.Attachment(), alice.OverTCP())
		if err := d.look(context.Background(), alice, &doctorFlags{joinFlags: joinFlags{peer: "bob"}, wait: 10 * time.Second}); err != nil {
			t.Error(err)
		}
		d.ported(client.PortMapping{State: client.PortNotMapped, Err: errors.New("PCP: no answer\nNAT-PMP: no answer\nUPnP: no answer")})
		d.advise()
		figures := regexp.MustCompile(`[0-9.]+|  +`)
		plain := func(text string) string { return figures.ReplaceAllString(text, "#") }
		for line := range strings.Lines(d.String()) {
			line = strings.TrimRight(line, " \n")
			if strings.HasPrefix(line, "advice: ") { // the page shows its beginning
				line, _, _ = strings.Cut(line, ": conec doctor")
			}
			if !strings.Contains(plain(string(page)), "\n"+plain(line)) {
				t.Errorf("the page does not show %q of:\n%v", line, d)
			}
		}
	})
}
