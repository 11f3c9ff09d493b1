package netio

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestMACIsHMAC(t *testing.T) {
	key := [32]byte{1, 2, 3}
	for n := range 81 {
		msg := bytes.Repeat([]byte{byte(n)}, n)
		h := hmac.New(sha256.New, key[:])
		h.Write(msg)
		if got := rawMACKey(key).sum(msg); !bytes.Equal(got[:], h.Sum(nil)[:macSize]) {
			t.Fatalf("%d bytes: %x", n, got)
		}
	}
}

func TestAddrCodec(t *testing.T) {
	for _, s := range []string{"192.0.2.1:443", "[2001:db8::1]:1", "[::1]:65535", "0.0.0.0:0"} {
		want := netip.MustParseAddrPort(s)
		if got := parseAddr(appendAddr(nil, want)); got != want {
			t.Errorf("%v became %v", want, got)
		}
	}
	if b := appendAddr(nil, netip.AddrPort{}); len(b) != addrSize || parseAddr(b).IsValid() {
		t.Errorf("no address became %v", parseAddr(b))
	}
}

func TestFakeIP(t *testing.T) {
	if tag, ok := fakeTag(fakeIP(0x01020304)); !ok || tag != 0x01020304 {
		t.Errorf("tag %x, %v", tag, ok)
	}
	if got, want := fakeIP(1).String(), "fd63:6f6e:6563::1"; got != want {
		t.Errorf("address %v, want %v", got, want)
	}
	for _, s := range []string{"192.0.2.1", "fd63:6f6e:6564::1", "fd63:6f6e:6563:1::1", "::"} {
		if _, ok := fakeTag(net.ParseIP(s)); ok {
			t.Errorf("%s counts as ours", s)
		}
	}
}

func TestTable(t *testing.T) {
	var tab table[string]
	for i := range uint64(100) {
		if ok, full := tab.put(i, "x", 100, true); !ok || full {
			t.Fatalf("put %d: %v %v", i, ok, full)
		}
	}
	if ok, full := tab.put(100, "x", 100, true); ok || !full {
		t.Errorf("beyond the limit: %v %v", ok, full)
	}
	if ok, full := tab.put(5, "y", 101, true); ok || full {
		t.Errorf("taken: %v %v", ok, full)
	}
	if ok, _ := tab.put(5, "z", 100, false); !ok {
		t.Error("not replaced")
	}
	if v, ok := tab.get(5); v != "z" || !ok {
		t.Errorf("got %q %v", v, ok)
	}
	if tab.remove(5, func(v string) bool { return v == "x" }) || !tab.remove(5, func(v string) bool { return v == "z" }) {
		t.Error("removed the wrong one")
	}
	if _, ok := tab.get(5); ok || tab.len() != 99 {
		t.Errorf("%d left", tab.len())
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	const rate, burst = 1000, 100
	steps := []struct {
		at      time.Duration
		n, want int
	}{
		{time.Second, 250, 100},
		{time.Second, 10, 0},
		{time.Second + 9*time.Millisecond, 10, 0},
		{time.Second + 10*time.Millisecond, 10, 10},
		{time.Second + 40*time.Millisecond, 40, 30},
		{time.Hour, 1000, 100},
		{time.Second, 10, 0},
	}
	for i, s := range steps {
		if got := b.take(s.n, 10, s.at, rate, burst); got != s.want {
			t.Errorf("step %d: took %d, want %d", i, got, s.want)
		}
	}
}

// TestNoAllocations holds the paths that every packet takes to their promise.
func TestNoAllocations(t *testing.T) {
	relay := NewRelay(RelayConfig{BytesPerSecond: 1 << 40, ClientBytesPerSecond: 1 << 40, TotalBytesPerSecond: 1 << 40})
	key := [32]byte{1}
	if err := relay.AddClient(1, key); err != nil {
		t.Fatal(err)
	}
	ra, _, err := relay.AddRoute(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.1:1")
	client, err := NewSwitch(SwitchConfig{})
	if err != nil {
		t.Fatal(err)
	}
	coordinator, err := NewSwitch(SwitchConfig{AcceptRaw: true, Relay: relay})
	if err != nil {
		t.Fatal(err)
	}
	p, err := client.OpenPort()
	if err != nil {
		t.Fatal(err)
	}
	p.Allow(nullLink{}, from)
	p.SetPeerTag(5)
	p.SetPath(Path{Link: nullLink{}, To: from})

	batch := func(kind byte, number uint32) *arrival {
		a := &arrival{Batch: Batch{Buf: make([]byte, 50), N: 50, Segment: 10, From: from}}
		for i := 0; i < a.N; i += a.Segment {
			putHeader(a.Buf[i:], kind, number)
			a.Buf[i+headerSize] = typeQUIC
		}
		return a
	}
	direct, data, ms := batch(typeDirect, p.Tag()), make([]byte, 3000), emptyMessages(8)
	check := func(name string, f func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	check("read", func() {
		if !client.arrived(direct, nullLink{}) {
			t.Fatal("nothing left")
		}
		client.now = direct
		if n := client.fill(ms); n != 5 {
			t.Fatalf("%d packets", n)
		}
	})
	check("write", func() {
		if _, _, err := client.WriteMsgUDP(data, nil, p.Addr()); err != nil {
			t.Fatal(err)
		}
	})
	bind := &arrival{Batch: Batch{From: from}}
	bind.Buf = EncodeBind(nil, 1, 1, key)
	bind.N = len(bind.Buf)
	coordinator.arrived(bind, nullLink{})
	relayed := batch(typeRelay, ra)
	check("relay", func() {
		for i := 0; i < relayed.N; i += relayed.Segment {
			putHeader(relayed.Buf[i:], typeRelay, ra)
		}
		coordinator.arrived(relayed, nullLink{})
	})
	if st := relay.Stats(); st.Forwarded.Packets < 500 || st.Dropped != (Drops{}) {
		t.Errorf("relay %+v", st)
	}
}

// Of the types between those of STUN and QUIC, only relay and direct datagrams have marks.
func TestSplitType(t *testing.T) {
	want := map[byte]int{32: 0, 33: 0, 40: 1, 41: 1, 48: 2, 49: 2}
	for first := range 256 {
		kind, mark := splitType(byte(first))
		if carried, ok := want[byte(first)]; ok {
			if kind != byte(first%8+32) || mark != carried {
				t.Errorf("%d is type %d with mark %d", first, kind, mark)
			}
		} else if kind != byte(first) || mark != 0 {
			t.Errorf("%d is type %d with mark %d, want itself", first, kind, mark)
		}
	}
}
