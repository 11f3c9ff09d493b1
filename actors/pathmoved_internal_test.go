package actors

import (
	"net/netip"
	"testing"
	"time"
)

func TestPathSetMoved(t *testing.T) {
	const soon = followAfter + 60*time.Millisecond + 2*urgentTick // of paths with a round trip of 40 ms
	begin := func(t *testing.T) (*track, *fakePath) {
		t.Helper()
		k := newTrack(t)
		path := k.path(1)
		k.set.offer(k.now, addrs(1))
		k.sending = true
		k.until(1, time.Second)
		k.run(7 * time.Second)
		return k, path
	}
	move := func(k *track) {
		k.back = nil // answers go where this host was
		k.set.moved(k.now)
		k.next = k.now
	}
	t.Run("the path still works", func(t *testing.T) {
		k, _ := begin(t)
		began := k.now
		move(k)
		k.stays(1, 10*time.Second)
		if pings := k.pings(1, began); len(pings) == 0 || pings[0] > time.Millisecond {
			t.Errorf("probed after %v", pings)
		}
	})
	t.Run("it does not for a while", func(t *testing.T) {
		k, path := begin(t)
		path.die()
		move(k)
		if took := k.until(0, time.Second); took > soon {
			t.Errorf("given up after %v, want %v", took, soon)
		}
		k.run(100 * time.Millisecond)
		path.probes, path.data = true, true
		if took := k.until(1, 5*time.Second); took > time.Second {
			t.Errorf("used again after %v: it was held down", took)
		}
	})
	t.Run("what died before may live", func(t *testing.T) {
		k, path := begin(t)
		path.die()
		k.until(0, 2*time.Second)
		path.probes, path.data = true, true
		move(k)
		if took := k.until(1, 5*time.Second); took > 500*time.Millisecond {
			t.Errorf("used after %v: it was held down", took)
		}
	})
	t.Run("others have to answer again", func(t *testing.T) {
		k, path := begin(t)
		other := k.path(2)
		k.set.offer(k.now, addrs(1, 2))
		k.run(2 * time.Second)
		path.die()
		other.die()
		move(k)
		k.until(0, soon)
		k.stays(0, 2*time.Second)
	})
	t.Run("no relay to go to", func(t *testing.T) {
		k, path := begin(t)
		k.set.allowRelay = false
		path.die()
		move(k)
		k.stays(1, soon)
	})
	t.Run("not twice as fast by moving all the time", func(t *testing.T) {
		k, _ := begin(t)
		began := k.now
		for range 10 {
			move(k)
			k.stays(1, 100*time.Millisecond)
		}
		if pings := k.pings(1, began); len(pings) > 30 {
			t.Errorf("%d probes in a second", len(pings))
		}
	})
}

// TestPathSetPeerMoved: the peer's probe comes from elsewhere, and it is heard all the time, but does not hear us.
func TestPathSetPeerMoved(t *testing.T) {
	k := newTrack(t)
	path := k.path(1)
	k.set.offer(k.now, addrs(1))
	k.sending = true
	k.until(1, time.Second)
	k.run(200 * time.Millisecond) // it has answered just now
	path.probes = false
	k.path(2)
	k.set.seen(k.now, nil, at(2))
	k.next = k.now
	began := k.now
	if took := k.until(2, 5*time.Second); took > doubtAfter+2*urgentTick {
		t.Errorf("moved after %v, probed it after %v", took, k.pings(2, began))
	}
}

func addrs(numbers ...int) (list []netip.AddrPort) {
	for _, n := range numbers {
		list = append(list, at(n))
	}
	return list
}
