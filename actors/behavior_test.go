package actors_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

func TestBehavior(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		sys, log := actors.NewSystem(&actors.SystemConfig{Logger: logger}), &journal{}
		var b actors.Behavior
		shut := func(ctx actor.Context) {
			log.add("%s %v", b.Name(), ctx.Message())
			b.Unexpected(ctx)
		}
		open := func(ctx actor.Context) {
			log.add("%s %v", b.Name(), ctx.Message())
			b.Become(ctx, "shut", shut)
		}
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			if lifecycle(ctx.Message()) == "" || b.Name() == "" {
				b.Receive(ctx)
			}
			if ctx.Message() == "begin" {
				b.Become(ctx, "open", open)
			}
		})
		for _, msg := range []string{"begin", "secret 1", "secret 2"} {
			sys.Root.Send(pid, msg)
		}
		synctest.Wait()
		log.want(t, "open secret 1", "shut secret 2")
		closeIn(t, sys, time.Second)

		// The log is what Become and Unexpected are for, so it is read here, and nowhere else.
		text := out.String()
		for _, want := range []string{
			`msg="behavior changed" actor=a from="" behavior=open`, `msg="behavior changed" actor=a from=open behavior=shut`,
			`msg="unexpected message" actor=a behavior="" message=string`, `msg="unexpected message" actor=a behavior=shut message=string`,
		} {
			if strings.Count(text, want) != 1 {
				t.Errorf("%s is not in the log once:\n%s", want, text)
			}
		}
		if strings.Contains(text, "secret") || strings.Contains(text, "actor.Started") {
			t.Errorf("the log holds a payload or a message of the runtime:\n%s", text)
		}
	})
}
