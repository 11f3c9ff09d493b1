package suite_test

import (
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// worker is a routee: it says which one it is and what it was told.
func worker(name string) *actor.Props {
	return actor.PropsFromFunc(func(ctx actor.Context) {
		switch word(ctx) {
		case "":
		case "who":
			ctx.Respond(ctx.Self())
		case "leave":
			ctx.Stop(ctx.Self())
		default:
			ctx.Respond(text("%s: %s", name, word(ctx)))
		}
	})
}

// pool is a router over children of its own, and forgets those that stop. Messages that begin with "all" go to each of
// them, others to one after the other.
type pool struct {
	size    int
	next    int
	waiting *actor.PID // for a routee to be gone
}

// Receive implements actor.Actor.
func (p *pool) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		for _, name := range []string{"a", "b", "c"}[:p.size] {
			ctx.Spawn(worker(name))
		}
	case *actor.Terminated:
		ctx.Send(p.waiting, text("%d left", len(ctx.Children())))
	case *wrapperspb.StringValue:
		switch routees := ctx.Children(); {
		case strings.HasPrefix(word(ctx), "all"):
			for _, routee := range routees {
				ctx.RequestWithCustomSender(routee, ctx.Message(), ctx.Sender())
			}
		default:
			if word(ctx) == "leave" {
				p.waiting = ctx.Sender()
			}
			ctx.Forward(routees[p.next%len(routees)])
			p.next++
		}
	}
}

// gather spawns an actor that sends to another, and returns a future of the n answers, in order of their texts.
func gather(root *actor.RootContext, to *actor.PID, n int, word string) actor.Future {
	all := actor.NewFuture(root.ActorSystem(), soon)
	var got []string
	spawnFunc(root, func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.Started:
			ctx.Request(to, text("%s", word))
		case *wrapperspb.StringValue:
			if got = append(got, msg.GetValue()); len(got) == n {
				slices.Sort(got)
				ctx.Send(all.PID(), text("%s", strings.Join(got, ", ")))
			}
		}
	})
	return all
}

// routers routes at the actor, by a pool, and to PIDs that it has given away, by a group.
var routers = program{
	props: func() *actor.Props { return actor.PropsFromProducer(func() actor.Actor { return &pool{size: 3} }) },
	drive: func(root *actor.RootContext, target *actor.PID) (trace []string) {
		for _, word := range []string{"1", "2", "3", "4"} {
			trace = append(trace, ask(root, target, "%s", word))
		}
		trace = append(trace, told(gather(root, target, 3, "all of you")))
		var routees actor.PIDSet
		for range 3 { // beginning with the second
			routees.Add(askPID(root, target, "who"))
		}
		next := 0
		group := spawnFunc(root, func(ctx actor.Context) {
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				ctx.Forward(routees.Get(next % routees.Len()))
				next++
			}
		})
		for _, word := range []string{"5", "6", "7", "8"} {
			trace = append(trace, ask(root, group, "%s", word))
		}
		trace = append(trace, ask(root, target, "leave")) // the second
		return append(trace, told(gather(root, target, 2, "all that are left")))
	},
	want: []string{
		"a: 1", "b: 2", "c: 3", "a: 4", "a: all of you, b: all of you, c: all of you",
		"b: 5", "c: 6", "a: 7", "b: 8", "2 left", "a: all that are left, c: all that are left",
	},
}

// newAnswerer returns an actor for everything that a future may come to.
func newAnswerer() actor.Actor {
	var notes []string
	var asker *actor.PID // who wants to know of somebody that is gone
	return actor.ReceiveFunc(func(ctx actor.Context) {
		switch msg := ctx.Message().(type) {
		case *actor.PID: // asks it, and answers later
			answer := ctx.RequestFuture(msg, text("who are you?"), soon)
			ctx.ReenterAfter(answer, func(res any, err error) { ctx.Respond(text("met %s", says(res, err))) })
		case *actor.Terminated:
			ctx.Send(asker, msg.GetWho())
		case *wrapperspb.StringValue:
			switch word, note := strings.CutPrefix(msg.GetValue(), "note "); {
			case note:
				notes = append(notes, word)
			case word == "notes":
				ctx.Respond(text("%s", strings.Join(notes, ", ")))
			case word == "somebody gone":
				asker = ctx.Sender()
				ctx.Stop(ctx.Spawn(worker("brief")))
			case word != "silence":
				ctx.Respond(text("note %s", word))
			}
		}
	})
}

var futures = program{
	props: func() *actor.Props { return actor.PropsFromProducer(newAnswerer) },
	drive: func(root *actor.RootContext, target *actor.PID) (trace []string) {
		trace = append(trace, ask(root, target, "answer"), ask(root, askPID(root, target, "somebody gone"), "hello"))
		trace = append(trace, told(root.RequestFuture(target, text("silence"), 50*time.Millisecond)))

		here := actor.NewFuture(root.ActorSystem(), soon) // what is piped to actors here and there
		there := root.RequestFuture(target, text("piped"), soon)
		there.PipeTo(target, here.PID())
		trace = append(trace, told(there), told(here), ask(root, target, "notes"))

		asker := spawnFunc(root, func(ctx actor.Context) { // goes on with what it is told
			if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				answer := ctx.RequestFuture(target, ctx.Message(), soon)
				ctx.ReenterAfter(answer, func(res any, err error) {
					ctx.Respond(text("asked %s, told %s", word(ctx), says(res, err)))
				})
			}
		})
		trace = append(trace, ask(root, asker, "for it"))

		stranger := spawnFunc(root, func(ctx actor.Context) {
			if word(ctx) == "who are you?" {
				ctx.Respond(text("a stranger"))
			}
		})
		return append(trace, told(root.RequestFuture(target, stranger, soon)))
	},
	want: []string{
		"note answer", "<nil> future: dead letter", "<nil> future: timeout", "note piped", "note piped", "piped",
		"asked for it, told note for it", "met a stranger",
	},
}
