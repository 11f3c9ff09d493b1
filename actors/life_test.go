package actors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
)

type pumpedWord struct {
	actors.Life
	word string
}

func TestLife(t *testing.T) {
	var none actors.Life
	first, second := actors.Begin(), actors.Begin()
	for _, test := range []struct {
		name     string
		made, in actors.Life
		want     bool
	}{
		{"same", first, first, true},
		{"another", first, second, false},
		{"former", second, first, false},
		{"none in a life", none, first, false},
		{"a life in none", first, none, false},
		{"none in none", none, none, false},
	} {
		if got := actors.Pumped(pumpedWord{test.made, "x"}).Of(test.in); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if first.Context().Err() != nil {
		t.Error("a life ended by itself")
	}
	first.End()
	first.End()
	none.End()
	if first.Context().Err() == nil || none.Context().Err() == nil || second.Context().Err() != nil {
		t.Error("the wrong life ended")
	}
	if !(pumpedWord{first, "x"}).Of(first) {
		t.Error("a life is not itself any more when it ended")
	}
	second.End()
}

// What the pump of a former life says does not reach the actor's behavior.
func TestFormerLifeIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{Supervisor: &actors.Backoff{Min: time.Second}})
		log := &journal{}
		pid, err := sys.Spawn(sys.Props(func() actor.Actor { return &worded{log: log} }), "a")
		if err != nil {
			t.Fatal(err)
		}
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Minute)
		log.want(t, "hello")
		closeIn(t, sys, time.Second)
		if got := sys.Pumps.Len(); got != 0 {
			t.Errorf("%d pumps", got)
		}
	})
}

// worded has a pump that says a word after its life has ended, or ten seconds after it began.
type worded struct {
	log  *journal
	life actors.Life
}

func (w *worded) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		w.life = actors.Begin()
		life, root, self := w.life, ctx.ActorSystem().Root, ctx.Self()
		actors.Of(ctx.ActorSystem()).Pumps.Go(func() {
			select {
			case <-life.Context().Done():
				root.Send(self, pumpedWord{life, "late"})
			case <-time.After(10 * time.Second):
				root.Send(self, pumpedWord{life, "hello"})
			}
		})
	case *actor.Restarting, *actor.Stopping:
		w.life.End()
	case actors.Pumped:
		if msg.Of(w.life) {
			w.log.add("%s", msg.(pumpedWord).word)
		}
	case string:
		actors.Fail(errors.New(msg))
	}
}

func TestPumpsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pumps actors.Pumps
		if err := pumps.Wait(t.Context()); err != nil {
			t.Errorf("no pumps: %v", err)
		}
		begin := time.Now()
		for i := range 3 {
			pumps.Go(func() { time.Sleep(time.Duration(i+1) * time.Second) })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := pumps.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "2 pumps still run: context deadline exceeded" {
			t.Errorf("wait: %v", err)
		}
		if err := pumps.Wait(t.Context()); err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("wait: %v after %v", err, time.Since(begin))
		}
	})
}
