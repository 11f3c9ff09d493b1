package actors_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// fullStream is a stream that has no room at once, but takes what waits for it when it may.
type fullStream struct {
	tapeStream
	may    chan struct{} // take a message, for each that comes here
	gone   chan struct{} // closed when the peer has another process
	grants chan []byte
	took   int // messages
}

func newFullStream() *fullStream {
	return &fullStream{
		tapeStream: tapeStream{sizedStream: newSized()},
		may:        make(chan struct{}), gone: make(chan struct{}), grants: make(chan []byte, 1),
	}
}

func (s *fullStream) TrySend([]byte) error              { return messages.ErrWouldBlock }
func (s *fullStream) TryGive([]byte, int, func()) error { return messages.ErrWouldBlock }

func (s *fullStream) TrySendIdle([]byte, bool, func()) (bool, error) {
	return false, messages.ErrWouldBlock
}

func (s *fullStream) Send(_ context.Context, m []byte) error {
	select {
	case <-s.over:
		select {
		case <-s.gone: // and took it at the last moment
			return s.tapeStream.TrySend(m)
		default:
			return messages.ErrReset
		}
	case <-s.may:
	}
	if s.took++; s.took == 1 { // a grant for the first target, which was named now
		s.grants <- binary.AppendUvarint([]byte{2, 0}, 1<<40)
	}
	return s.tapeStream.TrySend(m)
}

func (s *fullStream) Give(ctx context.Context, b []byte, at int, used func()) error {
	err := s.Send(ctx, b[at:])
	if err == nil {
		clear(b) // it is not the lane's any more
		used()
	}
	return err
}

func (s *fullStream) ReceiveAll(_ context.Context, use func([]byte, bool) error) error {
	for {
		select {
		case b := <-s.grants:
			if err := use(b, false); err != nil {
				return err
			}
		case <-s.over:
			return messages.ErrReset
		case <-s.gone:
			return messages.ErrNoSuchStream
		}
	}
}

// heard returns the numbered messages that came whole, in order.
func (s *fullStream) heard(size func(i int) int) string {
	var all strings.Builder
	for _, found := range regexp.MustCompile(`<(\d+)>(x+)\.`).FindAllStringSubmatch(s.tape.String(), -1) {
		if i, err := strconv.Atoi(found[1]); err == nil && len(found[2]) == size(i) {
			fmt.Fprintf(&all, "<%d>", i)
		}
	}
	return all.String()
}

// While the stream has no room, messages gather and wait: all of them come in order when there is some. When the stream ends,
// what it had, and what it was about to take, is in doubt, and nothing else; the rest is lost with it, or goes to the peer's
// next process.
func TestGathersWhileFull(t *testing.T) {
	const takes = 2 // messages of the stream, before it ends
	for name, test := range map[string]struct {
		count, batch int
		size         func(i int) int
	}{
		"small": {600, 160, func(int) int { return 100 }},
		"alone": {12, 1, func(int) int { return 5000 }},
		"mixed": {40, 0, func(i int) int { return 100 + (1-i%4/2)*33<<10 }}, // all on the lane of the first
		"large": {12, 1, func(int) int { return 33 << 10 }},
	} {
		for _, waits := range []bool{false, true} {
			for _, end := range []string{"", "over", "gone"} {
				if test.batch == 0 && end != "" {
					continue // the next one would begin with another lane
				}
				t.Run(fmt.Sprintf("%s,waits=%v,%s", name, waits, end), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						first, next := newFullStream(), newFullStream()
						lost, doubt := fill(t, first, next, test.count, test.size, waits, func() {
							for range takes {
								first.may <- struct{}{}
								synctest.Wait()
							}
							switch end {
							case "":
								close(first.may)
							case "gone":
								close(first.gone)
								synctest.Wait()
								fallthrough
							default:
								first.Close()
								close(next.may)
							}
						})
						had := first.heard(test.size)
						if end == "" {
							if want := numbered(0, test.count); had != want || lost+doubt != "" {
								t.Errorf("came %.500q; lost %.500q, in doubt %.500q", had, lost, doubt)
							}
							return
						}
						n, heard := strings.Count(doubt, "<"), strings.Count(had, "<")
						if doubt != numbered(0, n) || had != numbered(0, heard) || n < heard || n > heard+test.batch {
							t.Errorf("in doubt %.500q, came %.500q", doubt, had)
						}
						rest := lost + next.heard(test.size)
						if want := numbered(n, test.count-n); rest != want || end == "gone" && lost != "" {
							t.Errorf("lost %.500q and then came %.500q; %d were in doubt", lost, next.heard(test.size), n)
						}
					})
				})
			}
		}
	}
}

// fill sends messages that a stream has no room for, has then act, and returns which were lost and which are in doubt.
func fill(t *testing.T, first, next *fullStream, count int, size func(i int) int, waits bool, then func()) (lost, inDoubt string) {
	t.Helper()
	sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
	var mu sync.Mutex
	sys.Root.ActorSystem().EventStream.Subscribe(func(event any) {
		mu.Lock()
		defer mu.Unlock()
		if u, ok := event.(*actors.Undeliverable); ok {
			text, _, _ := strings.Cut(string(u.Message.([]byte)), "x")
			if u.InDoubt {
				inDoubt += text
			} else {
				lost += text
			}
		}
	})
	streams := []*fullStream{first, next}
	r := actors.NewRemote(sys, &actors.RemoteConfig{
		Name: "alice",
		Open: func(context.Context, string, bool, bool) (actors.LaneStream, error) {
			s := streams[0]
			streams = streams[1:]
			return s, nil
		},
	})
	who, sent := r.PID("bob", "log"), make(chan error, 1)
	go func() {
		var err error
		for i := range count {
			m := []byte(fmt.Sprintf("<%d>%s.", i, strings.Repeat("x", size(i))))
			if !waits {
				sys.Root.Send(who, m)
			} else if err = r.SendWait(t.Context(), who, m); err != nil {
				break
			}
		}
		sent <- err
	}()
	synctest.Wait()
	then()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute)
	mu.Lock()
	had := [2]string{lost, inDoubt} // when all is closed, there is more
	mu.Unlock()
	first.Close()
	next.Close()
	_ = sys.Close(t.Context())
	return had[0], had[1]
}

// Who waits to send does so whatever limit is reached, and whoever has filled it.
func TestSendWaitWaits(t *testing.T) {
	for name, test := range map[string]struct {
		limits actors.RemoteLimits
		other  int // bytes of a message for another actor, which waits, too
		size   int
	}{
		"small":                {actors.RemoteLimits{}, 0, 100},
		"alone":                {actors.RemoteLimits{}, 0, 30_000},
		"of its target":        {actors.RemoteLimits{TargetQueue: 64 << 10}, 0, 30_000},
		"of all":               {actors.RemoteLimits{PeerQueue: 256 << 10}, 240 << 10, 10_000},
		"of all, and is small": {actors.RemoteLimits{PeerQueue: 256 << 10}, 240 << 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
				hold := make(chan struct{})
				test.limits.OpenWait = time.Hour
				r := actors.NewRemote(sys, &actors.RemoteConfig{
					Name: "alice", Limits: test.limits,
					Open: func(context.Context, string, bool, bool) (actors.LaneStream, error) {
						<-hold
						stream := newFullStream()
						close(stream.may)
						return stream, nil
					},
				})
				const count = 30
				took, sent := 0, make(chan error, 1)
				if test.other > 0 {
					sys.Root.Send(r.PID("bob", "other"), make([]byte, test.other))
				}
				go func() {
					for range count {
						if err := r.SendWait(t.Context(), r.PID("bob", "log"), make([]byte, test.size)); err != nil {
							sent <- err
							return
						}
						took++
					}
					sent <- nil
				}()
				synctest.Wait()
				if took == 0 || took == count || len(sent) > 0 {
					t.Errorf("%d messages were taken, want some", took)
				}
				close(hold)
				synctest.Wait()
				if len(sent) == 0 {
					t.Errorf("it waits for ever after %d", took)
				} else if err := <-sent; err != nil {
					t.Errorf("%v after %d", err, took)
				}
				_ = sys.Close(t.Context())
			})
		})
	}
}
