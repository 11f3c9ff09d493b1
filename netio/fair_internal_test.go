package netio

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sender is one who wants to pass segments of a size at a rate, in batches.
type sender struct {
	rate    float64 // bytes per second
	segment int
	batch   int // segments
	want    float64
}

// TestPoolSharesEvenly has senders at constant rates, and what each gets: the same for all who want more, and all of it
// for who wants less.
func TestPoolSharesEvenly(t *testing.T) {
	const rate = 1_000_000
	tests := []struct {
		name    string
		senders []sender
	}{
		{"alone below", []sender{{500_000, 1000, 1, 500_000}}},
		{"alone above", []sender{{5_000_000, 1000, 1, 1_000_000}}},
		{"two of one kind", []sender{{2_000_000, 1000, 1, 500_000}, {2_000_000, 1000, 1, 500_000}}},
		{"much more does not help", []sender{{50_000_000, 1000, 1, 500_000}, {1_000_000, 1000, 1, 500_000}}},
		{"nor do batches", []sender{{5_000_000, 1000, 32, 500_000}, {1_000_000, 1000, 1, 500_000}}},
		{"nor do large packets", []sender{{5_000_000, 1400, 8, 500_000}, {5_000_000, 100, 1, 500_000}}},
		{"what one leaves the others share", []sender{
			{100_000, 1000, 1, 100_000}, {10_000_000, 1000, 4, 450_000}, {700_000, 1000, 1, 450_000},
		}},
		{"in steps", []sender{
			{50_000, 500, 1, 50_000}, {150_000, 500, 1, 150_000}, {1_000_000, 500, 1, 400_000}, {9_000_000, 500, 1, 400_000},
		}},
		{"a trickle", []sender{{1000, 100, 1, 1000}, {90_000_000, 1400, 45, 999_000}}},
		{"a hundred and a trickle", append(slices.Repeat([]sender{{1_000_000, 1400, 1, 9_990}}, 100), sender{1000, 100, 1, 1000})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			const lasts = 20 * time.Second
			var pool rated
			shares, next, got := make([]share, len(test.senders)), make([]float64, len(test.senders)), make([]float64, len(test.senders))
			for i := range next {
				next[i] = float64(i) * 1e-6
			}
			for {
				i := 0
				for k := range next {
					if next[k] < next[i] {
						i = k
					}
				}
				if next[i] > lasts.Seconds() {
					break
				}
				s, n := test.senders[i], test.senders[i].segment*test.senders[i].batch
				pool.advance(time.Duration(next[i]*1e9), rate)
				if passed := room(n, s.segment, MinBurst, pool.owed, pool.owes(&shares[i])); passed > 0 {
					pool.charge(&shares[i], float64(passed))
					got[i] += float64(passed)
				}
				next[i] += float64(n) / s.rate
			}
			sum := 0.0
			for i, s := range test.senders {
				sum += got[i]
				if have := got[i] / lasts.Seconds(); math.Abs(have-s.want) > 0.02*s.want+MinBurst/2/lasts.Seconds() {
					t.Errorf("sender %d got %.0f bytes per second, want %.0f", i, have, s.want)
				}
			}
			if most := rate*lasts.Seconds() + MinBurst + float64(1400*len(shares)); sum > most {
				t.Errorf("%.0f bytes passed, at most %.0f may", sum, most)
			}
		})
	}
}

// TestPoolRandom compares a pool to the definition of its model, in small steps, and holds it to its promises.
func TestPoolRandom(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		const burst = 100_000
		rate := 1000 + random.Int64N(1_000_000)
		var pool rated
		shares, debts := make([]share, 1+random.IntN(12)), make([]float64, 12)
		now, passed := time.Duration(0), 0.0
		for range 500 {
			now += time.Duration(random.Int64N(int64(20 * time.Millisecond)))
			payInParts(debts, (now-pool.paid).Seconds()*float64(rate))
			pool.advance(now, rate)
			at, segment := random.IntN(len(shares)), 1+random.IntN(3000)
			n := segment * (1 + random.IntN(20))
			before := pool.owes(&shares[at])
			granted := room(n, segment, burst, pool.owed, before)
			switch {
			case granted%segment != 0 || granted > n:
				t.Fatalf("seed %d: %d of %d bytes in segments of %d", seed, granted, n, segment)
			case before == 0 && granted == 0:
				t.Fatalf("seed %d: who owes nothing got nothing", seed)
			}
			if granted > 0 {
				pool.charge(&shares[at], float64(granted))
				debts[at] += float64(granted)
				passed += float64(granted)
			}
			sum := 0.0
			for i := range shares {
				sum += debts[i]
				if have := pool.owes(&shares[i]); math.Abs(have-debts[i]) > 0.1 {
					t.Fatalf("seed %d: share %d owes %v, want %v", seed, i, have, debts[i])
				}
			}
			if math.Abs(pool.owed-sum) > 1 {
				t.Fatalf("seed %d: %v is owed, want %v", seed, pool.owed, sum)
			}
			if most := float64(rate)*now.Seconds() + burst + float64(3000*len(shares)); passed > most {
				t.Fatalf("seed %d: %.0f bytes passed, at most %.0f may", seed, passed, most)
			}
		}
	}
}

// payInParts pays debts in equal parts, the slow way.
func payInParts(debts []float64, bytes float64) {
	for bytes > 1e-9 {
		least, owing := math.Inf(1), 0.0
		for _, debt := range debts {
			if debt > 1e-9 {
				least, owing = min(least, debt), owing+1
			}
		}
		if owing == 0 {
			return
		}
		part := min(least, bytes/owing)
		for i := range debts {
			debts[i] = max(0, debts[i]-part)
		}
		bytes -= part * owing
	}
}

// TestRelaySharesLimits has whole relays: how the limits on clients and on everything meet those on routes.
func TestRelaySharesLimits(t *testing.T) {
	const (
		M       = 1_000_000
		limited = 99 // a client that has a limit of its own, M/4
	)
	type flow struct {
		from, to uint64
		rate     float64
		want     float64
	}
	tests := []struct {
		name  string
		cfg   RelayConfig
		flows []flow
	}{
		{"a client's own limit, for what it sends and what it is sent", RelayConfig{}, []flow{
			{limited, 2, 2 * M, M / 4.}, {3, limited, 2 * M, M / 4.}, {4, 5, 2 * M, 2 * M},
		}},
		{"a client's own limit is lower than that of all", RelayConfig{ClientBytesPerSecond: M}, []flow{
			{limited, 2, 2 * M, M / 4.}, {4, 5, 2 * M, M},
		}},
		{"a client's own limit is higher than that of all", RelayConfig{ClientBytesPerSecond: M / 10}, []flow{
			{limited, 2, 2 * M, M / 10.}, {4, 5, 2 * M, M / 10.},
		}},
		{"a client's own limit, and the total", RelayConfig{TotalBytesPerSecond: M}, []flow{
			{limited, 2, 2 * M, M / 4.}, {4, 5, 2 * M, M * 3 / 4.},
		}},
		{"a client's routes share what it sends", RelayConfig{ClientBytesPerSecond: M}, []flow{
			{1, 2, 9 * M, 0.9 * M}, {1, 3, 0.1 * M, 0.1 * M}, {4, 5, 2 * M, M},
		}},
		{"a client's routes share what it is sent", RelayConfig{ClientBytesPerSecond: M}, []flow{
			{2, 1, 9 * M, 0.5 * M}, {3, 1, 0.9 * M, 0.5 * M}, {4, 5, 2 * M, M},
		}},
		{"both directions each have the limit", RelayConfig{ClientBytesPerSecond: M}, []flow{
			{1, 2, 2 * M, M}, {2, 1, 2 * M, M},
		}},
		{"clients share the total, whatever the number of their routes", RelayConfig{TotalBytesPerSecond: M}, []flow{
			{1, 2, 9 * M, M / 6.}, {1, 3, 9 * M, M / 6.}, {1, 4, 9 * M, M / 6.}, {5, 6, 9 * M, M / 2.},
		}},
		{"what a client leaves of the total the others share", RelayConfig{TotalBytesPerSecond: M}, []flow{
			{1, 2, 9 * M, 0.4 * M}, {1, 3, 0.05 * M, 0.05 * M}, {4, 5, 0.1 * M, 0.1 * M}, {6, 7, 3 * M, 0.45 * M},
		}},
		{"all limits together", RelayConfig{BytesPerSecond: M / 5, ClientBytesPerSecond: M / 2, TotalBytesPerSecond: M}, []flow{
			{1, 2, M, 0.2 * M}, {3, 4, M, M / 6.}, {3, 5, M, M / 6.}, {3, 6, M, M / 6.}, {7, 8, 0.1 * M, 0.1 * M},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := NewRelay(test.cfg)
			const step, lasts = time.Millisecond, 20 * time.Second
			got, waits := make([]float64, len(test.flows)), make([]float64, len(test.flows))
			routes := make([]*relayRoute, len(test.flows))
			for i, f := range test.flows {
				_, _ = r.AddClient(f.from, [32]byte{}), r.AddClient(f.to, [32]byte{})
				r.LimitClient(limited, M/4)
				number, _, err := r.AddRoute(f.from, f.to)
				if err != nil {
					t.Fatal(err)
				}
				routes[i], _ = r.routes.get(uint64(number))
			}
			for now := time.Duration(0); now < lasts; now += step {
				for i, f := range test.flows {
					waits[i] += f.rate * step.Seconds()
					n := int(waits[i]) / 1000 * 1000
					waits[i] -= float64(n)
					if n > 0 {
						got[i] += float64(r.limit(routes[i], n, 1000, now))
					}
				}
			}
			for i, f := range test.flows {
				if have := got[i] / lasts.Seconds(); math.Abs(have-f.want) > 0.03*f.want+M/10/lasts.Seconds() {
					t.Errorf("%d to %d: %.0f bytes per second, want %.0f", f.from, f.to, have, f.want)
				}
			}
		})
	}
}

// TestCappedRoute sends more than a route may carry in all, at once and bit by bit, also beside a limit on the rate, which
// must not use it up.
func TestCappedRoute(t *testing.T) {
	for name, cfg := range map[string]RelayConfig{
		"alone": {}, "with a rate": {BytesPerSecond: 100_000}, "with the client's": {ClientBytesPerSecond: 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRelay(cfg)
			_, _ = r.AddClient(1, [32]byte{}), r.AddClient(2, [32]byte{})
			const most = 200_500
			here, there, err := r.AddCappedRoute(1, 2, most)
			if err != nil {
				t.Fatal(err)
			}
			for _, number := range []uint32{here, there} { // each has its own
				route, _ := r.routes.get(uint64(number))
				passed, now := 0, time.Duration(0)
				for range 100 {
					passed += r.limit(route, 9000, 1000, now)
					passed += r.limit(route, 700, 700, now)
					now += time.Second
				}
				if passed > most || passed < most-700 {
					t.Errorf("%d bytes passed, want %d but for what is no whole packet", passed, most)
				}
			}
		})
	}
}

// TestRelayLimitsConcurrently has several readers forward for one client while its routes come and go.
func TestRelayLimitsConcurrently(t *testing.T) {
	r := NewRelay(RelayConfig{ClientBytesPerSecond: 1_000_000, TotalBytesPerSecond: 1_000_000})
	for id := range uint64(5) {
		if err := r.AddClient(id, [32]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	var passed atomic.Int64
	var all sync.WaitGroup
	for reader := range uint64(4) {
		all.Go(func() {
			for range 20 {
				number, _, err := r.AddRoute(0, 1+reader)
				if err != nil {
					t.Error(err)
					return
				}
				route, _ := r.routes.get(uint64(number))
				for at := range 100 {
					passed.Add(int64(r.limit(route, 3000, 1000, time.Duration(at)*time.Millisecond)))
				}
				r.RemoveRoute(number)
				_, _ = r.ClientStats(0)
			}
		})
	}
	all.Wait()
	if most := int64(100_000 + 1_000_000/10 + 80*1000); passed.Load() > most || passed.Load() < 100_000 {
		t.Errorf("%d bytes passed in a tenth of a second, at most %d may", passed.Load(), most)
	}
}

// BenchmarkRelayForward is the relay's work for a batch, without sockets.
func BenchmarkRelayForward(b *testing.B) {
	limits := []struct {
		name string
		cfg  RelayConfig
	}{
		{"unlimited", RelayConfig{}},
		{"route", RelayConfig{BytesPerSecond: 1 << 40}},
		{"client", RelayConfig{ClientBytesPerSecond: 1 << 40}},
		{"client and total", RelayConfig{ClientBytesPerSecond: 1 << 40, TotalBytesPerSecond: 1 << 40}},
	}
	for _, limit := range limits {
		for _, packets := range []int{1, 40} {
			b.Run(fmt.Sprintf("%s/%d packets", limit.name, packets), func(b *testing.B) {
				relay := NewRelay(limit.cfg)
				coordinator, _ := NewSwitch(SwitchConfig{AcceptRaw: true, Relay: relay})
				from := netip.MustParseAddrPort("192.0.2.1:1")
				_ = relay.AddClient(1, [32]byte{})
				route, _, _ := relay.AddRoute(1, 1)
				bind := &arrival{Batch: Batch{From: from, Buf: EncodeBind(nil, 1, 1, [32]byte{}), N: bindSize}}
				coordinator.arrived(bind, nullLink{})
				const size = 1400
				a := &arrival{Batch: Batch{Buf: make([]byte, packets*size), N: packets * size, Segment: size, From: from}}
				b.ReportAllocs()
				for b.Loop() {
					for i := 0; i < a.N; i += size {
						putHeader(a.Buf[i:], typeRelay, route)
					}
					coordinator.arrived(a, nullLink{})
				}
				if relay.Stats().Dropped != (Drops{}) {
					b.Errorf("%+v", relay.Stats())
				}
			})
		}
	}
}
