package netio_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// newsFrame is what one side says about the messages of a stream that is not ordered.
func newsFrame(t *testing.T, news *conecv1.DeliveryNews) string {
	t.Helper()
	body, err := proto.Marshal(news)
	if err != nil {
		t.Fatal(err)
	}
	return string(wireFrame(messageFrame, len(body), string(body)))
}

// varints are the numbers that begin datagrams and unidirectional streams.
func varints(numbers ...uint64) (b []byte) {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// bareLoose has a peer that is not ours open a stream, and returns our end of it.
func bareLoose(t *testing.T, open *conecv1.OpenStream) (*netio.Stream, *quic.Conn, *quic.Stream) {
	t.Helper()
	conn, bare := bareDialed(t, nil)
	raw, err := bare.OpenStreamSync(within(t))
	if err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = raw.Write(wireFrame(openFrame, len(body), string(body))); err != nil {
		t.Fatal(err)
	}
	stream, err := conn.AcceptStream(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return stream, bare, raw
}

// TestHostileLoose has a peer that breaks the rules of streams that are not ordered: the stream ends, and nothing else.
func TestHostileLoose(t *testing.T) {
	const head = 0 // the number of the stream
	limited := delivery(unordered)
	limited.Delivery.Deadline = 1_000_000
	for _, h := range []struct {
		name    string
		open    *conecv1.OpenStream
		news    *conecv1.DeliveryNews
		uni     []byte
		packets [][]byte
		fin     bool
		good    int
		want    error
	}{
		{name: "head ends", open: delivery(unordered), fin: true, want: messages.ErrProtocol},
		{name: "head ends (lossy)", open: delivery(lossy), fin: true, want: messages.ErrProtocol},
		{name: "more than allowed", open: delivery(unordered), uni: append(varints(head, 0, 300_000), make([]byte, 300_000)...), want: messages.ErrProtocol},
		{name: "has what was not sent", open: delivery(unordered), news: &conecv1.DeliveryNews{Complete: 1}, want: messages.ErrProtocol},
		{
			name: "gives up without a deadline", open: delivery(unordered),
			news: &conecv1.DeliveryNews{GivenUp: []*conecv1.GivenUp{{Count: 1}}}, want: messages.ErrProtocol,
		},
		{
			name: "gives up what is far away", open: limited,
			news: &conecv1.DeliveryNews{GivenUp: []*conecv1.GivenUp{{Number: 1 << 40, Count: 1}}}, want: messages.ErrProtocol,
		},
		{
			name: "gives up more than a message", open: limited,
			news: &conecv1.DeliveryNews{GivenUp: []*conecv1.GivenUp{{Count: 1, Credit: 1 << 60}}}, want: messages.ErrProtocol,
		},
		{name: "number far away", open: delivery(unordered), uni: append(varints(head, 1<<40, 1), 'x'), want: messages.ErrProtocol},
		{name: "ends inside a message", open: delivery(unordered), uni: append(varints(head, 0, 9), 'x'), want: messages.ErrProtocol},
		{name: "good, then ends inside", open: delivery(unordered), uni: append(varints(head, 0, 0), varints(9)...), good: 1, want: messages.ErrProtocol},
		{name: "the same twice", open: delivery(unordered), uni: varints(head, 0, 0, 0), news: &conecv1.DeliveryNews{End: &conecv1.DeliveryEnd{Messages: 2}}, good: 2, want: io.EOF},
		{name: "more than the end says", open: delivery(unordered), uni: varints(head, 5, 0), news: &conecv1.DeliveryNews{End: &conecv1.DeliveryEnd{Messages: 2}}, good: 1, want: messages.ErrProtocol},
		{name: "datagram ends early", open: delivery(lossy), packets: [][]byte{varints(head)}, want: messages.ErrProtocol},
		{name: "largest number", open: delivery(lossy), packets: [][]byte{varints(head, 1<<63)}, want: messages.ErrProtocol},
		{
			name: "nobody's, and twice", open: delivery(lossy),
			packets: [][]byte{{}, {0x80}, varints(40, 0), varints(head, 0), varints(head, 0)}, good: 1,
			news: &conecv1.DeliveryNews{End: &conecv1.DeliveryEnd{Messages: 1}}, want: io.EOF,
		},
	} {
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream, bare, raw := bareLoose(t, h.open)
				if _, err := stream.AwaitOpen(within(t)); err != nil {
					t.Fatal(err)
				}
				if err := stream.Accept(); err != nil {
					t.Fatal(err)
				}
				for _, packet := range h.packets {
					if err := bare.SendDatagram(packet); err != nil {
						t.Fatal(err)
					}
				}
				if h.uni != nil {
					uni, err := bare.OpenUniStream()
					if err != nil {
						t.Fatal(err)
					}
					_, _ = uni.Write(h.uni) // may be refused before it is over
					_ = uni.Close()
				}
				synctest.Wait()
				if h.news != nil {
					if _, err := raw.Write([]byte(newsFrame(t, h.news))); err != nil {
						t.Fatal(err)
					}
				}
				if h.fin {
					_ = raw.Close()
				}
				for n := 0; ; n++ {
					if _, err := stream.Receive(within(t)); err != nil {
						if !errors.Is(err, h.want) || netio.IsRemote(err) || n != h.good && errors.Is(h.want, io.EOF) {
							t.Errorf("%d messages, then %v", n, err)
						}
						break
					}
				}
				if bare.Context().Err() != nil {
					t.Error("the connection ended, too")
				}
			})
		})
	}
}

// TestHostileTerms has a peer ask for what there is not.
func TestHostileTerms(t *testing.T) {
	for name, open := range map[string]*conecv1.OpenStream{
		"mode":     delivery(9),
		"no mode":  {Delivery: &conecv1.Delivery{}},
		"urgency":  {Urgency: 7},
		"deadline": {Delivery: &conecv1.Delivery{Mode: lossy, Deadline: 1 << 63}},
		"copies":   {Delivery: &conecv1.Delivery{Mode: unordered, CopyAfter: 1}},
		"pause":    {Delivery: &conecv1.Delivery{Mode: lossy, CopyAfter: 1 << 63}},
		"resume":   {Delivery: &conecv1.Delivery{Mode: lossy}, Resume: &conecv1.Resume{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream, _, _ := bareLoose(t, open)
				if _, err := stream.AwaitOpen(within(t)); !errors.Is(err, messages.ErrProtocol) {
					t.Error(err)
				}
				<-stream.Ended()
			})
		})
	}
}

// TestDeliveryUnknown opens streams to peers that know less.
func TestDeliveryUnknown(t *testing.T) {
	for _, mode := range modes {
		synctest.Test(t, func(t *testing.T) {
			conn, bare := bareAccepted(t, nil)
			stream, err := conn.OpenStream(within(t), delivery(mode))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := bare.AcceptStream(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = raw.Write(wireFrame(openedFrame, 0, "")); err != nil {
				t.Fatal(err)
			}
			if err = stream.AwaitAnswer(within(t)); !errors.Is(err, messages.ErrVersion) {
				t.Error(mode, err)
			}
			stream.Reset(messages.ErrRefused)
			<-stream.Ended()
		})
	}
}
