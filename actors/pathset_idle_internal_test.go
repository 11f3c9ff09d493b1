package actors

import (
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
