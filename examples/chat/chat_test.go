package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
	for _, line := range []string{
		"bob hears    alice: hello bob\n", "alice hears  bob is away\n", "alice hears  bob is back\n",
		"alice hears  bob: hello again\n", "alice hears  bob is gone\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("printed\n%s, want %q", out.String(), line)
		}
	}
}

// TestProcesses has each part of the program run as a process of its own does.
func TestProcesses(t *testing.T) {
	parts := exampletest.Serve(t, run)
	hub, expect := parts.Hub, parts.Expect
	alice, bob := parts.Join("alice"), parts.Join("bob")
	expect(alice, "in the room: ")
	expect(bob, "in the room: ")
	parts.Type(alice, "hello", "is it raining?")
	expect(bob, "alice: hello")
	expect(bob, "alice: is it raining?")
	parts.Type(bob, "no")
	parts.EndInput(bob) // what was typed is said all the same
	if err := bob.Wait(); err != nil {
		t.Errorf("bob: %v", err)
	}
	expect(alice, "bob: no")
	expect(alice, "bob is away")
	expect(hub, "bob is away")
	if err := hub.Interrupt(); err != nil {
		t.Errorf("hub: %v", err)
	}
	if err := alice.Wait(); !errors.Is(err, errHubGone) {
		t.Errorf("alice, without the hub: %v, want %v", err, errHubGone)
	}
	if err := parts.Start("-no-such-flag").Wait(); err == nil {
		t.Error("a flag that is not there is no error")
	}
}

// said is how many messages each process says in TestOnTheRoad.
const said = 120

// TestOnTheRoad runs the same code in a simulated network: the chat goes on while alice's host moves from the home to a
// mobile network, the hub's gateway restarts, the coordinator restarts, and carol's host crashes and comes back as another
// process. At any of the seeds, each message reaches everybody once and in order as long as the processes of both live.
func TestOnTheRoad(t *testing.T) {
	exampletest.Play(t, func(w *sim.World) {
		fiber, mobile, lan := exampletest.Fiber, exampletest.Mobile, exampletest.LAN
		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), fiber)
		office := w.Gateway("office", w.Internet(), sim.AddressRestricted(), fiber)
		lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), mobile)
		coordinator := w.Coordinator(w.Host("coordinator", w.Internet(), fiber), nil)
		codecs := exampletest.Codecs(w, wire())
		configure := func(c *client.Config) { c.Codecs = codecs }
		hub := w.Client(w.Host(program.Hub, office, lan), configure)
		alice := w.Client(w.Host("alice", home, lan), configure)
		bob := w.Client(w.Host("bob", lte, lan), configure)
		carol := w.Client(w.Host("carol", w.Internet(), mobile), configure)
		if err := openRoom(hub.Client, 10*time.Minute, func(any) {}); err != nil {
			w.T.Fatal(err)
		}
		p := newParty(w)
		p.enter(alice, "alice")
		p.enter(bob, "bob")
		p.enter(carol, "carol, first")
		p.speak("alice", "bob", "carol, first")

		random := w.Rand()
		sometime := func() time.Duration { return exampletest.Sometime(random, 4*time.Second) }
		exampletest.Move(w, sometime(), alice, lte, lan)
		w.After(sometime(), office.Reboot)
		exampletest.RestartCoordinator(w, sometime(), coordinator)
		<-time.After(sometime())
		carol.Crash()
		<-time.After(sometime())
		exampletest.StartAgain(carol)
		p.enter(carol, "carol, second")
		p.speak("carol, second")
		p.check()
	})
}

// party is what guests say and hear in a simulated network.
type party struct {
	w        *sim.World
	ctx      context.Context //nolint:containedctx // of the scenario
	visitors map[string]*visitor
	saying   sync.WaitGroup
}

// visitor is one process in the room.
type visitor struct {
	*guest
	joined chan *Joined
	said   chan *Heard
	seen   chan *Seen
}

func newParty(w *sim.World) *party {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	w.T.Cleanup(cancel)
	return &party{w: w, ctx: ctx, visitors: map[string]*visitor{}}
}

// enter has a process enter the room.
func (p *party) enter(cl *sim.Client, process string) {
	p.w.T.Helper()
	const room = 10 * said // more than everybody says
	v := &visitor{nil, make(chan *Joined, 1), make(chan *Heard, room), make(chan *Seen, room)}
	p.visitors[process] = v
	var err error
	if v.guest, err = enter(cl.Client, func(message any) {
		switch message := message.(type) {
		case *Joined:
			v.joined <- message
		case *Heard:
			v.said <- message
		case *Seen:
			v.seen <- message
		}
	}); err != nil {
		p.w.T.Fatal(err)
	}
	select {
	case <-v.joined:
	case <-p.ctx.Done():
		p.w.T.Fatalf("%s has not joined", process)
	}
}

// speak has processes say numbered messages with pauses.
func (p *party) speak(processes ...string) {
	for _, process := range processes {
		random, v := rand.New(rand.NewPCG(p.w.Rand().Uint64(), 0)), p.visitors[process]
		p.saying.Go(func() {
			for i := range said {
				if err := v.say(p.ctx, fmt.Sprintf("%s: %d", process, i)); err != nil {
					if process != "carol, first" {
						p.w.T.Errorf("%s: %v", process, err)
					}
					return
				}
				<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
			}
		})
	}
}

// listen returns the numbers of the messages that a process has heard, by who said them: until the last ones of some have
// come, and what comes within 10 seconds more.
func (p *party) listen(process string, last ...string) map[string][]int {
	p.w.T.Helper()
	got := map[string][]int{}
	open := len(last)
	over, cancel := context.WithCancel(p.ctx)
	defer cancel()
	for {
		select {
		case message := <-p.visitors[process].said:
			from, digits, _ := strings.Cut(message.Text, ": ")
			number, err := strconv.Atoi(digits)
			if name, _, _ := strings.Cut(from, ","); err != nil || name != message.Name {
				p.w.T.Errorf("%s has heard %q of %q", process, message.Text, message.Name)
			}
			got[from] = append(got[from], number)
			if number == said-1 && slices.Contains(last, from) {
				open--
			}
			if open == 0 {
				defer time.AfterFunc(10*time.Second, cancel).Stop()
				open = -1
			}
		case <-over.Done():
			if open > 0 {
				p.w.T.Errorf("%s waits for the end of %d of %q, and has heard %v", process, open, last, got)
			}
			return got
		}
	}
}

// check waits until everything has been heard, and checks how.
func (p *party) check() {
	p.w.T.Helper()
	p.saying.Wait()
	first := map[string]int{}
	for process, others := range map[string][]string{
		"alice": {"bob", "carol, second"}, "bob": {"alice", "carol, second"}, "carol, second": {"alice", "bob"},
	} {
		got := p.listen(process, others...)
		for from, numbers := range got {
			for i, number := range numbers {
				if number != numbers[0]+i {
					p.w.T.Errorf("%s has heard %v of %s: want each once, in order", process, numbers, from)
					break
				}
			}
			if numbers[0] != 0 && process != "carol, second" { // who came in the middle
				p.w.T.Errorf("%s has heard %s from number %d on", process, from, numbers[0])
			}
		}
		first[process] = len(got["carol, first"])
	}
	if first["alice"] != first["bob"] || first["carol, second"] != 0 {
		p.w.T.Errorf("of carol's first process, %v were heard", first)
	}
	for _, process := range []string{"alice", "bob"} {
		var seen []string
		for len(p.visitors[process].seen) > 0 {
			if message := <-p.visitors[process].seen; message.Name == "carol" {
				seen = append(seen, message.Is)
			}
		}
		if len(seen) < 2 || slices.Contains(seen, left) || seen[len(seen)-1] != back {
			p.w.T.Errorf("%s has seen that carol is %q", process, seen)
		}
	}
}
