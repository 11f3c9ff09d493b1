package actors_test

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// busyStream is a stream that is always writing, and then is over, since its peer is another process.
type busyStream struct{ sizedStream }

func (s *busyStream) Receive(ctx context.Context) ([]byte, error) {
	_, _ = s.sizedStream.Receive(ctx)
	return nil, messages.ErrNoSuchStream
}

func (s *busyStream) TrySendIdle([]byte, func()) (bool, error) { return true, nil }
func (s *busyStream) TrySend([]byte) error                     { return messages.ErrReset }

// tapeStream is a stream that remembers what it took.
type tapeStream struct {
	sizedStream
	tape bytes.Buffer
}

func (s *tapeStream) TrySend(m []byte) error {
	s.tape.Write(m)
	return nil
}
func (s *tapeStream) TrySendIdle(m []byte, _ func()) (bool, error) { return false, s.TrySend(m) }

// What had gathered for a stream that then took nothing goes to the next one, as if that had been the first.
func TestGatheredIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := func(streams ...actors.LaneStream) {
			sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
			var opened atomic.Int64
			open := func(context.Context, string, bool) (actors.LaneStream, error) { return streams[opened.Add(1)-1], nil }
			r := actors.NewRemote(sys, &actors.RemoteConfig{Name: "alice", Open: open})
			who, asked := r.PID("bob", "log"), actor.NewPID(sys.Address(), "me")
			asked.RequestId = 7
			watcher, err := sys.Spawn(sys.Props(func() actor.Actor {
				return actor.ReceiveFunc(func(ctx actor.Context) {
					if text, ok := ctx.Message().(*wrapperspb.StringValue); ok && text.GetValue() == "watch" {
						ctx.Watch(who)
						ctx.Unwatch(who)
					}
				})
			}), "watcher")
			if err != nil {
				t.Fatal(err)
			}
			sys.Root.Send(who, []byte("opens the stream"))
			synctest.Wait()
			for i := range 3 {
				sys.Root.Send(who, wrapperspb.String(strings.Repeat("x", 1000*i)))
				sys.Root.Send(who, &actor.MessageEnvelope{Message: []byte("y"), Sender: asked, Header: map[string]string{"a": "b"}})
				sys.Root.Send(watcher, wrapperspb.String("watch"))
				synctest.Wait()
				sys.Root.Poison(who)
			}
			sys.Root.Send(who, make([]byte, 30<<10)) // goes alone, after the rest
			go func() { _ = r.SendConfirmed(t.Context(), who, []byte("z")) }()
			time.Sleep(time.Second)
			if queued := sys.Snapshot().Peers[0].Queued; queued > 0 {
				t.Errorf("%d bytes wait for ever", queued)
			}
			for _, s := range streams {
				s.Close()
			}
			_ = sys.Close(t.Context())
		}
		newSized := func() sizedStream { return sizedStream{limit: 1 << 20, over: make(chan struct{})} }
		want, got := &tapeStream{sizedStream: newSized()}, &tapeStream{sizedStream: newSized()}
		send(want)
		send(&busyStream{newSized()}, got)
		pass := regexp.MustCompile("#.{14}")
		tape := func(s *tapeStream) string { return pass.ReplaceAllString(s.tape.String(), "#") }
		if want.tape.Len() < 30<<10 || tape(got) != tape(want) {
			t.Errorf("got %d bytes\n%.500q\nwant %d\n%.500q", got.tape.Len(), tape(got), want.tape.Len(), tape(want))
		}
	})
}
