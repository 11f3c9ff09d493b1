package netio_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/netio"
)

// probeWorld has two ports that know each other's keys, of which b answers pings, and somebody on the way.
type probeWorld struct {
	t            *testing.T
	la, lb, wire *fakeLink
	a, b         *netio.Switch
	pa, pb       *netio.Port
	atA, atB     []netio.Probe
}

func newProbeWorld(t *testing.T) *probeWorld {
	t.Helper()
	var n fakeNet
	w := &probeWorld{t: t, la: n.link("10.0.0.3:3"), lb: n.link("10.0.0.4:4"), wire: n.link("10.0.0.5:5")}
	w.a, w.b = newSwitch(t, netio.SwitchConfig{}, w.la), newSwitch(t, netio.SwitchConfig{}, w.lb)
	read(w.a)
	read(w.b)
	w.pa, w.pb = openPort(t, w.a), openPort(t, w.b)
	if err := w.pa.SendProbe(w.la, w.lb.addr, netio.Ping, 1, netip.AddrPort{}, 100); !errors.Is(err, netio.ErrNoProbeKeys) {
		t.Errorf("without keys: %v", err)
	}
	ab, ba := [32]byte{1}, [32]byte{2}
	w.pa.SetPeerTag(w.pb.Tag())
	w.pb.SetPeerTag(w.pa.Tag())
	w.pa.SetProbeKeys(ab, ba, func(p netio.Probe) { w.atA = append(w.atA, p) })
	w.pb.SetProbeKeys(ba, ab, func(p netio.Probe) {
		w.atB = append(w.atB, p)
		if p.Kind == netio.Ping {
			if err := w.pb.AnswerProbe(p); err != nil {
				t.Errorf("pong: %v", err)
			}
		}
	})
	return w
}

func (w *probeWorld) ping(to *fakeLink, tx uint64, size int) {
	w.t.Helper()
	if err := w.pa.SendProbe(w.la, to.addr, netio.Ping, tx, netip.AddrPort{}, size); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func TestProbePingPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newProbeWorld(t)
		w.ping(w.lb, 77, 1200)
		want := netio.Probe{Kind: netio.Ping, Tx: 77, Size: 1200, From: w.la.addr, Link: w.lb}
		if !slices.Equal(w.atB, []netio.Probe{want}) {
			t.Errorf("b got %+v, want %+v", w.atB, want)
		}
		want = netio.Probe{Kind: netio.Pong, Tx: 77, Size: 1200, Observed: w.la.addr, From: w.lb.addr, Link: w.la}
		if !slices.Equal(w.atA, []netio.Probe{want}) {
			t.Errorf("a got %+v, want %+v", w.atA, want)
		}
		for _, size := range []int{0, netio.MinProbe - 1, netio.MaxProbe + 1} {
			if err := w.pa.SendProbe(w.la, w.lb.addr, netio.Ping, 1, netip.AddrPort{}, size); !errors.Is(err, netio.ErrProbeSize) {
				t.Errorf("size %d: %v", size, err)
			}
		}
		w.pb.Close()
		w.ping(w.lb, 79, 100)
		if len(w.atB) != 1 || w.b.Stats().Dropped.Unknown != 1 {
			t.Errorf("a closed port got a probe: %+v", w.b.Stats().Dropped)
		}
	})
}

func TestProbeAttacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newProbeWorld(t)
		w.ping(w.wire, 78, 200)
		caught := (<-w.wire.in).Buf
		w.la.deliver(w.lb.addr, caught) // reflected
		forA := slices.Clone(caught)
		binary.BigEndian.PutUint32(forA[1:], w.pa.Tag())
		w.la.deliver(w.lb.addr, forA) // reflected, with the right tag
		w.lb.deliver(w.wire.addr, caught[:150])
		w.lb.deliver(w.wire.addr, append(slices.Clone(caught), 0))
		w.lb.deliver(w.wire.addr, caught[:20])
		synctest.Wait()
		if len(w.atA) != 0 || len(w.atB) != 0 {
			t.Fatalf("a got %+v, b got %+v", w.atA, w.atB)
		}
		if got, want := w.a.Stats().Dropped, (netio.Drops{Unknown: 1, BadMAC: 1}); got != want {
			t.Errorf("a dropped %+v, want %+v", got, want)
		}
		if got, want := w.b.Stats().Dropped, (netio.Drops{BadMAC: 2, Malformed: 1}); got != want {
			t.Errorf("b dropped %+v, want %+v", got, want)
		}
		// Delivered late but whole it is good, once: that its source can be reached, only a pong proves.
		w.lb.deliver(w.wire.addr, caught)
		w.lb.deliver(w.wire.addr, caught)
		synctest.Wait()
		if len(w.atB) != 1 || w.atB[0].From != w.wire.addr || w.b.Stats().Dropped.Replay != 1 {
			t.Errorf("b got %+v, dropped %+v", w.atB, w.b.Stats().Dropped)
		}
	})
}
