package actors

import (
	"net/netip"
	"testing"
	"time"
)

// One lost probe of a path that is not in use does not end it, also where timers
// come late, as they do: a second one has to stay unanswered.
func TestPathSetIdleLosesOneProbe(t *testing.T) {
	const late = 50 * time.Microsecond
	k := newTrack(t)
	for n := 1; n <= 2; n++ {
		k.path(n)
		k.set.add(k.now, nil, at(n), false)
	}
	k.run(2 * time.Second)
	idle := k.set.find(at(1))
	if k.chose(1) {
		idle = k.set.find(at(2))
	}
	if !idle.proven() {
		t.Fatal("the path that is not in use is not proven")
	}
	k.paths[idle.addr].die()
	for lost := 0; lost < 3; k.now = k.now.Add(idle.due.Sub(k.now) + late) {
		if k.now.Before(idle.due) {
			continue
		}
		if pings, _ := k.set.look(k.now, heard{last: k.now}); len(pings) == 0 {
			t.Fatal("no probe when one is due")
		}
		lost++
		if given := idle.answers == 0; given != (lost == 3) {
			t.Fatalf("with %d probes sent and none answered, given up: %v", lost, given)
		}
	}
}

// One lost probe of the path in use does not end it while nothing else is sent, however long its round trip is: the next one
// has time to be answered.
func TestPathSetUsedLosesOneProbe(t *testing.T) {
	for _, roundTrip := range []time.Duration{2, 40, 120, 160, 250, 400, 1000} {
		t.Run((roundTrip * time.Millisecond).String(), func(t *testing.T) {
			k := newTrack(t)
			k.path(1).roundTrip = roundTrip * time.Millisecond
			k.set.offer(k.now, []netip.AddrPort{at(1)})
			k.until(1, 5*time.Second)
			k.run(7 * time.Second)
			for sent := len(k.sent); len(k.sent) == sent; {
				k.run(time.Millisecond)
			}
			k.back = nil // its answer
			k.stays(1, 4*time.Second)
			k.paths[at(1)].die()
			k.until(0, probeIdle+4*k.paths[at(1)].roundTrip+time.Second)
		})
	}
}
