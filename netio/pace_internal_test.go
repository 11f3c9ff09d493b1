package netio

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wire carries units one by one: each takes so long after the one before, and has a delay.
type wire struct {
	each, delay time.Duration
	free        time.Time // when the next one may begin
}

// carry returns when a unit that is handed over now has come and that is known.
func (w *wire) carry() time.Time {
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(w.each)
	return w.free.Add(w.delay)
}

// TestPace: beside something interactive, one bulk stream or several keep the wire busy and the queue short; alone, they are
// not held back.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name        string
		each, delay time.Duration
		prompt      bool
	}{
		{"near, alone", 50 * time.Microsecond, 100 * time.Microsecond, false},
		{"near", 50 * time.Microsecond, 100 * time.Microsecond, true},
		{"far", 400 * time.Microsecond, 40 * time.Millisecond, true},
		{"slow", 16 * time.Millisecond, 20 * time.Millisecond, true},
	} {
		for _, streams := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s, %d", c.name, streams), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { paced(t, &wire{each: c.each, delay: c.delay}, c.prompt, streams) })
			})
		}
	}
}

// paced sends units of streams over a wire.
func paced(t *testing.T, line *wire, prompt bool, streams int) {
	t.Helper()
	start := time.Now()
	p := &pace{now: func() time.Duration { return time.Since(start) }}
	const length, most = 5 * time.Second, 100_000
	var mu sync.Mutex
	units, backlog := 0, time.Duration(0)
	send := func() (more bool) { // one unit
		if prompt {
			p.touch()
		}
		p.take(nil)
		mu.Lock()
		defer mu.Unlock()
		at := line.carry()
		if waits := time.Until(line.free); time.Since(start) > length/2 {
			backlog = max(backlog, waits)
		}
		time.AfterFunc(time.Until(at), func() { p.arrived(1) })
		units++
		return time.Since(start) < length && units < most
	}
	var pumps sync.WaitGroup
	for range streams {
		pumps.Go(func() {
			for send() {
			}
		})
	}
	pumps.Wait()
	if !prompt {
		if units < most {
			t.Errorf("%d units: it was held back", units)
		}
		return
	}
	if least := int(length/line.each) * 2 / 3; units < least {
		t.Errorf("%d units, the wire carries %d", units, length/line.each)
	}
	if limit := paceSlack + (line.delay+line.each)/2 + 3*line.each; backlog > limit {
		t.Errorf("a message would wait for %v, want at most %v", backlog, limit)
	}
	time.Sleep(time.Minute) // for what is on its way
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flying != 0 {
		t.Errorf("%d units are still on their way", p.flying)
	}
}

// TestPaceTurns: pumps that wait take turns, one that is gone does not hold the others up, and when nothing interactive is
// left nobody waits.
func TestPaceTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := &pace{now: func() time.Duration { return time.Since(start) }}
		p.touch()
		done, gone := make(chan int, 100), make(chan struct{})
		for range leastPace {
			p.take(nil)
		}
		for i := range 3 {
			go func() {
				var over chan struct{}
				if i == 1 {
					over = gone
				}
				for range 2 {
					p.take(over)
					done <- i
				}
			}()
			synctest.Wait()
		}
		if len(done) > 0 {
			t.Error("nobody waited")
		}
		close(gone)
		synctest.Wait()
		if len(done) != 2 || <-done != 1 || <-done != 1 {
			t.Error("who is gone still waits")
		}
		p.arrived(2) // those of who is gone
		synctest.Wait()
		for _, want := range []int{0, 2, 0, 2} {
			for len(done) == 0 {
				p.arrived(1)
				synctest.Wait()
			}
			if got := <-done; got != want {
				t.Errorf("%d went on, want %d", got, want)
			}
		}
		time.Sleep(paceFor + time.Second)
		for range 100 {
			p.take(nil)
		}
	})
}
