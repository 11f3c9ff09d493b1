package netio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/conec-go/conec/messages"
)

// pieces is a QUIC stream that gives its bytes in pieces.
type pieces struct {
	rest    []byte
	next    func() int // size of the next piece
	eager   bool       // the last piece comes together with the end
	largest int        // longest buffer that was offered
	given   int
	excess  int // most bytes that a buffer had above twice what had been given
}

func (p *pieces) Read(b []byte) (int, error) {
	p.largest = max(p.largest, len(b))
	p.excess = max(p.excess, len(b)-2*p.given)
	n := copy(b[:min(len(b), p.next())], p.rest)
	p.rest = p.rest[n:]
	p.given += n
	if n == 0 || p.eager && len(p.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// plainDecode is the decoder that the inbox must agree with.
func plainDecode(wire []byte, maxBody int) (bodies [][]byte, err error) {
	for len(wire) > 0 {
		if tag := wire[0]; tag != fieldMessages<<3|2 {
			return bodies, messages.ErrProtocol
		}
		length, n := protowire.ConsumeVarint(wire[1:min(len(wire), maxFrameHeader)])
		switch {
		case n < 0:
			return bodies, messages.ErrProtocol
		case length > uint64(maxBody):
			return bodies, messages.ErrTooLarge
		case uint64(len(wire)-1-n) < length:
			return bodies, messages.ErrProtocol
		}
		bodies = append(bodies, wire[1+n:1+n+int(length)])
		wire = wire[1+n+int(length):]
	}
	return bodies, io.EOF
}

// compareInbox lets an inbox read wire and compares all it gives with plainDecode, at the end, when everything could
// have been overwritten; each message is written to as its owner may.
func compareInbox(t *testing.T, raw *pieces, maxBody int, into func() bool) {
	t.Helper()
	want, wantErr := plainDecode(bytes.Clone(raw.rest), maxBody)
	in := newInbox(raw, maxBody, nil)
	in.buffers = &bufferPool{}
	ended := make(chan error, 1)
	go func() { ended <- in.pump() }()
	var got, kept [][]byte
	var err error
	for {
		var message []byte
		if into() {
			message, err = in.receiveInto(context.Background(), make([]byte, 3))
		} else {
			message, err = in.receive(context.Background())
		}
		if err != nil {
			break
		}
		got, kept = append(got, bytes.Clone(message)), append(kept, message)
		if len(message) > 0 {
			message[0] ^= 0xff
		}
		_ = append(message, 0xff, 0xff, 0xff) // must not reach the next message
	}
	if !errors.Is(err, wantErr) || errors.Is(err, io.EOF) != errors.Is(wantErr, io.EOF) {
		t.Errorf("ended with %v, want %v", err, wantErr)
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d messages, want %d, or other ones", len(got), len(want))
	}
	for n, message := range kept {
		if len(message) > 0 {
			message[0] ^= 0xff
		}
		if !bytes.Equal(message, want[n]) {
			t.Fatalf("message %d of %d bytes was overwritten later", n, len(message))
		}
	}
	if pumpErr := <-ended; !errors.Is(pumpErr, wantErr) {
		t.Errorf("pump ended with %v", pumpErr)
	}
	if in.bytes != 0 {
		t.Errorf("%d bytes are left", in.bytes)
	}
}

// randomSize is a size as they come: most are small, some at a border, a few large.
func randomSize(random *rand.Rand) int {
	switch random.IntN(10) {
	case 0:
		return 0
	case 1, 2:
		return random.IntN(9000)
	case 3:
		border := []int{127, 128, minChunk, maxChunk / 4, maxChunk, smallBuffer, mediumBuffer, 64 << 10, largeBuffer}
		return max(0, border[random.IntN(len(border))]+random.IntN(13)-8)
	case 4:
		if random.IntN(4) == 0 {
			return random.IntN(400_000)
		}
	}
	return random.IntN(200)
}

// TestInboxAgreesWithPlainDecoder has random messages in random pieces, received in both ways.
func TestInboxAgreesWithPlainDecoder(t *testing.T) {
	for seed := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, 1))
		var wire []byte
		for range random.IntN(200) {
			body := make([]byte, randomSize(random))
			for n := range body {
				body[n] = byte(random.Uint32())
			}
			wire = appendFrame(wire, fieldMessages, body)
		}
		switch random.IntN(6) {
		case 0:
			wire = wire[:random.IntN(len(wire)+1)]
		case 1:
			wire = append(wire, byte(random.Uint32()), byte(random.Uint32()))
		}
		largest := []int{1, 100, 1200, 5000, 100_000}[random.IntN(5)]
		if largest == 1 {
			wire = wire[:min(len(wire), 50_000)]
		}
		raw := &pieces{rest: wire, eager: random.IntN(2) == 0, next: func() int { return 1 + random.IntN(largest) }}
		mode := random.IntN(3)
		choose := rand.New(rand.NewPCG(seed, 2))
		t.Logf("seed %d", seed)
		compareInbox(t, raw, 350_000, func() bool { return mode == 0 || mode == 1 && choose.IntN(2) == 0 })
		if raw.excess > maxChunk {
			t.Errorf("%d bytes of memory for what had not come", raw.excess)
		}
		if t.Failed() {
			return
		}
	}
}

// FuzzInbox gives any bytes in any pieces to the inbox.
func FuzzInbox(f *testing.F) {
	message := appendFrame(nil, fieldMessages, bytes.Repeat([]byte("x"), 300))
	f.Add(message, uint16(1), false)
	f.Add(slices.Concat(message, []byte("\x22\x00"), message), uint16(100), true)
	f.Add([]byte("\x22\xff\xff\x03more"), uint16(3), false)
	f.Add([]byte("\x22\xff\xff\xff\xff\xff"), uint16(1), true)
	f.Add(append(message, 0x08), uint16(1000), false)
	f.Fuzz(func(t *testing.T, wire []byte, piece uint16, into bool) {
		raw := &pieces{rest: wire, next: func() int { return int(piece)%2000 + 1 }, eager: piece&1 == 0}
		compareInbox(t, raw, 1<<20, func() bool { return into })
		if raw.excess > maxChunk {
			t.Errorf("%d bytes of memory for what had not come", raw.excess)
		}
	})
}

// TestInboxLengthAlone claims large messages that do not come: memory grows with what comes, also where the memory of
// messages is used again.
func TestInboxLengthAlone(t *testing.T) {
	for _, into := range []bool{false, true} {
		small := appendFrame(nil, fieldMessages, make([]byte, 10_000))
		claim := binary.AppendUvarint([]byte{fieldMessages<<3 | 2}, 16<<20)
		raw := &pieces{rest: slices.Concat(small, claim, make([]byte, 100)), next: func() int { return 10_000 }}
		in := newInbox(raw, 16<<20, nil)
		in.buffers = &bufferPool{}
		in.reuse.Store(into)
		if err := in.pump(); !errors.Is(err, messages.ErrProtocol) {
			t.Error(err)
		}
		if raw.largest > maxChunk {
			t.Errorf("into %v: %d bytes of memory for a length", into, raw.largest)
		}
	}
}

// gate is a QUIC stream that gives what the test puts into it.
type gate struct {
	in   chan []byte // closed: the end
	rest []byte
}

func (g *gate) Read(b []byte) (int, error) {
	if len(g.rest) == 0 {
		var ok bool
		if g.rest, ok = <-g.in; !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func newGate() (*gate, *inbox) {
	g := &gate{in: make(chan []byte)}
	return g, newInbox(g, 1<<20, nil)
}

// TestInboxExceeds has a sender that sends more than it may, in small messages and in a large one: what it may send is
// received, and no memory is taken for the rest.
func TestInboxExceeds(t *testing.T) {
	for _, size := range []int{98, 60_000} {
		small := slices.Repeat(appendFrame(nil, fieldMessages, make([]byte, size)), 2*baseWindow/size)
		raw := &pieces{rest: small, next: func() int { return 3000 }}
		in := newInbox(raw, 16<<20, nil)
		if !in.window.open(newBudget(1<<20), 0) {
			t.Fatal("no memory")
		}
		if err := in.pump(); !errors.Is(err, messages.ErrProtocol) {
			t.Errorf("messages of %d bytes: pump ended with %v", size, err)
		}
		got := 0
		for {
			message, err := in.receive(t.Context())
			if err != nil {
				break
			}
			got += len(message)
		}
		if got > baseWindow || got < baseWindow-maxChunk-size {
			t.Errorf("messages of %d bytes: %d bytes received", size, got)
		}
		if raw.excess > maxChunk {
			t.Errorf("messages of %d bytes: %d bytes of memory for what had not come", size, raw.excess)
		}
	}
}

// TestInboxDiscard drops what waits, in every state that the other side's end can be in.
func TestInboxDiscard(t *testing.T) {
	for _, c := range []struct {
		name        string
		waits, over bool
		want        error
	}{
		{"nothing waits, the end came", false, true, io.EOF},
		{"a message waits, the end came", true, true, messages.ErrReset},
		{"a message waits", true, false, messages.ErrReset},
		{"nothing waits", false, false, messages.ErrReset},
	} {
		synctest.Test(t, func(t *testing.T) {
			g, in := newGate()
			ended := make(chan error, 1)
			go func() { ended <- in.pump() }()
			receivers := make(chan error, 3)
			if c.waits {
				g.in <- appendFrame(nil, fieldMessages, nil)
			}
			if c.over {
				close(g.in)
				if err := <-ended; err == nil {
					t.Error("the pump ended without a reason")
				}
			} else if !c.waits {
				for range cap(receivers) {
					go func() { _, err := in.receive(context.Background()); receivers <- err }()
				}
			}
			synctest.Wait()
			in.discard(messages.ErrReset)
			if _, err := in.receive(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			if !c.over {
				close(g.in) // as CancelRead does
				if err := <-ended; !errors.Is(err, messages.ErrReset) {
					t.Errorf("%s: pump ended with %v", c.name, err)
				}
				for range cap(receivers) {
					if !c.waits && !errors.Is(<-receivers, messages.ErrReset) {
						t.Errorf("%s: a waiting receiver was not told", c.name)
					}
				}
			}
		})
	}
}

// TestInboxReceiveCanceled cancels receivers at random moments: each message still comes once, and nobody sleeps on.
func TestInboxReceiveCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 5000
		g, in := newGate()
		ended := make(chan error, 1)
		go func() { ended <- in.pump() }()
		var receiving sync.WaitGroup
		var mu sync.Mutex
		got, canceled := map[string]int{}, 0
		for r := range uint64(8) {
			random := rand.New(rand.NewPCG(r, 3))
			receiving.Go(func() {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(3))*time.Microsecond)
					message, err := in.receive(ctx)
					cancel()
					mu.Lock()
					switch {
					case err == nil:
						got[string(message)]++
					case errors.Is(err, context.DeadlineExceeded):
						canceled++
					}
					mu.Unlock()
					if errors.Is(err, io.EOF) {
						return
					}
				}
			})
		}
		random := rand.New(rand.NewPCG(9, 9))
		for n := 0; n < count; {
			var wire []byte
			for range 1 + random.IntN(9) {
				wire = appendFrame(wire, fieldMessages, fmt.Append(nil, n))
				n++
			}
			g.in <- wire
			if random.IntN(3) == 0 {
				<-time.After(time.Duration(random.IntN(5)) * time.Microsecond)
			}
		}
		close(g.in)
		receiving.Wait()
		if err := <-ended; err == nil {
			t.Error("the pump ended without a reason")
		}
		if len(got) < count || canceled == 0 {
			t.Errorf("%d of %d messages, %d canceled", len(got), count, canceled)
		}
		for message, times := range got {
			if times != 1 {
				t.Errorf("message %s came %d times", message, times)
			}
		}
	})
}

// TestInboxReceiveWakes has receivers that wait without a deadline: the one token among them must reach them all.
func TestInboxReceiveWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, in := newGate()
		ended := make(chan error, 1)
		go func() { ended <- in.pump() }()
		received := make(chan error, 10)
		for range 10 {
			go func() { _, err := in.receive(context.Background()); received <- err }()
		}
		synctest.Wait()
		g.in <- slices.Repeat(appendFrame(nil, fieldMessages, nil), 6)
		synctest.Wait()
		if n := len(received); n != 6 {
			t.Errorf("%d receivers woke for 6 messages", n)
		}
		close(g.in)
		synctest.Wait()
		if n := len(received); n != 10 {
			t.Errorf("%d receivers are done after the end", n)
		}
		if err := <-ended; err == nil {
			t.Error("the pump ended without a reason")
		}
	})
}
