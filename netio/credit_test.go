package netio_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// creditStream begins the stream that carries credit, and a record ends with its kind.
const (
	creditStream = 3
	kindWant     = 1
	kindAsk      = 2
	kindAnswer   = 3
)

// TestHostileCredit has a peer that breaks the rules of the stream for credit, which ends the connection, or says what means
// nothing, which does not.
func TestHostileCredit(t *testing.T) {
	for _, h := range []struct {
		name    string
		streams [][]byte
		resets  bool
		open    bool  // the last stream is not ended
		ends    bool  // the connection
		reset   error // what the stream ends with
	}{
		{name: "ends", streams: [][]byte{varints(creditStream)}, ends: true},
		{name: "ends inside a record", streams: [][]byte{varints(creditStream, 0, 5)}, ends: true},
		{name: "is reset", streams: [][]byte{varints(creditStream)}, resets: true, open: true, ends: true},
		{name: "comes twice", streams: [][]byte{varints(creditStream, 0, 1, 1, 1), varints(creditStream)}, open: true, ends: true},
		{name: "endless number", streams: [][]byte{append(varints(creditStream), slices.Repeat([]byte{0xff}, 20)...)}, open: true, ends: true},
		{name: "a stream that is not there", streams: [][]byte{varints(creditStream, 400*4, 1, 2, 3, 400*4+kindWant, 1, 2)}, open: true},
		{name: "less than before", streams: [][]byte{varints(creditStream, 0, 1, 1<<60, 1<<60)}, open: true},
		{name: "wants all there is", streams: [][]byte{slices.Repeat(varints(kindWant, 1<<63, 16<<20), 50)}, open: true},
		{name: "wants more than there can be", streams: [][]byte{varints(creditStream, kindWant, 1<<63, 1<<63)}, open: true, reset: messages.ErrTooLarge},
		{name: "wants nothing", streams: [][]byte{varints(creditStream, kindWant, 0, 0)}, open: true},
		{name: "asks a lot", streams: [][]byte{append(varints(creditStream), slices.Repeat(varints(kindAsk, 7), 1000)...)}, open: true},
		{name: "answers what was not asked", streams: [][]byte{varints(creditStream, kindAnswer, 1<<63, 1<<63)}, open: true},
	} {
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream, bare, raw := bareLoose(t, &conecv1.OpenStream{Purpose: "test"})
				if _, err := stream.AwaitOpen(within(t)); err != nil {
					t.Fatal(err)
				}
				if err := stream.Accept(); err != nil {
					t.Fatal(err)
				}
				for i, wire := range h.streams {
					uni, err := bare.OpenUniStream()
					if err != nil {
						t.Fatal(err)
					}
					if i == 0 && wire[0] != creditStream {
						wire = append(varints(creditStream), wire...)
					}
					if _, err = uni.Write(wire); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					switch {
					case h.resets:
						uni.CancelWrite(1)
					case !h.open && i == len(h.streams)-1:
						_ = uni.Close()
					}
				}
				synctest.Wait()
				if ended := bare.Context().Err() != nil; ended != h.ends {
					t.Fatalf("the connection ended: %v, want %v", ended, h.ends)
				}
				if h.ends {
					if _, err := stream.Receive(within(t)); !errors.Is(err, messages.ErrProtocol) {
						t.Error(err)
					}
					return
				}
				if h.reset != nil {
					if _, err := stream.Receive(within(t)); !errors.Is(err, h.reset) {
						t.Error(err)
					}
					return
				}
				if _, err := raw.Write(wireFrame(messageFrame, 2, "hi")); err != nil {
					t.Fatal(err)
				}
				if got, err := stream.Receive(within(t)); string(got) != "hi" {
					t.Error(got, err)
				}
				if err := stream.Send(within(t), []byte("hi")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestExceedingCredit has a peer that sends more than it was granted: its stream ends, and nothing else.
func TestExceedingCredit(t *testing.T) {
	for _, size := range []int{1000, 300_000} {
		synctest.Test(t, func(t *testing.T) {
			stream, bare, raw := bareLoose(t, &conecv1.OpenStream{Purpose: "test"})
			if _, err := stream.AwaitOpen(within(t)); err != nil {
				t.Fatal(err)
			}
			if err := stream.Accept(); err != nil {
				t.Fatal(err)
			}
			frame := wireFrame(messageFrame, size, string(make([]byte, size)))
			_, _ = raw.Write(slices.Repeat(frame, 300_000/size)) // is stopped
			synctest.Wait()
			got := 0
			for {
				message, err := stream.Receive(within(t))
				if err != nil {
					if !errors.Is(err, messages.ErrProtocol) || netio.IsRemote(err) {
						t.Error(err)
					}
					break
				}
				got += len(message)
			}
			if got > 256<<10 {
				t.Errorf("messages of %d bytes: received %d bytes", size, got)
			}
			if bare.Context().Err() != nil {
				t.Error("the connection ended, too")
			}
		})
	}
}

// TestGrantedMore: what the first frame grants is more than both sides know at the beginning, so that a short burst needs no
// round trip.
func TestGrantedMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, bare := bareAccepted(t, nil)
		out, err := conn.OpenStream(within(t), &conecv1.OpenStream{Purpose: "test"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bare.AcceptStream(within(t))
		if err != nil {
			t.Fatal(err)
		}
		body, err := proto.Marshal(&conecv1.StreamOpened{Credit: 200_000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = raw.Write(wireFrame(openedFrame, len(body), string(body))); err != nil {
			t.Fatal(err)
		}
		if err = out.AwaitAnswer(within(t)); err != nil {
			t.Fatal(err)
		}
		for range 40 { // 400 KB; what may not be sent waits
			if err = out.Send(within(t), make([]byte, 10_000)); err != nil {
				t.Fatal(err)
			}
		}
		_ = raw.SetReadDeadline(time.Now().Add(time.Minute))
		got, _ := io.ReadAll(raw)
		if len(got) < 190_000 || len(got) > 200_000+100 {
			t.Errorf("%d bytes came, 200,000 were granted", len(got))
		}
	})
}

// TestSendWithin: a message has a deadline of its own, of at most the stream's.
func TestSendWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		for _, mode := range []conecv1.DeliveryMode{0, unordered, sequenced, lossy} {
			open := &conecv1.OpenStream{Delivery: &conecv1.Delivery{Mode: mode, Deadline: 1_000_000}}
			out, in := openStreamAs(t, ca, cb, open)
			for i, within := range []time.Duration{time.Minute, 100 * time.Millisecond, 700 * time.Millisecond, 0, time.Second} {
				if err := out.SendWithin(t.Context(), []byte{byte(i)}, within); err != nil {
					t.Fatal(err)
				}
			}
			out.CloseSend()
			time.Sleep(500 * time.Millisecond) // too long for two of them
			var got []byte
			for {
				message, err := in.Receive(within(t))
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, message...)
			}
			slices.Sort(got)
			if string(got) != "\x00\x02\x04" {
				t.Errorf("mode %v: messages %v came", mode, got)
			}
			if stats := in.Stats(); stats.Late+stats.Lost != 2 || stats.Delivered != 3 {
				t.Errorf("mode %v: %+v", mode, stats)
			}
			in.Close()
		}
		plain, _ := openStream(t, ca, cb)
		if err := plain.SendWithin(context.Background(), nil, time.Second); !errors.Is(err, messages.ErrNoDeadline) {
			t.Error(err)
		}
	})
}
