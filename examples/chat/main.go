// Chat is a chat room. The hub has an actor for each client: what comes to it is from that client, and it knows when the
// client is away, back, or gone. Without flags it shows all in one process; with -serve it is coordinator and hub, with
// -name a client that says what is typed.
package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/examples/internal/program"
)

func main() { program.Main("chat", run) }

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	chat := program.Program{Messages: wire(), Story: story, Serve: serve, Join: join}
	return chat.Run(ctx, args, in, out)
}

// How long somebody may be away until he is gone.
const (
	leave      = time.Minute
	storyLeave = 500 * time.Millisecond
)

// serve lets others chat until ctx ends.
func serve(ctx context.Context, cl *client.Client, _ <-chan string, lines *program.Lines, ready func()) error {
	if err := openRoom(cl, leave, func(message any) { lines.Printf("%s", text(message)) }); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

// join says what is typed, and shows what is heard.
func join(ctx context.Context, cl *client.Client, in <-chan string, lines *program.Lines) error {
	g, err := enter(cl, func(message any) { lines.Printf("%s", text(message)) })
	if err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- g.over(ctx) }() // which ends with ctx
	for {
		select {
		case line, more := <-in:
			if !more {
				return nil
			}
			if err := g.say(ctx, line); err != nil {
				return err
			}
		case err := <-over:
			return err
		}
	}
}

// text is how a message is shown.
func text(message any) string {
	switch message := message.(type) {
	case *Joined:
		return "in the room: " + strings.Join(message.Names, ", ")
	case *Heard:
		return message.Name + ": " + message.Text
	case *Seen:
		return message.Name + " is " + message.Is
	}
	return fmt.Sprint(message)
}

// story lets alice and bob chat. Bob's process is killed and comes back; then he leaves.
func story(ctx context.Context, stage *program.Stage, lines *program.Lines) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	hub, err := stage.Connect(ctx, program.Hub)
	if err != nil {
		return err
	}
	if err := openRoom(hub, storyLeave, func(any) {}); err != nil {
		return err
	}
	t := &telling{ctx: ctx, stage: stage, told: lines, heard: program.NewLines()}
	alice := t.enter("alice")
	t.expect("alice hears  in the room: alice")
	bob := t.enter("bob")
	t.expect("alice hears  bob is here")
	t.say(alice, "hello bob")
	t.expect("bob hears    alice: hello bob")
	if t.err != nil {
		return t.err
	}
	lines.Printf("             (bob's process is killed)")
	bob.Abort()
	t.expect("alice hears  bob is away")
	bob = t.enter("bob")
	t.expect("alice hears  bob is back")
	t.expect("bob hears    in the room: alice, bob")
	t.say(bob, "hello again")
	t.expect("alice hears  bob: hello again")
	if t.err != nil {
		return t.err
	}
	lines.Printf("             (bob ends his program)")
	if err := bob.Close(ctx); err != nil {
		return err
	}
	t.expect("alice hears  bob is away")
	t.expect("alice hears  bob is gone")
	return t.err
}

// telling tells a story until something goes wrong.
type telling struct {
	ctx         context.Context //nolint:containedctx // of the story, which this lives as long as
	stage       *program.Stage
	told, heard *program.Lines
	err         error
}

// enter has a client join.
func (t *telling) enter(name string) (g *guest) {
	if t.err != nil {
		return nil
	}
	var cl *client.Client
	if cl, t.err = t.stage.Connect(t.ctx, name); t.err == nil {
		g, t.err = enter(cl, func(message any) { t.heard.Printf("%-12s %s", name+" hears", text(message)) })
	}
	return g
}

func (t *telling) say(g *guest, text string) {
	if t.err == nil {
		t.err = g.say(t.ctx, text)
	}
}

// expect waits until something is heard, and tells it.
func (t *telling) expect(line string) {
	if t.err == nil {
		t.err = t.heard.Tell(t.ctx, t.told, line)
	}
}
