package actors

import (
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// A peer that changes its address again and again is followed, and the table stays
// bounded.
func TestPathSetFollowsManyAddresses(t *testing.T) {
	k, _ := direct(t, true)
	for n := range 3 * maxCandidates {
		k.now = k.now.Add(time.Second)
		k.set.seen(k.now, nil, at(100+n))
		if k.set.find(at(100+n)) == nil {
			t.Fatalf("address %d is not probed", n)
		}
	}
	if got := len(k.set.candidates); got > maxCandidates {
		t.Errorf("%d candidates", got)
	}
}

// A peer that names strangers does not make us flood them, on however many channels.
func TestPathSetSparesStrangers(t *testing.T) {
	for name, same := range map[string]bool{"the same again": true, "always others": false} {
		t.Run(name, func(t *testing.T) {
			var all strangers
			spend := func(now time.Time) bool { return all.spend("mallory", now) }
			channels := []*pathSet{{allowRelay: true, allowDirect: true, spend: spend}, {allowRelay: true, allowDirect: true, spend: spend}}
			now, pings := time.Unix(0, 0), 0
			for round := range 1000 {
				var addrs []netip.AddrPort
				for n := range maxCandidates {
					if !same {
						n += round * maxCandidates
					}
					addrs = append(addrs, at(n%60_000))
				}
				for _, p := range channels {
					p.offer(now, addrs)
					sent, _ := p.look(now, heard{})
					pings += len(sent)
				}
				now = now.Add(10 * time.Millisecond)
			}
			if limit := strangerBurst + 10*strangersPerSecond + 1; pings > limit {
				t.Errorf("%d pings in 10 seconds, limit %d", pings, limit)
			}
		})
	}
}

// The budgets of many peers are forgotten when they are whole again, and not before.
func TestStrangersForgets(t *testing.T) {
	var all strangers
	now := time.Unix(0, 0)
	spent := func() {
		t.Helper()
		for all.spend("mallory", now) {
		}
		for n := range 2 * maxStrangers {
			all.spend(strconv.Itoa(n), now)
		}
		if all.spend("mallory", now) {
			t.Error("a budget was renewed")
		}
	}
	spent()
	now = now.Add(time.Minute)
	if spent(); len(all.budgets) > 2*maxStrangers+1 {
		t.Errorf("%d budgets", len(all.budgets))
	}
	now = now.Add(time.Minute)
	if all.spend("another", now); len(all.budgets) != 1 {
		t.Errorf("%d budgets after a minute", len(all.budgets))
	}
}
