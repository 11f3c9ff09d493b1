// Quickstart shows conec within one process: a coordinator, two clients, messages over the relay and over a direct path,
// and an actor that answers from afar. Over the network it is the same code with another address.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"google.golang.org/protobuf/types/known/wrapperspb"
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

	// Bob answers: by an echo on every stream, and by an actor that peers may reach as "greeter".
	bob, err := client.Connect(ctx, &client.Config{
		Name: "bob", Coordinator: addr, Fingerprint: fingerprint, Bind: "127.0.0.1:0",
	})
	if err != nil {
		return err
	}
	var echoes sync.WaitGroup
	defer echoes.Wait()
	defer func() { err = errors.Join(err, bob.Close(ctx)) }()
	echoes.Go(func() { echo(ctx, bob, &echoes) })
	greeter, err := bob.Actors().Spawn(actor.PropsFromFunc(greet), "greeter")
	if err != nil {
		return err
	}
	bob.Actors().Export("greeter", greeter)

	// Alice has an actor system and a UDP socket of her own. She is told when a channel finds a direct path.
	direct := make(chan struct{}, 1)
	alice, err := client.Connect(ctx, &client.Config{
		Name: "alice", Coordinator: addr, Fingerprint: fingerprint, Bind: "127.0.0.1:0",
		OnEvent: func(event client.Event) {
			if path, ok := event.(client.PathChanged); ok && path.Peer == "bob" && !path.Relayed {
				direct <- struct{}{}
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alice.Close(ctx)) }()
	fmt.Fprintf(out, "clients      alice at %s, bob at %s\n\n", alice.LocalAddr(), bob.LocalAddr())

	if err := overRelay(ctx, out, alice); err != nil {
		return err
	}
	if err := upgrading(ctx, out, alice, direct); err != nil {
		return err
	}
	return askActor(ctx, out, alice)
}

// overRelay sends messages that the coordinator forwards. They are encrypted from alice to bob, so it can not read them.
func overRelay(ctx context.Context, out io.Writer, alice *client.Client) error {
	stream, err := alice.OpenStream(ctx, "bob", &client.StreamOptions{Mode: client.RelayOnly})
	if err != nil {
		return err
	}
	defer stream.Close()
	for _, text := range []string{"hello", "is anybody there?"} {
		if err := stream.Send(ctx, []byte(text)); err != nil {
			return err
		}
		reply, err := stream.Receive(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "relay only   alice: %q, bob: %q\n", text, reply)
	}
	fmt.Fprintf(out, "             path: %v\n\n", stream.Channel().Path())
	return nil
}

// upgrading goes on sending while the channel moves from the relay to a direct path. The stream does not notice.
func upgrading(ctx context.Context, out io.Writer, alice *client.Client, direct <-chan struct{}) error {
	stream, err := alice.OpenStream(ctx, "bob", nil)
	if err != nil {
		return err
	}
	defer stream.Close()
	fmt.Fprintf(out, "automatic    path: %v\n", stream.Channel().Path())
	count := 0
	for moved := false; !moved; count++ {
		select {
		case <-direct:
			moved = true // and one more message, on the new path
		default:
		}
		text := fmt.Sprintf("message %d", count)
		if err := stream.Send(ctx, []byte(text)); err != nil {
			return err
		}
		reply, err := stream.Receive(ctx)
		if err != nil {
			return err
		}
		if string(reply) != text {
			return fmt.Errorf("sent %q, got %q", text, reply)
		}
	}
	fmt.Fprintf(out, "             %d messages each way, all in order, while the channel moved\n", count)
	fmt.Fprintf(out, "             path: %v\n\n", stream.Channel().Path())
	return nil
}

// askActor asks an actor of bob's as it would ask one of alice's own.
func askActor(ctx context.Context, out io.Writer, alice *client.Client) error {
	sys := alice.Actors()
	reply, err := actors.Ask[*wrapperspb.StringValue](ctx, sys.System, sys.PID("bob", "greeter"), wrapperspb.String("alice"))
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

// echo sends every message back on the stream that it came on, until the client is closed.
func echo(ctx context.Context, cl *client.Client, echoes *sync.WaitGroup) {
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return
		}
		echoes.Go(func() {
			defer stream.Close()
			for message, err := range stream.Messages(ctx) {
				if err != nil || stream.Send(ctx, message) != nil {
					return
				}
			}
		})
	}
}
