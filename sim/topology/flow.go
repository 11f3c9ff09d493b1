package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
)

// openWithin is how long a program tries to open a stream before it tries again.
const openWithin = 20 * time.Second

// flow is the traffic of one pair. Its sender is one goroutine that outlives
// streams: what fails is opened again. Each stream has a receiver.
type flow struct {
	p       *player
	number  int
	traffic *Traffic
	Pair
	random  *rand.Rand    // of the sender's goroutine
	offset  time.Duration // from the start of the traffic to that of this pair
	stop    time.Duration // when its stream ends: at an instant of its own
	out     ledger        // from the sender to the receiver
	back    ledger        // answers
	latency *histogram    // of the traffic
	rtt     *histogram
	ended   chan struct{} // closed when the sender has ended

	mu       sync.Mutex
	stream   *client.Stream // of the sender, until it fails
	far      *client.Stream // of the receiver
	opened   int
	broken   int
	path     pathState
	times    [3]time.Duration // when it took each kind of path last
	moved    int              // times the path changed
	finished time.Duration
	life     uint32 // of a transfer
}

// pathState is how a flow's packets go.
type pathState uint8

const (
	noPath pathState = iota
	relayedPath
	directPath
)

func (s pathState) String() string { return [...]string{"none", "relayed", "direct"}[s] }

// purpose tells the receiver which flow a stream is of.
func (f *flow) purpose() string { return "traffic " + strconv.Itoa(f.number) }

// flowOf returns the flow that a stream is for, nil if it is for none.
func (p *player) flowOf(stream *client.Stream, to string) *flow {
	number, err := strconv.Atoi(strings.TrimPrefix(stream.Purpose(), "traffic "))
	if err != nil || number < 0 || number >= len(p.flows) {
		return nil
	}
	if f := p.flows[number]; f.To == to && f.From == stream.Peer() {
		return f
	}
	return nil
}

// send is the sender's goroutine, until all was sent and has arrived, or ctx ends.
func (f *flow) send(ctx context.Context) {
	defer close(f.ended)
	if !sleep(ctx, f.traffic.Start+f.offset-f.p.world.Elapsed()) {
		return
	}
	for !f.over() {
		stream, err := f.open(ctx)
		if err != nil {
			if ctx.Err() != nil || f.over() {
				return
			}
			f.p.count(func(t *totals) { t.FailedOpens++ })
			if !sleep(ctx, spread(f.random, retryAfter)) {
				return
			}
			continue
		}
		err = f.use(ctx, stream)
		f.closed(ctx, stream, err)
		if err == nil {
			return
		}
	}
}

// over tells whether a sender has no more to do.
func (f *flow) over() bool {
	if f.traffic.Kind == Transfer {
		return f.done() > 0
	}
	return f.p.world.Elapsed() >= f.traffic.Stop
}

func (f *flow) done() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.finished
}

func (f *flow) open(ctx context.Context) (*client.Stream, error) {
	now, err := f.p.members[f.From].awaitClient(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	stream, err := now.OpenStream(ctx, f.To, &client.StreamOptions{Purpose: f.purpose(), Mode: f.traffic.Mode})
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.stream = stream
	f.opened++
	f.mu.Unlock()
	f.look()
	return stream, nil
}

// closed notes the end of a stream, and whether it failed.
func (f *flow) closed(ctx context.Context, stream *client.Stream, err error) {
	f.look()
	stream.Close()
	if err == nil || ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	f.stream = nil
	f.broken++
	f.mu.Unlock()
	f.look()
	f.p.event("stream", f.From, fmt.Sprintf("%s to %s broke: %v", f.traffic.Name, f.To, err))
}

// look notes by which path the flow's packets go now: direct if they do in both
// directions.
func (f *flow) look() {
	f.mu.Lock()
	stream, far := f.stream, f.far
	f.mu.Unlock()
	state := noPath
	if stream != nil {
		if state = pathOf(stream); far != nil && state != noPath {
			state = min(state, pathOf(far))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stream != stream || f.far != far || f.path == state {
		return
	}
	if f.path != noPath && state != noPath {
		f.moved++
	}
	f.path = state
	f.times[state] = f.p.world.Elapsed()
}

func pathOf(stream *client.Stream) pathState {
	switch path := stream.Channel().Path(); {
	case !path.Remote.IsValid():
		return noPath
	case path.Relayed:
		return relayedPath
	}
	return directPath
}

// use sends what is to be sent, on one stream. It returns nil when all was sent
// and has arrived.
func (f *flow) use(ctx context.Context, stream *client.Stream) error {
	if f.traffic.Kind == Transfer {
		return f.transfer(ctx, stream)
	}
	answers := make(chan error, 1)
	f.p.world.Go(func() { answers <- f.answers(ctx, stream) })
	err := f.pulse(ctx, stream)
	if err == nil {
		stream.CloseSend()
	} else {
		stream.Reset()
	}
	if end := <-answers; err == nil { // it ends when the receiver has read everything
		err = end
	}
	return err
}

// pulse sends messages at the traffic's rate until it stops.
func (f *flow) pulse(ctx context.Context, stream *client.Stream) error {
	buffer := make([]byte, f.traffic.Size)
	interval := f.traffic.interval()
	first := f.traffic.Start + f.offset
	for {
		now := f.p.world.Elapsed()
		if now >= f.traffic.Stop {
			if !sleep(ctx, f.stop-now) {
				return ctx.Err()
			}
			return nil
		}
		number := f.out.number(now)
		if f.traffic.Kind == Requests {
			f.back.number(now) // an answer is due
		}
		compose(buffer, 0, number, now)
		if err := stream.Send(ctx, buffer); err != nil {
			f.out.unsent()
			if f.traffic.Kind == Requests {
				f.back.unsent()
			}
			return err
		}
		now = f.p.world.Elapsed()
		next := first + ((now-first)/interval+1)*interval // who was held up does not catch up
		if !sleep(ctx, min(next, f.traffic.Stop)-now) {
			return ctx.Err()
		}
	}
}

// answers reads what comes back, until the receiver ends the stream.
func (f *flow) answers(ctx context.Context, stream *client.Stream) error {
	for {
		message, err := stream.Receive(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		now := f.p.world.Elapsed()
		answer, ok := parse(message)
		if !ok || f.traffic.Kind != Requests {
			f.back.damage()
			continue
		}
		if f.back.arrived(answer.number, len(message), now) {
			f.rtt.add(now - answer.sent)
		}
	}
}

// transfer sends all bytes, from the beginning.
func (f *flow) transfer(ctx context.Context, stream *client.Stream) error {
	f.mu.Lock()
	f.life++
	life := f.life
	f.mu.Unlock()
	if life > 1 {
		f.out.again()
	}
	buffer := make([]byte, transferPiece)
	for left := f.traffic.Bytes; left > 0; {
		size := min(max(left, headerIs), transferPiece)
		now := f.p.world.Elapsed()
		compose(buffer[:size], life, f.out.number(now), now)
		if err := stream.Send(ctx, buffer[:size]); err != nil {
			f.out.unsent()
			return err
		}
		left -= size
	}
	stream.CloseSend()
	return f.answers(ctx, stream)
}

// receive reads a stream at the receiver, to its end.
func (f *flow) receive(ctx context.Context, stream *client.Stream) {
	defer stream.Close()
	f.mu.Lock()
	f.far = stream
	f.mu.Unlock()
	f.look()
	var reply, buffer []byte
	if f.traffic.Kind == Requests {
		reply = make([]byte, f.traffic.Reply)
	}
	for {
		message, err := stream.ReceiveInto(ctx, buffer)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				stream.Reset() // the sender shall not take it for a clean end
			}
			return
		}
		buffer = message[:0]
		now := f.p.world.Elapsed()
		got, ok := parse(message)
		if !ok {
			f.out.damage()
			continue
		}
		if f.traffic.Kind == Transfer && !f.isLife(got.life) {
			return
		}
		fresh := f.out.arrived(got.number, len(message), now)
		switch f.traffic.Kind {
		case Messages:
			if fresh {
				f.latency.add(now - got.sent)
			}
		case Requests:
			compose(reply, 0, got.number, got.sent)
			if err := stream.Send(ctx, reply); err != nil {
				stream.Reset()
				return
			}
		case Transfer:
			f.progress(now)
		}
	}
}

func (f *flow) isLife(life uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return life == f.life
}

// progress notes when a transfer is complete.
func (f *flow) progress(now time.Duration) {
	counts, _ := f.out.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finished == 0 && counts.Bytes >= f.traffic.Bytes {
		f.finished = now
	}
}

// sleep waits, and tells whether ctx still lasts.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
