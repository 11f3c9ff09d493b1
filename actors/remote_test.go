package actors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// pipe is one end of a stream of messages between two systems of one process.
type pipe struct {
	out, in chan []byte
	closed  chan struct{}
	once    *sync.Once
}

func newPipe() (a, b *pipe) {
	x, y, closed, once := make(chan []byte, 1), make(chan []byte, 1), make(chan struct{}), &sync.Once{}
	return &pipe{x, y, closed, once}, &pipe{y, x, closed, once}
}

func (p *pipe) Send(ctx context.Context, message []byte) error {
	select {
	case <-p.closed:
		return io.ErrClosedPipe
	default:
	}
	select {
	case p.out <- append([]byte(nil), message...):
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Receive(ctx context.Context) ([]byte, error) {
	select {
	case message := <-p.in:
		return message, nil
	case <-p.closed:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Close() { p.once.Do(func() { close(p.closed) }) }

// land is a set of systems that reach each other by pipes.
type land struct {
	t       *testing.T
	systems map[string]*actors.System
	remotes map[string]*actors.Remote

	mu    sync.Mutex
	pipes []*pipe // the openers' ends
	down  bool    // opening fails
}

func newLand(t *testing.T, names ...string) *land {
	t.Helper()
	l := &land{t: t, systems: map[string]*actors.System{}, remotes: map[string]*actors.Remote{}}
	ctx, cancel := context.WithCancel(t.Context())
	for _, name := range names {
		sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/" + name})
		l.systems[name] = sys
		l.remotes[name] = actors.NewRemote(sys, func(_ context.Context, peer string) (actors.Stream, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			target := l.remotes[peer]
			if target == nil || l.down {
				return nil, errors.New("no way")
			}
			a, b := newPipe()
			l.pipes = append(l.pipes, a)
			l.systems[peer].Pumps.Go(func() { target.Serve(ctx, name, b) })
			return a, nil
		})
	}
	t.Cleanup(func() {
		cancel()
		l.cut()
		for name, sys := range l.systems {
			if err := sys.Close(context.Background()); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
		}
	})
	return l
}

// cut ends all streams, and lets no new one be opened.
func (l *land) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, pipe := range l.pipes {
		pipe.Close()
	}
}

func (l *land) spawn(name, id string, receive actor.ReceiveFunc) *actor.PID {
	l.t.Helper()
	sys := l.systems[name]
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive }), id)
	if err != nil {
		l.t.Fatal(err)
	}
	return pid
}

func echo(ctx actor.Context) {
	if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
		ctx.Respond(wrapperspb.String("re: " + text.GetValue()))
	}
}

func TestAskAnExportedActorOfAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.remotes["bob"].Export("greeter", l.spawn("bob", "inner", echo))
		got, err := actors.Ask[*wrapperspb.StringValue](t.Context(), l.systems["alice"],
			l.remotes["alice"].PID("bob", "greeter"), wrapperspb.String("hi"))
		if err != nil || got.GetValue() != "re: hi" {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestWhatIsNotExportedCanNotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.spawn("bob", "secret", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				t.Error("a peer reached an actor that is not exported")
			}
		})
		for _, id := range []string{"secret", "root", "eventstream", "asks/1", "nobody"} {
			_, err := actors.Ask[*wrapperspb.StringValue](t.Context(), l.systems["alice"],
				l.remotes["alice"].PID("bob", id), wrapperspb.String("hi"))
			if !errors.Is(err, actors.ErrDeadLetter) {
				t.Errorf("%s: %v, want ErrDeadLetter", id, err)
			}
		}
	})
}

func TestMessagesOfOneSenderStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		l := newLand(t, "alice", "bob")
		var got []int64
		done := make(chan struct{})
		l.remotes["bob"].Export("counter", l.spawn("bob", "counter", func(ctx actor.Context) {
			if number, ok := ctx.Message().(*wrapperspb.Int64Value); ok {
				if got = append(got, number.GetValue()); len(got) == n {
					close(done)
				}
			}
		}))
		target := l.remotes["alice"].PID("bob", "counter")
		for i := range int64(n) {
			l.systems["alice"].Root.Send(target, wrapperspb.Int64(i))
		}
		<-done
		for i, number := range got {
			if number != int64(i) {
				t.Fatalf("message %d is %d", i, number)
			}
		}
	})
}

func TestAnActorOfAPeerAnswersAnActorAndHeadersTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.remotes["bob"].Export("greeter", l.spawn("bob", "greeter", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.Respond(wrapperspb.String(ctx.MessageHeader().Get("trace")))
			}
		}))
		answer := make(chan string, 1)
		asker := l.spawn("alice", "asker", func(ctx actor.Context) {
			if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				answer <- text.GetValue()
			}
		})
		l.systems["alice"].Root.Send(l.remotes["alice"].PID("bob", "greeter"), &actor.MessageEnvelope{
			Header: map[string]string{"trace": "42"}, Message: wrapperspb.String("hi"), Sender: asker,
		})
		if got := <-answer; got != "42" {
			t.Errorf("answer is %q", got)
		}
	})
}

func TestUnsendableMessagesAreDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		ask := func(peer string, message any) error {
			_, err := actors.Ask[*wrapperspb.StringValue](t.Context(), l.systems["alice"], l.remotes["alice"].PID(peer, "x"), message)
			return err
		}
		if err := ask("bob", "not protobuf"); !errors.Is(err, actors.ErrDeadLetter) {
			t.Errorf("message that is no protobuf: %v", err)
		}
		if err := ask("nobody", wrapperspb.String("hi")); !errors.Is(err, actors.ErrDeadLetter) {
			t.Errorf("unknown peer: %v", err)
		}
		l.cut()
		if err := ask("bob", wrapperspb.String("hi")); err == nil {
			t.Error("no error without a way to the peer")
		}
	})
}

func TestLaneOpensAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		l.remotes["bob"].Export("greeter", l.spawn("bob", "greeter", echo))
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := actors.Ask[*wrapperspb.StringValue](ctx, l.systems["alice"], l.remotes["alice"].PID("bob", "greeter"), wrapperspb.String("hi"))
			return err
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		l.cut()
		l.mu.Lock()
		l.down = false
		l.mu.Unlock()
		synctest.Wait()
		if err := ask(); err != nil {
			t.Errorf("after the failure: %v", err)
		}
	})
}

func TestWatchAcrossTheNetworkIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		gone := make(chan *actor.Terminated, 1)
		target := l.remotes["alice"].PID("bob", "greeter")
		l.spawn("alice", "watcher", func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actor.Started:
				ctx.Watch(target)
			case *actor.Terminated:
				gone <- msg
			}
		})
		if msg := <-gone; msg.GetWho().GetId() != "greeter" || msg.GetWhy() != actor.TerminatedReason_AddressTerminated {
			t.Errorf("got %v", msg)
		}
	})
}

// A peer that sends what is no envelope, unknown types or forged senders has no
// effect but its own refusals.
func TestHostileEnvelopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "bob")
		senders := make(chan string, 1)
		l.remotes["bob"].Export("greeter", l.spawn("bob", "greeter", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				senders <- ctx.Sender().GetAddress()
			}
		}))
		payload, _ := proto.Marshal(wrapperspb.String("hi"))
		envelopes := []*conecv1.Envelope{
			{Target: "greeter", Type: "no.such.Type"},
			{Target: "greeter", Type: "google.protobuf.StringValue", Payload: []byte{0xff}},
			{Target: "", Type: "google.protobuf.StringValue", Payload: payload},
			{Target: "asks", TargetRequest: 7, Type: "google.protobuf.StringValue", Payload: payload},
			{Target: "greeter", Sender: "conec/carol/x", Type: "google.protobuf.StringValue", Payload: payload},
		}
		mine, theirs := newPipe()
		served := make(chan struct{})
		go func() {
			l.remotes["bob"].Serve(t.Context(), "mallory", theirs)
			close(served)
		}()
		for i, envelope := range envelopes {
			raw, err := proto.Marshal(envelope)
			if err != nil {
				t.Fatal(err)
			}
			if err := mine.Send(t.Context(), raw); err != nil {
				t.Fatalf("envelope %d ended the stream: %v", i, err)
			}
		}
		if address := <-senders; address != "conec/mallory" {
			t.Errorf("sender's address is %q, want the authenticated one", address)
		}
		if err := mine.Send(t.Context(), []byte{0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
		<-served // what is no envelope ends the stream
	})
}

func FuzzEnvelope(f *testing.F) {
	raw, _ := proto.Marshal(&conecv1.Envelope{Target: "greeter", Type: "google.protobuf.StringValue", Payload: []byte{10, 1, 'a'}})
	f.Add(raw)
	sys := actors.NewSystem(nil)
	f.Cleanup(func() { _ = sys.Close(context.Background()) })
	remote := actors.NewRemote(sys, func(context.Context, string) (actors.Stream, error) { return nil, fmt.Errorf("no way") })
	f.Fuzz(func(t *testing.T, raw []byte) {
		mine, theirs := newPipe()
		done := make(chan struct{})
		go func() {
			remote.Serve(t.Context(), "mallory", theirs)
			close(done)
		}()
		_ = mine.Send(t.Context(), raw)
		_ = mine.Send(t.Context(), []byte{0xff}) // is no envelope, so Serve returns
		<-done
	})
}

// A peer can not stop an exported actor, nor tell it lies in the runtime's name.
func TestRuntimeMessagesDoNotCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		greeter := l.spawn("bob", "greeter", echo)
		l.remotes["bob"].Export("greeter", greeter)
		target := l.remotes["alice"].PID("bob", "greeter")
		l.systems["alice"].Root.Send(target, &actor.PoisonPill{})
		l.systems["alice"].Root.Send(target, &actor.Terminated{Who: greeter})
		mine, theirs := newPipe()
		go l.remotes["bob"].Serve(t.Context(), "mallory", theirs)
		for _, message := range []proto.Message{&actor.PoisonPill{}, &actor.Stop{}, &actor.Terminated{}} {
			payload, _ := proto.Marshal(message)
			raw, _ := proto.Marshal(&conecv1.Envelope{Target: "greeter", Type: string(proto.MessageName(message)), Payload: payload})
			if err := mine.Send(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		mine.Close()
		if _, err := actors.Ask[*wrapperspb.StringValue](t.Context(), l.systems["alice"], target, wrapperspb.String("hi")); err != nil {
			t.Errorf("the actor does not live any more: %v", err)
		}
	})
}

// Only who was asked can answer.
func TestAnswerOfAnotherPeerDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		mine, theirs := newPipe()
		go l.remotes["alice"].Serve(t.Context(), "mallory", theirs)
		payload, _ := proto.Marshal(wrapperspb.String("forged"))
		l.remotes["bob"].Export("greeter", l.spawn("bob", "greeter", func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); !ok {
				return
			}
			for request := range uint32(20) { // mallory guesses the number of the ask
				raw, _ := proto.Marshal(&conecv1.Envelope{
					Target: "asks", TargetRequest: request, Type: "google.protobuf.StringValue", Payload: payload,
				})
				_ = mine.Send(t.Context(), raw)
			}
			ctx.Respond(wrapperspb.String("true"))
		}))
		got, err := actors.Ask[*wrapperspb.StringValue](t.Context(), l.systems["alice"],
			l.remotes["alice"].PID("bob", "greeter"), wrapperspb.String("hi"))
		if err != nil || got.GetValue() != "true" {
			t.Errorf("got %v, %v", got, err)
		}
		mine.Close()
	})
}
