package actors_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/actors"
)

// TestApart checks that timers of two actors, set for the same instant, fire at
// instants of their own, never early and at most a millisecond and a bit late.
func TestApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 50 * time.Millisecond
		var sources [2]actors.Apart
		for range 100 {
			began, fired := time.Now(), make(chan time.Duration, len(sources))
			for i := range sources {
				sources[i].AfterFunc(pause, func() { fired <- time.Since(began) })
			}
			first, second := <-fired, <-fired
			if first < pause || second >= pause+1100*time.Microsecond || first == second {
				t.Fatalf("fired after %v and %v", first, second)
			}
		}
	})
}
