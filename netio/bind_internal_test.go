package netio

import (
	"errors"
	"net/netip"
	"testing"
)

func TestBoundRoundTrip(t *testing.T) {
	secret := [32]byte{7}
	for _, addr := range []string{"192.0.2.1:443", "[2001:db8::1]:1719"} {
		want := BoundFrame{ID: 1 << 60, Sequence: 42, Observed: netip.MustParseAddrPort(addr)}
		frame := appendBound([]byte("before"), want, newMACKey(secret, boundPurpose))[6:]
		got, err := ParseBound(frame, secret)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		for i := range frame {
			for bit := range 8 {
				frame[i] ^= 1 << bit
				if _, err := ParseBound(frame, secret); err == nil {
					t.Fatalf("accepted with byte %d changed", i)
				}
				frame[i] ^= 1 << bit
			}
		}
		if _, err := ParseBound(frame[:len(frame)-1], secret); !errors.Is(err, ErrMalformed) {
			t.Errorf("truncated: %v", err)
		}
	}
}

// TestBindIsNotBound turns a frame of one direction into one of the other.
func TestBindIsNotBound(t *testing.T) {
	secret := [32]byte{7}
	frame := EncodeBind(nil, 1, 2, secret)
	if len(frame) != bindSize || !validBind(frame, newMACKey(secret, bindPurpose)) {
		t.Fatalf("bind of %d bytes, or not valid", len(frame))
	}
	if validBind(frame, newMACKey(secret, boundPurpose)) {
		t.Error("bind is valid with the key of the other direction")
	}
	if validBind(frame, newMACKey([32]byte{8}, bindPurpose)) {
		t.Error("bind is valid with another key")
	}
}

func FuzzParseBound(f *testing.F) {
	secret := [32]byte{7}
	key := newMACKey(secret, boundPurpose)
	f.Add(appendBound(nil, BoundFrame{ID: 1, Sequence: 2, Observed: netip.MustParseAddrPort("192.0.2.1:443")}, key))
	f.Add(EncodeBind(nil, 1, 2, secret))
	f.Add([]byte{typeBound})
	f.Fuzz(func(t *testing.T, frame []byte) {
		b, err := ParseBound(frame, secret)
		if err == nil && string(appendBound(nil, b, key)) != string(frame) {
			t.Errorf("%x decodes to %+v, which encodes differently", frame, b)
		}
	})
}

// FuzzSwitchFrame gives arbitrary frames to everything that decodes them before a MAC is checked.
func FuzzSwitchFrame(f *testing.F) {
	secret := [32]byte{7}
	f.Add(EncodeBind(nil, 1, 2, secret), uint8(10))
	f.Add(appendProbe(nil, 5, probeFrame{kind: Ping, sequence: 1}, 100, newMACKey(secret, probePurpose)), uint8(0))
	f.Add([]byte{typeRelay, 0, 0, 0, 1, 64, typeRelay, 0, 0, 0, 1, 64}, uint8(6))
	f.Add([]byte{typeDirect + 2*typeStep, 0, 0, 0, 1, 64, typeRelay + 3*typeStep, 0, 0, 0, 1, 64}, uint8(6))
	f.Fuzz(func(t *testing.T, data []byte, segment uint8) {
		relay := NewRelay(RelayConfig{})
		if err := relay.AddClient(1, secret); err != nil {
			t.Fatal(err)
		}
		for _, cfg := range []SwitchConfig{{}, {AcceptRaw: true, Relay: relay}} {
			s, err := NewSwitch(cfg)
			if err != nil {
				t.Fatal(err)
			}
			a := &arrival{Batch: Batch{
				Buf: append([]byte(nil), data...), N: len(data), Segment: int(segment), From: netip.MustParseAddrPort("192.0.2.1:1"),
			}}
			if s.arrived(a, nullLink{}) {
				s.now = a
				ms := emptyMessages(100)
				for n := s.fill(ms); n > 0; n = s.fill(ms) {
					if !cfg.AcceptRaw {
						t.Error("a packet from nobody got through")
					}
				}
			}
			_ = s.Close()
		}
	})
}
