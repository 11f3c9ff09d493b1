package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// A message of a measurement begins with its number, and whether it counts. The rest is of no meaning.
const benchHeader = 9

// pingPatience is how long an answer may take in a mode that loses messages, until it counts as lost.
const pingPatience = time.Second

// benching measures, row by row, on the channel of its control stream.
type benching struct {
	control *client.Stream
	seconds float64
	screen  *console
	verbose bool
}

// awaitDirect waits until the channel has a direct path, but not for long.
func (b *benching) awaitDirect(ctx context.Context) error {
	timeout := time.NewTimer(directPatience)
	defer timeout.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for b.path() != "direct" {
		select {
		case <-ticker.C:
		case <-timeout.C:
			fmt.Fprintf(b.screen, "no direct path to %s after %v, %v: going on over the relay\n",
				b.control.Peer(), directPatience, b.control.Channel().Path().Reason)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *benching) path() string { return pathKind(b.control.Channel().Path()) }

// row measures one mode and size.
func (b *benching) row(ctx context.Context, mode string, size int) (benchRow, error) {
	row := benchRow{Mode: mode, Size: size, Path: b.path()}
	options, err := benchOptions(mode)
	if err != nil {
		return row, err
	}
	err = b.flood(ctx, options, &row)
	if err == nil {
		err = b.ping(ctx, options, &row)
	}
	if tooLarge, ok := errors.AsType[*messages.SizeError](err); ok {
		row.Note = fmt.Sprintf("does not fit into a datagram: at most %d bytes now", tooLarge.Limit)
		err = nil
	}
	if b.path() != row.Path {
		row.Path = "moved"
	}
	return row, err
}

// open asks for a measurement, and opens the stream for it.
func (b *benching) open(ctx context.Context, run *conecv1.BenchRun, options *client.StreamOptions) (*client.Stream, error) {
	ask, err := proto.Marshal(run)
	if err != nil {
		return nil, err
	}
	if err := b.control.Send(ctx, ask); err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return b.control.Channel().OpenStream(opening, options)
}

// times returns until when to warm up and until when to measure.
func (b *benching) times() (warm, end time.Time) {
	length := time.Duration(b.seconds * float64(time.Second))
	warm = time.Now().Add(length / 4)
	return warm, warm.Add(length)
}

// follow shows how far a measurement is.
func (b *benching) follow(what string, row *benchRow, warm, end time.Time) (stop func()) {
	return b.screen.follow(b.verbose, func() string {
		now := time.Now()
		phase := "measuring"
		if now.Before(warm) {
			phase = "warming up"
		}
		length := end.Sub(warm)
		return fmt.Sprintf("%s, %d bytes, %s: %s %s %.1f s left", row.Mode, row.Size, what,
			bar(int64(length*5/4-end.Sub(now)), int64(length*5/4), 20), phase, max(end.Sub(now).Seconds(), 0))
	})
}

// flood sends as fast as the stream takes it, and lets the other side count.
func (b *benching) flood(ctx context.Context, options *client.StreamOptions, row *benchRow) error {
	stream, err := b.open(ctx, &conecv1.BenchRun{}, options)
	if err != nil {
		return err
	}
	defer stream.Close()
	message := make([]byte, row.Size)
	warm, end := b.times()
	stop := b.follow("throughput", row, warm, end)
	defer stop()
	for number := uint64(0); ; number++ {
		now := time.Now()
		if now.After(end) && row.Sent > 0 {
			break
		}
		binary.BigEndian.PutUint64(message, number)
		if now.After(warm) {
			message[benchHeader-1] = 1
			row.Sent++
		}
		if err = stream.Send(ctx, message); err != nil {
			break
		}
	}
	stream.CloseSend()
	answer, received := b.control.Receive(ctx)
	if err = errors.Join(err, received); err != nil {
		return err
	}
	report := &conecv1.BenchReport{}
	if err := proto.Unmarshal(answer, report); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	if report.GetFailure() != "" {
		return fmt.Errorf("%q could not measure: %s", b.control.Peer(), printable(report.GetFailure()))
	}
	row.Arrived, row.Dropped = report.GetMessages(), report.GetDropped()
	if row.Arrived > row.Sent {
		return fmt.Errorf("%q counted %d messages of %d: %w", b.control.Peer(), row.Arrived, row.Sent, messages.ErrProtocol)
	}
	row.Lost = row.Sent - row.Arrived
	if passed := time.Duration(report.GetNanoseconds()).Seconds(); passed > 0 && row.Arrived > 0 {
		row.MessagesPerSecond = float64(row.Arrived-1) / passed
		row.BytesPerSecond = float64(report.GetTimedBytes()) / passed
	}
	return nil
}

// ping sends one message at a time and waits for its return.
func (b *benching) ping(ctx context.Context, options *client.StreamOptions, row *benchRow) error {
	stream, err := b.open(ctx, &conecv1.BenchRun{Echo: true}, options)
	if err != nil {
		return err
	}
	defer stream.Close()
	message := make([]byte, row.Size)
	warm, end := b.times()
	stop := b.follow("latency", row, warm, end)
	defer stop()
	var times []time.Duration
	for number := uint64(0); ; number++ {
		start := time.Now()
		if start.After(end) && number > 0 {
			break
		}
		binary.BigEndian.PutUint64(message, number)
		if err := stream.Send(ctx, message); err != nil {
			return err
		}
		arrived, err := b.awaitPing(ctx, stream, number)
		switch {
		case err != nil:
			return err
		case start.Before(warm):
		case arrived:
			times = append(times, time.Since(start))
		default:
			row.PingsLost++
		}
	}
	row.percentiles(times)
	return nil
}

// awaitPing waits for the answer with a number. It may be lost if the mode allows that.
func (b *benching) awaitPing(ctx context.Context, stream *client.Stream, number uint64) (arrived bool, err error) {
	waiting := ctx
	if delivery := stream.Delivery(); delivery == client.Sequenced || delivery == client.Lossy {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, pingPatience)
		defer cancel()
	}
	for {
		message, err := stream.Receive(waiting)
		switch {
		case err != nil && ctx.Err() == nil && waiting.Err() != nil:
			return false, nil
		case err != nil:
			return false, err
		case len(message) >= benchHeader && binary.BigEndian.Uint64(message) == number:
			return true, nil
		}
	}
}
