package sim_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// crowdMeasure is what presence costs where many are.
type crowdMeasure struct {
	list, listCPU      time.Duration // until a newcomer has the list of all, on the world's clock, and what all computed meanwhile
	listBytes          int           // that it got for it
	changeBytes        int           // for each change, to and from a watcher, with the headers of UDP and IPv4
	attachCPU          time.Duration // for each client: of both sides
	memory             int           // KiB for each client, its own and the coordinator's
	watchersKnow, want int           // changes
}

// watchedBytes counts what a host sends and gets, with headers of 28 bytes for each packet.
func (w *world) watchedBytes(host *sim.Host) (count *atomic.Int64, stop func()) {
	const headers = 20 + 8
	addr := host.Addr()
	count = new(atomic.Int64)
	return count, w.Watch(func(s sim.Sight) {
		if s.Up && (s.From.Addr() == addr || s.To.Addr() == addr) {
			count.Add(int64(len(s.Payload) + headers))
		}
	})
}

// crowdOf attaches so many clients.
func (w *world) crowdOf(n int) {
	w.T.Helper()
	hosts := make([]*sim.Host, n)
	for i := range hosts {
		hosts[i] = w.Host(fmt.Sprintf("client-%05d", i), w.Internet(), near, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	const together = 500 // or the coordinator has more packets to take than wait for it
	for at := 0; at < n; at += together {
		for _, c := range w.Clients(nil, hosts[at:min(at+together, n)]...) {
			w.clients = append(w.clients, &program{c, w})
		}
	}
}

// presenceOfMany measures presence among so many clients, of which some watch all.
func presenceOfMany(v *sim.World, n, watchers int) (m crowdMeasure) {
	w := &world{World: v, epoch: time.Now().Add(-v.Elapsed())}
	w.hub = v.Host("coordinator", v.Internet(), near, hubAddr.Addr())
	w.coordinator = v.Coordinator(w.hub, nil)
	before, began := memory(), sim.Computed()
	w.crowdOf(n)
	m.attachCPU = (sim.Computed() - began) / time.Duration(n)
	m.memory = int(memory()-before) / 1024 / n
	var all []*watching
	for _, p := range w.clients[:watchers] {
		all = append(all, p.watches("*"))
	}
	for _, one := range all {
		w.Eventually(time.Minute, "a watcher's list", func() bool { return one.knows() == n-1 })
	}
	newcomer := w.client("newcomer", near, nil)
	count, stop := w.watchedBytes(newcomer.Host())
	at, began := time.Now(), sim.Computed()
	list, err := newcomer.Peers(within(time.Minute), "*")
	w.must(err)
	m.list, m.listCPU, m.listBytes = time.Since(at), sim.Computed()-began, int(count.Load())
	stop()
	if len(list) != n {
		w.T.Errorf("the newcomer's list has %d peers of %d", len(list), n)
	}
	w.changesOfMany(all, &m)
	runtime.KeepAlive(newcomer)
	for _, p := range w.clients {
		p.Current().Abort()
	}
	return m
}

// changesOfMany has clients publish something, one after the other.
func (w *world) changesOfMany(all []*watching, m *crowdMeasure) {
	const changes, rest = 20, 10 * time.Second
	<-time.After(5 * time.Second) // until it is quiet
	for _, one := range all {
		one.clear()
	}
	count, stop := w.watchedBytes(w.clients[0].Host())
	defer stop()
	<-time.After(rest)
	idle := int(count.Swap(0))
	for i := range changes {
		w.must(w.clients[len(all)+i].SetMetadata(map[string]string{"load": fmt.Sprint(i)}))
		<-time.After(rest / changes)
	}
	m.changeBytes, m.want = (int(count.Load())-idle)/changes, changes*len(all)
	for _, one := range all {
		m.watchersKnow += one.clear()
	}
}

// knows is how many peers the watch has told of.
func (w *watching) knows() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.there)
}

// peer is what the watch knows of a peer, nothing if it is not there.
func (w *watching) peer(name string) client.PeerInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.there[name]
}

// clear forgets what was told, and returns how much that was.
func (w *watching) clear() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.told)
	w.told = nil
	return n
}

// check holds what is promised for up to 10,000 clients.
func (m *crowdMeasure) check(tb testing.TB) {
	tb.Helper()
	tb.Logf("list after %v, %v CPU, %d bytes; a change %d bytes for a watcher; attaching %v CPU and %d KiB a client",
		m.list, m.listCPU, m.listBytes, m.changeBytes, m.attachCPU, m.memory)
	if m.list > time.Second || m.changeBytes >= 200 {
		tb.Errorf("want a list within a second, and less than 200 bytes for a change")
	}
	if m.watchersKnow != m.want {
		tb.Errorf("watchers were told of %d changes, want %d", m.watchersKnow, m.want)
	}
}

// TestPresenceCrowd holds what presence may cost, with a tenth of the clients.
func TestPresenceCrowd(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	sim.Test(t, &sim.Options{Limit: time.Hour, TraceOff: true}, func(w *sim.World) {
		m := presenceOfMany(w, n, 20)
		m.check(w.T)
	})
}

// BenchmarkPresence is the same with all of them: a newcomer's list, and what a change costs those who watch.
func BenchmarkPresence(b *testing.B) {
	for _, n := range []int{1000, 9999} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				inBenchmark(b, func(w *sim.World) {
					m := presenceOfMany(w, n, 100)
					m.check(w.T)
					b.ReportMetric(float64(m.list.Milliseconds()), "list-virtual-ms")
					b.ReportMetric(float64(m.listCPU.Milliseconds()), "list-CPU-ms")
					b.ReportMetric(float64(m.listBytes)/1000, "list-KB")
					b.ReportMetric(float64(m.changeBytes), "B/change")
					b.ReportMetric(float64(m.memory), "KiB/client")
				})
			}
		})
	}
}
