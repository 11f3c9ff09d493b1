package actorstest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/actors/actorstest"
	"github.com/conec-go/conec/messages"
)

// world is alice, with a probe, and bob, with one and with a greeter.
type world struct {
	*actorstest.Net
	t     *testing.T
	probe *actorstest.Probe // alice's
	begun time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Net: actorstest.NewNet(t, "alice", "bob"), t: t, begun: time.Now()}
	w.probe = actorstest.NewProbe(t, w.System("alice"))
	w.greet()
	return w
}

// greet has bob greet.
func (w *world) greet() {
	w.t.Helper()
	bob := w.System("bob")
	bob.Export("greeter", spawn(w.t, bob.System, "greeter", echo))
}

// log returns what bob exports as "log".
func (w *world) log() *actorstest.Probe {
	w.t.Helper()
	p := actorstest.NewProbe(w.t, w.System("bob"))
	w.System("bob").Export("log", p.PID())
	return p
}

// ask has alice ask bob's greeter.
func (w *world) ask() error {
	alice := w.System("alice")
	_, err := actors.Ask[*wrapperspb.StringValue](w.t.Context(), alice, alice.PID("bob", "greeter"), wrapperspb.String("hi"))
	return err
}

// send has alice send numbers to bob's log.
func (w *world) send(first, last byte) {
	alice := w.System("alice")
	for i := first; i <= last; i++ {
		alice.Root.Send(alice.PID("bob", "log"), []byte{i})
	}
}

// expect expects numbers.
func expect(t *testing.T, p *actorstest.Probe, first, last byte) {
	t.Helper()
	for i := first; i <= last; i++ {
		if got := actorstest.Expect[[]byte](p); got[0] != i {
			t.Fatalf("got %d, want %d", got[0], i)
		}
	}
}

// lost returns a probe that is told of what alice did not deliver, and of lost peers.
func (w *world) lost() *actorstest.Probe {
	w.t.Helper()
	p := actorstest.NewProbe(w.t, w.System("alice"))
	w.System("alice").ActorSystem().EventStream.Subscribe(func(event any) {
		switch event.(type) {
		case *actors.Undeliverable, *actors.PeerLost:
			p.Send(p.PID(), event)
		}
	})
	return p
}

// took checks how long it has been since the last time.
func (w *world) took(what string, want time.Duration) {
	w.t.Helper()
	if took := time.Since(w.begun).Round(10 * time.Millisecond); took != want {
		w.t.Errorf("%s took %v, want %v", what, took, want)
	}
	w.begun = time.Now()
}

func TestNetCarriesMessages(t *testing.T) { synctest.Test(t, carries) }

func TestNetCarriesMessagesInRealTime(t *testing.T) { carries(t) }

func carries(t *testing.T) {
	t.Helper()
	w := newWorld(t)
	if err := w.ask(); err != nil {
		t.Error(err)
	}
	alice, bob := w.System("alice"), w.System("bob")
	w.probe.Request(alice.PID("bob", "greeter"), wrapperspb.String("you"))
	if got := actorstest.Expect[*wrapperspb.StringValue](w.probe); got.GetValue() != "re: you" {
		t.Errorf("got %v", got)
	}
	w.probe.Request(w.probe.Sender(), wrapperspb.String("again")) // it said who it is
	if got := actorstest.Expect[*wrapperspb.StringValue](w.probe); got.GetValue() != "re: again" {
		t.Errorf("got %v", got)
	}
	w.probe.Watch(alice.PID("bob", "greeter"))
	bob.Root.Stop(actor.NewPID(bob.Address(), "greeter"))
	w.probe.ExpectTerminated(alice.PID("bob", "greeter"))
	if err := w.ask(); !errors.Is(err, messages.ErrNoSuchActor) && !errors.Is(err, actors.ErrDeadLetter) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestCutAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		log, lost := w.log(), w.lost()
		w.send(1, 3)
		expect(t, log, 1, 3)
		time.Sleep(time.Second) // alice is told that they have arrived

		w.begun = time.Now()
		w.Delay("alice", "bob", time.Second)
		w.send(4, 5)
		time.Sleep(time.Second)
		w.send(6, 7)
		w.Cut("alice", "bob")
		for range 4 { // bob has two of them, which alice can not know
			if event := actorstest.Expect[*actors.Undeliverable](lost); !event.InDoubt || !errors.Is(event.Err, actors.ErrPeerUnreachable) {
				t.Errorf("told %+v", event)
			}
		}
		if event := actorstest.Expect[*actors.PeerLost](lost); event.Peer != "bob" || !errors.Is(event.Err, actors.ErrPeerUnreachable) {
			t.Errorf("told %+v", event)
		}
		expect(t, log, 4, 5)
		w.took("a cut", time.Second)
		if err := w.ask(); !errors.Is(err, actors.ErrPeerUnreachable) {
			t.Errorf("while there is no way: %v", err)
		}
		w.took("giving up", 10*time.Second)
		actorstest.Ignore[*actors.Undeliverable](lost)

		w.Delay("alice", "bob", 0)
		time.AfterFunc(5*time.Second, func() { w.Heal("alice", "bob") })
		w.send(8, 9)
		log.ExpectNone(4 * time.Second)
		expect(t, log, 8, 9)
		if err := w.ask(); err != nil {
			t.Error(err)
		}
		lost.ExpectNone(time.Minute)
	})
}

func TestCutConcernsTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Start("carol")
		w.Cut("alice", "carol")
		w.Cut("carol", "bob")
		if err := w.ask(); err != nil {
			t.Error(err)
		}
		w.took("an answer", 0)
		alice := w.System("alice")
		for peer, want := range map[string]error{"carol": actors.ErrPeerUnreachable, "dave": messages.ErrNoSuchPeer} {
			if err := alice.SendConfirmed(t.Context(), alice.PID(peer, "log"), []byte("hi")); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", peer, err, want)
			}
		}
	})
}

func TestHoldAndRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		log, lost := w.log(), w.lost()
		w.Hold("bob", "alice") // before there is a lane
		w.send(1, 200)         // more than one holds
		log.ExpectNone(5 * time.Second)
		w.Release("alice", "bob")
		expect(t, log, 1, 200)

		w.send(201, 201)
		w.Hold("alice", "bob") // which has arrived
		w.send(202, 250)
		expect(t, log, 201, 201)
		log.ExpectNone(time.Hour)
		w.Release("alice", "bob")
		expect(t, log, 202, 250)
		if err := w.ask(); err != nil {
			t.Error(err)
		}
		lost.ExpectNone(time.Minute)

		w.Restart("bob") // so that there is no lane
		actorstest.Expect[*actors.PeerLost](lost)
		w.Hold("alice", "bob")
		w.begun = time.Now()
		if err := w.ask(); !errors.Is(err, actors.ErrPeerUnreachable) {
			t.Errorf("while none can be opened: %v", err)
		}
		w.took("giving up", 10*time.Second)
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Delay("alice", "bob", 100*time.Millisecond)
		if err := w.ask(); err != nil {
			t.Fatal(err)
		}
		w.took("opening and an answer that opens", 600*time.Millisecond)
		if err := w.ask(); err != nil {
			t.Fatal(err)
		}
		w.took("an answer", 200*time.Millisecond)

		log := w.log()
		w.send(1, 10)
		time.Sleep(300 * time.Millisecond)
		expect(t, log, 1, 10)
		w.begun = time.Now()
		w.send(11, 20)
		w.Delay("alice", "bob", 10*time.Millisecond) // does not let these overtake
		w.send(21, 30)
		expect(t, log, 11, 30)
		w.took("a message", 100*time.Millisecond)
		w.send(31, 31)
		expect(t, log, 31, 31)
		w.took("a faster message", 10*time.Millisecond)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lost := w.lost()
		former := w.System("bob")
		w.probe.Request(w.System("alice").PID("bob", "greeter"), wrapperspb.String("hi"))
		actorstest.Expect[*wrapperspb.StringValue](w.probe)
		first := actor.NewPID(former.Address(), "greeter")
		w.probe.Watch(first)
		synctest.Wait()

		if now := w.Restart("bob"); now != w.System("bob") || now.Address() <= former.Address() {
			t.Errorf("%q follows %q", now.Address(), former.Address())
		}
		if why := w.probe.ExpectTerminated(first).GetWhy(); why != actor.TerminatedReason_AddressTerminated {
			t.Errorf("why is %v", why)
		}
		if event := actorstest.Expect[*actors.PeerLost](lost); !errors.Is(event.Err, actors.ErrPeerGone) {
			t.Errorf("told %+v", event)
		}
		if _, err := former.Spawn(former.Props(func() actor.Actor { return actor.ReceiveFunc(echo) }), ""); !errors.Is(err, actors.ErrClosed) {
			t.Errorf("spawn in the former process: %v", err)
		}
		w.greet()
		if err := w.ask(); err != nil {
			t.Error(err)
		}
		w.probe.Request(first, wrapperspb.String("hi"))
		if event := actorstest.Expect[*actors.Undeliverable](lost); !errors.Is(event.Err, actors.ErrPeerGone) || event.InDoubt {
			t.Errorf("told %+v", event)
		}
		w.took("it all", 0)
	})
}

// What a process has sent before it is gone arrives, and then the news; its last words do
// not.
func TestKillOfWhoHasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bob := w.System("bob")
		toProbe := w.System("bob").PID("alice", "probe")
		w.System("alice").Export("probe", w.probe.PID())
		lost := w.lost()
		spawn(t, bob.System, "speaker", func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				ctx.Send(toProbe, wrapperspb.String("hello"))
			case *actor.Stopping:
				ctx.Send(toProbe, wrapperspb.String("bye"))
			}
		})
		if err := w.ask(); err != nil {
			t.Error(err)
		}
		actorstest.Expect[*wrapperspb.StringValue](w.probe)
		time.Sleep(time.Second) // alice is told that her question has arrived
		w.Hold("alice", "bob")
		bob.Root.Send(toProbe, wrapperspb.String("one more"))
		w.Kill("bob")
		lost.ExpectNone(time.Minute)
		w.Release("alice", "bob")
		if got := actorstest.Expect[*wrapperspb.StringValue](w.probe); got.GetValue() != "one more" {
			t.Errorf("got %v", got)
		}
		actorstest.Expect[*actors.PeerLost](lost)
		w.probe.ExpectNone(time.Minute)
		if err := w.ask(); !errors.Is(err, messages.ErrNoSuchPeer) {
			t.Errorf("nobody has the name: %v", err)
		}
	})
}

func TestNetClosesWhateverTheState(t *testing.T) {
	for name, fault := range map[string]func(w *world){
		"cut":     func(w *world) { w.Cut("alice", "bob") },
		"held":    func(w *world) { w.Hold("alice", "bob") },
		"delayed": func(w *world) { w.Delay("alice", "bob", time.Hour) },
		"killed":  func(w *world) { w.Kill("alice") },
		"killed while held": func(w *world) {
			time.Sleep(time.Second) // nothing is to be said any more
			w.Hold("alice", "bob")
			w.send(1, 200)
			synctest.Wait() // a pump waits for room
			w.Kill("alice")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.log()
				w.send(1, 200)
				w.System("alice").Root.Send(w.System("alice").PID("bob", "log"), make([]byte, 100_000))
				fault(w)
				if !strings.HasPrefix(name, "killed") {
					w.send(1, 200)
				}
			})
		})
	}
}

// Bob is not told of alice's end when the test ends.
func TestNetEndsQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []*actor.Terminated
		var ended time.Time
		text := failure(func(fake actorstest.TB) {
			n := actorstest.NewNet(fake, "alice", "bob")
			alice, bob := n.System("alice"), n.System("bob")
			alice.Export("echo", spawn(fake, alice.System, "echo", echo))
			spawn(fake, alice.System, "slow", func(ctx actor.Context) {
				if _, ok := ctx.Message().(*actor.Stopping); ok {
					time.Sleep(time.Second)
				}
			})
			spawn(fake, bob.System, "watcher", func(ctx actor.Context) {
				switch msg := ctx.Message().(type) {
				case *actor.Started:
					ctx.Watch(bob.PID("alice", "echo"))
				case *actor.Terminated:
					if time.Since(ended) < time.Second { // then bob's own lanes end
						told = append(told, msg)
					}
				}
			})
			synctest.Wait()
			ended = time.Now()
		})
		if text != "" || len(told) > 0 {
			t.Errorf("failed: %q, told %v", text, told)
		}
	})
}

func TestNetConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := actorstest.NewNetWith(t, &actorstest.NetConfig{
			System: actors.SystemConfig{MailboxLimit: 7}, Remote: actors.RemoteConfig{Limits: actors.RemoteLimits{OpenWait: time.Minute}},
		}, "alice", "bob")
		n.Cut("alice", "bob")
		alice := n.System("alice")
		p := actorstest.NewProbe(t, alice)
		if stats, _ := alice.Mailbox(p.PID()); stats.Limit != 7 {
			t.Errorf("mailboxes hold %d", stats.Limit)
		}
		begun := time.Now()
		err := alice.SendConfirmed(t.Context(), alice.PID("bob", "log"), []byte("hi"))
		if took := time.Since(begun); !errors.Is(err, actors.ErrPeerUnreachable) || took < time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestNetIsUsedWrongly(t *testing.T) {
	for want, test := range map[string]func(n *actorstest.Net){
		`net: there is no system "carol" now`:                 func(n *actorstest.Net) { n.System("carol") },
		`net: there is no system "dave"`:                      func(n *actorstest.Net) { n.Restart("dave") },
		`net: there is a system "bob" already`:                func(n *actorstest.Net) { n.Start("bob") },
		`net: "alice" and "carol" are not two of its systems`: func(n *actorstest.Net) { n.Cut("alice", "carol") },
		`net: "alice" and "alice" are not two of its systems`: func(n *actorstest.Net) { n.Hold("alice", "alice") },
		`net: invalid name "Carol"`:                           func(n *actorstest.Net) { n.Start("Carol") },
	} {
		t.Run(want, func(t *testing.T) {
			got := failure(func(fake actorstest.TB) { test(actorstest.NewNet(fake, "alice", "bob")) })
			if !strings.HasPrefix(got, want) {
				t.Errorf("failed with %q", got)
			}
		})
	}
}
