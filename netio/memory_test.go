package netio_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// tightMemory is enough for one message of 1 MiB at a time, and 16 streams.
var tightMemory = netio.Config{Limits: netio.Limits{MaxMessage: 1 << 20}, PeerMemory: 4 << 20}

// TestLargeTogether: streams that all want more than half of what there is for large messages get it one after the other, and
// then all of it, whatever each got before.
func TestLargeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, &tightMemory, &tightMemory)
		done := make(chan error)
		const streams = 8
		for range streams {
			out, in := openStream(t, ca, cb)
			go func() {
				var err error
				for _, size := range []int{600_000, 1 << 20, 200_000, 1 << 20} {
					err = errors.Join(err, out.Send(within(t), make([]byte, size)))
				}
				out.CloseSend()
				done <- err
			}()
			go func() {
				got := 0
				for {
					_, err := in.Receive(within(t))
					if errors.Is(err, io.EOF) && got == 4 {
						err = nil
					}
					if err != nil || got == 4 {
						done <- err
						return
					}
					got++
				}
			}()
		}
		for range 2 * streams {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLargerThanOther: a message that the other side does not take ends its stream with a reason, and nothing else.
func TestLargerThanOther(t *testing.T) {
	for _, mode := range []conecv1.DeliveryMode{0, unordered} {
		synctest.Test(t, func(t *testing.T) {
			ca, cb := connectEnds(t, nil, &tightMemory)
			open := &conecv1.OpenStream{Purpose: "test"}
			if mode != 0 {
				open = delivery(mode)
			}
			out, in := openStreamAs(t, ca, cb, open)
			if err := out.Send(within(t), make([]byte, 2<<20)); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Receive(within(t)); !errors.Is(err, messages.ErrTooLarge) {
				t.Errorf("mode %v: received %v", mode, err)
			}
			if _, err := out.Receive(within(t)); !errors.Is(err, messages.ErrTooLarge) || !netio.IsRemote(err) {
				t.Errorf("mode %v: the sender is told %v", mode, err)
			}
			out, in = openStream(t, ca, cb)
			exchangeOnce(within(t), t, out, in, make([]byte, 1<<20))
		})
	}
}

// TestReattachUnread attaches a stream again and again that nobody reads, with small and with large messages: it never holds
// more than its window, and everything is there in the end.
func TestReattachUnread(t *testing.T) {
	for _, size := range []int{1000, 200_000} {
		synctest.Test(t, func(t *testing.T) {
			r := &rig{t: t}
			r.a, r.b = newEnds(t, nil, &tightMemory)
			r.ra, r.rb = newLasting(r.a, 'a', 8<<20), newLasting(r.b, 'b', 8<<20)
			r.channel()
			r.attach()
			total := 4 << 20 / size
			go func() {
				for range total {
					if err := r.ra.Send(within(t), make([]byte, size)); err != nil {
						t.Error(err)
					}
				}
				r.ra.CloseSend()
			}()
			most := 0
			for i := range 10 {
				synctest.Wait()
				time.Sleep(time.Second)
				held := r.b.Held()
				if most = max(most, held); i > 1 && held > most {
					t.Errorf("size %d: attachment %d holds %d bytes, %d before", size, i, held, most)
				}
				r.lose()
				r.channel()
				r.attach()
			}
			synctest.Wait()
			r.lose()
			over, cancel := context.WithCancel(context.Background())
			cancel()
			came := 0
			for message, err := r.rb.Receive(over); err == nil; message, err = r.rb.Receive(over) {
				came += len(message)
			}
			if came > most || most > 512<<10 {
				t.Errorf("size %d: %d bytes came, %d are held for a stream that nobody reads", size, came, most)
			}
			r.channel()
			r.attach()
			for came < total*size {
				message, err := r.rb.Receive(within(t))
				if err != nil {
					t.Fatal(came, err)
				}
				came += len(message)
			}
			if _, err := r.rb.Receive(within(t)); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
}

// TestGivenUpUnread: messages that are given up on their way to a reader that is slow cost no credit for good.
func TestGivenUpUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		open := delivery(unordered)
		open.Delivery.Deadline = uint64(100 * time.Millisecond / time.Microsecond)
		out, in := openStreamAs(t, ca, cb, open)
		for range 50 {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			for n := 0; n < 1<<20 && out.Send(ctx, make([]byte, 10_000)) == nil; n += 10_000 {
			}
			cancel()
			time.Sleep(time.Second)
			for { // all are late
				if _, err := in.TryReceive(); err != nil {
					break
				}
			}
		}
		time.Sleep(time.Second)
		if err := out.Send(within(t), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		if got, err := in.Receive(within(t)); string(got) != "hi" {
			t.Errorf("%q, %v: %+v, %+v", got, err, out.Stats(), in.Stats())
		}
		out.CloseSend()
		if _, err := in.Receive(within(t)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		sent, came := out.Stats(), in.Stats()
		if sent.Sent != came.Delivered+came.Late+came.Lost || sent.GivenUp == 0 {
			t.Errorf("sent %+v, came %+v", sent, came)
		}
	})
}

// TestManyGivenUp: when the network is gone for longer than a deadline, any number of messages is given up, and the stream
// goes on.
func TestManyGivenUp(t *testing.T) {
	for _, mode := range []conecv1.DeliveryMode{0, unordered, lossy} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newEnds(t, nil, nil)
			ca, cb := connect(t, a, b)
			out, in := openStreamAs(t, ca, cb, &conecv1.OpenStream{Delivery: &conecv1.Delivery{Mode: mode, Deadline: 1000}})
			link := a.link.(*fakeLink)
			link.network.remove(link)
			count := 0
			for range 20 {
				for out.TrySend([]byte("late")) == nil {
					count++
				}
				time.Sleep(10 * time.Millisecond)
			}
			link.network.add(link)
			time.Sleep(5 * time.Second)
			if err := out.Send(within(t), []byte("hi")); err != nil {
				t.Fatal(err)
			}
			got, err := in.Receive(within(t))
			if string(got) != "hi" {
				t.Errorf("mode %v: %q, %v", mode, got, err)
			}
			out.CloseSend()
			if _, err = in.Receive(within(t)); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if stats := in.Stats(); stats.Late+stats.Lost != uint64(count) || count < 5000 {
				t.Errorf("mode %v: %+v, %d were late", mode, stats, count)
			}
		})
	}
}

// TestWantBeforeAnswer: what the other side wants to send is not forgotten if that comes before its answer attaches the stream.
func TestWantBeforeAnswer(t *testing.T) {
	const size = 500_000
	synctest.Test(t, func(t *testing.T) {
		a, conn, bare := bareAcceptedFrom(t, nil)
		resumable := newLasting(a, 'a', 1<<20)
		if _, err := conn.OpenFor(within(t), &conecv1.OpenStream{Purpose: "test"}, resumable.Resumable, false); err != nil {
			t.Fatal(err)
		}
		raw, err := bare.AcceptStream(within(t))
		if err != nil {
			t.Fatal(err)
		}
		uni, err := bare.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = uni.Write(varints(creditStream, kindWant, 0, size)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		body, err := proto.Marshal(&conecv1.StreamOpened{Incarnation: make([]byte, netio.IDSize)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = raw.Write(wireFrame(openedFrame, len(body), string(body))); err != nil {
			t.Fatal(err)
		}
		credit, err := bare.AcceptUniStream(within(t))
		if err != nil {
			t.Fatal(err)
		}
		records := bufio.NewReader(credit)
		if first, err := binary.ReadUvarint(records); err != nil || first != creditStream {
			t.Fatal(first, err)
		}
		_ = credit.SetReadDeadline(time.Now().Add(time.Minute))
		for limit := uint64(0); limit < size; {
			var record [4]uint64 // of a grant: the stream, the limit, what came
			for i := range record {
				if record[i], err = binary.ReadUvarint(records); err != nil {
					t.Fatal(err)
				}
			}
			limit = record[1]
		}
	})
}

// TestNoStreamForCredit: a peer that allows no stream for credit gets no channel.
func TestNoStreamForCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		a, b := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil), newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
		joinPorts(a.port, a.link, b.port, b.link)
		quicConfig := *switchQUIC
		quicConfig.MaxIncomingUniStreams = -1
		listener, err := b.transport.Listen(bareTLS(t, b.id, messages.ALPNChannel), &quicConfig)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err = listener.Accept(within(t)); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.OpenStream(within(t), &conecv1.OpenStream{Purpose: "test"})
		<-conn.Done()
		if err = conn.Err(); !errors.Is(err, messages.ErrProtocol) {
			t.Error(err)
		}
	})
}
