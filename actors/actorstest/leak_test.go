package actorstest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors/actorstest"
)

func TestLeftoverActorFailsTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		got := failure(func(fake actorstest.TB) {
			n := actorstest.NewNet(fake, "alice")
			spawn(fake, n.System("alice").System, "stuck", func(ctx actor.Context) {
				if _, ok := ctx.Message().(*actor.Stopping); ok {
					<-over
				}
			})
		})
		if !strings.Contains(got, `net: "alice": close actor system: still there: stuck`) || !strings.Contains(got, "leak_test.go") {
			t.Errorf("failed with %q", got)
		}
		close(over)
	})
}

func TestLeftoverGoroutineFailsTheTest(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	got := failure(func(fake actorstest.TB) {
		config := &actorstest.NetConfig{Patience: 20 * time.Millisecond}
		n := actorstest.NewNetWith(fake, config, "alice")
		actorstest.NewNet(t, "bob") // another net is not concerned
		started := make(chan struct{})
		spawn(fake, n.System("alice").System, "careless", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				go wait(over)
				close(started)
			}
		})
		<-started
	})
	if !strings.HasPrefix(got, "net: goroutines that its actors have started are still there:\n") ||
		!strings.Contains(got, "actorstest_test.wait") || strings.Contains(got, "bob") {
		t.Errorf("failed with %q", got)
	}
}

func wait(over <-chan struct{}) { <-over }
