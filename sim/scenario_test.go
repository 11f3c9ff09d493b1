package sim_test

import (
	"fmt"
	"testing"
	"time"
	"context"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)
var _ = context.Background
var _ client.Config

func TestOneWay(t *testing.T) {
	for _, rtt := range []time.Duration{10, 40, 200} {
		for phase := range 4 {
			t.Run(fmt.Sprint(rtt, phase), func(t *testing.T) {
				inWorld(t, 1, func(w *world) {
					line := sim.Line{Latency: rtt * time.Millisecond / 4}
					alice, bob := w.client("alice", line, nil), w.client("bob", line, nil)
					a, b := w.open(alice, bob, nil)
					f := w.flows(a, b, 10*time.Millisecond, 100)
					w.direct(3*time.Second, a, b)
					time.Sleep(7*time.Second + time.Duration(phase)*53*time.Millisecond)
					f.measure()
					cut := time.Now()
					heal := w.network.Add(sim.Cut(alice.host, bob.host))
					w.relays(5*time.Second, b)
					t.Logf("bob falls back %v", time.Since(cut))
					w.relays(5*time.Second, a, b)
					t.Logf("fall back %v", time.Since(cut))
					time.Sleep(8 * time.Second)
					t.Logf("gap %v", f.gap())
					healed := time.Now()
					heal()
					w.direct(20*time.Second, a, b)
					t.Logf("back after %v", time.Since(healed))
					time.Sleep(5 * time.Second)
					w.check(f.end())
				})
			})
		}
	}
}
func TestRebind(t *testing.T) {
	for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
		for phase := range 4 {
			t.Run(fmt.Sprint(mode, phase), func(t *testing.T) {
				inWorld(t, 1, func(w *world) {
					alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
					a, b := w.open(alice, bob, &client.StreamOptions{Mode:mode})
					f := w.flows(a, b, 10*time.Millisecond, 100)
					if mode == client.Automatic {w.direct(3*time.Second, a, b)}
					time.Sleep(7*time.Second + time.Duration(phase)*4*time.Second)
					f.measure()
					cut := time.Now()
					w.must(alice.host.Rebind(addr("203.0.113.77:1234")))
					if mode == client.Automatic {
					w.eventually("direct to the new address", 20*time.Second, func() bool { return b.Channel().Path().Remote==addr("203.0.113.77:1234")})
					t.Logf("bob moves %v", time.Since(cut))
					w.direct(20*time.Second, a, b)
					t.Logf("back after %v", time.Since(cut))
					}
					time.Sleep(20 * time.Second)
					t.Logf("gap %v", f.gap())
					w.check(f.end())
				})
			})
		}
	}
}
func TestCoordCrash(t *testing.T) {
	for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
		for _, out := range []time.Duration{1,5,10,15,20,25, 28, 40} {
			t.Run(fmt.Sprint(mode, out), func(t *testing.T) {
				inWorld(t, 1, func(w *world) {
					alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
					a, b := w.open(alice, bob, &client.StreamOptions{Mode:mode})
					f := w.flows(a, b, 10*time.Millisecond, 100)
					if mode == client.Automatic {w.direct(3*time.Second, a, b)}
					time.Sleep(7*time.Second)
					f.measure()
					w.crashCoordinator()
					time.Sleep(out*time.Second)
					w.startCoordinator()
					time.Sleep(60 * time.Second)
					t.Logf("gap %v %v", f.gap(), f[0].count())
					err := f.end()
					t.Logf("err %v", err)
				})
			})
		}
	}
}
