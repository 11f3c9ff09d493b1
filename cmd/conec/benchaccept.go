package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// booth is the other side of measurements: of one peer at a time, so that they do not measure each other.
type booth struct {
	peer string // who may measure; empty is everybody
	std  streams

	mu      sync.Mutex
	current string // who measures now
	runs    chan *client.Stream
}

func newBooth(peer string, std streams) *booth { return &booth{peer: peer, std: std} }

// admit lets one peer measure at a time.
func (b *booth) admit(offer client.Offer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case offer.Purpose != benchPurpose && offer.Purpose != benchRunPurpose:
		return errors.New("this is conec bench -accept")
	case b.peer != "" && b.peer != offer.Peer:
		return errors.New("somebody else may measure")
	case b.current != "" && (b.current != offer.Peer || offer.Purpose == benchPurpose):
		return fmt.Errorf("%q measures now; try again later", b.current)
	}
	return nil
}

// enter gives the place to who wants to measure, and returns nil if it is taken.
func (b *booth) enter(peer string) chan *client.Stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != "" {
		return nil
	}
	b.current, b.runs = peer, make(chan *client.Stream, 1)
	return b.runs
}

// inside returns where streams to measure go, nil if the peer does not measure.
func (b *booth) inside(peer string) chan *client.Stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != peer {
		return nil
	}
	return b.runs
}

// run takes part in measurements until ctx ends.
func (b *booth) run(ctx context.Context, cl *client.Client) error {
	var peers sync.WaitGroup
	defer peers.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return err
		}
		if stream.Purpose() == benchPurpose {
			if runs := b.enter(stream.Peer()); runs != nil {
				peers.Go(func() { b.take(ctx, stream, runs) })
			} else {
				stream.Reset()
			}
			continue
		}
		select {
		case b.inside(stream.Peer()) <- stream:
		default: // it was not asked for
			stream.Reset()
		}
	}
}

// take does what one peer asks for, until it ends.
func (b *booth) take(ctx context.Context, control *client.Stream, runs <-chan *client.Stream) {
	fmt.Fprintf(b.std.out, "%s measures, path %v\n", control.Peer(), control.Channel().Path())
	err := b.follow(ctx, control, runs)
	control.Close()
	b.mu.Lock()
	b.current, b.runs = "", nil
	b.mu.Unlock()
	select {
	case stream := <-runs:
		stream.Reset()
	default:
	}
	if err != nil {
		fmt.Fprintf(b.std.err, "%s: %v\n", control.Peer(), err)
		return
	}
	fmt.Fprintf(b.std.out, "%s has measured\n", control.Peer())
}

func (b *booth) follow(ctx context.Context, control *client.Stream, runs <-chan *client.Stream) error {
	for ask, err := range control.Messages(ctx) {
		if err != nil {
			return err
		}
		run := &conecv1.BenchRun{}
		if err := proto.Unmarshal(ask, run); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
		}
		var stream *client.Stream
		opening := time.NewTimer(connectTimeout)
		select {
		case stream = <-runs:
		case <-opening.C:
			return fmt.Errorf("measurement without a stream: %w", messages.ErrTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
		opening.Stop()
		if run.GetEcho() {
			err = echo(ctx, stream)
		} else {
			err = b.count(ctx, control, stream)
		}
		stream.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// echo sends back what arrives, until the peer has enough.
func echo(ctx context.Context, stream *client.Stream) error {
	for {
		message, err := stream.Receive(ctx)
		if err == nil {
			err = stream.Send(ctx, message)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF), errors.Is(err, messages.ErrClosed), errors.Is(err, messages.ErrReset):
			return nil
		case errors.Is(err, messages.ErrTooLarge): // the path has changed: the peer counts it as lost
		default:
			return err
		}
	}
}

// count counts what arrives, and reports it.
func (b *booth) count(ctx context.Context, control, stream *client.Stream) error {
	report := &conecv1.BenchReport{}
	var first, last time.Time
	var buffer []byte
	for {
		message, err := stream.ReceiveInto(ctx, buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			report.Failure = err.Error()
			break
		}
		buffer = message
		if len(message) < benchHeader || message[benchHeader-1] == 0 {
			continue
		}
		last = time.Now()
		if report.Messages++; report.GetMessages() == 1 {
			first = last
		} else {
			report.TimedBytes += uint64(len(message))
		}
		report.Bytes += uint64(len(message))
	}
	report.Nanoseconds = uint64(last.Sub(first))
	report.Dropped = stream.Stats().Dropped
	answer, err := proto.Marshal(report)
	if err != nil {
		return err
	}
	return control.Send(ctx, answer)
}
