package sim

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
)

// host adds a host and opens its port 4000, or 1719 for the coordinator.
func (s *script) host(name string, at Place, port uint16) netio.Link {
	s.Helper()
	host, err := s.network.Host(name, at, Line{Latency: 10 * time.Millisecond})
	if err != nil {
		s.Fatal(err)
	}
	link, err := host.Listen(netip.AddrPortFrom(host.Addr(), port))
	if err != nil {
		s.Fatal(err)
	}
	return link
}

// programs runs a coordinator and two clients, one of them behind a gateway, that
// share a stream for a while.
func (s *script) programs() {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must := func(err error) {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
	}
	coordinator, err := coord.Start(ctx, &coord.Config{
		Link: s.host("hub", s.network.Internet(), 1719), Logger: s.trace.logger("hub"), KeyLog: s.trace.keyLog("hub"),
	})
	must(err)
	defer coordinator.Close(context.Background())
	home, err := s.network.Gateway("home", s.network.Internet(), PortRestricted(), Line{Latency: 5 * time.Millisecond})
	must(err)
	connect := func(name string, at Place) *client.Client {
		s.Helper()
		cl, err := client.Connect(ctx, &client.Config{
			Name: name, Link: s.host(name, at, 4000), Coordinator: coordinator.Addr().String(),
			Fingerprint: coordinator.Fingerprint(), Logger: s.trace.logger(name), KeyLog: s.trace.keyLog(name),
		})
		must(err)
		return cl
	}
	alice, bob := connect("alice", home), connect("bob", s.network.Internet())
	defer bob.Abort()
	defer alice.Abort()
	near, err := alice.OpenStream(ctx, "bob", nil)
	must(err)
	far, err := bob.AcceptStream(ctx)
	must(err)
	for range 3 {
		must(near.Send(ctx, make([]byte, 5000)))
		_, err = far.Receive(ctx)
		must(err)
		time.Sleep(time.Second)
	}
	must(near.Channel().Close(ctx))
	time.Sleep(time.Second)
	must(alice.Close(ctx))
	time.Sleep(time.Second)
}

// TestTraceOfPrograms holds that the trace understands what the real coordinator
// and clients log: each control message is an arrow from the sender's column to
// the receiver's.
func TestTraceOfPrograms(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		s.programs()
		folder := s.written()
		chart := s.read(folder, "chart.txt")
		for _, want := range []string{
			`◀─Attach alice─+┤.*  2[05][.0-9]*ms\n`, `├──Attached─+▶.*  2[05][.0-9]*ms\n`, `─OpenChannel bob─.*  2[05][.0-9]*ms\n`, `─ChannelOffered alice─.*  2[05][.0-9]*ms\n`,
			`─AnswerOffer─.*  2[05][.0-9]*ms\n`, `─ChannelIntroduced bob─.*  2[05][.0-9]*ms\n`, `─OfferCandidates [12]─.*  45[.0-9]*ms\n`, `─CloseChannel closed─.*  25[.0-9]*ms\n`,
			`─ChannelDrained─.*  25[.0-9]*ms\n`, `─ReleaseChannel─.*  2[05][.0-9]*ms\n`,
			`● attached addr=`, `● path changed peer=bob path=relayed`, `● path changed peer=bob path=direct`,
			`● channel opened peer=bob`, `● channel closed peer=bob err=.* restarting=false`, `● client gone peer=alice`,
		} {
			if !regexp.MustCompile(want).MatchString(chart) {
				t.Errorf("%s is not in the chart:\n%s", want, chart)
			}
		}
		if heads := strings.Split(chart, "\n")[2]; len(strings.Fields(heads)) != 4 {
			t.Errorf("columns %s, want hub, alice and bob", heads)
		}
		for row := range strings.SplitSeq(chart, "\n") {
			if strings.Contains(row, "not traced") {
				t.Errorf("a message was received that nobody sent: %s", row)
			}
		}
		if events := s.read(folder, "events.txt"); !regexp.MustCompile(`message=OfferCandidates channel=[0-9a-f]{8} of=[12]\n`).MatchString(events) {
			t.Errorf("control messages between clients do not name the channel:\n%s", events)
		}
		paths := s.read(folder, "paths.txt")
		if !regexp.MustCompile(`alice → bob, channel [0-9a-f]{8}\n +[0-9.]+  relayed `).MatchString(paths) {
			t.Errorf("paths:\n%s", paths)
		}
		file := readCapture(t, s.read(folder, "packets", "all.pcapng"))
		for _, line := range []string{"alice/eth0", "home", "hub/eth0", "bob/eth0"} {
			if !slices.Contains(file.lines, line) {
				t.Errorf("lines %q, %s is missing", file.lines, line)
			}
		}
		if len(file.packets) < 100 || !strings.Contains(file.secrets, "CLIENT_TRAFFIC_SECRET_0 ") {
			t.Errorf("%d packets, %d bytes of secrets", len(file.packets), len(file.secrets))
		}
	})
}
