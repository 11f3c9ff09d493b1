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

// drain receives what pour sends, and checks that nothing is damaged or comes twice, and for ordered streams that nothing is
// missing or out of order. All of the bytes of every stride-th message are looked at, of the others the number and the size.
func drain(ctx context.Context, p pipe, args Drain) (d Drained, err error) {
	size := args.Size
	want := newMessage(size)
	check := inOrder
	if args.Delivery != client.Ordered {
		check = (&seen{}).once
	}
	var begin, mark time.Time
	for ; ; d.Messages++ {
		message, err := p.receive(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, err
		}
		if len(message) != size || !check(binary.LittleEndian.Uint64(message), uint64(d.Messages)) {
			return d, fmt.Errorf("message %d has %d bytes and starts with %x", d.Messages, len(message), message[:min(8, len(message))])
		}
		if d.Messages%stride != 0 {
			continue
		}
		if !bytes.Equal(message[8:], want[8:]) {
			return d, fmt.Errorf("message %d is damaged", d.Messages)
		}
		if now := time.Now(); begin.IsZero() {
			begin = now
		} else if mark.IsZero() && now.Sub(begin) >= args.Warm {
			mark, d.Counted = now, d.Messages+1
		}
	}
	if d.Messages < 2 {
		return d, fmt.Errorf("%d messages came: too few to tell", d.Messages)
	}
	if mark.IsZero() { // so slow that it never got warm
		mark, d.Counted = begin, 1
	}
	d.Counted, d.Elapsed = d.Messages-d.Counted, time.Since(mark)
	return d, nil
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
	if len(took) == 0 {
		return Asked{}, errors.New("nothing was answered in time")
	}
	slices.Sort(took)
	return Asked{P50: took[len(took)/2], P99: took[len(took)*99/100]}, p.finish()
}
