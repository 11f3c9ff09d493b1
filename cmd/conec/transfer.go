package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// pieceSize is the most that is read at once, and so the largest message.
const pieceSize = 64 << 10

// transfer copies in to the stream and the stream to out, until both have ended. The directions do not wait for each other: one
// that ends leaves the other going on. It fails at once if either fails, if ctx ends, or if lost is closed while something
// is still to be sent.
//
// A read of in can not be interrupted: after a failure its goroutine may stay until the next piece comes, or the process ends.
func transfer(ctx context.Context, stream *client.Stream, in io.Reader, out io.Writer, lost <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() { sent <- send(ctx, stream, in) }()
	go func() { received <- receive(ctx, stream, out) }()
	var gone <-chan struct{} // while receiving, the stream itself says what happened
	for sent != nil || received != nil {
		select {
		case err := <-sent:
			if err != nil {
				return err
			}
			sent, gone = nil, nil
		case err := <-received:
			if err != nil {
				return err
			}
			received = nil
			if sent != nil {
				gone = lost
			}
		case <-gone:
			return fmt.Errorf("send to %q: %w", stream.Peer(), messages.ErrReset)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// send copies in to the stream, and then ends the stream's sending direction.
func send(ctx context.Context, stream *client.Stream, in io.Reader) error {
	piece := make([]byte, pieceSize)
	for {
		n, err := in.Read(piece)
		if n > 0 {
			if err := stream.Send(ctx, piece[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			stream.CloseSend()
			return nil
		}
		if err != nil {
			return fmt.Errorf("read input: %w", err)
		}
	}
}

// receive copies the stream to out, until the peer's last message.
func receive(ctx context.Context, stream *client.Stream, out io.Writer) error {
	for message, err := range stream.Messages(ctx) {
		if err != nil {
			return err
		}
		if _, err := out.Write(message); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}
