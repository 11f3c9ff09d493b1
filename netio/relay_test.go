package netio_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/conec-go/conec/netio"
)

// relayWorld is a coordinator with a relay, and the links of two clients and a stranger without a switch.
type relayWorld struct {
	relay                *netio.Relay
	sw                   *netio.Switch
	middle, a, b, stray  *fakeLink
	routeA, routeB       uint32
	sequence             uint64
	t                    *testing.T
	keyA, keyB, keyWrong [32]byte
}

func newRelayWorld(t *testing.T, cfg netio.RelayConfig) *relayWorld {
	t.Helper()
	var n fakeNet
	w := &relayWorld{
		t: t, relay: netio.NewRelay(cfg), middle: n.link(coordinatorAddr.String()),
		a: n.link("10.0.0.3:3"), b: n.link("10.0.0.4:4"), stray: n.link(strangerAddr.String()),
		keyA: [32]byte{1}, keyB: [32]byte{2}, keyWrong: [32]byte{3},
	}
	w.sw = newSwitch(t, netio.SwitchConfig{AcceptRaw: true, Relay: w.relay}, w.middle)
	for id, key := range map[uint64][32]byte{1: w.keyA, 2: w.keyB} {
		if err := w.relay.AddClient(id, key); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.routeA, w.routeB, err = w.relay.AddRoute(1, 2); err != nil {
		t.Fatal(err)
	}
	return w
}

// bind binds both clients and forgets the answers.
func (w *relayWorld) bind() {
	w.t.Helper()
	w.sequence++
	w.middle.deliver(w.a.addr, netio.EncodeBind(nil, 1, w.sequence, w.keyA))
	w.middle.deliver(w.b.addr, netio.EncodeBind(nil, 2, w.sequence, w.keyB))
	w.expect(w.a, 1)
	w.expect(w.b, 1)
}

// expect returns the batches that a link got, of which there must be n.
func (w *relayWorld) expect(l *fakeLink, n int) (got []netio.Batch) {
	w.t.Helper()
	synctest.Wait()
	for len(l.in) > 0 {
		got = append(got, <-l.in)
	}
	if len(got) != n {
		w.t.Fatalf("%v got %d batches, want %d", l.addr, len(got), n)
	}
	return got
}

func TestRelayForwardsRunsInOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelayWorld(t, netio.RelayConfig{})
		w.bind()
		otherA, otherB, err := w.relay.AddRoute(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		w.middle.deliver(w.a.addr,
			frame(32, w.routeA, "@one"), frame(32, w.routeA, "@two"), frame(32, w.routeA, "@thr"),
			frame(32, otherA, "@own"), frame(33, 1, "@bad"), []byte("@raw....."),
			frame(40, w.routeA, "@for"), frame(48, w.routeA, "@for"), frame(56, w.routeA, "@bad"))
		got := w.expect(w.b, 3)
		want := slices.Concat(frame(32, w.routeB, "@one"), frame(32, w.routeB, "@two"), frame(32, w.routeB, "@thr"))
		if !bytes.Equal(got[0].Buf[:got[0].N], want) || got[0].Segment != 9 {
			t.Errorf("b got %q in segments of %d, want %q", got[0].Buf[:got[0].N], got[0].Segment, want)
		}
		for i, kind := range []byte{40, 48} { // the mark stays
			if got := got[1+i]; !bytes.Equal(got.Buf[:got.N], frame(kind, w.routeB, "@for")) {
				t.Errorf("b got %q", got.Buf)
			}
		}
		own := w.expect(w.a, 1)
		if !bytes.Equal(own[0].Buf[:own[0].N], frame(32, otherB, "@own")) {
			t.Errorf("a got %q", own[0].Buf)
		}
		if st, _ := w.relay.RouteStats(w.routeA); st.Forwarded.Packets != 5 || st.Dropped != 0 {
			t.Errorf("route %+v", st)
		}
		if st := w.relay.Stats(); st.Forwarded.Packets != 6 || st.Clients != 2 || st.Routes != 4 || st.Binds != 2 {
			t.Errorf("relay %+v", st)
		}
	})
}

func TestRelayDrops(t *testing.T) {
	type drops = netio.Drops
	tests := []struct {
		name   string
		before func(w *relayWorld)
		from   func(w *relayWorld) netip.AddrPort
		route  func(w *relayWorld) uint32
		want   drops
	}{
		{name: "nobody bound", want: drops{Unproven: 1}},
		{name: "spoofed source", before: (*relayWorld).bind, from: func(w *relayWorld) netip.AddrPort { return w.stray.addr }, want: drops{Unproven: 1}},
		{name: "route of the other end", before: (*relayWorld).bind, route: func(w *relayWorld) uint32 { return w.routeB }, want: drops{Unproven: 1}},
		{name: "unknown route", before: (*relayWorld).bind, route: func(w *relayWorld) uint32 { return w.routeA + w.routeB }, want: drops{Unknown: 1}},
		{name: "removed route", before: func(w *relayWorld) {
			w.bind()
			w.relay.RemoveRoute(w.routeA)
		}, want: drops{Unknown: 1}},
		{name: "route removed by its other end", before: func(w *relayWorld) {
			w.bind()
			w.relay.RemoveRoute(w.routeB)
		}, want: drops{Unknown: 1}},
		{name: "removed peer", before: func(w *relayWorld) {
			w.bind()
			w.relay.RemoveClient(2)
		}, want: drops{Unknown: 1}},
		{name: "shut", before: func(w *relayWorld) {
			w.bind()
			w.relay.ShutRoute(w.routeA, true)
			w.middle.deliver(w.b.addr, frame(32, w.routeB, "@the other way"))
			w.expect(w.a, 1)
		}, want: drops{NoPath: 1}},
		{name: "no longer shut, to a peer that is gone", before: func(w *relayWorld) {
			w.bind()
			w.relay.ShutRoute(w.routeA, true)
			w.relay.ShutRoute(w.routeA, false)
			w.middle.deliver(w.a.addr, frame(32, w.routeA, "@this way"))
			w.expect(w.b, 1)
			w.relay.ShutRoute(w.routeA+w.routeB, true) // no route
			w.relay.RemoveClient(2)
		}, want: drops{Unknown: 1}},
		{name: "peer not bound", before: func(w *relayWorld) {
			w.middle.deliver(w.a.addr, netio.EncodeBind(nil, 1, 1, w.keyA))
			w.expect(w.a, 1)
		}, want: drops{NoPath: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newRelayWorld(t, netio.RelayConfig{})
				if test.before != nil {
					test.before(w)
				}
				from, route := w.a.addr, w.routeA
				if test.from != nil {
					from = test.from(w)
				}
				if test.route != nil {
					route = test.route(w)
				}
				w.middle.deliver(from, frame(32, route, "@packet"))
				for _, l := range []*fakeLink{w.a, w.b, w.stray} {
					w.expect(l, 0)
				}
				if got := w.relay.Stats().Dropped; got != test.want {
					t.Errorf("relay dropped %+v, want %+v", got, test.want)
				}
				if got := w.sw.Stats().Dropped; got != test.want {
					t.Errorf("switch dropped %+v, want %+v", got, test.want)
				}
			})
		})
	}
}

func TestRelayBind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelayWorld(t, netio.RelayConfig{})
		bind := netio.EncodeBind(nil, 1, 5, w.keyA)
		bad := slices.Clone(bind)
		bad[20] ^= 1
		steps := []struct {
			name  string
			from  *fakeLink
			frame []byte
			ok    bool
			want  netio.Drops // of this step
		}{
			{"wrong key", w.stray, netio.EncodeBind(nil, 1, 6, w.keyWrong), false, netio.Drops{BadMAC: 1}},
			{"key of another client", w.stray, netio.EncodeBind(nil, 1, 6, w.keyB), false, netio.Drops{BadMAC: 1}},
			{"changed", w.stray, bad, false, netio.Drops{BadMAC: 1}},
			{"truncated", w.stray, bind[:33], false, netio.Drops{Malformed: 1}},
			{"too long", w.stray, append(slices.Clone(bind), 0), false, netio.Drops{Malformed: 1}},
			{"good", w.a, bind, true, netio.Drops{}},
			{"replayed from elsewhere", w.stray, bind, false, netio.Drops{Replay: 1}},
			{"older", w.stray, netio.EncodeBind(nil, 1, 4, w.keyA), false, netio.Drops{Replay: 1}},
			{"newer from elsewhere", w.b, netio.EncodeBind(nil, 1, 6, w.keyA), true, netio.Drops{}},
		}
		unknown := netio.EncodeBind(nil, 9, 1, w.keyA)
		w.middle.deliver(w.stray.addr, unknown)
		who := w.expect(w.stray, 1)[0]
		want := append(append([]byte{38}, unknown[1:17]...), make([]byte, len(unknown)-17)...)
		if !bytes.Equal(who.Buf[:who.N], want) {
			t.Errorf("an unknown client is told %x, want %x", who.Buf[:who.N], want)
		}
		for _, step := range steps {
			before, _ := w.relay.Bound(1)
			had := w.relay.Stats().Dropped
			w.middle.deliver(step.from.addr, step.frame)
			n := 0
			if step.ok {
				n = 1
			}
			answers := w.expect(step.from, n)
			now, _ := w.relay.Bound(1)
			switch {
			case !step.ok && now != before:
				t.Errorf("%s: bound at %v", step.name, now)
			case step.ok && now != step.from.addr:
				t.Errorf("%s: bound at %v, want %v", step.name, now, step.from.addr)
			}
			got := w.relay.Stats().Dropped
			got.Unknown -= had.Unknown
			got.BadMAC -= had.BadMAC
			got.Malformed -= had.Malformed
			got.Replay -= had.Replay
			if got != step.want {
				t.Errorf("%s: dropped %+v, want %+v", step.name, got, step.want)
			}
			if !step.ok {
				continue
			}
			answer := answers[0].Buf[:answers[0].N]
			if len(answer) > len(step.frame) {
				t.Errorf("%s: answer of %d bytes to %d", step.name, len(answer), len(step.frame))
			}
			b, err := netio.ParseBound(answer, w.keyA)
			if err != nil || b.ID != 1 || b.Observed != step.from.addr {
				t.Errorf("%s: answer %+v, %v", step.name, b, err)
			}
			if _, err := netio.ParseBound(answer, w.keyB); !errors.Is(err, netio.ErrMAC) {
				t.Errorf("%s: answer checked with another key: %v", step.name, err)
			}
		}
	})
}

// TestRelayBoundAtClient has the client's side of a bind: answers only from the coordinator, each once.
func TestRelayBoundAtClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelayWorld(t, netio.RelayConfig{})
		var told []netio.BoundFrame
		client := newSwitch(t, netio.SwitchConfig{
			OnBound: func(b netio.BoundFrame, _ netio.Link, _ netip.AddrPort) { told = append(told, b) },
		}, w.a)
		client.AllowRaw(coordinatorAddr)
		client.SetBindKey(1, w.keyA)
		read(client)
		w.middle.deliver(w.stray.addr, netio.EncodeBind(nil, 1, 1, w.keyA))
		answer := w.expect(w.stray, 1)[0]
		w.a.deliver(w.stray.addr, answer.Buf)
		w.a.deliver(coordinatorAddr, answer.Buf)
		w.a.deliver(coordinatorAddr, answer.Buf)
		forged := slices.Clone(answer.Buf)
		forged[16]++
		w.a.deliver(coordinatorAddr, forged)
		w.middle.deliver(w.stray.addr, netio.EncodeAsk(nil, 1, 2, w.keyA, 1300))
		w.a.deliver(coordinatorAddr, w.expect(w.stray, 1)[0].Buf)
		synctest.Wait()
		if want := []netio.BoundFrame{
			{ID: 1, Sequence: 1, Observed: w.stray.addr, Size: len(answer.Buf)}, {ID: 1, Sequence: 2, Observed: w.stray.addr, Size: 1300},
		}; !slices.Equal(told, want) {
			t.Errorf("told %+v, want %+v", told, want)
		}
		if got, want := client.Stats().Dropped, (netio.Drops{Unproven: 1, Replay: 1, BadMAC: 1}); got != want {
			t.Errorf("dropped %+v, want %+v", got, want)
		}
		client.RemoveBindKey(1)
		if err := client.Send(nil, coordinatorAddr, netio.EncodeBind(nil, 1, 2, w.keyA)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if at, _ := w.relay.Bound(1); at != w.a.addr || len(told) != 2 {
			t.Errorf("bound at %v, told %d times", at, len(told))
		}
	})
}

func TestRelayLimits(t *testing.T) {
	r := netio.NewRelay(netio.RelayConfig{MaxClients: 2, RoutesPerClient: 2})
	key := [32]byte{}
	if err := errors.Join(r.AddClient(1, key), r.AddClient(2, key)); err != nil {
		t.Fatal(err)
	}
	if err := r.AddClient(3, key); !errors.Is(err, netio.ErrTooMany) {
		t.Errorf("third client: %v", err)
	}
	if _, _, err := r.AddRoute(1, 3); !errors.Is(err, netio.ErrUnknownClient) {
		t.Errorf("route to unknown client: %v", err)
	}
	own, _, err := r.AddRoute(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.AddRoute(1, 2); !errors.Is(err, netio.ErrTooMany) {
		t.Errorf("third end at client 1: %v", err)
	}
	r.RemoveRoute(own)
	r.RemoveRoute(own)
	if _, _, err := r.AddRoute(1, 2); err != nil {
		t.Errorf("after removal: %v", err)
	}
	r.RemoveClient(2)
	r.RemoveClient(2)
	if st := r.Stats(); st.Routes != 0 || st.Clients != 1 {
		t.Errorf("after removal of a client: %+v", st)
	}
	if err := r.AddClient(1, key); !errors.Is(err, netio.ErrClientExists) {
		t.Errorf("same client again: %v", err)
	}
}

func TestRelayRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelayWorld(t, netio.RelayConfig{BytesPerSecond: 100_000})
		w.bind()
		packet := frame(32, w.routeA, "@"+string(make([]byte, 994))) // 1,000 bytes
		batch := slices.Repeat([][]byte{packet}, 50)
		w.middle.deliver(w.a.addr, batch...)
		w.middle.deliver(w.a.addr, batch...)
		got := w.expect(w.b, 2)
		if sum := got[0].N + got[1].N; sum != netio.MinBurst/1000*1000 {
			t.Errorf("%d bytes passed, want the burst of %d in whole packets", sum, netio.MinBurst)
		}
		if st, _ := w.relay.RouteStats(w.routeA); st.Dropped != 35 {
			t.Errorf("dropped %d packets, want 35", st.Dropped)
		}
		if got := w.sw.Stats().Dropped; got != (netio.Drops{RateLimited: 35}) {
			t.Errorf("dropped %+v", got)
		}
	})
}

func TestRelayClientStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRelayWorld(t, netio.RelayConfig{ClientBytesPerSecond: 100_000})
		w.bind()
		other, _, err := w.relay.AddRoute(1, 2)
		if err != nil {
			t.Fatal(err)
		}
		packet := func(route uint32) []byte { return frame(32, route, "@"+string(make([]byte, 994))) } // 1,000 bytes
		w.middle.deliver(w.a.addr, slices.Repeat([][]byte{packet(w.routeA)}, 50)...)
		w.middle.deliver(w.a.addr, slices.Repeat([][]byte{packet(other)}, 10)...)
		w.middle.deliver(w.b.addr, packet(w.routeB))
		w.expect(w.b, 2)
		w.expect(w.a, 1)
		const half = netio.MinBurst / 2 / 1000
		want := netio.ClientStats{
			Sent: netio.Traffic{Packets: half + 10, Bytes: (half + 10) * 1000}, Received: netio.Traffic{Packets: 1, Bytes: 1000},
			Dropped: 50 - half, RateLimited: 50 - half,
		}
		check := func(when string) {
			t.Helper()
			if got, ok := w.relay.ClientStats(1); !ok || got != want {
				t.Errorf("%s: %+v, %v, want %+v", when, got, ok, want)
			}
			got, _ := w.relay.ClientStats(2)
			if got.Sent != want.Received || got.Received != want.Sent || got.Dropped != 0 {
				t.Errorf("%s: the other has %+v", when, got)
			}
		}
		check("both routes")
		if st, _ := w.relay.RouteStats(w.routeA); st.RateLimited != 50-half || st.Forwarded.Packets != half {
			t.Errorf("route %+v", st)
		}
		w.relay.RemoveRoute(other)
		check("one route")
		w.relay.RemoveRoute(w.routeA)
		check("no route")
		if _, ok := w.relay.ClientStats(3); ok {
			t.Error("there are counters of an unknown client")
		}
	})
}
