package actors_test

import (
	"bytes"
	"context"
	"regexp"
	"strconv"
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

func (s *busyStream) ReceiveAll(ctx context.Context, use func([]byte, bool) error) error {
	_ = s.sizedStream.ReceiveAll(ctx, use)
	return messages.ErrNoSuchStream
}

func (s *busyStream) TrySendIdle([]byte, bool, func()) (bool, error) { return true, nil }
func (s *busyStream) TrySend([]byte) error                           { return messages.ErrReset }

// tapeStream is a stream that remembers what it took.
type tapeStream struct {
	sizedStream
	tape bytes.Buffer
}

func (s *tapeStream) TrySend(m []byte) error {
	s.tape.Write(m)
	return nil
}

func (s *tapeStream) TrySendIdle(m []byte, _ bool, _ func()) (bool, error) {
	return false, s.TrySend(m)
}

// What had gathered for a stream that then took nothing goes to the next one, as if that had been the first.
func TestGatheredIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := func(streams ...actors.LaneStream) {
			sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
			var opened atomic.Int64
			open := func(context.Context, string, bool, bool) (actors.LaneStream, error) {
				return streams[opened.Add(1)-1], nil
			}
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

// What waited for a stream that then takes nothing goes to the next one, in order and once, also if it is large and its frame's
// head is long.
func TestWaitingIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
		tape := &tapeStream{sizedStream: newSized()}
		refuses := &busyStream{newSized()}
		hold := make(chan struct{})
		var opened atomic.Int64
		open := func(context.Context, string, bool, bool) (actors.LaneStream, error) {
			if opened.Add(1) == 1 {
				<-hold
				return refuses, nil
			}
			return tape, nil
		}
		r := actors.NewRemote(sys, &actors.RemoteConfig{Name: "alice", Open: open})
		who, long := r.PID("bob", "log"), map[string]string{"a": strings.Repeat("b", 100)}
		want := ""
		for i := range 8 {
			text := strings.Repeat(strconv.Itoa(i), 5000)
			sys.Root.Send(who, &actor.MessageEnvelope{Message: []byte(text), Header: long})
			want += text
		}
		close(hold)
		time.Sleep(time.Second)
		synctest.Wait()
		got := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '7' {
				return r
			}
			return -1
		}, tape.tape.String())
		if queued := sys.Snapshot().Peers[0].Queued; queued > 0 || strings.Count(got, "0") < 5000 || !ordered(got, want) {
			t.Errorf("%d bytes wait; %d bytes came of %d", queued, len(got), len(want))
		}
		tape.Close()
		_ = sys.Close(t.Context())
	})
}

// ordered reports whether the runs of digits are those that are wanted, but for what of the frames' heads looks like a digit.
func ordered(got, want string) bool {
	at := 0
	for i := 0; i < len(want); i += 5000 {
		found := strings.Index(got[at:], want[i:i+5000])
		if found < 0 || found > 16 {
			return false
		}
		at += found + 5000
	}
	return len(got)-at < 16
}
