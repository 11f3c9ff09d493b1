// Queue is a work queue. Workers on other clients ask for a job, do it, and tell the result; the job of a worker whose process
// is gone is given to another one. Without flags it shows all in one process; with -serve it is coordinator and queue, and
// takes a job from each line that is typed; with -name it is a worker.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

func main() { program.Main("queue", run) }

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	queue := program.Program{Messages: wire(), Story: story, Serve: serve, Join: join}
	return queue.Run(ctx, args, in, out)
}

// hash is the work: the SHA-256 of the SHA-256 of … of a text.
func hash(_ context.Context, text string) string {
	sum := sha256.Sum256([]byte(text))
	for range 100_000 {
		sum = sha256.Sum256(sum[:])
	}
	return fmt.Sprintf("%x", sum[:8])
}

// serve has each line worked on, until there are no more and all are done.
func serve(ctx context.Context, cl *client.Client, in <-chan string, lines *program.Lines, ready func()) error {
	queue, err := openQueue(cl, func(r *Result) { lines.Printf("job %d by %s: %s", r.ID, r.By, r.Text) })
	if err != nil {
		return err
	}
	ready()
	if err := program.Each(ctx, in, queue.add); err != nil {
		return err
	}
	results, err := queue.results(ctx)
	if err == nil {
		lines.Printf("%d jobs are done", len(results))
	}
	return err
}

// join works until ctx ends, or the queue is gone.
func join(ctx context.Context, cl *client.Client, _ <-chan string, lines *program.Lines) error {
	over, err := startWorker(cl, func(ctx context.Context, text string) string {
		lines.Printf("works on %q", text)
		return hash(ctx, text)
	})
	if err != nil {
		return err
	}
	return over(ctx)
}

// storyJobs is how many jobs there are in the story.
const storyJobs = 6

// story has two workers do some jobs. One of them is killed with a job in its hands.
func story(ctx context.Context, stage *program.Stage, lines *program.Lines) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stage.Config.ResumeWait = 2 * time.Second // who is not reached for longer is gone
	hub, err := stage.Connect(ctx, program.Hub)
	if err != nil {
		return err
	}
	queue, err := openQueue(hub, func(r *Result) { lines.Printf("job %d is done by %s: %s", r.ID, r.By, r.Text) })
	if err != nil {
		return err
	}
	for i := range storyJobs {
		queue.add(fmt.Sprintf("text %d", i+1))
	}
	ann, err := stage.Connect(ctx, "ann")
	if err != nil {
		return err
	}
	began := make(chan string, 1)
	if _, err := startWorker(ann, func(ctx context.Context, text string) string {
		began <- text // she never comes to another one
		<-ctx.Done()
		return ""
	}); err != nil {
		return err
	}
	select {
	case text := <-began:
		lines.Printf("ann works on %q and takes her time", text)
	case <-ctx.Done():
		return ctx.Err()
	}
	ben, err := stage.Connect(ctx, "ben")
	if err != nil {
		return err
	}
	if _, err := startWorker(ben, hash); err != nil {
		return err
	}
	ann.Abort()
	lines.Printf("ann's process is killed")
	results, err := queue.results(ctx)
	if err != nil {
		return err
	}
	lines.Printf("%d results for %d jobs", len(results), storyJobs)
	return nil
}
