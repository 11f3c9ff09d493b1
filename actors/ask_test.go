package actors_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conec-go/conec/actors"
)

// answering answers a string with itself, as often as told.
func answering(times int) actor.ReceiveFunc {
	return func(ctx actor.Context) {
		if msg, ok := ctx.Message().(string); ok {
			for range times {
				ctx.Respond(msg)
			}
		}
	}
}

func TestAskAnswers(t *testing.T) {
	refused := errors.New("refused")
	sys := start(t, &actors.SystemConfig{Name: "conec/alice"})
	pid := spawn(t, sys, "a", func(ctx actor.Context) {
		if ctx.Sender() != nil {
			switch msg := ctx.Message().(type) {
			case error, string, *durationpb.Duration:
				ctx.Respond(msg)
			case int:
				ctx.Respond(nil)
			}
		}
	})
	if got, err := actors.Ask[string](t.Context(), sys, pid, "hi"); got != "hi" || err != nil {
		t.Errorf("a local value: %v %v", got, err)
	}
	want := durationpb.New(time.Second)
	if got, err := actors.Ask[proto.Message](t.Context(), sys, pid, want); !proto.Equal(got, want) || err != nil {
		t.Errorf("a protobuf message as an interface: %v %v", got, err)
	}
	if got, err := actors.Ask[*durationpb.Duration](t.Context(), sys, actor.NewPID("conec/alice", "a"), want); !proto.Equal(got, want) || err != nil {
		t.Errorf("a protobuf message: %v %v", got, err)
	}
	if _, err := actors.Ask[string](t.Context(), sys, pid, refused); !errors.Is(err, refused) {
		t.Errorf("an error: %v", err)
	}
	if _, err := actors.Ask[int](t.Context(), sys, pid, "hi"); err == nil ||
		!strings.Contains(err.Error(), `ask "conec/alice/a": the answer is a string, not a int`) {
		t.Errorf("wrong type: %v", err)
	}
	if _, err := actors.Ask[string](t.Context(), sys, pid, 1); err == nil || !strings.Contains(err.Error(), "not a string") {
		t.Errorf("nil: %v", err)
	}
	for name, target := range map[string]*actor.PID{
		"dead target":     actor.NewPID("conec/alice", "nobody"),
		"foreign address": actor.NewPID("conec/bob", "a"),
		"nil target":      nil,
	} {
		if _, err := actors.Ask[any](t.Context(), sys, target, "hi"); !errors.Is(err, actors.ErrDeadLetter) || !strings.Contains(err.Error(), target.GetId()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := actors.Ask[any](t.Context(), sys, pid, nil); !errors.Is(err, actors.ErrDeadLetter) {
		t.Errorf("nil message: %v", err)
	}
}

func TestAskersAreToldApart(t *testing.T) {
	sys := start(t, nil)
	pid := spawn(t, sys, "a", func(ctx actor.Context) {
		if n, ok := ctx.Message().(int); ok {
			ctx.Respond(n)
		}
	})
	var wg sync.WaitGroup
	for asker := range 8 {
		wg.Go(func() {
			for i := range 500 {
				if got, err := actors.Ask[int](t.Context(), sys, pid, asker*1000+i); got != asker*1000+i || err != nil {
					t.Errorf("asked %d: %d %v", asker*1000+i, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := sys.Stats().Asks; got != 0 {
		t.Errorf("%d asks are left", got)
	}
}

func TestSecondAnswerIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		dead := deadLetters(sys)
		pid := spawn(t, sys, "a", answering(3))
		for _, msg := range []string{"1", "2"} {
			if got, err := actors.Ask[string](t.Context(), sys, pid, msg); got != msg || err != nil {
				t.Errorf("asked %s: %s %v", msg, got, err)
			}
			synctest.Wait()
		}
		dead.want(t, "1 to asks", "1 to asks", "2 to asks", "2 to asks")
		closeIn(t, sys, time.Second)
	})
}

func TestAskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{AskLimit: 2})
		dead := deadLetters(sys)
		var askers []*actor.PID
		pid := spawn(t, sys, "silent", func(ctx actor.Context) {
			if ctx.Sender() != nil {
				askers = append(askers, ctx.Sender())
			}
		})
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := actors.Ask[string](ctx, sys, pid, "hi")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("deadline: %v after %v", err, time.Since(begin))
		}
		synctest.Wait()
		if _, err = actors.Ask[string](ctx, sys, pid, "hi"); !errors.Is(err, context.DeadlineExceeded) || len(askers) != 1 {
			t.Errorf("asked with a dead context: %v, %d messages", err, len(askers))
		}
		sys.Root.Send(askers[0], "too late")
		dead.want(t, "too late to asks")

		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := actors.Ask[string](t.Context(), sys, pid, "hi")
				errs <- err
			}()
		}
		synctest.Wait()
		if _, err := actors.Ask[string](t.Context(), sys, pid, "hi"); !errors.Is(err, actors.ErrOverflow) {
			t.Errorf("third of two: %v", err)
		}
		if got := sys.Stats().Asks; got != 2 {
			t.Errorf("%d asks wait, want 2", got)
		}
		closeIn(t, sys, time.Second)
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("system closed: %v", err)
			}
		}
		if _, err := actors.Ask[string](t.Context(), sys, pid, "hi"); !errors.Is(err, actors.ErrClosed) {
			t.Errorf("ask after Close: %v", err)
		}
	})
}

// Answers and cancellation at the same time: each ask ends, and none gets the answer to another.
func TestAskRacesCancel(t *testing.T) {
	sys := start(t, nil)
	pid := spawn(t, sys, "a", func(ctx actor.Context) {
		if n, ok := ctx.Message().(int); ok {
			ctx.Respond(n)
		}
	})
	var wg sync.WaitGroup
	for asker := range 4 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				wg.Go(cancel)
				got, err := actors.Ask[int](ctx, sys, pid, asker*1000+i)
				if err == nil && got != asker*1000+i || err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("asked %d: %d %v", asker*1000+i, got, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if got := sys.Stats().Asks; got != 0 {
		t.Errorf("%d asks are left", got)
	}
}

func BenchmarkAsk(b *testing.B) {
	sys := start(b, nil)
	pid := spawn(b, sys, "a", answering(1))
	var msg any = "hi"
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	ask := func() error {
		_, err := actors.Ask[string](ctx, sys, pid, msg)
		return err
	}
	future := func() error {
		_, err := sys.Root.RequestFuture(pid, msg, time.Hour).Result()
		return err
	}
	for _, test := range []struct {
		name string
		f    func() error
	}{{"ask", ask}, {"future", future}} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := test.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(test.name+" parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := test.f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
