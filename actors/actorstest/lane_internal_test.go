package actorstest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// newPair returns both ends of a lane, and its link.
func newPair(t *testing.T) (a, b *end, l *link) {
	t.Helper()
	process := func(name string) *process {
		return &process{name: name, Actors: Actors{System: actors.NewSystem(&actors.SystemConfig{Name: "conec/" + name})}}
	}
	l = &link{mu: &sync.Mutex{}}
	a = newLane(l, process("alice"), process("bob"))
	return a, a.other, l
}

// changeNow is change by who has not locked mu.
func (l *link) changeNow(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change(change)
}

func TestLaneIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newPair(t)
		for range laneRoom {
			if err := a.TrySend([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.TrySend([]byte("x")); !errors.Is(err, messages.ErrWouldBlock) {
			t.Errorf("one more: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Send(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more, waiting: %v", err)
		}
		sent := make(chan error, 1)
		go func() { sent <- a.Send(t.Context(), []byte("last")) }()
		synctest.Wait()
		for i := range laneRoom + 1 {
			got, err := b.Receive(t.Context())
			if err != nil || (string(got) == "last") != (i == laneRoom) {
				t.Errorf("message %d: %q, %v", i, got, err)
			}
			synctest.Wait() // it is sent as soon as there is room
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// What has been sent arrives before a close; a reset overtakes what is on its way.
func TestLaneEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*end)
		want error
		read int // of one message that has arrived, and one that is on its way
	}{
		"close": {(*end).Close, io.EOF, 2},
		"reset": {(*end).Reset, messages.ErrReset, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, l := newPair(t)
				message := []byte("first")
				if err := a.TrySend(message); err != nil {
					t.Fatal(err)
				}
				message[0] = '!' // is the sender's again
				l.changeNow(func() { l.delay = time.Second })
				if err := a.TrySend(nil); err != nil {
					t.Fatal(err)
				}
				test.end(a)
				if err := a.TrySend([]byte("late")); !errors.Is(err, test.want) {
					t.Errorf("sent after the end: %v", err)
				}
				if _, err := a.Receive(t.Context()); !errors.Is(err, test.want) {
					t.Errorf("received after the end: %v", err)
				}
				if err := b.TrySend([]byte("the other does not know")); err != nil {
					t.Errorf("sent by the other: %v", err)
				}
				for i := range 2 {
					got, err := b.Receive(t.Context())
					if i < test.read && (err != nil || i == 0 && string(got) != "first") || i >= test.read && !errors.Is(err, test.want) {
						t.Errorf("message %d: %q, %v", i, got, err)
					}
				}
				for range 2 {
					if _, err := b.Receive(t.Context()); !errors.Is(err, test.want) {
						t.Errorf("the end: %v", err)
					}
				}
				if err := b.TrySend([]byte("the other knows")); !errors.Is(err, test.want) {
					t.Errorf("sent by the other: %v", err)
				}
				if b.Close(); !a.isOver() {
					t.Error("the lane is not over")
				}
			})
		})
	}
}

// Who waits for room is told of the end.
func TestLaneEndsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, l := newPair(t)
		l.add(a)
		sent := make(chan error, 1)
		go func() {
			for {
				if err := a.Send(t.Context(), []byte("x")); err != nil {
					sent <- err
					return
				}
			}
		}()
		synctest.Wait()
		l.changeNow(l.cutLanes)
		if err := <-sent; !errors.Is(err, messages.ErrUnreachable) {
			t.Errorf("send: %v", err)
		}
		for range laneRoom {
			if _, err := b.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Receive(t.Context()); !errors.Is(err, messages.ErrUnreachable) {
			t.Errorf("receive: %v", err)
		}
	})
}

// Who waits for room at a process that is gone is told when the news has come.
func TestLaneIsFullOfWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, l := newPair(t)
		for range laneRoom {
			if err := a.TrySend([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		l.delay, b.owner.gone = time.Second, true
		a.push(parcel{end: messages.ErrNoSuchStream})
		begun := time.Now()
		go func() { _, _ = a.Receive(t.Context()) }()
		if err := a.Send(t.Context(), []byte("x")); !errors.Is(err, messages.ErrNoSuchStream) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// A process that is gone says nothing, and hears nothing.
func TestLaneOfWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := newPair(t)
		if err := a.TrySend([]byte("before")); err != nil {
			t.Fatal(err)
		}
		a.owner.gone = true
		if err := errors.Join(a.TrySend([]byte("after")), b.TrySend([]byte("you?"))); err != nil {
			t.Fatal(err)
		}
		a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if got, err := b.Receive(ctx); string(got) != "before" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		for name, e := range map[string]*end{"who is gone": a, "the other": b} {
			if got, err := e.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s got %q, %v", name, got, err)
			}
		}
	})
}
