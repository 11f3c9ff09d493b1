package actors

import (
	"net/netip"
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

// A peer that names strangers does not make us flood them.
func TestPathSetSparesStrangers(t *testing.T) {
	for name, same := range map[string]bool{"the same again": true, "always others": false} {
		t.Run(name, func(t *testing.T) {
			p := &pathSet{allowRelay: true, allowDirect: true}
			now, pings := time.Unix(0, 0), 0
			for round := range 1000 {
				var addrs []netip.AddrPort
				for n := range maxCandidates {
					if !same {
						n += round * maxCandidates
					}
					addrs = append(addrs, at(n%60_000))
				}
				p.offer(now, addrs)
				sent, _ := p.look(now, heard{})
				pings += len(sent)
				now = now.Add(10 * time.Millisecond)
			}
			if limit := strangerBurst + 10*strangersPerSecond + 1; pings > limit {
				t.Errorf("%d pings in 10 seconds, limit %d", pings, limit)
			}
		})
	}
}
