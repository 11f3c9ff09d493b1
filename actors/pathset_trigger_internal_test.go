package actors

import (
	"net/netip"
	"testing"
	"time"
)

// A probe of the peer makes us probe it at once, until it has answered: else it may use the path, on two answers of ours, while
// we still drop what comes from there. How often is limited.
func TestPathSetTriggered(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	addr := netip.MustParseAddrPort("192.0.2.1:1000")
	set := &pathSet{allowRelay: true, allowDirect: true}
	set.offer(now, []netip.AddrPort{addr})
	for range 2 { // the first two of a round are due at once, or nearly
		now = now.Add(punchGaps[1])
		set.look(now, heard{})
	}
	count := 0
	for range 3 * maxTriggered {
		now = now.Add(time.Millisecond)
		set.seen(now, nil, addr)
		pings, _ := set.look(now, heard{})
		count += len(pings)
	}
	if want := maxTriggered; count < want || count > want+2 { // two may have been due anyway
		t.Errorf("%d probes, want %d", count, want)
	}
}
