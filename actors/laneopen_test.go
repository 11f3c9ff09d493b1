package actors_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// slowStream is a stream that its peer answers when answer is closed.
type slowStream struct {
	tapeStream
	answer  chan struct{}
	refused bool
	why     error
	address string
}

func newSlowStream(refused bool, why error) *slowStream {
	return &slowStream{
		tapeStream: tapeStream{sizedStream: newSized()},
		answer:     make(chan struct{}), refused: refused, why: why, address: "conec/bob~2",
	}
}

func (s *slowStream) Answered(ctx context.Context) (bool, error) {
	select {
	case <-s.answer:
	case <-ctx.Done():
	}
	return s.refused, s.why
}

func (s *slowStream) Address() string { return s.address }

// heard returns the numbered messages that a stream took, in order.
func (s *slowStream) heard() string {
	return strings.Join(regexp.MustCompile(`<\d+>`).FindAllString(s.tape.String(), -1), "")
}

// numbered returns so many numbered messages from the first on, as heard would.
func numbered(first, n int) (all string) {
	for i := range n {
		all += fmt.Sprintf("<%d>", first+i)
	}
	return all
}

// What is for any process of a peer goes with the opening of a lane, and what is for a certain one when it is known that it
// answers. A refusal has everything sent again, and an end before the answer leaves in doubt what was sent.
func TestLaneOpensEarly(t *testing.T) {
	const before, after = 5, 3 // messages before the stream is open, and before it is answered
	for name, test := range map[string]struct {
		refused       bool
		why           error
		again         string // what the next stream hears at once
		lost, inDoubt int
	}{
		"accepted":                      {},
		"refused, for now":              {true, messages.ErrBusy, numbered(0, before+after), 0, 0},
		"refused":                       {true, messages.ErrRefused, "", before + after, 0},
		"lost before it was answered":   {false, messages.ErrUnreachable, "", after, before},
		"refused, when it was restored": {false, messages.ErrRefused, "", after, before},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
				var lost, inDoubt int
				sys.Root.ActorSystem().EventStream.Subscribe(func(event any) {
					if u, ok := event.(*actors.Undeliverable); ok && u.InDoubt {
						inDoubt++
					} else if ok {
						lost++
					}
				})
				first, next := newSlowStream(test.refused, test.why), newSlowStream(false, nil)
				close(next.answer)
				hold, opened := make(chan struct{}), 0
				open := func(_ context.Context, _ string, _, early bool) (actors.LaneStream, error) {
					if opened++; opened == 1 {
						<-hold
						return first, nil
					}
					if early != (test.again == "") {
						t.Errorf("the next attempt is early: %v", early)
					}
					return next, nil
				}
				r := actors.NewRemote(sys, &actors.RemoteConfig{Name: "alice", Open: open})
				who := r.PID("bob", "log")
				send := func(from, n int) {
					for i := range n {
						sys.Root.Send(who, fmt.Appendf(nil, "<%d>", from+i))
					}
					synctest.Wait()
				}
				send(0, before)
				close(hold)
				synctest.Wait()
				if got := first.heard(); got != numbered(0, before) {
					t.Errorf("with the opening came %q", got)
				}
				send(before, after)
				if got := first.heard(); got != numbered(0, before) {
					t.Errorf("before the answer came %q", got)
				}
				close(first.answer)
				time.Sleep(time.Second)
				synctest.Wait()
				if got := first.heard(); test.why == nil && got != numbered(0, before+after) {
					t.Errorf("after the answer, %q has come", got)
				}
				if got := next.heard(); got != test.again {
					t.Errorf("on the next stream came %q, want %q", got, test.again)
				}
				if lost != test.lost || inDoubt != test.inDoubt {
					t.Errorf("%d messages are lost and %d in doubt, want %d and %d", lost, inDoubt, test.lost, test.inDoubt)
				}
				send(before+after, 1)
				time.Sleep(time.Second)
				if got := first.heard() + next.heard(); !strings.HasSuffix(got, numbered(before+after, 1)) || sys.Snapshot().Peers[0].Queued > 0 {
					t.Errorf("the last message has not come: %q", got)
				}
				first.Close()
				next.Close()
				_ = sys.Close(t.Context())
			})
		})
	}
}

// A message for a certain process waits until that has answered, or another one, also if messages for any go early.
func TestLaneOpensEarlyForAny(t *testing.T) {
	for _, address := range []string{"conec/bob~1", "conec/bob~2"} {
		t.Run(address, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
				var why error
				sys.Root.ActorSystem().EventStream.Subscribe(func(event any) {
					if u, ok := event.(*actors.Undeliverable); ok {
						why = u.Err
					}
				})
				stream := newSlowStream(false, nil)
				stream.address = address
				r := actors.NewRemote(sys, &actors.RemoteConfig{
					Name: "alice",
					Open: func(context.Context, string, bool, bool) (actors.LaneStream, error) { return stream, nil },
				})
				sys.Root.Send(actor.NewPID("conec/bob~1", "log#0123456789abcd"), []byte("<1>"))
				synctest.Wait()
				if got := stream.tape.Len(); got != 0 {
					t.Errorf("%d bytes came before it was known who gets them", got)
				}
				sys.Root.Send(r.PID("bob", "log#0123456789abcd"), []byte("<2>")) // in order
				synctest.Wait()
				if got := stream.tape.Len(); got != 0 {
					t.Errorf("%d bytes came before those that they follow", got)
				}
				close(stream.answer)
				synctest.Wait()
				want := "<1><2>"
				if address != "conec/bob~1" {
					want = "<2>"
				}
				if got := stream.heard(); got != want || (want == "<2>") != errors.Is(why, actors.ErrPeerGone) {
					t.Errorf("came %q, want %q; lost because %v", got, want, why)
				}
				stream.Close()
				_ = sys.Close(t.Context())
			})
		})
	}
}
