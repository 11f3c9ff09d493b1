package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/exampletest"
	"github.com/conec-go/conec/examples/internal/program"
	"github.com/conec-go/conec/sim"
)

// TestProgram runs the program on loopback.
func TestProgram(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), nil, nil, &out); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	for i := range storyJobs {
		want := fmt.Sprintf("job %d is done by ben: %s\n", i+1, hash(t.Context(), fmt.Sprintf("text %d", i+1)))
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("printed\n%s, want one %q", out.String(), want)
		}
	}
	if want := "6 results for 6 jobs\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed\n%s, want it to end with %q", out.String(), want)
	}
}

// TestProcesses has each part of the program run as a process of its own does.
func TestProcesses(t *testing.T) {
	parts := exampletest.Serve(t, run)
	hub, ctx := parts.Hub, t.Context()
	ann := parts.Join("ann")
	parts.Type(hub, "first", "second", "third")
	for i, text := range []string{"first", "second"} {
		parts.Expect(hub, fmt.Sprintf("job %d by ann: %s", i+1, hash(ctx, text)))
	}
	if err := ann.Interrupt(); err != nil { // with or without the third
		t.Errorf("ann: %v", err)
	}
	ben := parts.Join("ben")
	parts.Type(hub, "fourth")
	parts.EndInput(hub)
	parts.Expect(hub, "job 4 by ben: "+hash(ctx, "fourth"))
	parts.Expect(hub, "4 jobs are done")
	if err := hub.Wait(); err != nil {
		t.Errorf("hub: %v", err)
	}
	if err := ben.Wait(); !errors.Is(err, errQueueGone) {
		t.Errorf("ben, without the queue: %v, want %v", err, errQueueGone)
	}
}

// TestFirstResultCounts plays a worker that is given up and tells its result all the same.
func TestFirstResultCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := actors.NewSystem(nil)
		counted := make(chan string, 10)
		all := &queue{done: map[int]bool{}, busy: map[string]int{}, known: map[string]bool{}, show: func(r *Result) { counted <- r.Text }}
		pid, err := sys.Spawn(sys.Props(func() actor.Actor { return all }), queueName)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]chan int{}
		workers := map[string]*actor.PID{}
		for _, name := range []string{"ann", "ben"} {
			jobs := make(chan int, 10)
			got[name] = jobs
			if workers[name], err = sys.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
				if job, ok := ctx.Message().(*Job); ok {
					jobs <- job.ID
				}
			}), name); err != nil {
				t.Fatal(err)
			}
		}
		say := func(worker string, message any) {
			sys.Root.RequestWithCustomSender(pid, message, workers[worker])
			synctest.Wait()
		}
		has := func(worker string, want int) {
			t.Helper()
			synctest.Wait()
			if len(got[worker]) == 0 && want != 0 || len(got[worker]) > 0 && <-got[worker] != want {
				t.Errorf("%s did not get job %d", worker, want)
			}
		}
		for range 2 {
			sys.Root.Send(pid, addJob{"text"})
		}
		say("ann", &Pull{})
		has("ann", 1)
		say("ann", &Pull{})
		has("ann", 1) // that she has
		sys.Root.Stop(workers["ann"])
		synctest.Wait()
		say("ben", &Pull{})
		has("ben", 1)
		say("ann", &Result{ID: 1, Text: "ann's"})
		say("ben", &Result{ID: 1, Text: "ben's"})
		for _, id := range []int{0, -1, 3} { // there are none
			say("ben", &Result{ID: id, Text: "nobody's"})
		}
		say("ben", &Pull{})
		has("ben", 2)
		say("ben", &Pull{})
		has("ben", 2)
		say("ben", &Result{ID: 2, Text: "ben's"})
		say("ben", &Pull{})
		has("ben", 0)
		list, err := actors.Ask[resultList](t.Context(), sys, pid, awaitResults{})
		if err != nil || len(list.results) != 2 || len(counted) != 2 || <-counted != "ann's" || <-counted != "ben's" {
			t.Errorf("results %v, %v", list.results, err)
		}
		if err := sys.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// done is a job that a process has done, or was about to.
type done struct{ process, text string }

// TestOnTheRoad runs the same code in a simulated network: two workers move to other networks, one crashes and comes back as
// another process, one crashes and stays away, and the coordinator restarts. At any of the seeds, each job has one result,
// and only what a crashed process had was done again.
func TestOnTheRoad(t *testing.T) {
	const count = 150
	exampletest.Play(t, func(w *sim.World) {
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
		defer cancel()
		fiber, mobile, lan := exampletest.Fiber, exampletest.Mobile, exampletest.LAN
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), fiber)
		lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), mobile)
		coordinator := w.Coordinator(w.Host("coordinator", w.Internet(), fiber), nil)
		codecs := exampletest.Codecs(w, wire())
		configure := func(c *client.Config) { c.Codecs, c.ResumeWait = codecs, 30*time.Second }
		hub := w.Client(w.Host(program.Hub, home, lan), configure)
		workers := w.Clients(configure, w.Host("ann", home, lan), w.Host("ben", lte, lan), w.Host("cid", w.Internet(), mobile), w.Host("dee", lte, lan))
		ann, ben, cid, dee := workers[0], workers[1], workers[2], workers[3]

		counted := make(chan *Result, 2*count)
		queue, err := openQueue(hub.Client, func(r *Result) { counted <- r })
		if err != nil {
			w.T.Fatal(err)
		}
		random, all := w.Rand(), make(chan done, 2*count)
		start := func(cl *sim.Client, process string, seed uint64) {
			pace := rand.New(rand.NewPCG(seed, 0))
			if _, err := startWorker(cl.Client, func(ctx context.Context, text string) string {
				all <- done{process, text}
				select {
				case <-time.After(time.Duration(pace.Int64N(int64(500 * time.Millisecond)))):
				case <-ctx.Done():
				}
				return strings.ToUpper(text)
			}); err != nil {
				w.T.Fatal(err)
			}
		}
		for _, cl := range workers {
			start(cl, cl.Name(), random.Uint64())
		}
		sometime := func() time.Duration { return exampletest.Sometime(random, 4*time.Second) }
		exampletest.Move(w, sometime(), ann, lte, lan)
		exampletest.Move(w, sometime(), ben, w.Internet(), fiber)
		exampletest.RestartCoordinator(w, sometime(), coordinator)
		w.After(sometime(), dee.Crash)
		back, seed := make(chan struct{}), random.Uint64()
		w.After(sometime(), func() {
			defer close(back)
			cid.Crash()
			if exampletest.StartAgain(cid) {
				start(cid, "cid, second", seed)
			}
		})
		for i := range count { // some wait, and then some workers do
			queue.add(fmt.Sprintf("text %d", i+1))
			if i > count/2 {
				<-time.After(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
			}
		}
		<-back
		results, err := queue.results(ctx)
		if err != nil {
			w.T.Fatal(err)
		}
		check(w, count, results, len(counted), all)
	})
}

// check checks what was done and what was counted.
func check(w *sim.World, count int, results []*Result, counted int, all chan done) {
	w.T.Helper()
	if len(results) != count || counted != count {
		w.T.Errorf("%d results, %d were counted; want %d", len(results), counted, count)
	}
	seen := map[int]bool{}
	for _, r := range results {
		if want := fmt.Sprintf("TEXT %d", r.ID); r.Text != want || seen[r.ID] {
			w.T.Errorf("job %d: %q, want %q; again: %t", r.ID, r.Text, want, seen[r.ID])
		}
		seen[r.ID] = true
	}
	doers := map[string][]string{}
	for len(all) > 0 {
		one := <-all
		doers[one.text] = append(doers[one.text], one.process)
	}
	again := 0
	for text, processes := range doers {
		for _, first := range processes[:len(processes)-1] {
			if again++; first != "cid" && first != "dee" {
				w.T.Errorf("%s was done by %q, though %s lives", text, processes, first)
			}
		}
	}
	if again > 2 {
		w.T.Errorf("%d jobs were done again, though only two processes ended", again)
	}
}
