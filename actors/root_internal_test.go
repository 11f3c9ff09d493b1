package actors

import (
	"reflect"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// What the library's constructor sets, ours sets too, also the fields that a later version may add.
func TestActorSystemIsWhole(t *testing.T) {
	as := NewSystem(nil).as
	for v, i := reflect.ValueOf(as).Elem(), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not set", v.Type().Field(i).Name)
		}
	}
	if as.IsStopped() || as.Logger() == nil {
		t.Error("the system is stopped or has no logger")
	}
	if setField(as, "logger", 1) || setField(as, "none", 1) {
		t.Error("a field of another type or name was set")
	}
}

func TestAdopt(t *testing.T) {
	sys := NewSystem(nil)
	nothing := func() actor.Actor { return &root{} }
	if codeOf(actor.PropsFromProducer(nothing), "spawner") != 0 {
		t.Error("plain Props have a spawn function")
	}
	props := sys.Props(nothing)
	if sys.adopt(props) != props {
		t.Error("Props are adopted twice")
	}
	small := sys.Props(nothing, actor.WithMailbox(NewMailbox(7)))
	pid, err := sys.Spawn(small, "small")
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := sys.Mailbox(pid); !ok || got.Limit != 7 {
		t.Errorf("a mailbox of ours was replaced: %+v", got)
	}
	other := sys.Props(nothing, actor.WithMailbox(actor.Unbounded()))
	if pid, err = sys.Spawn(other, "other"); err != nil {
		t.Fatal(err)
	}
	if got, ok := sys.Mailbox(pid); !ok || got.Limit != DefaultMailboxLimit {
		t.Errorf("a foreign mailbox was not replaced: %+v", got)
	}
	if err := sys.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestThrottle(t *testing.T) {
	now := time.Now()
	log := throttle{every: time.Second}
	for _, step := range []struct {
		after      time.Duration
		suppressed int
		yes        bool
	}{
		{0, 0, true}, {0, 0, false}, {999 * time.Millisecond, 0, false}, {time.Millisecond, 2, true}, {time.Hour, 0, true},
	} {
		now = now.Add(step.after)
		if suppressed, yes := log.allow(now); suppressed != step.suppressed || yes != step.yes {
			t.Errorf("after %v: %d %v, want %d %v", step.after, suppressed, yes, step.suppressed, step.yes)
		}
	}
	all := throttle{every: -1}
	for range 3 {
		if _, yes := all.allow(now); !yes {
			t.Error("a negative throttle is not off")
		}
	}
}
