package actors_test

import (
	"context"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

// TestLabel checks that an actor's goroutine, and those that it starts, have the
// labels of the system, whoever sent the message.
func TestLabel(t *testing.T) {
	sys := actors.NewSystem(&actors.SystemConfig{
		Label: actors.LabelOf(pprof.WithLabels(t.Context(), pprof.Labels("component", "alice"))),
	})
	begun, end := make(chan struct{}), make(chan struct{})
	pid, err := sys.Spawn(sys.Props(func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			if ctx.Message() == "begin" {
				go labeled(begun, end)
			}
		})
	}), "")
	if err != nil {
		t.Fatal(err)
	}
	pprof.Do(t.Context(), pprof.Labels("component", "bob"), func(context.Context) { sys.Root.Send(pid, "begin") })
	<-begun
	var profile strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	close(end)
	for part := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(part, "actors_test.labeled") && !strings.Contains(part, `{"component":"alice"}`) {
			t.Errorf("a goroutine that an actor started:\n%s", part)
		}
	}
	if err := sys.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if actors.LabelOf(context.Background()) != nil {
		t.Error("labels of a context without any")
	}
}

func labeled(begun, end chan struct{}) {
	close(begun)
	<-end
}
