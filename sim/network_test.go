package sim_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

var (
	aliceAddr = addr("10.0.0.1:1")
	bobAddr   = addr("10.0.0.2:2")
)

// wire is a network with two hosts.
type wire struct {
	*testing.T
	*sim.Network
	alice, bob *sim.Host
	a, b       netio.Link
	started    time.Time
	readers    sync.WaitGroup

	mu  sync.Mutex
	got []arrival // at bob
}

// grain is more than latencies vary on two lines without jitter.
const grain = 10 * time.Microsecond

type arrival struct {
	after   time.Duration
	from    netip.AddrPort
	payload string
	ecn     uint8
}

// onWire runs a test in a bubble.
func onWire(t *testing.T, seed uint64, alice, bob sim.Line, test func(w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{T: t, Network: sim.NewNetwork(seed), started: time.Now()}
		w.alice, w.bob = w.host("alice", aliceAddr, alice), w.host("bob", bobAddr, bob)
		w.a, w.b = w.listen(w.alice, aliceAddr), w.listen(w.bob, bobAddr)
		w.read(w.b)
		test(w)
		w.Close()
		w.Close()
		w.readers.Wait()
	})
}

// host adds a host to the internet.
func (w *wire) host(name string, at netip.AddrPort, line sim.Line) *sim.Host {
	w.Helper()
	h, err := w.Host(name, w.Internet(), line, at.Addr())
	if err != nil {
		w.Fatal(err)
	}
	return h
}

func (w *wire) listen(host *sim.Host, at netip.AddrPort) netio.Link {
	w.Helper()
	link, err := host.Listen(at)
	if err != nil {
		w.Fatal(err)
	}
	return link
}

// read collects what comes to a link, until that is closed.
func (w *wire) read(link netio.Link) {
	w.readers.Go(func() {
		var batch netio.Batch
		for {
			if err := link.Read(&batch); err != nil {
				if !errors.Is(err, net.ErrClosed) {
					w.Error(err)
				}
				return
			}
			if batch.Segment != batch.N {
				w.Errorf("batch %+v", batch)
			}
			w.mu.Lock()
			w.got = append(w.got, arrival{time.Since(w.started), batch.From, string(batch.Buf[:batch.N]), batch.ECN})
			w.mu.Unlock()
		}
	})
}

// take returns what came within that long.
func (w *wire) take(d time.Duration) []arrival {
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// send sends from alice to bob.
func (w *wire) send(text string) {
	w.Helper()
	w.write(w.a, bobAddr, text)
}

func (w *wire) write(from netio.Link, to netip.AddrPort, text string) {
	w.Helper()
	if err := from.Write(to, netio.Packets{Data: []byte(text)}, false); err != nil {
		w.Fatal(err)
	}
}

func texts(list []arrival) (all []string) {
	for _, a := range list {
		all = append(all, a.payload)
	}
	return all
}

func TestLatencyAndContent(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: 7 * time.Millisecond}, sim.Line{Latency: 3 * time.Millisecond}, func(w *wire) {
		payload := []byte("abcdefgh")
		p := netio.Packets{Header: []byte("<"), Data: payload, Segment: 3, ECN: 2}
		if err := w.a.Write(bobAddr, p, true); err != nil {
			t.Fatal(err)
		}
		copy(payload, "xxxxxxxx") // is the caller's again
		got := w.take(time.Second)
		if want := []string{"<abc", "<def", "<gh"}; !slices.Equal(texts(got), want) {
			t.Fatalf("got %q, want %q", texts(got), want)
		}
		seen := map[time.Duration]bool{}
		for _, a := range got {
			if late := a.after - 10*time.Millisecond; late < 0 || late > grain || a.from != aliceAddr || a.ecn != 2 {
				t.Errorf("arrival %+v", a)
			}
			if seen[a.after] {
				t.Errorf("two events at %v", a.after)
			}
			seen[a.after] = true
		}
		if got := w.Stats(); got != (sim.Stats{Sent: 3, Delivered: 3}) {
			t.Errorf("stats %v", got)
		}
	})
}

func TestJitterKeepsOrder(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: time.Millisecond, Jitter: 20 * time.Millisecond}, sim.Line{}, func(w *wire) {
		var all []time.Duration
		for i := range 200 {
			w.send(fmt.Sprintf("%03d", i))
			got := w.take(30 * time.Millisecond)
			if len(got) != 1 {
				t.Fatalf("%d packets", len(got))
			}
			all = append(all, got[0].after-time.Duration(i)*30*time.Millisecond)
		}
		first, last := slices.Min(all), slices.Max(all)
		if first < time.Millisecond || first > 3*time.Millisecond || last > 22*time.Millisecond || last < 19*time.Millisecond {
			t.Errorf("from %v to %v", first, last)
		}
		for i := range 200 {
			w.send(fmt.Sprintf("%03d", i))
		}
		if got := w.take(time.Second); len(got) != 200 || !slices.IsSorted(texts(got)) {
			t.Errorf("%d packets, in order: %v", len(got), slices.IsSorted(texts(got)))
		}
	})
}

func TestLossRate(t *testing.T) {
	const packets = 20_000
	for _, loss := range []float64{0, 0.01, 0.3, 1} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			onWire(t, 1, sim.Line{Loss: loss}, sim.Line{}, func(w *wire) {
				got := 0
				for range packets / 100 {
					for range 100 {
						w.send("x")
					}
					got += len(w.take(time.Millisecond))
				}
				lost := float64(packets-got) / packets
				if tolerance := 4 * math.Sqrt(loss*(1-loss)/packets); math.Abs(lost-loss) > tolerance {
					t.Errorf("lost %v of the packets, want %v ± %v", lost, loss, tolerance)
				}
				if stats := w.Stats(); stats.Ended[sim.Lost] != packets-got || stats.Delivered != got {
					t.Errorf("stats %v", stats)
				}
			})
		})
	}
}

// TestRateAndQueue sends faster than a line passes, upwards and downwards.
func TestRateAndQueue(t *testing.T) {
	const size = 1000 // with headers
	slow := sim.Line{Latency: 5 * time.Millisecond, Rate: 100_000, Queue: 20 * size}
	for name, lines := range map[string][2]sim.Line{"up": {slow, {}}, "down": {{}, slow}} {
		t.Run(name, func(t *testing.T) {
			onWire(t, 1, lines[0], lines[1], func(w *wire) {
				payload := string(make([]byte, size-28))
				for range 30 {
					w.send(payload)
				}
				got := w.take(time.Second)
				if len(got) != 20 || w.Stats().Ended[sim.Overrun] != 10 {
					t.Fatalf("%d passed, %v", len(got), w.Stats())
				}
				for i, a := range got {
					want := time.Duration(i+1)*10*time.Millisecond + slow.Latency
					if late := a.after - want; late < -time.Microsecond || late > grain {
						t.Errorf("packet %d after %v, want %v", i, a.after, want)
					}
				}
				w.send(payload) // the queue is empty again
				if got := w.take(time.Second); len(got) != 1 {
					t.Errorf("%d passed after the pause", len(got))
				}
			})
		})
	}
}

func TestMTU(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{MTU: 1300}, func(w *wire) {
		for _, size := range []int{1272, 1273, 1472} { // with headers 1300, 1301, 1500
			w.send(string(make([]byte, size)))
		}
		if got := w.take(time.Second); len(got) != 1 || len(got[0].payload) != 1272 || w.Stats().Ended[sim.TooLarge] != 2 {
			t.Errorf("%d passed, %v", len(got), w.Stats())
		}
		data := make([]byte, 2*1473+10)
		err := w.a.Write(bobAddr, netio.Packets{Data: data, Segment: 1473}, true)
		if !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too large for the own line: %v", err)
		}
		if got := w.take(time.Second); len(got) != 1 || len(got[0].payload) != 10 {
			t.Errorf("%d passed beside those too large", len(got))
		}
	})
}

func TestAddresses(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: time.Millisecond}, sim.Line{}, func(w *wire) {
		fresh := addr("203.0.113.9:1")
		for _, taken := range []netip.AddrPort{aliceAddr, addr("0.0.0.0:1"), addr("[::]:1")} {
			if _, err := w.alice.Listen(taken); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("opened %v twice: %v", taken, err)
			}
		}
		if _, err := w.alice.Listen(fresh); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("opened another's address: %v", err)
		}
		if _, err := w.Host("alice", w.Internet(), sim.Line{}); err == nil {
			t.Error("second host of a name")
		}
		if _, err := w.Host("carol", w.Internet(), sim.Line{}, bobAddr.Addr()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second host of an address: %v", err)
		}
		if _, err := w.Host("dave", w.Internet(), sim.Line{Loss: 2}); err == nil {
			t.Error("a line that loses more than all")
		}
		w.Inject(strangerAddr, bobAddr, []byte("forged"))
		if got := w.take(time.Second); len(got) != 1 || got[0].from != strangerAddr {
			t.Errorf("injected, got %+v", got)
		}
	})
}

// TestMove takes a host elsewhere: a socket bound to all addresses goes on, one
// that is bound to the old address does not.
func TestMove(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: time.Millisecond}, sim.Line{}, func(w *wire) {
		old, fresh := addr("10.0.0.1:7"), addr("203.0.113.9:7")
		roams := w.listen(w.alice, addr("0.0.0.0:7"))
		w.read(roams)
		write := func(link netio.Link, to netip.AddrPort, text string) error {
			return link.Write(to, netio.Packets{Data: []byte(text)}, false)
		}
		_ = write(roams, bobAddr, "old")
		_ = write(w.b, old, "to old") // overtaken by the change
		if err := w.alice.Move(w.Internet(), sim.Line{}, fresh.Addr()); err != nil {
			t.Fatal(err)
		}
		_ = write(roams, bobAddr, "new")
		_ = write(w.b, fresh, "to new")
		if err := write(w.a, bobAddr, "bound"); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("write from an address that is gone: %v", err)
		}
		if err := roams.Write(bobAddr, netio.Packets{Data: []byte("x"), Local: old.Addr()}, false); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("write from an address that is gone: %v", err)
		}
		from := map[string]netip.AddrPort{}
		for _, a := range w.take(time.Second) {
			from[a.payload] = a.from
		}
		if want := (map[string]netip.AddrPort{"old": old, "new": fresh, "to new": bobAddr}); !maps.Equal(from, want) {
			t.Errorf("got %v, want %v", from, want)
		}
		if !slices.Equal(roams.Addrs(), []netip.AddrPort{fresh}) || len(w.a.Addrs()) != 0 || w.alice.Addr() != fresh.Addr() {
			t.Errorf("addresses %v, %v, %v", roams.Addrs(), w.a.Addrs(), w.alice.Addr())
		}
		if got := w.Stats().Ended[sim.Unreachable]; got != 1 {
			t.Errorf("%v", w.Stats())
		}
	})
}

var strangerAddr = addr("198.51.100.1:7")

func TestCrash(t *testing.T) {
	onWire(t, 1, sim.Line{Latency: time.Second}, sim.Line{}, func(w *wire) {
		w.send("on the way")
		w.bob.Crash()
		w.bob.Crash()
		if err := w.b.Write(aliceAddr, netio.Packets{Data: []byte("goodbye")}, false); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after the crash: %v", err)
		}
		if got := w.take(2 * time.Second); len(got) != 0 || w.Stats().Ended[sim.Unreachable] != 1 {
			t.Errorf("got %+v, %v", got, w.Stats())
		}
		again := w.listen(w.bob, bobAddr)
		w.read(again)
		_ = w.b.Close() // the old one's owner is late
		w.send("after")
		if got := w.take(2 * time.Second); !slices.Equal(texts(got), []string{"after"}) {
			t.Errorf("got %+v after the restart", got)
		}
	})
}

// TestSameSeedSameDecisions repeats what one line does with a sequence of packets,
// whatever happens on other lines.
func TestSameSeedSameDecisions(t *testing.T) {
	trace := func(seed uint64, others bool) (got []string) {
		line := sim.Line{Latency: time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.2, Rate: 1_000_000}
		onWire(t, seed, line, line, func(w *wire) {
			for i := range 500 {
				w.send(fmt.Sprint(i))
				if others && i%3 == 0 {
					_ = w.b.Write(aliceAddr, netio.Packets{Data: []byte("noise")}, false)
				}
				time.Sleep(time.Duration(i%7) * time.Millisecond)
			}
			for _, a := range w.take(time.Second) {
				got = append(got, fmt.Sprintf("%v %s", a.after.Round(time.Microsecond), a.payload))
			}
		})
		return got
	}
	first := trace(42, false)
	if len(first) < 200 || len(first) > 450 {
		t.Errorf("%d of 500 packets came through", len(first))
	}
	if again := trace(42, false); !slices.Equal(first, again) {
		t.Error("the same seed gave another trace")
	}
	if again := trace(42, true); !slices.Equal(first, again) {
		t.Error("the other direction changed the trace")
	}
	if other := trace(43, false); slices.Equal(first, other) {
		t.Error("another seed gave the same trace")
	}
}

func TestOverrunSocket(t *testing.T) {
	onWire(t, 1, sim.Line{}, sim.Line{}, func(w *wire) {
		full := addr("10.0.0.2:3")
		unread := w.listen(w.bob, full)
		const packets, size = 6000, 1000
		for range packets {
			_ = w.a.Write(full, netio.Packets{Data: make([]byte, size)}, true)
		}
		time.Sleep(time.Second)
		want := 4 << 20 / (size + 28)
		if got := w.Stats(); got.Delivered != want || got.Ended[sim.Overrun] != packets-want {
			t.Errorf("%v", got)
		}
		w.Close()
		if err := w.a.Write(bobAddr, netio.Packets{Data: []byte("x")}, true); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		if err := unread.Read(&netio.Batch{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
	})
}

// BenchmarkPacket is what one packet costs outside of a bubble.
func BenchmarkPacket(b *testing.B) {
	n := sim.NewNetwork(1)
	defer n.Close()
	alice, _ := n.Host("alice", n.Internet(), sim.Line{}, aliceAddr.Addr())
	bob, _ := n.Host("bob", n.Internet(), sim.Line{}, bobAddr.Addr())
	from, _ := alice.Listen(aliceAddr)
	to, _ := bob.Listen(bobAddr)
	var batch netio.Batch
	packet := netio.Packets{Data: make([]byte, 1200)}
	for b.Loop() {
		_ = from.Write(bobAddr, packet, false)
		if err := to.Read(&batch); err != nil {
			b.Fatal(err)
		}
	}
}
