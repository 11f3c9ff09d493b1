package main

import (
	"context"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
)

// queueName is what the queue is exported as.
const queueName = "queue"

// What workers and the queue say to each other.
type (
	// Pull asks for a job. It may come again: who has a job is told it again.
	Pull struct{}
	// Job is the answer, as soon as there is one.
	Job struct {
		ID   int
		Text string
	}
	// Result says that a job is done, with what, and by whom, as the worker calls itself.
	Result struct {
		ID       int
		Text, By string
	}
)

// wire has one of each type that crosses the network.
func wire() []any { return []any{&Pull{}, &Job{}, &Result{}} }

// queue gives jobs to workers that ask for one. It watches them: the job of one whose process is gone, or has not been reached
// for client.Config.ResumeWait, is the next to be given away. So a job may be done twice, if its worker was given up too
// soon; its first result counts.
//
//	behavior  message       does
//	any       addJob        has an idle worker do it, or keeps it
//	any       *Pull         gives the worker a job, or notes that it is idle
//	any       *Result       counts the job as done, unless it was
//	any       Terminated    takes back what the worker had
//	any       awaitResults  answers when all jobs are done
//
// Parent: the system's root, which restarts it. What it knows survives that.
type queue struct {
	jobs    []*Job // by their number, from 1
	results []*Result
	done    map[int]bool
	waiting []int          // jobs that nobody has, the next first
	idle    []*actor.PID   // workers that wait for a job
	busy    map[string]int // jobs by who has them
	known   map[string]bool
	asking  []*actor.PID
	show    func(result *Result) // does not block
}

type (
	addJob struct{ text string }
	// awaitResults is a question, resultList its answer.
	awaitResults struct{}
	resultList   struct{ results []*Result }
)

// jobs is a queue as the program sees it.
type jobs struct {
	sys *client.Actors
	pid *actor.PID
}

// openQueue lets peers of a client work for it. show is called with each result that counts: it must not block.
func openQueue(cl *client.Client, show func(result *Result)) (*jobs, error) {
	sys := cl.Actors()
	q := &queue{done: map[int]bool{}, busy: map[string]int{}, known: map[string]bool{}, show: show}
	pid, err := sys.Spawn(sys.Props(func() actor.Actor { return q }), queueName)
	if err != nil {
		return nil, err
	}
	sys.Export(queueName, pid)
	return &jobs{sys, pid}, nil
}

// add adds a job.
func (j *jobs) add(text string) { j.sys.Root.Send(j.pid, addJob{text}) }

// results blocks until all jobs that were added are done, or ctx ends. The results are in the order in which they came.
func (j *jobs) results(ctx context.Context) ([]*Result, error) {
	list, err := actors.Ask[resultList](ctx, j.sys, j.pid, awaitResults{})
	return list.results, err
}

// Receive implements actor.Actor.
func (q *queue) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case addJob:
		q.jobs = append(q.jobs, &Job{ID: len(q.jobs) + 1, Text: msg.text})
		q.waiting = append(q.waiting, len(q.jobs))
		q.feed(ctx)
	case *Pull:
		q.pull(ctx, ctx.Sender())
	case *Result:
		q.result(ctx, ctx.Sender(), msg)
	case *actor.Terminated:
		q.lost(ctx, msg.GetWho())
	case awaitResults:
		q.asking = append(q.asking, ctx.Sender())
		q.answer(ctx)
	}
}

func (q *queue) pull(ctx actor.Context, worker *actor.PID) {
	if worker == nil {
		return // who does not say who he is can not be given anything
	}
	if id := q.busy[worker.String()]; id != 0 {
		ctx.Send(worker, q.jobs[id-1])
		return
	}
	if !q.known[worker.String()] {
		q.known[worker.String()] = true
		ctx.Watch(worker)
	}
	if !slices.ContainsFunc(q.idle, worker.Equal) {
		q.idle = append(q.idle, worker)
	}
	q.feed(ctx)
}

// feed gives jobs to idle workers, as long as there are both.
func (q *queue) feed(ctx actor.Context) {
	for len(q.waiting) > 0 && len(q.idle) > 0 {
		id, worker := q.waiting[0], q.idle[0]
		q.waiting, q.idle = q.waiting[1:], q.idle[1:]
		q.busy[worker.String()] = id
		ctx.Send(worker, q.jobs[id-1])
	}
}

func (q *queue) result(ctx actor.Context, worker *actor.PID, result *Result) {
	if worker != nil && q.busy[worker.String()] == result.ID {
		delete(q.busy, worker.String())
	}
	if result.ID < 1 || result.ID > len(q.jobs) || q.done[result.ID] {
		return
	}
	q.done[result.ID] = true
	q.results = append(q.results, result)
	q.waiting = slices.DeleteFunc(q.waiting, func(id int) bool { return id == result.ID }) // if its worker was given up
	q.show(result)
	q.answer(ctx)
}

// lost takes back what a worker had that is gone.
func (q *queue) lost(ctx actor.Context, worker *actor.PID) {
	delete(q.known, worker.String())
	q.idle = slices.DeleteFunc(q.idle, worker.Equal)
	id := q.busy[worker.String()]
	delete(q.busy, worker.String())
	if id != 0 && !q.done[id] {
		q.waiting = slices.Insert(q.waiting, 0, id)
		q.feed(ctx)
	}
}

// answer answers those who wait for all results, if they are there.
func (q *queue) answer(ctx actor.Context) {
	if len(q.results) < len(q.jobs) {
		return
	}
	for _, who := range q.asking {
		ctx.Send(who, resultList{slices.Clone(q.results)})
	}
	q.asking = nil
}
