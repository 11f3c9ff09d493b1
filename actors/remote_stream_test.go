package actors_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// sizedStream is a stream that takes everything that is not too large, and on which nothing comes.
type sizedStream struct {
	limit int
	over  chan struct{}
	once  sync.Once
}

func newSized() sizedStream { return sizedStream{limit: 1 << 20, over: make(chan struct{})} }

func (s *sizedStream) Send(_ context.Context, m []byte) error { return s.TrySend(m) }
func (s *sizedStream) TrySend(m []byte) error {
	if len(m) > s.limit {
		return &messages.SizeError{Size: len(m), Limit: s.limit}
	}
	return nil
}

func (s *sizedStream) Give(_ context.Context, b []byte, at int, used func()) error {
	return s.TryGive(b, at, used)
}

func (s *sizedStream) TryGive(b []byte, at int, used func()) error {
	err := s.TrySend(b[at:])
	if err == nil {
		used()
	}
	return err
}

func (s *sizedStream) TrySendIdle(m []byte, _ bool, _ func()) (bool, error) {
	return false, s.TrySend(m)
}

func (s *sizedStream) ReceiveAll(ctx context.Context, _ func([]byte, bool) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.over:
		return messages.ErrReset
	}
}

func (s *sizedStream) Close()                                 { s.once.Do(func() { close(s.over) }) }
func (s *sizedStream) Reset()                                 { s.Close() }
func (s *sizedStream) Answered(context.Context) (bool, error) { return false, nil }
func (s *sizedStream) Address() string                        { return "conec/bob~1" }

// A batch is not larger than a message of the stream may be.
func TestBatchesFitMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(&actors.SystemConfig{Name: "conec/alice~1"})
		opens := 0
		open := func(context.Context, string, bool, bool) (actors.LaneStream, error) {
			opens++
			return &sizedStream{limit: 16 << 10, over: make(chan struct{})}, nil
		}
		r := actors.NewRemote(sys, &actors.RemoteConfig{Name: "alice", MaxMessage: 16 << 10, Open: open})
		for range 10 {
			sys.Root.Send(r.PID("bob", "log"), make([]byte, 3900))
		}
		time.Sleep(time.Hour)
		p := sys.Snapshot().Peers[0]
		if p.Queued > 0 || opens != 1 {
			t.Errorf("%d bytes wait for ever; %d streams were opened", p.Queued, opens)
		}
		_ = sys.Close(t.Context())
	})
}

// serveStream is one on which frames come, and that takes records when the gate is open.
type serveStream struct {
	sizedStream
	in   chan []byte
	gate chan struct{}
	out  atomic.Int64
	big  atomic.Int64
}

func (s *serveStream) ReceiveAll(ctx context.Context, use func([]byte, bool) error) error {
	for {
		select {
		case b := <-s.in:
			if err := use(b, true); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *serveStream) Send(_ context.Context, m []byte) error {
	<-s.gate
	if len(m) > 64<<10 {
		s.big.Add(1)
		return &messages.SizeError{Size: len(m), Limit: 64 << 10}
	}
	s.out.Add(1)
	return nil
}

// Records that have gathered go in several messages.
func TestManyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "bob")
		bob := l.of("bob")
		s := &serveStream{sizedStream: sizedStream{over: make(chan struct{})}, in: make(chan []byte, 10000), gate: make(chan struct{})}
		const n = 2000
		var pids []*actor.PID
		for i := range n {
			id := fmt.Sprintf("a-rather-long-name-of-an-actor-as-they-are-%06d", i)
			pids = append(pids, l.spawn("bob", id, func(actor.Context) {}))
			b := []byte{2}
			b = binary.AppendUvarint(b, uint64(i)<<1|1)
			b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
			s.in <- append(binary.AppendUvarint(nil, uint64(len(b))), b...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go bob.Serve(ctx, "alice", s)
		time.Sleep(time.Second)
		for _, p := range pids {
			bob.Root.Stop(p)
		}
		time.Sleep(time.Second)
		close(s.gate)
		time.Sleep(time.Second)
		before := s.out.Load()
		for range 300 {
			s.in <- []byte{1, 5} // flush
		}
		time.Sleep(time.Minute)
		if s.out.Load() == before {
			t.Errorf("%d messages were too large, and then nothing was said any more", s.big.Load())
		}
		cancel()
	})
}
