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

// TestWatch has the kernel tell of addresses, interfaces and routes.
func TestWatch(t *testing.T) {
	lab := netlab.New(t)
	home, office := lab.Gateway("home", lab.Internet(), sim.PortRestricted()), lab.Gateway("office", lab.Internet(), sim.PortRestricted())
	host := lab.Host("alice", home)
	link, err := host.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	changes := make(chan netio.NetworkChange, 16)
	monitor, err := netio.NewMonitor(netio.MonitorConfig{
		Watcher: link.(netio.Watcher), Link: link, Tell: func(change netio.NetworkChange) { changes <- change },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	own, more := host.Addr(), netip.MustParsePrefix("192.168.1.77/24")
	// Each step waits for the change, so that steps do not run into each other.
	for _, step := range []struct {
		name string
		do   func()
		want func() []netip.Addr // in the end: more than one change may lead there
	}{
		{"an address comes", func() { host.SetAddr(more, true) }, func() []netip.Addr { return []netip.Addr{own, more.Addr()} }},
		{"it goes", func() { host.SetAddr(more, false) }, func() []netip.Addr { return []netip.Addr{own} }},
		{"down", func() { host.SetUp(false) }, nil},
		{"up", func() { host.SetUp(true) }, func() []netip.Addr { return []netip.Addr{own} }},
		{"elsewhere", func() { host.Move(office) }, func() []netip.Addr { return []netip.Addr{host.Addr()} }},
	} {
		began := time.Now()
		step.do()
		took := time.Since(began)
		var want []netip.AddrPort
		if step.want != nil {
			for _, addr := range step.want() {
				want = append(want, netip.AddrPortFrom(addr, link.LocalAddr().Port()))
			}
		}
		limit := time.After(10 * time.Second)
		for told := false; !told; {
			select {
			case change := <-changes:
				own := slices.DeleteFunc(slices.Clone(change.Addrs), func(a netip.AddrPort) bool { return a.Addr().IsLoopback() })
				told = slices.Equal(own, want) && (change.Rerouted || !slices.Equal(change.Addrs, change.Former))
				t.Logf("%s: told %v after %v, of which the step took %v", step.name, change, time.Since(began), took)
			case <-limit:
				t.Fatalf("%s: not told %v", step.name, want)
			}
		}
	}
}

// TestWatchOne shows that watchers share what they watch with, and that nothing is left of it.
func TestWatchOne(t *testing.T) {
	w := netio.NewHostWatcher()
	for range 3 {
		var stops []func()
		for range 10 {
			stop, err := w.Watch(func(netio.Hint) {})
			if err != nil {
				t.Fatal(err)
			}
			stops = append(stops, stop)
		}
		for _, stop := range stops {
			stop()
			stop()
		}
	}
}
