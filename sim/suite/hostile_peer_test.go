package suite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// What a peer may not say ends the channel to it, and nothing else.
func TestHostilePeer(t *testing.T) {
	for name, say := range map[string]*conecv1.Control{
		"plays a client": attach("carol"),
		"plays the coordinator": {Said: &conecv1.Control_OfferWithdrawn{
			OfferWithdrawn: &conecv1.OfferWithdrawn{},
		}},
		"says nothing":                {},
		"drained without being asked": {Said: &conecv1.Control_ChannelDrained{ChannelDrained: &conecv1.ChannelDrained{}}},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				b := w.bystanders()
				raw := w.rawClient("mallory")
				raw.say(open(1, "bob"))
				conn, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
				if err := control.Send(say); err != nil {
					w.Fatal(err)
				}
				select {
				case <-conn.Done():
				case <-w.ctx.Done():
				}
				if err := conn.Err(); !errors.Is(err, messages.ErrProtocol) || !netio.IsRemote(err) {
					w.Errorf("bob ended the channel with %v, want a protocol violation", err)
				}
				b.unharmed()
			})
		})
	}
}

// A peer that says it closes, and names streams that never were, or never reads,
// holds up nobody but itself.
func TestPeerNeverDrains(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		raw := w.rawClient("mallory")
		raw.say(open(1, "bob"))
		_, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
		channel, err := b.bob.AcceptChannel(w.ctx)
		for err == nil && channel.Peer() != "mallory" {
			channel, err = b.bob.AcceptChannel(w.ctx)
		}
		if err != nil {
			w.Fatal(err)
		}
		if err := control.Send(&conecv1.Control{Said: &conecv1.Control_CloseChannel{
			CloseChannel: &conecv1.CloseChannel{Streams: []uint64{4, 8, 1, 5, 1 << 40}},
		}}); err != nil {
			w.Fatal(err)
		}
		if err := channel.Close(canceled(w)); err == nil {
			w.Error("close succeeded though the peer never drained")
		}
		b.unharmed()
	})
}

// A peer may say that it closes before its last stream has come, since the two
// travel separately: what is on that stream is waited for.
func TestStreamAfterClose(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		bob := w.client("bob")
		raw := w.rawClient("mallory")
		raw.say(open(1, "bob"))
		conn, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
		channel, err := bob.AcceptChannel(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		if said, err := control.Receive(); err != nil || said.GetOfferCandidates() == nil {
			w.Fatalf("bob says %v, %v", said, err)
		}
		const streamID = 4 // the next that who dialed opens (RFC 9000 section 2.1)
		if err := control.Send(&conecv1.Control{Said: &conecv1.Control_CloseChannel{
			CloseChannel: &conecv1.CloseChannel{Streams: []uint64{streamID}},
		}}); err != nil {
			w.Fatal(err)
		}
		for closing := false; !closing; { // until bob has heard it, and opens no more streams
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
			_, err := channel.OpenStream(ctx, nil)
			closing = errors.Is(err, messages.ErrClosed)
			cancel()
		}
		drained := make(chan *conecv1.Control, 1)
		go func() {
			said, _ := control.Receive()
			drained <- said
		}()
		stream, err := conn.OpenStream(w.ctx, &conecv1.OpenStream{Purpose: "late"})
		if err != nil || stream.ID() != streamID {
			w.Fatalf("stream %v, %v", stream, err)
		}
		if err := stream.AwaitAnswer(w.ctx); err != nil {
			w.Fatal(err)
		}
		select {
		case said := <-drained:
			w.Fatalf("bob says %v though the stream has not ended", said)
		default:
		}
		if err := stream.Send(w.ctx, []byte("last words")); err != nil {
			w.Fatal(err)
		}
		stream.CloseSend()
		if said := <-drained; said.GetChannelDrained() == nil {
			w.Errorf("bob says %v, want drained", said)
		}
		conn.Close(messages.ErrClosed)
		there, err := bob.AcceptStream(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		w.want(there, "last words")
		w.wantEnd(there)
	})
}

// A peer that closes too, and has read everything, is still heard out: what it sent
// before it closed is read before the connection ends.
func TestBothClose(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		bob := w.client("bob")
		raw := w.rawClient("mallory")
		raw.say(open(1, "bob"))
		conn, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
		channel, err := bob.AcceptChannel(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		stream, err := conn.OpenStream(w.ctx, &conecv1.OpenStream{})
		if err != nil {
			w.Fatal(err)
		}
		if err := stream.AwaitAnswer(w.ctx); err != nil {
			w.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- channel.Close(w.ctx) }()
		said, err := control.Receive()
		for err == nil && said.GetCloseChannel() == nil {
			said, err = control.Receive()
		}
		if err != nil {
			w.Fatal(err)
		}
		for _, said := range []*conecv1.Control{
			{Said: &conecv1.Control_CloseChannel{CloseChannel: &conecv1.CloseChannel{Streams: []uint64{stream.ID()}}}},
			{Said: &conecv1.Control_ChannelDrained{ChannelDrained: &conecv1.ChannelDrained{}}},
		} {
			if err := control.Send(said); err != nil {
				w.Fatal(err)
			}
		}
		sent := make(chan error, 1)
		go func() {
			defer close(sent)
			for i := range 100 { // more than is under way at any time
				if err := stream.Send(w.ctx, numbered(i, 10<<10)); err != nil {
					sent <- err
					return
				}
			}
			stream.CloseSend()
		}()
		there, err := bob.AcceptStream(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		for i := range 100 {
			w.want(there, string(numbered(i, 10<<10)))
		}
		w.wantEnd(there)
		if err := <-sent; err != nil {
			w.Errorf("send: %v", err)
		}
		if err := <-closed; err != nil {
			w.Errorf("close: %v", err)
		}
	})
}
