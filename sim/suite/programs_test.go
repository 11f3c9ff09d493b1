package suite_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
)

// program is plain proto.actor code, which knows nothing of conec: an actor, and what is done with its PID, wherever it is.
type program struct {
	props func() *actor.Props
	drive func(root *actor.RootContext, target *actor.PID) []string
	want  []string
}

// TestPrograms holds that a program does the same in proto.actor alone, in one system of conec's, and with its actor at
// another client.
func TestPrograms(t *testing.T) {
	for name, p := range map[string]program{
		"ping-pong":   pingPong,
		"behaviors":   behaviors,
		"supervision": supervision,
		"routers":     routers,
		"futures":     futures,
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				for where, got := range map[string][]string{
					"proto.actor alone": p.alone(),
					"one system":        p.near(w),
					"two clients":       p.far(w, name),
				} {
					if !slices.Equal(got, p.want) {
						w.Errorf("%s:\n\t%s\nwant\n\t%s", where, strings.Join(got, "\n\t"), strings.Join(p.want, "\n\t"))
					}
				}
			})
		})
	}
}

// alone runs the program without conec.
func (p program) alone() []string {
	as := actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }),
		actor.WithDeadLetterRequestLogging(false), // which would leave a goroutine for a second
	)
	pid := as.Root.Spawn(p.props())
	defer as.Root.Stop(pid)
	return p.drive(as.Root, pid)
}

// near runs the program in one system.
func (p program) near(w *world) []string {
	w.Helper()
	sys := actors.NewSystem(nil)
	defer func() {
		if err := sys.Close(w.ctx); err != nil {
			w.Error(err)
		}
	}()
	return p.drive(sys.Root, sys.Root.Spawn(p.props()))
}

// far runs the program at alice, with its actor at bob.
func (p program) far(w *world, name string) []string {
	w.Helper()
	alice, bob := w.client("alice").Actors(), w.client("bob").Actors()
	bob.Export(name, bob.Root.Spawn(p.props()))
	return p.drive(alice.Root, alice.PID("bob", name))
}

// soon is more time than any answer takes.
const soon = 20 * time.Second

func text(format string, args ...any) *wrapperspb.StringValue {
	return wrapperspb.String(fmt.Sprintf(format, args...))
}

// says is what an answer comes to: its text, or what else it is, and the error.
func says(answer any, err error) string {
	if msg, ok := answer.(*wrapperspb.StringValue); ok && err == nil {
		return msg.GetValue()
	}
	return fmt.Sprintf("%T %v", answer, err)
}

// told waits for what a future comes to.
func told(f actor.Future) string { return says(f.Result()) }

// ask asks an actor, and returns what it says.
func ask(root *actor.RootContext, pid *actor.PID, format string, args ...any) string {
	return told(root.RequestFuture(pid, text(format, args...), soon))
}

// askPID asks an actor for a PID, which is nobody's if it says something else.
func askPID(root *actor.RootContext, pid *actor.PID, what string) *actor.PID {
	got, _ := root.RequestFuture(pid, text("%s", what), soon).Result()
	if answer, ok := got.(*actor.PID); ok {
		return answer
	}
	return actor.NewPID("nowhere", what)
}

// spawnFunc spawns an actor beside the one that the program is about.
func spawnFunc(root *actor.RootContext, receive actor.ReceiveFunc) *actor.PID {
	return root.Spawn(actor.PropsFromFunc(receive))
}

// pingPong is two actors that answer each other.
var pingPong = program{
	props: func() *actor.Props {
		n := 0
		return actor.PropsFromFunc(func(ctx actor.Context) {
			if ping, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				n++
				ctx.Request(ctx.Sender(), text("%s pong %d", ping.GetValue(), n))
			}
		})
	},
	drive: func(root *actor.RootContext, target *actor.PID) (trace []string) {
		over := actor.NewFuture(root.ActorSystem(), soon)
		spawnFunc(root, func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				ctx.Request(target, text("ping 1"))
			case *wrapperspb.StringValue:
				trace = append(trace, msg.GetValue())
				if len(trace) == 4 {
					ctx.Send(over.PID(), text("over"))
					return
				}
				ctx.Request(ctx.Sender(), text("ping %d", len(trace)+1))
			}
		})
		last := told(over)
		return append(trace, last)
	},
	want: []string{"ping 1 pong 1", "ping 2 pong 2", "ping 3 pong 3", "ping 4 pong 4", "over"},
}

// turnstile opens for a coin, and while it is serviced does something else.
type turnstile struct{ behavior actor.Behavior }

func newTurnstile() actor.Actor {
	t := &turnstile{behavior: actor.NewBehavior()}
	t.behavior.Become(t.locked)
	return t
}

func (t *turnstile) Receive(ctx actor.Context) { t.behavior.Receive(ctx) }

func (t *turnstile) locked(ctx actor.Context) {
	switch word(ctx) {
	case "coin":
		t.behavior.Become(t.unlocked)
		ctx.Respond(text("unlocked"))
	case "push":
		ctx.Respond(text("still locked"))
	case "service":
		t.behavior.BecomeStacked(t.serviced)
		ctx.Respond(text("serviced"))
	}
}

func (t *turnstile) unlocked(ctx actor.Context) {
	switch word(ctx) {
	case "coin":
		ctx.Respond(text("thank you"))
	case "push":
		t.behavior.Become(t.locked)
		ctx.Respond(text("locked"))
	case "service":
		t.behavior.BecomeStacked(t.serviced)
		ctx.Respond(text("serviced"))
	}
}

func (t *turnstile) serviced(ctx actor.Context) {
	switch word(ctx) {
	case "coin", "push":
		ctx.Respond(text("out of order"))
	case "service":
		t.behavior.UnbecomeStacked()
		ctx.Respond(text("in order"))
	}
}

// word is the text of the current message, empty if it is no text.
func word(ctx actor.Context) string {
	msg, _ := ctx.Message().(*wrapperspb.StringValue)
	return msg.GetValue()
}

var behaviors = program{
	props: func() *actor.Props { return actor.PropsFromProducer(newTurnstile) },
	drive: func(root *actor.RootContext, target *actor.PID) (trace []string) {
		for _, word := range []string{"push", "coin", "coin", "service", "push", "service", "push", "service", "coin", "service", "push"} {
			trace = append(trace, ask(root, target, "%s", word))
		}
		return trace
	},
	want: []string{
		"still locked", "unlocked", "thank you", "serviced", "out of order", "in order", "locked",
		"serviced", "out of order", "in order", "still locked",
	},
}

// errBroken is why the supervised child fails.
var errBroken = errors.New("broken")

// adder is a child that fails when it is told to, and then has forgotten its sum.
func adder(starts *int) actor.Producer {
	return func() actor.Actor {
		sum := 0
		return actor.ReceiveFunc(func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				*starts++
			case *wrapperspb.StringValue:
				if word(ctx) == "fail" {
					panic(errBroken)
				}
				sum++
				ctx.Respond(text("start %d, sum %d", *starts, sum))
			}
		})
	}
}

// newParent returns an actor that gives away the PID of its child, and says when it is gone.
func newParent() actor.Actor {
	var child, waiting *actor.PID
	starts, gone := 0, false
	return actor.ReceiveFunc(func(ctx actor.Context) {
		switch ctx.Message().(type) {
		case *actor.Started:
			child = ctx.Spawn(actor.PropsFromProducer(adder(&starts)))
		case *actor.Terminated:
			gone = true
		case *wrapperspb.StringValue:
			if word(ctx) == "child" {
				ctx.Respond(child)
				return
			}
			waiting = ctx.Sender()
		}
		if gone && waiting != nil {
			ctx.Send(waiting, text("%d children after %d starts", len(ctx.Children()), starts))
			waiting = nil
		}
	})
}

// restartTwice restarts what is broken.
func restartTwice() actor.SupervisorStrategy {
	return actor.NewOneForOneStrategy(2, time.Minute, func(reason any) actor.Directive {
		if err, ok := reason.(error); ok && errors.Is(err, errBroken) {
			return actor.RestartDirective
		}
		return actor.StopDirective
	})
}

var supervision = program{
	props: func() *actor.Props {
		return actor.PropsFromProducer(newParent, actor.WithSupervisor(restartTwice()))
	},
	drive: func(root *actor.RootContext, target *actor.PID) (trace []string) {
		child, end := askPID(root, target, "child"), actor.NewFuture(root.ActorSystem(), soon)
		watching := actor.NewFuture(root.ActorSystem(), soon)
		spawnFunc(root, func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				ctx.Watch(child)
				ctx.Send(watching.PID(), text("watching"))
			case *actor.Terminated:
				ctx.Send(end.PID(), text("%s, as watched: %t", msg.GetWhy(), msg.GetWho().Equal(child)))
			}
		})
		trace = append(trace, told(watching))
		for range 3 {
			trace = append(trace, ask(root, child, "add"), ask(root, child, "add"))
			root.Send(child, text("fail"))
		}
		return append(trace, told(end), ask(root, target, "gone?"), ask(root, child, "add"))
	},
	want: []string{
		"watching", "start 1, sum 1", "start 1, sum 2", "start 2, sum 1", "start 2, sum 2", "start 3, sum 1", "start 3, sum 2",
		"Stopped, as watched: true", "0 children after 3 starts", "<nil> future: dead letter",
	},
}
