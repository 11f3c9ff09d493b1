package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

// errHubGone ends a guest's visit.
var errHubGone = errors.New("the hub is gone")

// guest is a client in the room.
type guest struct {
	*client.Client
	hub, ear *actor.PID
}

// enter has a client join. hear is called with each *Joined, *Heard and *Seen: it must not block.
func enter(cl *client.Client, hear func(message any)) (*guest, error) {
	sys := cl.Actors()
	hub := sys.PID(program.Hub, "peer")
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return &ear{hub: hub, hear: hear} }), "ear")
	if err == nil {
		sys.Root.RequestWithCustomSender(hub, &Join{}, pid) // before all that is said
	}
	return &guest{cl, hub, pid}, err
}

// say says something to all others. It blocks while much waits to be sent.
func (g *guest) say(ctx context.Context, text string) error {
	return g.Actors().SendWait(ctx, g.hub, &Say{Text: text})
}

// over blocks until the hub is gone, or ctx ends.
func (g *guest) over(ctx context.Context) error {
	return program.Over(ctx, g.Actors(), g.ear)
}

// ear hears what is said at the hub.
//
//	behavior  message                 does
//	any       Started                 watches the hub
//	any       *Joined, *Heard, *Seen  has it heard
//	any       AwaitEnd                answers when the hub is gone
//	any       Terminated              answers who waits for that
//
// Parent: the system's root, which restarts it.
type ear struct {
	hub  *actor.PID
	hear func(message any)
	end  program.End
}

// Receive implements actor.Actor.
func (e *ear) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		ctx.Watch(e.hub)
	case *Joined, *Heard, *Seen:
		e.hear(msg)
	case program.AwaitEnd:
		e.end.Await(ctx)
	case *actor.Terminated:
		e.end.Reach(ctx, fmt.Errorf("%w: %v", errHubGone, msg.GetWhy()))
	}
}
