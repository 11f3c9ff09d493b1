// Quickstart shows conec within one process: a coordinator, two clients, messages over the relay and over a direct path,
// and an actor that answers from afar. Over the network it is the same code with another address.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	// The coordinator introduces clients to each other. It makes its own certificate, which clients pin by its fingerprint.
	coordinator, err := coord.Start(ctx, &coord.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, coordinator.Close(ctx)) }()
	addr, fingerprint := coordinator.Addr().String(), coordinator.Fingerprint()
	fmt.Fprintf(out, "coordinator  at %s, %.15s…\n", addr, fingerprint)

	// Bob answers: on every stream that a peer opens, and by an actor that peers may reach as "greeter".
	bob, err := client.Connect(ctx, &client.Config{
		Name: "bob", Coordinator: addr, Fingerprint: fingerprint, Bind: "127.0.0.1:0",
	})
	if err != nil {
		return err
	}
	var shouting sync.WaitGroup
	defer shouting.Wait()
	defer func() { err = errors.Join(err, bob.Close(ctx)) }()
	shouting.Go(func() { shout(ctx, bob) })
	greeter, err := bob.Actors().Spawn(actor.PropsFromFunc(greet), "greeter")
	if err != nil {
		return err
	}
	bob.Actors().Export("greeter", greeter)

	// Alice has an actor system and a UDP socket of her own. She is told which path a channel takes, now and later.
	paths := make(chan client.PathChanged, 16)
	alice, err := client.Connect(ctx, &client.Config{
		Name: "alice", Coordinator: addr, Fingerprint: fingerprint, Bind: "127.0.0.1:0",
		OnEvent: func(event client.Event) {
			if path, ok := event.(client.PathChanged); ok && len(paths) < cap(paths) {
				paths <- path
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alice.Close(ctx)) }()
	fmt.Fprintf(out, "clients      alice at %s, bob at %s\n\n", alice.LocalAddr(), bob.LocalAddr())

	// One stream stays on the relay; another moves to a direct path, and goes on while it does.
	if err := talk(ctx, out, alice, client.RelayOnly, paths); err != nil {
		return err
	}
	if err := talk(ctx, out, alice, client.Automatic, paths); err != nil {
		return err
	}
	return askActor(ctx, out, alice)
}

// talk sends messages and gets answers until the channel has the path that the mode is for. Whatever the path, messages
// are encrypted from alice to bob: the coordinator can not read them.
func talk(ctx context.Context, out io.Writer, alice *client.Client, mode client.Mode, paths <-chan client.PathChanged) error {
	stream, err := alice.OpenStream(ctx, "bob", &client.StreamOptions{Mode: mode})
	if err != nil {
		return err
	}
	defer stream.Close()
	for count := 1; ; count++ {
		if err := exchange(ctx, stream, fmt.Sprintf("message %d", count)); err != nil {
			return err
		}
		select {
		case path := <-paths:
			fmt.Fprintf(out, "%-12s path to %s, relayed: %t\n", mode, path.Remote, path.Relayed)
			if path.Relayed == (mode == client.RelayOnly) {
				fmt.Fprintf(out, "%-12s %d messages each way, now %v\n\n", "", count, stream.Channel().Path())
				return nil
			}
		default: // no news
		}
	}
}

// exchange sends a message and checks the answer.
func exchange(ctx context.Context, stream *client.Stream, text string) error {
	if err := stream.Send(ctx, []byte(text)); err != nil {
		return err
	}
	reply, err := stream.Receive(ctx)
	if err != nil {
		return err
	}
	if string(reply) != strings.ToUpper(text) {
		return fmt.Errorf("sent %q, got %q", text, reply)
	}
	return nil
}

// askActor asks an actor of bob's as it would ask one of alice's own.
func askActor(ctx context.Context, out io.Writer, alice *client.Client) error {
	sys := alice.Actors()
	reply, err := actors.Ask[*wrapperspb.StringValue](ctx, sys, sys.PID("bob", "greeter"), wrapperspb.String("alice"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "actors       alice asks bob's greeter: %q\n", reply.GetValue())
	return nil
}

// greet is what the greeter does with its messages.
func greet(ctx actor.Context) {
	if name, ok := ctx.Message().(*wrapperspb.StringValue); ok {
		ctx.Respond(wrapperspb.String("Hello, " + name.GetValue() + "!"))
	}
}

// shout answers every message on every stream in capital letters, until the client is closed.
func shout(ctx context.Context, cl *client.Client) {
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return
		}
		streams.Go(func() {
			defer stream.Close()
			for message, err := range stream.Messages(ctx) {
				if err != nil || stream.Send(ctx, bytes.ToUpper(message)) != nil {
					return
				}
			}
		})
	}
}
