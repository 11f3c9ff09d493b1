package sim_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestInterfaces has a host with two interfaces lose one after the other.
func TestInterfaces(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		const port = 9
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		slow := sim.Line{Latency: 50 * time.Millisecond}
		must(w.alice.Plug("lte", w.Internet(), slow, netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("2001:db8::7")))
		if err := w.alice.Plug("lte", w.Internet(), slow); err == nil {
			t.Error("two interfaces of one name")
		}
		link := w.listen(w.alice, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
		from := func() string {
			t.Helper()
			if err := link.Write(bobAddr, netio.Packets{Data: []byte("x")}, false); err != nil {
				return err.Error()
			}
			got := w.take(time.Second)
			if len(got) != 1 {
				return fmt.Sprint(len(got))
			}
			return got[0].from.Addr().String()
		}
		steps := []struct {
			name   string
			change func() error
			want   string
			addrs  int
		}{
			{"both", func() error { return nil }, "10.0.0.1", 3},
			{"wifi down", func() error { return w.alice.SetUp("eth0", false) }, "10.7.0.1", 2},
			{"wifi up", func() error { return w.alice.SetUp("eth0", true) }, "10.0.0.1", 3},
			{"wifi gone", func() error { return w.alice.Unplug("eth0") }, "10.7.0.1", 2},
			{"lte gone", func() error { return w.alice.Unplug("lte") }, syscall.ENETUNREACH.Error(), 0},
		}
		for _, step := range steps {
			must(step.change())
			if got := from(); got != step.want || len(link.Addrs()) != step.addrs {
				t.Errorf("%s: from %s, want %s; addresses %v", step.name, got, step.want, link.Addrs())
			}
		}
		if w.alice.Unplug("lte") == nil || w.alice.SetUp("lte", true) == nil {
			t.Error("no error for an interface that is not there")
		}
	})
}

// TestFamilies sends by IPv4 and IPv6 between hosts that have both.
func TestFamilies(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		internet := w.Internet()
		var links []netio.Link
		for _, name := range []string{"carol", "dave"} {
			h, err := w.Host(name, internet, sim.Line{MTU: 1400}, internet.IPv4(), internet.IPv6())
			if err != nil {
				t.Fatal(err)
			}
			link, err := h.Listen(netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			w.read(link)
			links = append(links, link)
		}
		if port := links[0].LocalAddr().Port(); port < 49152 || !links[0].LocalAddr().Addr().IsUnspecified() {
			t.Errorf("listens at %v", links[0].LocalAddr())
		}
		for _, to := range links[1].Addrs() {
			w.write(links[0], to, to.String())
			got := w.take(time.Second)
			if !slices.Equal(texts(got), []string{to.String()}) || got[0].from.Addr().Is4() != to.Addr().Is4() {
				t.Errorf("to %v came %v", to, got)
			}
			fits := 1400 - 28
			if to.Addr().Is6() {
				fits = 1400 - 48
			}
			if err := links[0].Write(to, netio.Packets{Data: make([]byte, fits)}, false); err != nil {
				t.Errorf("%d bytes to %v: %v", fits, to, err)
			}
			if err := links[0].Write(to, netio.Packets{Data: make([]byte, fits+1)}, false); !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("%d bytes to %v: %v", fits+1, to, err)
			}
			if got := w.take(time.Second); len(got) != 1 {
				t.Errorf("%d packets came", len(got))
			}
		}
		four := w.listen(w.alice, addr("0.0.0.0:6"))
		if err := four.Write(addr("[2001:db8::1]:1"), netio.Packets{Data: []byte("x")}, false); !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Errorf("IPv6 from an IPv4 socket: %v", err)
		}
	})
}

// TestLocal sends from a host to itself, past its line.
func TestLocal(t *testing.T) {
	onWire(t, 1, sim.Line{Loss: 1}, sim.Line{}, func(w *wire) {
		other := addr("127.0.0.1:5")
		w.read(w.listen(w.alice, other))
		w.read(w.a)
		all := w.listen(w.alice, addr("[::]:6"))
		w.write(all, other, "loopback")
		w.write(all, aliceAddr, "own address")
		got := w.take(time.Second)
		if !slices.Equal(texts(got), []string{"loopback", "own address"}) || got[0].from.Addr() != other.Addr() || got[1].from.Addr() != aliceAddr.Addr() {
			t.Errorf("got %+v", got)
		}
	})
}

func TestPause(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: time.Millisecond}, sim.Line{}, func(w *wire) {
		w.read(w.a)
		w.alice.Pause()
		w.send("asleep")
		w.write(w.b, aliceAddr, "to one asleep")
		if got := w.take(time.Second); len(got) != 0 || w.Stats().Ended[sim.Silent] != 2 {
			t.Errorf("got %+v; %v", got, w.Stats())
		}
		w.alice.Resume()
		w.send("awake")
		w.write(w.b, aliceAddr, "to one awake")
		if got := w.take(time.Second); len(got) != 2 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestSkew(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		w.alice.Skew(-time.Hour)
		if got := time.Since(w.alice.Now()); got != time.Hour || !w.bob.Now().Equal(time.Now()) {
			t.Errorf("alice is %v behind", got)
		}
	})
}

// TestWatch sees each packet at each line, with its fate.
func TestWatch(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: 10 * time.Millisecond}, sim.Line{Latency: 5 * time.Millisecond}, func(w *wire) {
		var got []string
		stop := w.Watch(func(s sim.Sight) {
			got = append(got, fmt.Sprintf("%v %s up=%v %v>%v %s %v", s.At.Round(time.Millisecond), s.Line, s.Up, s.From, s.To, s.Payload, s.Fate))
		})
		w.send("first")
		w.take(time.Second)
		heal := w.Add(sim.Block(w.alice, w.bob))
		w.send("second")
		heal()
		w.write(w.a, addr("10.0.0.9:9"), "nowhere")
		w.write(w.a, addr("10.0.0.2:9"), "no port")
		w.take(time.Second)
		stop()
		w.send("unseen")
		w.take(time.Second)
		want := []string{
			"0s alice/eth0 up=true 10.0.0.1:1>10.0.0.2:2 first passed",
			"15ms bob/eth0 up=false 10.0.0.1:1>10.0.0.2:2 first passed",
			"1s alice/eth0 up=true 10.0.0.1:1>10.0.0.2:2 second ruled",
			"1s alice/eth0 up=true 10.0.0.1:1>10.0.0.9:9 nowhere passed",
			"1s alice/eth0 up=true 10.0.0.1:1>10.0.0.2:9 no port passed",
			"1.01s internet up=true 10.0.0.1:1>10.0.0.9:9 nowhere unreachable",
			"1.015s bob/eth0 up=false 10.0.0.1:1>10.0.0.2:9 no port unreachable",
		}
		if !slices.Equal(got, want) {
			t.Errorf("saw\n%q, want\n%q", got, want)
		}
	})
}

// TestAddressesAgain moves a host more often than a place has addresses.
func TestAddressesAgain(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		home := w.gateway("home", w.Internet(), sim.PortRestricted())
		seen := map[netip.Addr]bool{}
		for range 600 {
			if err := w.alice.Move(home, sim.Line{}); err != nil {
				t.Fatal(err)
			}
			if last := w.alice.Addr().As4()[3]; last < 2 || last > 254 {
				t.Fatalf("address %v", w.alice.Addr())
			}
			seen[w.alice.Addr()] = true
		}
		if len(seen) != 253 {
			t.Errorf("%d addresses, want 253", len(seen))
		}
		for _, at := range []sim.Place{home, home, w.Internet()} {
			if err := w.alice.Move(at, sim.Line{}, netip.MustParseAddr("192.168.1.9")); err != nil {
				t.Errorf("to the address that it has: %v", err)
			}
		}
		if err := w.alice.Move(home, sim.Line{}, netip.MustParseAddr("192.168.1.255")); err == nil || w.alice.Addr().String() != "192.168.1.9" {
			t.Errorf("moved to a broadcast address: %v, is at %v", err, w.alice.Addr())
		}
		w.read(w.listen(w.alice, addr("192.168.1.9:9")))
		w.write(w.b, addr("192.168.1.9:9"), "still there")
		w.want("still there from " + bobAddr.String())
	})
}

// TestInFlight takes lines away from packets that are on them.
func TestInFlight(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		home := w.gateway("home", w.Internet(), sim.FullCone())
		carol, link := w.inside("carol", home)
		w.write(link, bobAddr, "out")
		w.want("out from " + mapped(home).String())
		for name, setUp := range map[string]func(on bool){
			"gateway": home.SetUp,
			"host":    func(on bool) { _ = carol.SetUp("eth0", on) },
		} {
			if err := carol.SetLine(sim.Line{Latency: 10 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			if err := home.SetLine(sim.Line{Latency: 10 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			w.write(w.b, mapped(home), name)
			after := 5 * time.Millisecond
			if name == "host" {
				after = 15 * time.Millisecond
			}
			w.take(after)
			setUp(false)
			w.want()
			setUp(true)
			w.write(w.b, mapped(home), name)
			w.want(name + " from " + bobAddr.String())
		}
		if got := w.Stats().Ended[sim.Silent]; got != 2 {
			t.Errorf("%v", w.Stats())
		}
	})
}
