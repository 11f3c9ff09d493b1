package actors_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// What proto.actor does and conec leaves as it is, so that docs/protoactor.md stays true; and what conec repairs and no other
// test shows.

// An actor that waits for its children to stop still receives, after its Stopping or Restarting.
func TestMessagesWhileChildrenStop(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(sys *actors.System, parent, sibling *actor.PID)
		want []string
	}{
		{
			"stop", func(sys *actors.System, _, sibling *actor.PID) { sys.Root.Stop(sibling) },
			[]string{"started", "stopping", "late", "stopped"},
		},
		{
			"all for one", func(sys *actors.System, parent, _ *actor.PID) { sys.Root.Send(parent, "fail") },
			[]string{"started", "restarting", "late", "started"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys, log, hold := actors.NewSystem(nil), &journal{}, make(chan struct{})
				slow := actor.PropsFromFunc(func(ctx actor.Context) {
					if _, ok := ctx.Message().(*actor.Stopping); ok {
						<-hold
					}
				})
				var failing, sibling *actor.PID
				parent := spawn(t, sys, "parent", func(ctx actor.Context) {
					switch ctx.Message().(type) {
					case *actor.Started:
						failing = ctx.Spawn(actor.PropsFromFunc(failsAt(&journal{}, time.Now(), false)))
						sibling = ctx.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
							switch msg := ctx.Message().(type) {
							case *actor.Terminated:
							case string:
								log.add("%s", msg)
							default:
								log.add("%s", lifecycle(msg))
							}
							if lifecycle(ctx.Message()) == "started" {
								ctx.Spawn(slow)
							}
						}))
					case string:
						ctx.Send(failing, "fail")
					}
				}, actor.WithSupervisor(actor.NewAllForOneStrategy(1, time.Minute, actor.DefaultDecider)))
				synctest.Wait()
				test.end(sys, parent, sibling)
				synctest.Wait()
				sys.Root.Send(sibling, "late")
				synctest.Wait()
				close(hold)
				synctest.Wait()
				log.want(t, test.want...)
				closeIn(t, sys, time.Second)
			})
		})
	}
}

// Stash forgets who sent, and gives messages back in reverse, after a restart only.
func TestStash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log, first := actors.NewSystem(nil), &journal{}, true
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Restarting:
				first = false
			case int:
				log.add("%d, sender known: %t", msg, ctx.Sender() != nil)
				if first {
					ctx.Stash()
				}
			case string:
				actors.Fail(errTold)
			}
		})
		for i := range 2 {
			sys.Root.RequestWithCustomSender(pid, i, pid)
		}
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Minute)
		log.want(t, "0, sender known: true", "1, sender known: true", "1, sender known: false", "0, sender known: false")
		closeIn(t, sys, time.Second)
	})
}

// A continuation of a former life runs in the next one, as proto.actor has it, but none runs when the actor has stopped.
func TestContinuations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log, open, life := actors.NewSystem(nil), &journal{}, make(chan struct{}), 0
		pending := actor.NewFuture(sys.ActorSystem(), time.Hour)
		pid, err := sys.Spawn(actor.PropsFromProducer(func() actor.Actor {
			life++
			mine := life
			return actor.ReceiveFunc(func(ctx actor.Context) {
				switch ctx.Message() {
				case "ask":
					ctx.ReenterAfter(pending, func(any, error) { log.add("life %d continues in %d", mine, life) })
				case "fail":
					actors.Fail(errTold)
				case "block":
					<-open
				}
			})
		}), "a")
		if err != nil {
			t.Fatal(err)
		}
		sys.Root.Send(pid, "ask")
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Minute)
		sys.Root.Send(pending.PID(), "answer")
		synctest.Wait()
		log.want(t, "life 1 continues in 2")

		pending = actor.NewFuture(sys.ActorSystem(), time.Hour)
		sys.Root.Send(pid, "ask")
		sys.Root.Send(pid, "block")
		synctest.Wait()
		sys.Root.Stop(pid)
		sys.Root.Send(pending.PID(), "answer") // is behind the stop
		close(open)
		synctest.Wait()
		log.want(t, "life 1 continues in 2")
		closeIn(t, sys, time.Second)
	})
}

// A subscriber's panic reaches who sent to nobody, since the runtime publishes that. Nobody else: an actor that failed is restarted,
// and the pump that learns that a message to a peer was not delivered goes on.
func TestSubscriberPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(&actors.SystemConfig{Supervisor: &actors.Backoff{Min: time.Second, Jitter: -1}}), &journal{}
		sys.ActorSystem().EventStream.Subscribe(func(event any) {
			switch event.(type) {
			case *actor.DeadLetterEvent, *actor.SupervisorEvent:
				panic("subscriber")
			}
		})
		func() {
			defer func() { log.add("sender: %v", recover()) }()
			sys.Root.Send(actor.NewPID(sys.Address(), "nobody"), "hi")
		}()
		pid := spawn(t, sys, "a", failsAt(log, time.Now(), false))
		sys.Root.Send(pid, "fail")
		time.Sleep(time.Minute)
		closeIn(t, sys, time.Second)
		log.want(t, "sender: subscriber", "0s started", "1s restarting", "1s started", "1m0s stopping", "1m0s stopped")
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "echo", echo)
		alice, told := l.of("alice"), 0
		alice.ActorSystem().EventStream.Subscribe(func(event any) {
			if _, ok := event.(*actors.Undeliverable); ok {
				told++
				panic("subscriber")
			}
		})
		alice.Root.Send(alice.PID("bob", "nobody"), wrapperspb.String("hi"))
		time.Sleep(time.Second)
		if _, err := l.ask("alice", alice.PID("bob", "echo"), "hi"); err != nil || told != 1 {
			t.Errorf("told %d times, then asked: %v", told, err)
		}
	})
}

// Children have proto.actor's strategy unless their parent has one: ten restarts at once, and then they are stopped.
func TestChildrenWithoutBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log, starts := actors.NewSystem(&actors.SystemConfig{Supervisor: actors.Permanent()}), &journal{}, 0
		spawn(t, sys, "parent", func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				ctx.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
					if _, ok := ctx.Message().(*actor.Started); ok {
						starts++
						actors.Fail(errTold)
					}
				}))
			case *actor.Terminated:
				log.add("terminated after %d starts", starts)
			}
		})
		synctest.Wait()
		log.want(t, "terminated after 11 starts")
		closeIn(t, sys, time.Second)
	})
}

// A guardian decides about nothing.
func TestGuardianIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(&actors.SystemConfig{Supervisor: actors.Never()}), &journal{}
		guardian := strategy(func(actor.Supervisor, *actor.PID, any) { t.Error("the guardian was asked") })
		pid := spawn(t, sys, "a", failsAt(log, time.Now(), false), actor.WithGuardian(&guardian))
		sys.Root.Send(pid, "fail")
		synctest.Wait()
		log.want(t, "0s started", "0s stopping", "0s stopped")
		closeIn(t, sys, time.Second)
	})
}

// What the root context sends has no sender and no headers; a message without an envelope has no headers to ask.
func TestRootContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		dead := deadLetters(sys)
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			if msg, ok := ctx.Message().(string); ok {
				log.add("%s: sender %v, header %v", msg, ctx.Sender(), ctx.MessageHeader())
				ctx.Respond("answer")
			}
		})
		sys.Root.Copy().WithHeaders(map[string]string{"trace": "1"}).Request(pid, "request")
		synctest.Wait()
		log.want(t, "request: sender <nil>, header <nil>")
		dead.want(t, "answer to ")
		closeIn(t, sys, time.Second)
	})
}

// Spawn middleware on a root context replaces what makes its actors ours; in Props it does not.
func TestSpawnMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, spawned := actors.NewSystem(nil), 0
		count := func(next actor.SpawnFunc) actor.SpawnFunc {
			return func(as *actor.ActorSystem, id string, props *actor.Props, parent actor.SpawnerContext) (*actor.PID, error) {
				spawned++
				return next(as, id, props, parent)
			}
		}
		nothing := actor.PropsFromFunc(func(actor.Context) {})
		if _, ok := sys.Mailbox(sys.Root.Copy().WithSpawnMiddleware(count).Spawn(nothing)); ok {
			t.Error("spawned past the system, and yet with a mailbox of ours")
		}
		var child *actor.PID
		spawn(t, sys, "a", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				child = ctx.Spawn(nothing)
			}
		}, actor.WithSpawnMiddleware(count))
		synctest.Wait()
		if _, ok := sys.Mailbox(child); !ok || spawned != 2 {
			t.Errorf("%d spawned; the child has a mailbox of ours: %t", spawned, ok)
		}
		if got := sys.Stats().Actors; got != 2 {
			t.Errorf("%d actors, want 2: what was spawned past the system is none of its own", got)
		}
		closeIn(t, sys, time.Second)
	})
}

// batch is a message of several.
type batch []any

func (b batch) GetMessages() []any { return b }

// A batch is received as its parts, which have no sender, and then as itself.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, log := actors.NewSystem(nil), &journal{}
		pid := spawn(t, sys, "a", func(ctx actor.Context) {
			if lifecycle(ctx.Message()) == "" {
				log.add("%v, sender known: %t", ctx.Message(), ctx.Sender() != nil)
			}
		})
		sys.Root.RequestWithCustomSender(pid, batch{1, 2}, pid)
		synctest.Wait()
		log.want(t, "1, sender known: false", "2, sender known: false", "[1 2], sender known: true")
		closeIn(t, sys, time.Second)
	})
}

// A PID that was used in one system leads there from every system of the process, past the network; a copy does not.
func TestPIDOfAnotherSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		got, receive := collect[string](4)
		pid := spawn(t, bob.System, "secret", receive) // is not exported
		bob.Root.Send(pid, "bob's own")
		alice.Root.Send(pid, "past the network")
		synctest.Wait()
		if len(got) != 2 || bob.RemoteStats().Received != 0 {
			t.Errorf("%d messages, %d of them by the network; want 2 and 0", len(got), bob.RemoteStats().Received)
		}
		err := alice.SendConfirmed(t.Context(), proto.CloneOf(pid), wrapperspb.String("by the network"))
		if !errors.Is(err, messages.ErrNoSuchActor) {
			t.Errorf("a copy: %v", err)
		}
	})
}

// A future that fails is piped as an error, which is no message for an actor of a peer.
func TestPipedErrorDoesNotCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice := l.of("alice")
		l.spawn("bob", "greeter", echo)
		got, receive := collect[error](1)
		lost := events[*actors.Undeliverable](alice, 1)
		pending := actor.NewFuture(alice.ActorSystem(), time.Second)
		pending.PipeTo(l.spawn("alice", "near", receive), alice.PID("bob", "greeter"))
		if err := <-got; !errors.Is(err, actor.ErrTimeout) {
			t.Errorf("received %v", err)
		}
		if event := <-lost; event.Message != actor.ErrTimeout { //nolint:errorlint // the very message
			t.Errorf("undeliverable: %v", event.Message)
		}
	})
}

// A peer's message that finds a mailbox full is refused: an overflow here, and undeliverable at the peer.
func TestFullMailboxRefusesPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		hold := make(chan struct{})
		defer close(hold)
		pid := spawn(t, bob.System, "slow", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				<-hold
			}
		}, actor.WithMailbox(actors.NewMailbox(2)))
		bob.Export("slow", pid)
		overflows, lost := events[*actors.MailboxOverflow](bob, 8), events[*actors.Undeliverable](alice, 8)
		for range 5 { // one in hand, two wait
			alice.Root.Send(alice.PID("bob", "slow"), wrapperspb.String("hi"))
			synctest.Wait()
		}
		time.Sleep(time.Second) // alice is told
		if len(overflows) != 2 || len(lost) != 2 {
			t.Fatalf("%d overflows at bob, %d undeliverable at alice; want 2 and 2", len(overflows), len(lost))
		}
		if event := <-lost; !errors.Is(event.Err, messages.ErrBusy) || event.InDoubt {
			t.Errorf("undeliverable: %+v", event)
		}
		if err := alice.SendConfirmed(t.Context(), alice.PID("bob", "slow"), wrapperspb.String("hi")); !errors.Is(err, messages.ErrBusy) {
			t.Errorf("confirmed: %v", err)
		}
		if _, err := l.ask("alice", alice.PID("bob", "slow"), "hi"); !errors.Is(err, messages.ErrBusy) {
			t.Errorf("asked: %v", err)
		}
	})
}

// What a peer has spawned is supervised where it runs: whoever spawned it hears of its end only.
func TestSupervisorOfAKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		alice, bob := l.of("alice"), l.of("bob")
		starts := 0
		err := bob.ExportKind("worker", actors.KindConfig{
			Props: func(string, any) (*actor.Props, error) {
				return actor.PropsFromFunc(func(ctx actor.Context) {
					switch msg := ctx.Message().(type) {
					case *actor.Started:
						starts++
					case *wrapperspb.StringValue:
						if msg.GetValue() == "fail" {
							actors.Fail(errTold)
						}
						ctx.Respond(msg)
					}
				}), nil
			},
			Supervisor: &actors.Backoff{MaxRestarts: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		pid, err := alice.SpawnAt(t.Context(), "bob", "worker", nil)
		if err != nil {
			t.Fatal(err)
		}
		heard := l.watcher("watcher", pid)
		for want := 1; want <= 2; want++ {
			if got, err := l.ask("alice", pid, "hi"); err != nil || got != "hi" || starts != want || len(heard) != 0 {
				t.Errorf("%q, %v after %d starts, want %d; told %d times", got, err, starts, want, len(heard))
			}
			alice.Root.Send(pid, wrapperspb.String("fail"))
			time.Sleep(time.Second)
		}
		if msg := <-heard; msg.GetWhy() != actor.TerminatedReason_Stopped || starts != 2 {
			t.Errorf("told %v after %d starts", msg, starts)
		}
	})
}

// page is docs/protoactor.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/protoactor.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The tests that the page names exist.
func TestPageNamesTests(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "../sim/suite/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	named := regexp.MustCompile("`((?:Test|Benchmark)[A-Za-z]+)`").FindAllStringSubmatch(page(t), -1)
	if len(named) < 30 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !strings.Contains(code.String(), "func "+name[1]+"(") {
			t.Errorf("%s does not exist", name[1])
		}
	}
}

// The programs on the page compile, but for those of package router, whose dependencies are not ours.
func TestPageCompiles(t *testing.T) {
	imports := map[string]string{
		"actor": "github.com/asynkron/protoactor-go/actor", "propagator": "github.com/asynkron/protoactor-go/actor/middleware/propagator",
		"fmt": "fmt", "runtime": "runtime", "time": "time",
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page(t), -1)
	if len(blocks) < 10 {
		t.Errorf("only %d blocks", len(blocks))
	}
	var code strings.Builder
	for i, block := range blocks[1:] {
		if !strings.Contains(block[1], "router.") {
			fmt.Fprintf(&code, "func program%d() {\n%s_, _ = system, root\n%s}\n", i, blocks[0][1], block[1])
		}
	}
	var file strings.Builder
	file.WriteString("package programs\n")
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&file, "import %q\n", imports[name])
	}
	path := filepath.Join(t.TempDir(), "programs.go")
	if err := os.WriteFile(path, []byte(file.String()+code.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
