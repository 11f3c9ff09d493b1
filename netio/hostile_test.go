package netio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Frames of a data stream, see StreamFrames in frames.proto.
const (
	openFrame = 1 + iota
	openedFrame
	refusedFrame
	messageFrame
)

// hostile is what a peer that is not ours writes to a stream, and what we make of it.
type hostile struct {
	name   string
	frames string // after the first frame if there is one before
	fin    bool   // it ends the stream then
	good   int    // messages that come out before
	want   error
}

func frames(parts ...[]byte) (all string) {
	for _, part := range parts {
		all += string(part)
	}
	return all
}

// hostileMessages are wrong after the first frame.
var hostileMessages = []hostile{
	{"tag zero", "\x00\x00", false, 0, messages.ErrProtocol},
	{"varint field", "\x20\x01", false, 0, messages.ErrProtocol},
	{"fixed field", "\x25abcd", false, 0, messages.ErrProtocol},
	{"group", "\x23\x24", false, 0, messages.ErrProtocol},
	{"two-byte tag", "\x82\x01\x00", false, 0, messages.ErrProtocol},
	{"length without end", "\x22\xff\xff\xff\xff\xff", false, 0, messages.ErrProtocol},
	{"unknown frame", frames(wireFrame(5, 1, "x")), false, 0, messages.ErrProtocol},
	{"second open", frames(wireFrame(openFrame, 0, "")), false, 0, messages.ErrProtocol},
	{"answer again", frames(wireFrame(openedFrame, 0, "")), false, 0, messages.ErrProtocol},
	{"late refusal", frames(wireFrame(refusedFrame, 0, "")), false, 0, messages.ErrProtocol},
	{"too large", frames(wireFrame(messageFrame, 1<<20+1, "")), false, 0, messages.ErrTooLarge},
	{"largest length", "\x22\xff\xff\xff\xff\x7f", false, 0, messages.ErrTooLarge},
	{"ends inside a header", "\x22", true, 0, messages.ErrProtocol},
	{"ends inside a length", "\x22\x80", true, 0, messages.ErrProtocol},
	{"ends inside a message", frames(wireFrame(messageFrame, 3, "ab")), true, 0, messages.ErrProtocol},
	{"ends inside a large message", frames(wireFrame(messageFrame, 1<<20, "ab")), true, 0, messages.ErrProtocol},
	{"good, then bad", frames(wireFrame(messageFrame, 1, "a"), wireFrame(messageFrame, 0, ""), wireFrame(5, 0, "")), false, 2, messages.ErrProtocol},
	{"good, then ends inside", frames(wireFrame(messageFrame, 1, "a"), wireFrame(messageFrame, 2, "b")), true, 1, messages.ErrProtocol},
	{"good to the end", frames(wireFrame(messageFrame, 1, "a")), true, 1, io.EOF},
}

// hostileFirsts are wrong instead of the first frame, whoever opens the stream.
var hostileFirsts = []hostile{
	{"no frame", "", true, 0, messages.ErrProtocol},
	{"a message", frames(wireFrame(messageFrame, 1, "a")), false, 0, messages.ErrProtocol},
	{"unknown frame", frames(wireFrame(5, 1, "a")), false, 0, messages.ErrProtocol},
	{"tag zero", "\x00", false, 0, messages.ErrProtocol},
	{"too large", frames(wireFrame(openFrame, 4097, "")), false, 0, messages.ErrTooLarge},
	{"ends inside", frames(wireFrame(openFrame, 10, "a")), true, 0, messages.ErrProtocol},
}

// write puts bytes on a stream, in one packet with its end.
func (h *hostile) write(t *testing.T, raw *quic.Stream, first []byte) {
	t.Helper()
	if _, err := raw.Write(append(first, h.frames...)); err != nil {
		t.Fatal(err)
	}
	if h.fin {
		_ = raw.Close()
	}
}

// check receives, and looks at what both sides get and that the connection is as good as before.
func (h *hostile) check(t *testing.T, conn *netio.Conn, bare *quic.Conn, s *netio.Stream, raw *quic.Stream) {
	t.Helper()
	n := 0
	_, err := s.Receive(within(t))
	for ; err == nil; n++ {
		_, err = s.Receive(within(t))
	}
	if !errors.Is(err, h.want) || netio.IsRemote(err) || n != h.good {
		t.Errorf("got %d messages and %v, want %d and %v", n, err, h.good, h.want)
	}
	if errors.Is(h.want, io.EOF) {
		s.Close()
		<-s.Ended()
		return
	}
	<-s.Ended()
	if err := s.Send(within(t), nil); !errors.Is(err, h.want) {
		t.Errorf("send: %v", err)
	}
	code, _ := messages.ToCode(h.want)
	_, err = io.ReadAll(raw)
	if reset := (*quic.StreamError)(nil); !errors.As(err, &reset) || reset.ErrorCode != quic.StreamErrorCode(code) || !reset.Remote {
		t.Errorf("the peer reads %v, want code %v", err, code)
	}
	if !h.fin {
		<-raw.Context().Done() // told to stop
	}
	if conn.Err() != nil || bare.Context().Err() != nil {
		t.Errorf("the connection ended: %v", conn.Err())
	}
}

func opened(t *testing.T, open *conecv1.OpenStream) []byte {
	t.Helper()
	body, err := proto.Marshal(open)
	if err != nil {
		t.Fatal(err)
	}
	return wireFrame(openFrame, len(body), string(body))
}

var smallLimits = &netio.Config{Limits: netio.Limits{MaxMessage: 1 << 20}}

// TestHostileOpener has a peer that opens streams and breaks the protocol on them.
func TestHostileOpener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, bare := bareDialed(t, smallLimits)
		accept := func(h *hostile, first []byte) (*netio.Stream, *quic.Stream) {
			raw, err := bare.OpenStreamSync(within(t))
			if err != nil {
				t.Fatal(h.name, err)
			}
			h.write(t, raw, first)
			s, err := conn.AcceptStream(within(t))
			if err != nil {
				t.Fatal(h.name, err)
			}
			return s, raw
		}
		bystander, bystanderRaw := accept(&hostile{}, opened(t, &conecv1.OpenStream{}))
		for i := range hostileMessages {
			h := &hostileMessages[i]
			t.Log(h.name)
			s, raw := accept(h, opened(t, &conecv1.OpenStream{Purpose: "bad"}))
			if open, err := s.AwaitOpen(within(t)); err != nil || open.GetPurpose() != "bad" {
				t.Errorf("open: %v, %v", open, err)
			}
			h.check(t, conn, bare, s, raw)
		}
		more := []hostile{
			{"opened", frames(wireFrame(openedFrame, 0, "")), false, 0, messages.ErrProtocol},
			{"open that is no protobuf", frames(wireFrame(openFrame, 1, "\xff")), false, 0, messages.ErrProtocol},
			{"purpose that is no text", frames(wireFrame(openFrame, 3, "\x0a\x01\xff")), false, 0, messages.ErrProtocol},
			{"purpose too long", string(opened(t, &conecv1.OpenStream{Purpose: strings.Repeat("x", 256)})), false, 0, messages.ErrProtocol},
		}
		for _, h := range append(more, hostileFirsts...) {
			t.Log(h.name)
			s, raw := accept(&h, nil)
			if _, err := s.AwaitOpen(within(t)); !errors.Is(err, h.want) || netio.IsRemote(err) {
				t.Errorf("open: %v", err)
			}
			h.check(t, conn, bare, s, raw)
		}
		if _, err := bystanderRaw.Write(wireFrame(messageFrame, 2, "ok")); err != nil {
			t.Error(err)
		}
		if got, err := bystander.Receive(within(t)); string(got) != "ok" || err != nil {
			t.Errorf("another stream: %q, %v", got, err)
		}
	})
}

// TestHostileAcceptor has a peer that answers our streams and breaks the protocol on them.
func TestHostileAcceptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, bare := bareAccepted(t, smallLimits)
		open := func(h *hostile, first []byte) (*netio.Stream, *quic.Stream) {
			s, err := conn.OpenStream(within(t), &conecv1.OpenStream{})
			if err != nil {
				t.Fatal(h.name, err)
			}
			raw, err := bare.AcceptStream(within(t))
			if err != nil {
				t.Fatal(h.name, err)
			}
			h.write(t, raw, first)
			return s, raw
		}
		for i := range hostileMessages {
			h := &hostileMessages[i]
			t.Log(h.name)
			s, raw := open(h, wireFrame(openedFrame, 0, ""))
			if err := s.AwaitAnswer(within(t)); err != nil {
				t.Errorf("answer: %v", err)
			}
			h.check(t, conn, bare, s, raw)
		}
		more := []hostile{
			{"open", string(opened(t, &conecv1.OpenStream{})), false, 0, messages.ErrProtocol},
			{"opened that is no protobuf", frames(wireFrame(openedFrame, 1, "\xff")), false, 0, messages.ErrProtocol},
			{"refused that is no protobuf", frames(wireFrame(refusedFrame, 1, "\xff")), false, 0, messages.ErrProtocol},
		}
		for _, h := range append(more, hostileFirsts...) {
			t.Log(h.name)
			s, raw := open(&h, nil)
			if err := s.AwaitAnswer(within(t)); !errors.Is(err, h.want) || netio.IsRemote(err) {
				t.Errorf("answer: %v", err)
			}
			h.check(t, conn, bare, s, raw)
		}
	})
}

// TestHostileRefusals are refusals with codes and texts that we would not send.
func TestHostileRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, bare := bareAccepted(t, nil)
		for _, refused := range []*conecv1.StreamRefused{{}, {Code: 9999, Reason: "what"}, {Code: -1}, {Reason: strings.Repeat("x", 4000)}} {
			s, err := conn.OpenStream(within(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := bare.AcceptStream(within(t))
			if err != nil {
				t.Fatal(err)
			}
			body, err := proto.Marshal(refused)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = raw.Write(wireFrame(refusedFrame, len(body), string(body))); err != nil {
				t.Fatal(err)
			}
			if err = s.AwaitAnswer(within(t)); err == nil || !netio.IsRemote(err) || !strings.Contains(err.Error(), refused.GetReason()) {
				t.Errorf("%v: %v", refused, err)
			}
			s.Reset(messages.ErrRefused)
			<-s.Ended()
		}
	})
}

// TestHostileCodes resets a stream and closes a connection with codes that we do not know.
func TestHostileCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, bare := bareDialed(t, nil)
		raw, err := bare.OpenStreamSync(within(t))
		if err != nil {
			t.Fatal(err)
		}
		(&hostile{}).write(t, raw, opened(t, &conecv1.OpenStream{}))
		s, err := conn.AcceptStream(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.AwaitOpen(within(t)); err != nil {
			t.Fatal(err)
		}
		raw.CancelWrite(1 << 40)
		if _, err = s.Receive(within(t)); err == nil || errors.Is(err, io.EOF) || !netio.IsRemote(err) {
			t.Errorf("reset: %v", err)
		}
		_ = bare.CloseWithError(1<<40, "for no reason")
		<-conn.Done()
		<-s.Ended()
		if err = conn.Err(); err == nil || !netio.IsRemote(err) || !strings.Contains(err.Error(), "for no reason") {
			t.Errorf("close: %v", err)
		}
	})
}

// hostileControls are what a peer writes to a control stream.
var hostileControls = []hostile{
	{"tag zero", "\x00", false, 0, messages.ErrProtocol},
	{"varint field", "\x08\x01", false, 0, messages.ErrProtocol},
	{"length without end", "\x0a\xff\xff\xff\xff\xff", false, 0, messages.ErrProtocol},
	{"unknown frame", frames(wireFrame(2, 1, "x")), false, 0, messages.ErrProtocol},
	{"no protobuf", frames(wireFrame(1, 1, "\xff")), false, 0, messages.ErrProtocol},
	{"says nothing", frames(wireFrame(1, 0, "")), false, 0, messages.ErrProtocol},
	{"unknown kind", frames(wireFrame(1, 3, "\xfa\x3f\x00")), false, 0, messages.ErrProtocol},
	{"text that is none", frames(wireFrame(1, 5, "\x0a\x03\x0a\x01\xff")), false, 0, messages.ErrProtocol},
	{"too large", frames(wireFrame(1, 64<<10+1, "")), false, 0, messages.ErrTooLarge},
	{"largest length", "\x0a\xff\xff\xff\xff\x7f", false, 0, messages.ErrTooLarge},
	{"ends inside a header", "\x0a", true, 0, messages.ErrProtocol},
	{"ends inside a message", frames(wireFrame(1, 9, "\x0a")), true, 0, messages.ErrProtocol},
	{"good, then bad", frames(wireFrame(1, 2, "\x0a\x00"), wireFrame(9, 0, "")), false, 1, messages.ErrProtocol},
	{"good to the end", frames(wireFrame(1, 2, "\x0a\x00")), true, 1, io.EOF},
}

func TestHostileControl(t *testing.T) {
	for _, h := range hostileControls {
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, bare := bareDialed(t, nil)
				raw, err := bare.OpenStreamSync(within(t))
				if err != nil {
					t.Fatal(err)
				}
				h.write(t, raw, nil)
				control, err := conn.AcceptControl(within(t))
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				_, err = control.Receive()
				for ; err == nil; n++ {
					_, err = control.Receive()
				}
				if !errors.Is(err, h.want) || netio.IsRemote(err) || n != h.good {
					t.Errorf("got %d messages and %v, want %d and %v", n, err, h.good, h.want)
				}
				conn.Close(fmt.Errorf("%w: enough", err))
				<-bare.Context().Done()
				code, _ := messages.ToCode(h.want)
				closed := (*quic.ApplicationError)(nil)
				if cause := context.Cause(bare.Context()); !errors.As(cause, &closed) || !errors.Is(h.want, io.EOF) && closed.ErrorCode != quic.ApplicationErrorCode(code) {
					t.Errorf("the peer got %v", cause)
				}
			})
		})
	}
}
