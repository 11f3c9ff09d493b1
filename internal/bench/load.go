package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/conec-go/conec/client"
)

const (
	smallLimit = 4 << 10 // bytes of a message from which on it is written by itself
	stride     = 64      // messages between looks at the clock, and between full checks
)

// newMessage makes a message that is full of bytes that say where they belong.
func newMessage(size int) []byte {
	message := make([]byte, size)
	for i := range message {
		message[i] = byte(i*7 + i>>8)
	}
	return message
}

// number says which message of a stream this is.
func number(message []byte, n int64) {
	binary.LittleEndian.PutUint64(message, uint64(n))
}

// pour sends messages of one size for a while.
func pour(ctx context.Context, p pipe, size int, length time.Duration) (sent int64, err error) {
	message := newMessage(size)
	for begin := time.Now(); sent%stride != 0 || time.Since(begin) < length; sent++ {
		number(message, sent)
		if err := p.send(ctx, message); err != nil {
			return sent, err
		}
	}
	return sent, p.finish()
}

// drainer checks what pour sends, and counts it.
type drainer struct {
	Drained
	args        Drain
	want        []byte
	check       func(number, want uint64) bool
	begin, mark time.Time
}

func newDrainer(args Drain) *drainer {
	d := &drainer{args: args, want: newMessage(args.Size), check: inOrder}
	if args.Delivery != client.Ordered {
		d.check = (&seen{}).once
	}
	return d
}

// take checks that nothing is damaged or comes twice, and for ordered streams that nothing is missing or out of order. All of
// the bytes of every stride-th message are looked at, of the others the number and the size.
func (d *drainer) take(message []byte) error {
	if len(message) != d.args.Size || !d.check(binary.LittleEndian.Uint64(message), uint64(d.Messages)) {
		return fmt.Errorf("message %d has %d bytes and starts with %x", d.Messages, len(message), message[:min(8, len(message))])
	}
	if d.Messages%stride == 0 {
		if !bytes.Equal(message[8:], d.want[8:]) {
			return fmt.Errorf("message %d is damaged", d.Messages)
		}
		if now := time.Now(); d.begin.IsZero() {
			d.begin = now
		} else if d.mark.IsZero() && now.Sub(d.begin) >= d.args.Warm {
			d.mark, d.Counted = now, d.Messages+1
		}
	}
	d.Messages++
	return nil
}

// end returns what came.
func (d *drainer) end() (Drained, error) {
	if d.Messages < 2 {
		return d.Drained, fmt.Errorf("%d messages came: too few to tell", d.Messages)
	}
	if d.mark.IsZero() { // so slow that it never got warm
		d.mark, d.Counted = d.begin, 1
	}
	d.Counted, d.Elapsed = d.Messages-d.Counted, time.Since(d.mark)
	return d.Drained, nil
}

// drain receives what pour sends.
func drain(ctx context.Context, p pipe, args Drain) (Drained, error) {
	d := newDrainer(args)
	if actor, ok := p.(*actorPipe); ok {
		if err := actor.await(ctx, d); err != nil {
			return d.Drained, err
		}
		return d.end()
	}
	for {
		message, err := p.receive(ctx)
		if errors.Is(err, io.EOF) {
			return d.end()
		}
		if err == nil {
			err = d.take(message)
		}
		if err != nil {
			return d.Drained, err
		}
	}
}

// inOrder says whether a message is the one that has to come.
func inOrder(number, want uint64) bool { return number == want }

// seen is the numbers of the messages that came, a bit each.
type seen struct{ bits []uint64 }

// once says whether a message has not come before.
func (s *seen) once(number, _ uint64) bool {
	at, bit := number/64, uint64(1)<<(number%64)
	if more := int(at) + 1 - len(s.bits); more > 0 {
		s.bits = append(s.bits, make([]uint64, more)...)
	}
	before := s.bits[at]
	s.bits[at] |= bit
	return before&bit == 0
}

// echo sends back what comes.
func echo(ctx context.Context, p pipe) error {
	if actor, ok := p.(*actorPipe); ok {
		return actor.await(ctx, nil)
	}
	for {
		message, err := p.receive(ctx)
		if errors.Is(err, io.EOF) {
			return p.finish()
		}
		if err != nil {
			return err
		}
		if err := p.send(ctx, message); err != nil {
			return err
		}
	}
}

// ask sends messages one by one, each when the last one came back. The first tenth is for warming up.
func ask(ctx context.Context, p pipe, size int, length time.Duration) (Asked, error) {
	var took []time.Duration
	message := newMessage(size)
	begin := time.Now()
	for n, now := int64(0), begin; now.Sub(begin) < length; n++ {
		number(message, n)
		sent := now
		if err := p.send(ctx, message); err != nil {
			return Asked{}, err
		}
		answer, err := p.receive(ctx)
		if err != nil {
			return Asked{}, err
		}
		now = time.Now()
		if !bytes.Equal(answer, message) {
			return Asked{}, fmt.Errorf("request %d was answered with %x", n, answer)
		}
		if sent.Sub(begin) >= length/10 {
			took = append(took, now.Sub(sent))
		}
	}
	asked, err := percentiles(took)
	return asked, errors.Join(err, p.finish())
}

func percentiles(took []time.Duration) (Asked, error) {
	if len(took) == 0 {
		return Asked{}, errors.New("nothing came in time")
	}
	slices.Sort(took)
	return Asked{P50: took[len(took)/2], P99: took[len(took)*99/100]}, nil
}

// tickEvery is the pause between messages that go one at a time.
const tickEvery = 20 * time.Millisecond

// tick sends messages now and then, whose numbers are the time.
func tick(ctx context.Context, p pipe, size int, length time.Duration) error {
	message := newMessage(size)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for begin := time.Now(); time.Since(begin) < length; <-ticker.C {
		number(message, time.Now().UnixNano())
		if err := p.send(ctx, message); err != nil {
			return err
		}
	}
	return p.finish()
}

// hear receives them, and returns how long each took on this host's clock.
func hear(ctx context.Context, p pipe, size int) (took []time.Duration, err error) {
	for {
		message, err := p.receive(ctx)
		if errors.Is(err, io.EOF) {
			return took, nil
		}
		if err == nil && len(message) != size {
			err = fmt.Errorf("message %d has %d bytes", len(took), len(message))
		}
		if err != nil {
			return nil, err
		}
		took = append(took, time.Duration(time.Now().UnixNano()-int64(binary.LittleEndian.Uint64(message))))
	}
}
