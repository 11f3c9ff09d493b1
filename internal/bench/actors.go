package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// actorEnds are conec's actors: who pours tells an actor of the receiver; Ask has it answer.
type actorEnds struct{ conec }

// nameOf names the actor of a kind of messages, and of a pair.
func nameOf(kind Kind, pair int) string {
	return fmt.Sprintf("%s,prompt=%v,%d", purpose(kind), kind.Prompt, pair)
}

func (a *actorEnds) open(ctx context.Context, kind Kind) (pipe, error) {
	sys := a.client.Actors()
	p := &actorPipe{sys: sys, size: kind.Size, to: sys.PID(receiverName, nameOf(kind, kind.Pair)), asks: kind.Prompt}
	hello := make([]byte, kind.Size+1) // as large, so that it goes the same way
	for {                              // until the actor is there
		err := sys.SendConfirmed(ctx, p.to, hello)
		if !errors.Is(err, messages.ErrNoSuchActor) {
			return p, err
		}
	}
}

// accept spawns the actor.
func (a *actorEnds) accept(_ context.Context, kind Kind) (pipe, error) {
	sys := a.client.Actors()
	p := &actorPipe{sys: sys, size: kind.Size, start: make(chan *drainer, 1), over: make(chan error, 1)}
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return p }), nameOf(kind, kind.Pair))
	if err != nil {
		return nil, err
	}
	sys.Export(pid.Id, pid)
	return p, nil
}

// actorPipe is the side that sends, or the actor that receives. An empty message ends it.
type actorPipe struct {
	sys    *client.Actors
	size   int // of messages; one that is a byte larger is ignored
	to     *actor.PID
	asks   bool
	answer []byte // to what was asked last

	// Of the actor:
	start   chan *drainer // what it has to do
	started bool
	drainer *drainer // nil if it answers
	over    chan error
	ended   bool
}

func (p *actorPipe) send(ctx context.Context, message []byte) (err error) {
	if !p.asks {
		return p.sys.SendWait(ctx, p.to, message)
	}
	p.answer, err = actors.Ask[[]byte](ctx, p.sys, p.to, message)
	return err
}

func (p *actorPipe) receive(context.Context) ([]byte, error) { return p.answer, nil }

func (p *actorPipe) finish() error {
	return p.sys.SendConfirmed(context.Background(), p.to, []byte{})
}

func (p *actorPipe) relayed() bool { return false }

// Receive implements actor.Actor.
func (p *actorPipe) Receive(ctx actor.Context) {
	message, ok := ctx.Message().([]byte)
	if !ok || p.ended || len(message) == p.size+1 {
		return
	}
	if !p.started {
		p.drainer, p.started = <-p.start, true
	}
	switch {
	case len(message) == 0:
		p.ended = true
		p.over <- io.EOF
	case p.drainer == nil:
		ctx.Respond(message)
	default:
		if err := p.drainer.take(message); err != nil {
			p.ended = true
			p.over <- err
		}
	}
}

// await waits until the actor has received all messages. It checks them, or answers if d is nil.
func (p *actorPipe) await(ctx context.Context, d *drainer) error {
	p.start <- d
	select {
	case err := <-p.over:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
