package actors

import (
	"net/netip"
	"testing"
	"time"
)

// Guesses go to one address, are all different, keep their rate and their limit, and begin next to the port that was seen.
func TestGuesses(t *testing.T) {
	for _, seed := range []uint64{0, 1, 2<<32 | 7, 1<<64 - 1, 0x9e3779b97f4a7c15, 0x123456789} {
		set := &pathSet{allowDirect: true, allowRelay: true}
		now, began := time.Unix(100, 0), time.Unix(100, 0)
		seen := netip.MustParseAddrPort("203.0.113.9:65530")
		set.startGuessing(now, seen, seed)
		made, ports := 0, map[uint16]bool{}
		for set.guesses != nil {
			pings, again := set.guess(now)
			for _, ping := range pings {
				port := ping.to.Port()
				if ping.to.Addr() != seen.Addr() || port < guessFirst || ping.size != guessSize || made >= guessNear && ports[port] {
					t.Fatalf("seed %x: guess %d is %+v", seed, made, ping)
				}
				if near := seen.Port() + 1 + uint16(made); made < 5 && port != near {
					t.Errorf("seed %x: guess %d is port %d, want %d", seed, made, port, near)
				}
				if made++; made > guessNear {
					ports[port] = true
				}
			}
			if limit := 1 + int(now.Sub(began)/guessEach); made > limit {
				t.Fatalf("seed %x: %d guesses after %v", seed, made, now.Sub(began))
			}
			now = now.Add(again)
			if now.Sub(began) > time.Minute {
				t.Fatalf("seed %x: guesses without an end", seed)
			}
		}
		if made != guessLimit {
			t.Errorf("seed %x: %d guesses, want %d", seed, made, guessLimit)
		}
	}
}

// Only the answer to a guess, from where that went, counts.
func TestGuessed(t *testing.T) {
	set := &pathSet{allowDirect: true, allowRelay: true}
	now := time.Unix(100, 0)
	set.startGuessing(now, netip.MustParseAddrPort("203.0.113.9:4000"), 1)
	pings, _ := set.guess(now)
	to, tx := pings[0].to, pings[0].tx
	for _, wrong := range []struct {
		from netip.AddrPort
		tx   uint64
	}{{at(1), tx}, {to, tx + 1}, {netip.AddrPort{}, tx + 1}} {
		if set.answer(now, nil, wrong.from, wrong.tx) {
			t.Errorf("%+v was taken for an answer", wrong)
		}
	}
	if !set.answer(now, nil, to, tx) || set.find(to) == nil || set.answer(now, nil, to, tx) {
		t.Error("the answer was not taken, or twice")
	}
}
