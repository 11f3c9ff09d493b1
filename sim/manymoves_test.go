package sim_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/sim"
)

// TestManyMoves has a channel change its path 400 times under traffic of streams and actors in both directions: half of the
// times because the direct path dies, in one direction or both, half of them because it is there again. No message is lost, comes
// twice or out of order. The longest time without one is told, and has a limit.
func TestManyMoves(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 6
	}
	const every = 10 * time.Millisecond
	inWorld(t, 1, func(w *world) {
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		streams := w.flows(a, b, every, 200)
		tells := []*tellFlow{w.tells(alice, bob, every), w.tells(bob, alice, every)}
		var died, back time.Duration
		random := w.Rand()
		for range rounds {
			w.direct(15*time.Second, a, b)
			time.Sleep(time.Second + time.Duration(random.Int64N(int64(time.Second))))
			back = max(back, streams.gap())
			streams.measure()
			rules := []sim.Rule{sim.Block(alice.Host(), bob.Host()), sim.Cut(alice.Host(), bob.Host()), sim.Cut(bob.Host(), alice.Host())}
			heal := w.Add(rules[random.IntN(len(rules))])
			w.relays(2*time.Second, a, b)
			time.Sleep(time.Second + time.Duration(random.Int64N(int64(time.Second))))
			died = max(died, streams.gap())
			streams.measure()
			heal()
		}
		w.direct(15*time.Second, a, b)
		t.Logf("longest without a message: %v when the path died, %v when it came back (round trips %v and %v)", died, back, direct, relayed)
		if died > time.Second || back > 2*relayed {
			t.Errorf("longest without a message: %v when the path died, want 1s; %v when it came back, want %v", died, back, 2*relayed)
		}
		w.check(streams.end())
		for _, f := range tells {
			w.check(f.end())
		}
	})
}

// tellFlow is numbered messages from a client to an actor of another.
type tellFlow struct {
	stop       chan struct{}
	done       chan struct{}
	sent, came atomic.Uint64
	wrong      atomic.Pointer[error]
}

func (w *world) tells(from, to *program, every time.Duration) *tellFlow {
	w.T.Helper()
	f := &tellFlow{stop: make(chan struct{}), done: make(chan struct{})}
	there := to.Current().Actors()
	pid, err := there.Spawn(there.Props(func() actor.Actor { return actor.ReceiveFunc(f.receive) }), "counts-"+from.Host().Name())
	w.must(err)
	there.Export(pid.Id, pid)
	sys := from.Current().Actors()
	target := sys.PID(to.Host().Name(), pid.Id)
	w.Go(func() {
		defer close(f.done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				sys.Root.Send(target, binary.BigEndian.AppendUint64(nil, f.sent.Add(1)))
			case <-f.stop:
				return
			}
		}
	})
	return f
}

func (f *tellFlow) receive(ctx actor.Context) {
	message, ok := ctx.Message().([]byte)
	if !ok {
		return
	}
	if number, want := binary.BigEndian.Uint64(message), f.came.Add(1); number != want {
		err := fmt.Errorf("an actor got message %d, want %d", number, want)
		f.wrong.CompareAndSwap(nil, &err)
	}
}

// end stops sending and returns what is wrong once everything has had time to arrive.
func (f *tellFlow) end() error {
	close(f.stop)
	<-f.done
	time.Sleep(10 * time.Second)
	if err := f.wrong.Load(); err != nil {
		return *err
	}
	if f.sent.Load() == 0 || f.sent.Load() != f.came.Load() {
		return errors.New(fmt.Sprint(f.sent.Load(), " messages were sent to an actor, ", f.came.Load(), " came"))
	}
	return nil
}
