package netio

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv4"
)

// nullLink takes everything and never has anything.
type nullLink struct{}

func (nullLink) Read(*Batch) error                         { return nil }
func (nullLink) Write(netip.AddrPort, Packets, bool) error { return nil }
func (nullLink) LocalAddr() netip.AddrPort                 { return netip.AddrPort{} }
func (nullLink) Addrs() []netip.AddrPort                   { return nil }
func (nullLink) Close() error                              { return nil }

func emptyMessages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1500)}, make([]byte, 128)
	}
	return ms
}

func TestProbeRoundTrip(t *testing.T) {
	key, other := newMACKey([32]byte{1}, probePurpose), newMACKey([32]byte{2}, probePurpose)
	for _, size := range []int{MinProbe, MinProbe + 1, 1200, MaxProbe} {
		want := probeFrame{kind: Pong, sequence: 3, tx: 4, observed: netip.MustParseAddrPort("192.0.2.1:5")}
		frame := appendProbe([]byte("before"), 9, want, size, key)[6:]
		if len(frame) != size {
			t.Fatalf("%d bytes, want %d", len(frame), size)
		}
		if got, err := parseProbe(frame, key); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := parseProbe(frame, other); !errors.Is(err, ErrMAC) {
			t.Errorf("other key: %v", err)
		}
		if _, err := parseProbe(append(frame, 0), key); err == nil {
			t.Error("accepted with more padding")
		}
		if _, err := parseProbe(frame[:size-1], key); err == nil {
			t.Error("accepted truncated")
		}
		for i := range MinProbe {
			frame[i] ^= 1
			if _, err := parseProbe(frame, key); err == nil {
				t.Errorf("accepted with byte %d changed", i)
			}
			frame[i] ^= 1
		}
	}
}

func TestProbeWindow(t *testing.T) {
	var w window
	steps := []struct {
		n    uint64
		want bool
	}{
		{0, false},
		{1, true},
		{1, false},
		{3, true},
		{2, true},
		{2, false},
		{66, true},
		{3, false},
		{4, true},
		{2, false},
		{66, false},
		{65, true},
		{1000, true},
		{937, true},
		{936, false},
		{66, false},
		{1001, true},
		{1 << 63, true},
		{1001, false},
		{^uint64(0), true},
		{^uint64(0), false},
		{0, false},
	}
	for i, s := range steps {
		if got := w.accept(s.n); got != s.want {
			t.Errorf("step %d: accept(%d) = %v", i, s.n, got)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	key := newMACKey([32]byte{1}, probePurpose)
	f.Add(appendProbe(nil, 9, probeFrame{kind: Ping, sequence: 3, tx: 4}, 100, key))
	f.Add([]byte{typeProbe})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if p, err := parseProbe(frame, key); err == nil && p.kind != Ping && p.kind != Pong {
			t.Errorf("kind %v", p.kind)
		}
	})
}
