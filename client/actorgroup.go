package client

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/actors"
)

// GroupDelivery is what an actor receives of a group that it has joined with
// [Actors.Join].
type GroupDelivery struct {
	// Group is the group.
	Group *TypedGroup[proto.Message]
	// From is the member that sent Message.
	From Member
	// Message is a message, nil if this is something else.
	Message proto.Message
	// Event is what else happened: [MemberJoined], [MemberLeft], [GroupMissed] or
	// [GroupRejoined].
	Event GroupEvent
	// Err says that a member sent what is no message, or that the membership is over: then
	// there is no Message and no Event.
	Err error
}

// Join has an actor of this client join a group of protobuf messages: it receives each in a
// [GroupDelivery], and sends by the group that is returned. When the actor stops, it leaves. While
// its mailbox is full, it is a slow member. Join blocks like [Client.Join], and has its errors.
func (a *Actors) Join(ctx context.Context, pid *actor.PID, name string, options *JoinOptions) (*TypedGroup[proto.Message], error) {
	g, err := a.cl.Join(ctx, name, options)
	if err != nil {
		return nil, err
	}
	typed := Typed[proto.Message](g)
	_, err = a.Spawn(a.Props(func() actor.Actor { return &groupSource{actors: a, group: typed, to: pid} }), "")
	if err != nil {
		_ = g.Leave(ctx) // it is the client that has ended
		return nil, a.cl.groupError(ctx, "join", name, err)
	}
	return typed, nil
}

// leaveWait is how long a group that an actor leaves by stopping may take to hear of it.
const leaveWait = 10 * time.Second

// groupSource hands what happens in a group to an actor.
//
//	behavior  message      does
//	any       Started      watches the actor, starts the pump, which receives and delivers
//	any       Terminated   stops
//	any       sourceEnded  stops
//	any       Stopping     ends the pump, leaves the group
type groupSource struct {
	actors *Actors
	group  *TypedGroup[proto.Message]
	to     *actor.PID
	life   actors.Life
}

// sourceEnded is said by the pump.
type sourceEnded struct{ actors.Life }

// Receive implements actor.Actor.
func (s *groupSource) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		s.life = actors.Begin()
		ctx.Watch(s.to)
		life, root, self := s.life, ctx.ActorSystem().Root, ctx.Self()
		s.actors.Pumps.Go(func() {
			s.pump(life.Context())
			root.Send(self, sourceEnded{life})
		})
	case *actor.Terminated:
		ctx.Stop(ctx.Self())
	case sourceEnded:
		if msg.Of(s.life) {
			ctx.Stop(ctx.Self())
		}
	case *actor.Stopping, *actor.Restarting:
		s.life.End()
		s.actors.Pumps.Go(func() {
			leaving, cancel := context.WithTimeout(context.Background(), leaveWait)
			defer cancel()
			_ = s.group.Leave(leaving) // nobody is there to be told
		})
	}
}

// pump delivers until the membership or ctx ends.
func (s *groupSource) pump(ctx context.Context) {
	for {
		event, err := s.group.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		delivery := GroupDelivery{Group: s.group, Event: event, Err: err}
		if message, ok := event.(GroupMessage); ok {
			delivery.Event, delivery.From = nil, message.From
			if delivery.Message, err = decodeTyped[proto.Message](message.Data); err != nil {
				delivery.Err = s.group.malformed(message.From, err)
			}
		}
		over := event == nil
		if s.actors.SendWait(ctx, s.to, delivery) != nil || over {
			return // it is about to be told that the actor is gone
		}
	}
}
