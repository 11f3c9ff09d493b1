package actors_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// laneRoom is how many messages one direction of a stream holds.
const laneRoom = 64

// lane is one end of a stream of messages between two systems of one process.
type lane struct {
	pair    *lanePair
	out, in chan []byte
	address string // of the other end's actors
	bulk    bool
}

// lanePair is what the ends of a stream share.
type lanePair struct {
	opener, accepter string
	once             sync.Once
	closed           chan struct{}
	err              error // valid when closed
}

// newLanes returns the ends of a stream.
func newLanes(opener, accepter string, openerAt, accepterAt string, bulk bool) (a, b *lane) {
	pair := &lanePair{opener: opener, accepter: accepter, closed: make(chan struct{})}
	there, back := make(chan []byte, laneRoom), make(chan []byte, laneRoom)
	return &lane{pair, there, back, accepterAt, bulk}, &lane{pair, back, there, openerAt, bulk}
}

func (p *lanePair) end(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.closed)
	})
}

func (l *lane) Send(ctx context.Context, message []byte) error {
	select {
	case <-l.pair.closed:
		return l.pair.err
	default:
	}
	select {
	case l.out <- append([]byte(nil), message...):
		return nil
	case <-l.pair.closed:
		return l.pair.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lane) TrySend(message []byte) error {
	select {
	case <-l.pair.closed:
		return l.pair.err
	default:
	}
	select {
	case l.out <- append([]byte(nil), message...):
		return nil
	default:
		return messages.ErrWouldBlock
	}
}

func (l *lane) Receive(ctx context.Context) ([]byte, error) {
	select {
	case message := <-l.in:
		return message, nil
	case <-l.pair.closed:
		return nil, l.pair.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lane) Close()          { l.pair.end(io.EOF) }
func (l *lane) Reset()          { l.pair.end(messages.ErrReset) }
func (l *lane) Address() string { return l.address }
func (l *lane) Bulk() bool      { return l.bulk }

// land is a set of systems that reach each other by streams.
type land struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // of the test
	conf actors.RemoteConfig

	mu      sync.Mutex
	systems map[string]*system
	lanes   []*lane // the openers' ends
	opened  int
	down    error // why opening fails
}

// system is one of a land: it is used as the system of a client is.
type system struct {
	*actors.System
	*actors.Remote
	name string
}

// newLand makes systems of these names.
func newLand(t *testing.T, names ...string) *land {
	t.Helper()
	return newLandWith(t, actors.RemoteConfig{}, names...)
}

func newLandWith(t *testing.T, conf actors.RemoteConfig, names ...string) *land {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &land{t: t, ctx: ctx, conf: conf, systems: map[string]*system{}}
	t.Cleanup(func() {
		cancel()
		l.cut(nil, messages.ErrClosed)
		l.mu.Lock()
		systems := maps.Clone(l.systems)
		l.mu.Unlock()
		for name, sys := range systems {
			if err := sys.System.Close(context.Background()); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
		}
	})
	for _, name := range names {
		l.start(name)
	}
	return l
}

// start starts a system, or a new process of one that was killed.
func (l *land) start(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	sys := &system{name: name}
	sys.System = actors.NewSystem(&actors.SystemConfig{Name: actors.Address(name, fmt.Appendf(nil, "%08d", l.opened))})
	conf := l.conf
	conf.Name = name
	conf.Open = func(_ context.Context, peer string, bulk bool) (actors.LaneStream, error) {
		return l.open(sys, peer, bulk)
	}
	sys.Remote = actors.NewRemote(sys.System, &conf)
	l.systems[name] = sys
}

func (l *land) open(from *system, peer string, bulk bool) (actors.LaneStream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	target := l.systems[peer]
	switch {
	case l.down != nil:
		return nil, l.down
	case target == nil:
		return nil, messages.ErrNoSuchPeer
	}
	a, b := newLanes(from.name, peer, from.Address(), target.Address(), bulk)
	l.lanes = append(l.lanes, a)
	target.Pumps.Go(func() { target.Serve(l.ctx, from.name, b) })
	return a, nil
}

// kill ends a process: its peers learn that it is gone.
func (l *land) kill(name string) {
	l.mu.Lock()
	sys := l.systems[name]
	delete(l.systems, name)
	for _, lane := range l.lanes {
		if lane.pair.opener == name || lane.pair.accepter == name {
			lane.pair.end(messages.ErrNoSuchStream)
		}
	}
	l.mu.Unlock()
	if err := sys.System.Close(context.Background()); err != nil {
		l.t.Errorf("close %s: %v", name, err)
	}
}

// cut ends all streams for one reason, and lets none be opened for another, until that
// is nil.
func (l *land) cut(down, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, lane := range l.lanes {
		lane.pair.end(why)
	}
	l.lanes = nil
}

// lift lets streams be opened again.
func (l *land) lift() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = nil
}

// of returns a system.
func (l *land) of(name string) *system {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.systems[name]
}

// spawn spawns an actor, and exports it under its id.
func (l *land) spawn(name, id string, receive actor.ReceiveFunc) *actor.PID {
	l.t.Helper()
	sys := l.of(name)
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return receive }), id)
	if err != nil {
		l.t.Fatal(err)
	}
	sys.Export(id, pid)
	return pid
}

// ask asks an actor of a peer, and returns what it says.
func (l *land) ask(from string, pid *actor.PID, text string) (string, error) {
	got, err := actors.Ask[*wrapperspb.StringValue](l.t.Context(), l.of(from), pid, wrapperspb.String(text))
	return got.GetValue(), err
}

// echo answers each text.
func echo(ctx actor.Context) {
	if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
		ctx.Respond(wrapperspb.String("re: " + text.GetValue()))
	}
}

// collect returns an actor that puts the messages that are a T into a channel.
func collect[T any](room int) (<-chan T, actor.ReceiveFunc) {
	got := make(chan T, room)
	return got, func(ctx actor.Context) {
		if msg, ok := ctx.Message().(T); ok {
			got <- msg
		}
	}
}

// events returns what is published on a system's EventStream and is a T.
func events[T any](sys *system, room int) <-chan T {
	got := make(chan T, room)
	sys.ActorSystem().EventStream.Subscribe(func(event any) {
		if event, ok := event.(T); ok && len(got) < cap(got) {
			got <- event
		}
	})
	return got
}
