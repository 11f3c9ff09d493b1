package netio

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func addrPorts(texts ...string) (addrs []netip.AddrPort) {
	for _, text := range texts {
		addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(text), 1))
	}
	return addrs
}

// watchedLink is a link and a watcher; a test sets its addresses and hints.
type watchedLink struct {
	nullLink
	addrs []netip.AddrPort
	hint  func(Hint)
}

func (w *watchedLink) Addrs() []netip.AddrPort { return w.addrs }

func (w *watchedLink) Watch(hint func(Hint)) (func(), error) {
	w.hint = hint
	return func() { w.hint = nil }, nil
}

func TestMonitor(t *testing.T) {
	wifi, lte, six := "10.0.0.1", "10.1.0.1", "2001:db8::1"
	const ms = time.Millisecond
	type step struct {
		at    time.Duration
		addrs []string // nil: as they were
		hint  Hint
	}
	type told struct {
		at    time.Duration
		addrs []string // of then
		hint  Hint
	}
	tests := []struct {
		name  string
		steps []step
		want  []told
	}{
		{"nothing changes", []step{{at: 0}, {at: 10 * ms}}, nil},
		{"another address", []step{{0, []string{wifi, lte}, Hint{}}}, []told{{250 * ms, []string{wifi, lte}, Hint{}}}},
		{
			"several in a group",
			[]step{{0, []string{wifi, lte}, Hint{}}, {200 * ms, []string{wifi, lte, six}, Hint{Rerouted: true}}},
			[]told{{250 * ms, []string{wifi, lte, six}, Hint{Rerouted: true}}},
		},
		{"one goes", []step{{0, []string{}, Hint{}}}, []told{{0, []string{}, Hint{}}}},
		{"one is replaced", []step{{0, []string{lte}, Hint{Rerouted: true}}}, []told{{0, []string{lte}, Hint{Rerouted: true}}}},
		{
			"one goes, another comes",
			[]step{{0, []string{}, Hint{}}, {100 * ms, []string{lte}, Hint{}}},
			[]told{{0, []string{}, Hint{}}, {350 * ms, []string{lte}, Hint{}}},
		},
		{"one comes and goes", []step{{0, []string{wifi, lte}, Hint{}}, {100 * ms, []string{wifi}, Hint{}}}, nil},
		{
			"one goes while another settles",
			[]step{{0, []string{wifi, lte}, Hint{}}, {100 * ms, []string{lte}, Hint{}}},
			[]told{{100 * ms, []string{lte}, Hint{}}},
		},
		{"another way", []step{{0, nil, Hint{Rerouted: true}}, {10 * ms, nil, Hint{}}}, []told{{250 * ms, []string{wifi}, Hint{Rerouted: true}}}},
		{"sleep", []step{{0, nil, Hint{Slept: time.Hour}}}, []told{{0, []string{wifi}, Hint{Slept: time.Hour}}}},
		{
			"another way, then sleep",
			[]step{{0, nil, Hint{Rerouted: true}}, {10 * ms, []string{lte}, Hint{Slept: time.Hour}}},
			[]told{{10 * ms, []string{lte}, Hint{Rerouted: true, Slept: time.Hour}}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				link, start := &watchedLink{addrs: addrPorts(wifi)}, time.Now()
				former := link.addrs
				var got []NetworkChange
				var at []time.Duration
				m, err := NewMonitor(MonitorConfig{Watcher: link, Link: link, Tell: func(change NetworkChange) {
					got, at = append(got, change), append(at, time.Since(start))
				}})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range test.steps {
					time.Sleep(s.at - time.Since(start))
					if s.addrs != nil {
						link.addrs = addrPorts(s.addrs...)
					}
					link.hint(s.hint)
				}
				time.Sleep(time.Minute)
				m.Close()
				if link.hint != nil {
					t.Error("it still watches")
				}
				if len(got) != len(test.want) {
					t.Fatalf("told %+v, want %+v", got, test.want)
				}
				for i, want := range test.want {
					if at[i] != want.at || got[i].Hint != want.hint || !slices.Equal(got[i].Addrs, addrPorts(want.addrs...)) || !slices.Equal(got[i].Former, former) {
						t.Errorf("told %+v after %v, want %+v, before %v", got[i], at[i], want, former)
					}
					former = got[i].Addrs
				}
			})
		})
	}
}

// TestSettlingRandom: whatever flaps, tells are bounded, the last one is true, and comes soon.
func TestSettlingRandom(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		start := time.Unix(0, 0)
		now, addrs := start, []netip.AddrPort{}
		s := settling{}
		var next time.Time // when it wants to look again
		var tells []time.Time
		step := func(hint Hint) {
			change, again := s.step(now, slices.Clone(addrs), hint)
			next = time.Time{}
			if again > 0 {
				next = now.Add(again)
			}
			if change == nil {
				return
			}
			if again != 0 || !slices.Equal(change.Addrs, addrs) || slices.Equal(change.Addrs, change.Former) && change.Hint == (Hint{}) {
				t.Fatalf("seed %d: told %+v, look again after %v, want %v", seed, change, again, addrs)
			}
			tells = append(tells, now)
		}
		pauses := []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second}
		pause := pauses[random.IntN(len(pauses))]
		for range 300 {
			at := now.Add(time.Duration(random.Int64N(int64(pause))))
			for !next.IsZero() && next.Before(at) {
				now = next
				step(Hint{})
			}
			now = at
			addrs = addrPorts([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}[:random.IntN(4)]...)
			step(Hint{Rerouted: random.IntN(4) == 0})
		}
		settled := now
		for !next.IsZero() {
			now = next
			step(Hint{})
		}
		if !slices.Equal(s.known, addrs) {
			t.Fatalf("seed %d: told %v last, want %v", seed, s.known, addrs)
		}
		if now.Sub(settled) > time.Second+settleFor {
			t.Fatalf("seed %d: told after %v", seed, now.Sub(settled))
		}
		for i := range tells {
			if most := 5; i >= most && tells[i].Sub(tells[i-most]) < time.Second {
				t.Fatalf("seed %d: %d tells within %v", seed, most+1, tells[i].Sub(tells[i-most]))
			}
		}
		if most := tellBurst + tellsAfter*now.Sub(start).Seconds() + 1; float64(len(tells)) > most {
			t.Fatalf("seed %d: %d tells, at most %.1f may", seed, len(tells), most)
		}
	}
}

func TestDrowse(t *testing.T) {
	d := drowse{}
	for _, look := range []struct{ at, want time.Duration }{
		{time.Second, 0},
		{6 * time.Second, 0},
		{11 * time.Second, 0},
		{25 * time.Second, 0}, // late, as on a busy machine
		{40 * time.Second, 10 * time.Second},
		{45 * time.Second, 0},
		{10 * time.Minute, 550 * time.Second},
		{9 * time.Minute, 0}, // the clock was set back
		{9*time.Minute + 5*time.Second, 0},
	} {
		if got := d.slept(look.at); got != look.want {
			t.Errorf("at %v: slept %v, want %v", look.at, got, look.want)
		}
	}
}
