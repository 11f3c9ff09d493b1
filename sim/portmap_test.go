package sim_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio/portmap"
	"github.com/conec-go/conec/sim"
)

// mapper is a gateway that maps ports, or not, as a test says.
type mapper struct {
	mu       sync.Mutex
	outer    netip.AddrPort
	lifetime time.Duration
	err      error
	takes    time.Duration // to answer
	deaf     bool          // to the end of the mapping
	busy     bool
	asked    []time.Time
	ended    int
	world    *sim.World
	host     func() netip.Addr // whose port it maps
}

var errNoMap = errors.New("refused")

// Map implements client.PortMapper.
func (m *mapper) Map(ctx context.Context, inner netip.AddrPort) (portmap.Mapping, error) {
	m.mu.Lock()
	if m.busy {
		m.world.T.Error("asked while an attempt is under way")
	}
	m.busy = true
	m.asked = append(m.asked, time.Now())
	takes := m.takes
	m.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = false
	at := netip.AddrPortFrom(m.host(), inner.Port())
	return portmap.Mapping{Protocol: "PCP", Outer: m.outer, Inner: at, Lifetime: m.lifetime}, errors.Join(m.err, ctx.Err())
}

// Unmap implements client.PortMapper.
func (m *mapper) Unmap(ctx context.Context) error {
	if m.deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended++
	return nil
}

func (m *mapper) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// pauses are the times between attempts, since the last call.
func (m *mapper) pauses() (list []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 1; i < len(m.asked); i++ {
		list = append(list, m.asked[i].Sub(m.asked[i-1]).Round(time.Second))
	}
	m.asked = m.asked[max(0, len(m.asked)-1):]
	return list
}

// mapping builds alice behind a gateway that maps ports, and shows her under the same address after a restart, and bob elsewhere.
func mapping(w *sim.World, change func(*client.Config)) (*mapper, *pair, *sim.Gateway) {
	line := sim.Line{Latency: 5 * time.Millisecond}
	m := &mapper{world: w, outer: netip.MustParseAddrPort("203.0.113.9:4000"), lifetime: 10 * time.Minute}
	w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
	gateway := w.Gateway("home", w.Internet(), sim.PortRestricted(), line, netip.MustParseAddr("203.0.113.9"))
	host := w.Host("alice", gateway, sim.Line{})
	m.host = host.Addr
	alice := w.Client(host, func(c *client.Config) {
		c.PortMapper = m
		if change != nil {
			change(c)
		}
	})
	return m, &pair{w, alice, w.Client(w.Host("bob", w.Internet(), line), nil)}, gateway
}

// mappedOf are the peer's candidates at its gateway.
func mappedOf(t *testing.T, channel *client.Channel) (addrs []netip.AddrPort) {
	t.Helper()
	report, err := channel.Paths(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Candidates {
		if c.Kind == client.KindMapped {
			addrs = append(addrs, c.Addr)
		}
	}
	return addrs
}

// TestPortMapping has peers offered what the gateway maps, as long as it does, and the mapping renewed and given back.
func TestPortMapping(t *testing.T) {
	sim.Test(t, &sim.Options{Limit: 2 * time.Hour}, func(w *sim.World) {
		m, p, gateway := mapping(w, nil)
		known := func(state client.PortMapState) bool { return p.alice.PortMapping().State == state }
		_, in := p.openTo()
		first := m.outer
		w.Eventually(time.Second, "a mapping", func() bool { return known(client.PortMapped) })
		if got := p.alice.PortMapping(); got.Addr != first || got.Protocol != "PCP" || got.Err != nil {
			t.Errorf("got %+v", got)
		}
		w.Eventually(time.Second, "an offer", func() bool { return slices.Contains(mappedOf(t, in.Channel()), first) })

		time.Sleep(11 * time.Minute)
		if got := m.pauses(); !slices.Equal(got, []time.Duration{5 * time.Minute, 5 * time.Minute}) {
			t.Errorf("renewed after %v", got)
		}

		// The gateway restarts, is gone for a while, and maps another port.
		m.set(func() { m.outer = netip.MustParseAddrPort("203.0.113.9:5000") })
		gateway.SetUp(false)
		time.Sleep(3 * time.Second)
		gateway.Reboot()
		gateway.SetUp(true)
		w.Eventually(8*time.Second, "the new port", func() bool { return p.alice.PortMapping().Addr == m.outer })
		w.Eventually(time.Second, "an offer of it", func() bool { return slices.Contains(mappedOf(t, in.Channel()), m.outer) })

		// It refuses: what there is lasts until its end.
		m.set(func() { m.err = errNoMap })
		m.pauses()
		time.Sleep(9 * time.Minute)
		if !known(client.PortMapped) {
			t.Errorf("before the end: %+v", p.alice.PortMapping())
		}
		time.Sleep(2 * time.Minute)
		if got := p.alice.PortMapping(); got.State != client.PortNotMapped || !errors.Is(got.Err, errNoMap) || got.Addr.IsValid() {
			t.Errorf("after the end: %+v", got)
		}
		m.pauses()
		time.Sleep(11 * time.Minute)
		if got := m.pauses(); !slices.Equal(got, []time.Duration{10 * time.Minute}) {
			t.Errorf("asked again after %v", got)
		}

		// And gives one again.
		m.set(func() { m.err = nil })
		time.Sleep(20 * time.Minute)
		if !known(client.PortMapped) {
			t.Errorf("again: %+v", p.alice.PortMapping())
		}
		began := time.Now()
		if err := p.alice.Stop(); err != nil || m.ended != 1 || time.Since(began) > time.Second {
			t.Errorf("closed: %v after %v, %d given back", err, time.Since(began), m.ended)
		}
	})
}

// TestPortMappingMoves has a host change its network, many times: one attempt at a time, and not more than one in five
// seconds. What it has no more is not offered.
func TestPortMappingMoves(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		m, p, _ := mapping(w, nil)
		_, in := p.openTo()
		w.Eventually(time.Second, "an offer", func() bool { return len(mappedOf(t, in.Channel())) == 1 })
		move := func(h *sim.Host, at sim.Place) {
			if err := h.Move(at, sim.Line{Latency: time.Millisecond}); err != nil {
				t.Fatal(err)
			}
		}
		m.set(func() { m.takes = 2 * time.Second })
		m.pauses()
		time.Sleep(10 * time.Second)
		if err := p.alice.Host().Plug("eth1", w.Gateway("office", w.Internet(), sim.Symmetric(), sim.Line{}), sim.Line{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if len(m.pauses()) != 1 {
			t.Error("one more interface: not asked again")
		}
		for i := range 20 {
			nat := sim.Symmetric()
			nat.Inside = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24)
			move(p.alice.Host(), w.Gateway("cafe "+strconv.Itoa(i), w.Internet(), nat, sim.Line{Latency: time.Millisecond}))
			time.Sleep(time.Second)
			if got := mappedOf(t, in.Channel()); i == 0 && len(got) > 0 {
				t.Errorf("after a second elsewhere: offered %v", got)
			}
		}
		for _, pause := range m.pauses() {
			if pause < 5*time.Second {
				t.Errorf("asked after %v", pause)
			}
		}
		time.Sleep(10 * time.Second)
		if got := p.alice.PortMapping(); got.State != client.PortMapped {
			t.Errorf("at last: %+v", got)
		}
		m.pauses()
		move(p.alice.Host(), w.Internet())
		time.Sleep(20 * time.Second)
		if got := p.alice.PortMapping(); got.State != client.PortMapUnneeded || len(m.pauses()) > 0 || len(mappedOf(t, in.Channel())) > 0 {
			t.Errorf("without a NAT: %+v, offered %v", got, mappedOf(t, in.Channel()))
		}
	})
}

// TestPortMappingEnds closes a client whose gateway is silent.
func TestPortMappingEnds(t *testing.T) {
	for _, takes := range []time.Duration{0, time.Hour} { // mapped, and not yet
		sim.Test(t, nil, func(w *sim.World) {
			m, p, _ := mapping(w, nil)
			m.set(func() { m.takes, m.deaf = takes, true })
			time.Sleep(time.Minute)
			began := time.Now()
			if err := p.alice.Stop(); err != nil || time.Since(began) > 900*time.Millisecond {
				t.Errorf("closed after %v: %v", time.Since(began), err)
			}
		})
	}
}

// TestNoPortMapping asks nobody where none is wanted.
func TestNoPortMapping(t *testing.T) {
	for name, change := range map[string]func(*client.Config){
		"off":        func(c *client.Config) { c.NoPortMapping = true },
		"relay only": func(c *client.Config) { c.RelayOnly = true },
		"simulated":  func(c *client.Config) { c.PortMapper = nil },
	} {
		t.Run(name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				m, p, _ := mapping(w, change)
				p.openTo()
				time.Sleep(time.Minute)
				if got := p.alice.PortMapping(); got.State != client.PortMapOff || len(m.asked) > 0 {
					t.Errorf("got %+v, asked %v", got, m.asked)
				}
			})
		})
	}
}
