package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// fans is the part of the table in which what one sends goes to many, who have a client, a socket and a connection each.
// With conec the sender is a process beside the coordinator; with bare quic-go the host sends itself.
func fans() []experiment {
	const kilo, kibi = 1e3, 1 << 10
	const micro = float64(time.Microsecond)
	kind := Kind{Size: fanMessage, Members: fanMembers}
	return []experiment{
		{name: "fan", streams: true, many: true, measure: gathered(kind, fanning(kind)), rows: []row{
			{what: "group: 1 KiB messages to 50 members", figure: "messages", scale: kilo, unit: "k/s", target: 0.8},
			{what: "  CPU of the host", figure: "relay", scale: 1, unit: "ns/byte"},
			{what: "  CPU of the members", figure: "members", scale: 1, unit: "ns/byte"},
		}},
		{name: "fan-latency", streams: true, many: true, measure: gathered(kind, ticking(kind)), rows: []row{
			{what: "group: 1 KiB message to each of 50, p50", figure: "p50", scale: micro, unit: "us"},
			{what: "  p99", figure: "p99", scale: micro, unit: "us"},
		}},
		{name: "fan-idle", streams: true, many: true, measure: weighing(kind), rows: []row{
			{what: "group: attached idle member, host side", figure: "host", scale: kibi, unit: "KiB"},
			{what: "  client side", figure: "client", scale: kibi, unit: "KiB"},
		}},
	}
}

// gathered has all members there before the measurement.
func gathered(kind Kind, measure func(*world) (figures, error)) func(*world) (figures, error) {
	return func(w *world) (figures, error) {
		if err := w.receiver.call("Gather", Gather{kind}, &Nothing{}); err != nil {
			return nil, err
		}
		return measure(w)
	}
}

// fanning sends to many as fast as it goes.
func fanning(kind Kind) func(*world) (figures, error) {
	return func(w *world) (figures, error) {
		before, err := w.receiver.usage()
		if err != nil {
			return nil, err
		}
		got, err := pouring(kind)(w)
		if err != nil {
			return nil, err
		}
		after, err := w.receiver.usage()
		got["members"] = float64(after-before) / got["all"]
		return got, err
	}
}

// weighing looks at what the two processes hold for each member, which has a client of its own.
func weighing(kind Kind) func(*world) (figures, error) {
	return func(w *world) (figures, error) {
		var held [2]Held
		memory := func(sign int64) error {
			for i, c := range []*child{w.host, w.receiver} {
				var now Held
				if err := c.call("Memory", Nothing{}, &now); err != nil {
					return err
				}
				held[i].Bytes += sign * now.Bytes
			}
			return nil
		}
		if err := memory(-1); err != nil {
			return nil, err
		}
		_, err := gathered(kind, func(w *world) (figures, error) {
			<-time.After(min(w.length, 2*time.Second)) // to let go of what the handshake needed
			return nil, memory(1)
		})(w)
		n := float64(kind.Members)
		return figures{"host": float64(held[0].Bytes) / n, "client": float64(held[1].Bytes) / n}, err
	}
}

// ticking sends one message at a time to many.
func ticking(kind Kind) func(*world) (figures, error) {
	kind.Prompt = true
	return func(w *world) (figures, error) {
		var heard Asked
		hearing := w.receiver.begin("Hear", Hear{kind}, &heard)
		if err := w.sender.call("Tick", Tick{kind, w.length}, &Nothing{}); err != nil {
			return nil, err
		}
		err := hearing()
		return figures{"p50": float64(heard.P50), "p99": float64(heard.P99)}, err
	}
}

// conecGroup is the group that all are in.
const conecGroup = "bench"

// publish joins once all who receive have joined.
func (c *conec) publish(ctx context.Context, kind Kind) (pipe, error) {
	for {
		count, err := c.client.CountGroup(ctx, conecGroup)
		if err != nil && !errors.Is(err, messages.ErrNoSuchGroup) {
			return nil, err
		}
		if count.Receivers == kind.Members {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	group, err := c.client.Join(ctx, conecGroup, &client.JoinOptions{SendOnly: true})
	return &conecMember{group}, err
}

// follow makes a client and has it join a group in which nobody misses anything.
func (c *conec) follow(ctx context.Context, kind Kind) (pipe, error) {
	cl, err := client.Connect(ctx, c.config(c.at, fmt.Sprintf("member-%d", kind.Pair), nil))
	if err != nil {
		return nil, err
	}
	group, err := cl.Join(ctx, conecGroup, &client.JoinOptions{ReceiveOnly: true, Make: client.GroupOptions{Slow: client.AwaitSlow}})
	return &conecMember{group}, err
}

// conecMember is a member of a group that one sends to.
type conecMember struct{ group *client.Group }

func (p *conecMember) send(ctx context.Context, message []byte) error {
	return p.group.Send(ctx, message)
}

func (p *conecMember) receive(ctx context.Context) ([]byte, error) {
	message, err := p.group.Receive(ctx)
	if err == nil && len(message.Data) == 0 {
		err = io.EOF
	}
	return message.Data, err
}

// finish ends it with an empty message.
func (p *conecMember) finish() error {
	ctx := context.Background()
	return errors.Join(p.group.Send(ctx, nil), p.group.Leave(ctx))
}

func (p *conecMember) relayed() bool { return false }

// fanChunks is how many buffers may wait for each stream: as many bytes as a group of conec keeps.
const fanChunks = 1 << 20 / bareBuffer

// bareFan writes to many streams, at the pace of the slowest, out of the same memory.
type bareFan struct {
	prompt bool
	buffer []byte        // frames to be written, and room for more
	to     []chan []byte // one for each stream

	writers sync.WaitGroup
	mu      sync.Mutex
	err     error // of the first stream that failed
}

// publish waits for the streams of all who receive.
func (b *bare) publish(ctx context.Context, kind Kind) (pipe, error) {
	fan := &bareFan{prompt: kind.Prompt}
	for range kind.Members {
		select {
		case got := <-b.streams[kindFan]:
			to := make(chan []byte, fanChunks)
			fan.to = append(fan.to, to)
			fan.writers.Go(func() { fan.write(got.stream, to) })
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return fan, nil
}

// follow opens a stream on a connection of its own.
func (b *bare) follow(ctx context.Context, kind Kind) (pipe, error) {
	who, err := newBareGuest(b.at, fmt.Sprintf("member-%d", kind.Pair))
	if err != nil {
		return nil, err
	}
	conn, _, err := who.dial(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	_, err = stream.Write([]byte{kindFan})
	return newBarePipe(barePipe{conn: conn, stream: stream}, kind), err
}

func (f *bareFan) write(stream *quic.Stream, from chan []byte) {
	var err error
	for frames := range from {
		if err == nil { // else the others must not wait for this one
			_, err = stream.Write(frames)
		}
	}
	err = errors.Join(err, stream.Close())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, err)
}

func (f *bareFan) send(_ context.Context, message []byte) error {
	if cap(f.buffer)-len(f.buffer) < len(message)+binary.MaxVarintLen64 {
		f.flush()
		f.buffer = make([]byte, 0, bareBuffer)
	}
	f.buffer = append(binary.AppendUvarint(f.buffer, uint64(len(message))), message...)
	if f.prompt {
		f.flush()
	}
	return nil
}

// flush has written what was gathered. Memory that was used is never changed.
func (f *bareFan) flush() {
	if len(f.buffer) == 0 {
		return
	}
	for _, to := range f.to {
		to <- slices.Clip(f.buffer)
	}
	f.buffer = f.buffer[len(f.buffer):]
}

func (f *bareFan) finish() error {
	f.flush()
	for _, to := range f.to {
		close(to)
	}
	f.writers.Wait()
	return f.err
}

func (f *bareFan) receive(context.Context) ([]byte, error) { return nil, io.EOF }
func (f *bareFan) relayed() bool                           { return false }
