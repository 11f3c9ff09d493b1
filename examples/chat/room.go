package main

import (
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
)

// What clients and the hub say to each other.
type (
	// Join has its sender told what is said from now on.
	Join struct{}
	// Joined is the answer: who is in the room, with those who are away.
	Joined struct{ Names []string }
	// Say is for all others in the room.
	Say struct{ Text string }
	// Heard is what another one said.
	Heard struct{ Name, Text string }
	// Seen is what has become of another one.
	Seen struct{ Name, Is string }
)

// What somebody else is seen to be.
const (
	here = "here"
	away = "away"
	back = "back"
	left = "gone"
)

// wire has one of each type that crosses the network.
func wire() []any { return []any{&Join{}, &Joined{}, &Say{}, &Heard{}, &Seen{}} }

// room is everybody who has joined.
//
//	behavior  message  does
//	any       entered  takes a member in, and answers who is there
//	any       *Heard   tells the others
//	any       *Seen    tells the others, if it is about a member
//
// Parent: the system's root, which restarts it. The members survive that.
type room struct {
	members map[string]*actor.PID
	show    func(message any) // does not block
}

// entered is said by the actor of a client that has joined.
type entered struct{ name string }

// openRoom lets the peers of a client chat with each other. A peer that has been away for some time leaves. show is called
// with all that is said: it must not block.
func openRoom(cl *client.Client, leave time.Duration, show func(message any)) error {
	sys := cl.Actors()
	all := &room{members: map[string]*actor.PID{}, show: show}
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return all }), "room")
	if err != nil {
		return err
	}
	return sys.OnPeer(actors.PeerConfig{Leave: leave, Props: func(peer string) *actor.Props {
		m := &member{name: peer, room: pid}
		return sys.Props(func() actor.Actor { return m })
	}})
}

// Receive implements actor.Actor.
func (r *room) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case entered:
		_, again := r.members[msg.name]
		r.members[msg.name] = ctx.Sender()
		ctx.Respond(&Joined{Names: slices.Sorted(maps.Keys(r.members))})
		if !again {
			r.tellOthers(ctx, msg.name, &Seen{Name: msg.name, Is: here})
		}
	case *Heard:
		r.tellOthers(ctx, msg.Name, msg)
	case *Seen:
		if _, ok := r.members[msg.Name]; !ok {
			return
		}
		if msg.Is == left {
			delete(r.members, msg.Name)
		}
		r.tellOthers(ctx, msg.Name, msg)
	}
}

// tellOthers tells everybody but one.
func (r *room) tellOthers(ctx actor.Context, but string, message any) {
	r.show(message)
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		if name != but {
			ctx.Send(r.members[name], message)
		}
	}
}

// member is what a client has at the hub. Whatever comes to it from afar is from that client: so nobody can speak in
// another's name.
//
//	behavior  message                    does
//	any       *Join                      notes where the client hears, and enters the room
//	any       *Say                       tells the room
//	any       PeerPresent, …Absent, Left tells the room
//	any       *Joined, *Heard, *Seen     tells the client
//	any       Terminated                 forgets where the client heard: that process is gone
//
// Parent: the actor of OnPeer, which restarts it; it knows then what it knew before. Stopped after PeerLeft.
type member struct {
	name string
	room *actor.PID
	ear  *actor.PID // nil if there is none
}

// Receive implements actor.Actor.
func (m *member) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *Join:
		m.ear = ctx.Sender()
		ctx.Watch(m.ear)
		ctx.Request(m.room, entered{m.name})
	case *Say:
		ctx.Send(m.room, &Heard{Name: m.name, Text: msg.Text})
	case *actors.PeerPresent:
		if msg.Again {
			ctx.Send(m.room, &Seen{Name: m.name, Is: back})
		}
	case *actors.PeerAbsent:
		ctx.Send(m.room, &Seen{Name: m.name, Is: away})
	case *actors.PeerLeft:
		ctx.Send(m.room, &Seen{Name: m.name, Is: left})
	case *Joined, *Heard, *Seen:
		if m.ear != nil {
			ctx.Send(m.ear, msg)
		}
	case *actor.Terminated:
		if m.ear.Equal(msg.GetWho()) {
			m.ear = nil
		}
	}
}
