package netio

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// numbered is the message of a number: its size varies much.
func numbered(n uint64) []byte {
	source := rand.New(rand.NewPCG(n, 0))
	size := source.IntN(200)
	if source.IntN(10) == 0 {
		size = source.IntN(40 << 10)
	}
	return fmt.Appendf(bytes.Repeat([]byte{byte(n)}, size), "-%d", n)
}

// TestLedger holds the ledger against a list, over random operations. What was
// handed out for writing must not change until the writing is over.
func TestLedger(t *testing.T) {
	for seed := range uint64(100) {
		source := rand.New(rand.NewPCG(seed, 1))
		l := newLedger(&bufferPool{}, 1<<(10+source.IntN(12)))
		var next, acked, read uint64 // sent, acknowledged, written since the last rewind
		var writing, copied []byte
		gifts := 0 // whose memory is with the ledger
		for step := range 400 {
			switch source.IntN(6) {
			case 0, 1:
				for range source.IntN(20) {
					if message := numbered(next); source.IntN(3) == 0 {
						gifts++
						buffer := append(make([]byte, GiveRoom), message...)
						l.give(gift{buffer, func() { gifts--; clear(buffer) }}, buffer[GiveRoom:])
					} else {
						l.add(fieldMessages, message)
					}
					next++
				}
			case 2:
				if writing != nil {
					if !bytes.Equal(writing, copied) {
						t.Fatalf("seed %d step %d: frames changed while they were written", seed, step)
					}
					l.wrote()
				}
				ready := l.peek()
				if len(ready) > 0 && source.IntN(2) == 0 { // a part of them
					at := 0
					for at == 0 || at < len(ready) && source.IntN(8) > 0 {
						header, _, _ := parseFrameHeader(ready[at:])
						at += header.size + header.body
					}
					ready = ready[:at]
				}
				if writing = nil; ready != nil {
					writing = l.take(len(ready))
				}
				if writing == nil {
					if read != next {
						t.Fatalf("seed %d step %d: nothing is left after %d of %d", seed, step, read, next)
					}
					continue
				}
				copied = bytes.Clone(writing)
				var frames conecv1.StreamFrames
				if err := proto.Unmarshal(writing, &frames); err != nil {
					t.Fatal(err)
				}
				for _, message := range frames.GetMessages() {
					if !bytes.Equal(message, numbered(read)) {
						t.Fatalf("seed %d step %d: message %d is another one", seed, step, read)
					}
					read++
				}
				if l.handed != read {
					t.Fatalf("seed %d step %d: handed %d, want %d", seed, step, l.handed, read)
				}
			case 3, 4:
				if read > acked {
					acked += source.Uint64N(read-acked) + 1
				}
				if err := l.ack(acked); err != nil {
					t.Fatal(err)
				}
				if err := l.ack(read + 1); !errors.Is(err, messages.ErrProtocol) {
					t.Fatalf("seed %d: acknowledged more than was sent: %v", seed, err)
				}
			case 5:
				from := acked + source.Uint64N(next-acked+1)
				for n, want := range map[uint64]bool{from: true, next + 1: false, acked - 1: acked == 0 && next == acked-1} {
					if got := l.check(n) == nil; got != want {
						t.Fatalf("seed %d: check(%d) is %v: %d to %d", seed, n, got, acked, next)
					}
				}
				l.rewind(from)
				acked, read = from, from
			}
			checkLedger(t, &l, next, acked)
			held := 0
			for _, c := range l.chunks {
				if c.used != nil {
					held++
				}
			}
			if held != gifts {
				t.Fatalf("seed %d step %d: the memory of %d messages is there, want %d", seed, step, held, gifts)
			}
		}
	}
}

// checkLedger checks that a ledger holds what it should, and little more.
func checkLedger(t *testing.T, l *ledger, next, acked uint64) {
	t.Helper()
	total, want := 0, l.next
	for i, c := range slices.Backward(l.chunks) {
		if c.first+c.count != want {
			t.Fatalf("chunk %d ends at %d, want %d", i, c.first+c.count, want)
		}
		want = c.first
		total += len(c.frames)
	}
	if total != l.bytes || l.next != next || l.acked != acked {
		t.Fatalf("bytes %d, counted %d; next %d, want %d; acked %d, want %d", l.bytes, total, l.next, next, l.acked, acked)
	}
	if acked == next && l.writing < 0 && (l.bytes != 0 || len(l.chunks) > 1) {
		t.Fatalf("%d bytes in %d chunks are kept, and everything is acknowledged", l.bytes, len(l.chunks))
	}
	if l.writing < 0 && len(l.chunks) > 0 && l.chunks[0].count > 0 && l.chunks[0].first+l.chunks[0].count <= acked {
		t.Fatal("the first chunk is kept, and acknowledged")
	}
}
