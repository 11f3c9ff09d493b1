package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

// errQueueGone ends a worker.
var errQueueGone = errors.New("the queue is gone")

// pullAgain is when an idle worker asks again: the queue may have given it up while it was not reached.
const pullAgain = 30 * time.Second

// worker does one job after the other.
//
//	behavior  message     does                             then
//	any       Started     asks for a job                   idle
//	any       Terminated  the queue is gone: it is over    -
//	any       AwaitEnd    answers when it is over          -
//	idle      *Job        starts the pump that does it     busy
//	idle      pullLate    asks again                       -
//	busy      worked      tells the result, asks for more  idle
//
// A job that comes while it works, or that was the last one, came again: it is dropped.
//
// Parent: the system's root, which restarts it.
type worker struct {
	sys       *client.Actors
	name      string
	queue     *actor.PID
	do        func(ctx context.Context, text string) string
	life      actors.Life
	timer     *time.Timer
	now, last int // jobs; 0 if there is none
	end       program.End
}

// Told by pumps.
type (
	pullLate struct{ actors.Life }
	worked   struct {
		actors.Life
		text string
	}
)

// startWorker has a client work for the queue. do does a job; it may block, and ends soon after ctx does. over blocks until
// the queue is gone, or its ctx ends.
func startWorker(
	cl *client.Client, do func(ctx context.Context, text string) string,
) (over func(ctx context.Context) error, err error) {
	sys := cl.Actors()
	pid, err := sys.Spawn(sys.Props(func() actor.Actor {
		return &worker{sys: sys, name: cl.Name(), queue: sys.PID(program.Hub, queueName), do: do}
	}), "worker")
	return func(ctx context.Context) error { return program.Over(ctx, sys, pid) }, err
}

// Receive implements actor.Actor.
func (w *worker) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		w.life = actors.Begin()
		ctx.Watch(w.queue)
		w.pull(ctx)
	case *actor.Stopping, *actor.Restarting:
		w.life.End()
		w.timer.Stop()
	case *Job:
		if w.now == 0 && msg.ID != w.last {
			w.work(ctx, msg)
		}
	case worked:
		if msg.Of(w.life) {
			ctx.Request(w.queue, &Result{ID: w.now, Text: msg.text, By: w.name})
			w.now, w.last = 0, w.now
			w.pull(ctx)
		}
	case pullLate:
		if msg.Of(w.life) && w.now == 0 {
			w.pull(ctx)
		}
	case program.AwaitEnd:
		w.end.Await(ctx)
	case *actor.Terminated:
		w.end.Reach(ctx, fmt.Errorf("%w: %v", errQueueGone, msg.GetWhy()))
	}
}

// pull asks for a job, again if none comes.
func (w *worker) pull(ctx actor.Context) {
	if w.timer != nil {
		w.timer.Stop()
	}
	ctx.Request(w.queue, &Pull{})
	root, self, late := w.sys.Root, ctx.Self(), pullLate{w.life}
	w.timer = time.AfterFunc(pullAgain, func() { root.Send(self, late) })
}

// work starts the pump that does a job.
func (w *worker) work(ctx actor.Context, job *Job) {
	w.now = job.ID
	do, life, root, self := w.do, w.life, w.sys.Root, ctx.Self()
	w.sys.Pumps.Go(func() { root.Send(self, worked{life, do(life.Context(), job.Text)}) })
}
