package netio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestFramesAreProtobuf: what is written frame by frame is the encoding of one message, and the other way round.
func TestFramesAreProtobuf(t *testing.T) {
	whole := &conecv1.StreamFrames{
		Open: &conecv1.OpenStream{Purpose: "test"}, Opened: &conecv1.StreamOpened{},
		Messages: [][]byte{{}, {1}, bytes.Repeat([]byte{2}, 127), bytes.Repeat([]byte{3}, 128), bytes.Repeat([]byte{4}, 1<<14), bytes.Repeat([]byte{5}, 1<<21)},
	}
	wire, err := appendMessageFrame(nil, fieldOpen, whole.GetOpen())
	if err != nil {
		t.Fatal(err)
	}
	if wire, err = appendMessageFrame(wire, fieldOpened, whole.GetOpened()); err != nil {
		t.Fatal(err)
	}
	for _, message := range whole.GetMessages() {
		before := len(wire)
		wire = appendFrame(wire, fieldMessages, message)
		if got := len(wire) - before; got != frameSize(len(message)) {
			t.Errorf("frame of %d bytes, frameSize says %d", got, frameSize(len(message)))
		}
	}
	var decoded conecv1.StreamFrames
	if err := proto.Unmarshal(wire, &decoded); err != nil || !proto.Equal(&decoded, whole) {
		t.Errorf("protobuf does not read our frames: %v", err)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(whole)
	if err != nil || !bytes.Equal(encoded, wire) {
		t.Errorf("protobuf writes other frames: %v", err)
	}
	control := &conecv1.Control{Said: &conecv1.Control_ChannelDrained{ChannelDrained: &conecv1.ChannelDrained{}}}
	if wire, err = appendMessageFrame(nil, fieldControl, control); err != nil {
		t.Fatal(err)
	}
	if encoded, err = proto.Marshal(&conecv1.ControlFrames{Control: []*conecv1.Control{control}}); err != nil || !bytes.Equal(encoded, wire) {
		t.Errorf("control frames: %x and %x, %v", encoded, wire, err)
	}
}

func TestFrameHeader(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       frameHeader
		complete   bool
		bad        bool
	}{
		{"nothing", "", frameHeader{}, false, false},
		{"tag", "\x0a", frameHeader{}, false, false},
		{"part of the length", "\x0a\x80", frameHeader{}, false, false},
		{"empty", "\x0a\x00", frameHeader{1, 2, 0}, true, false},
		{"last field", "\x7a\x7f more", frameHeader{15, 2, 127}, true, false},
		{"long", "\x22\x80\x01", frameHeader{4, 3, 128}, true, false},
		{"padded length", "\x22\x81\x80\x80\x80\x00", frameHeader{4, 6, 1}, true, false},
		{"longest", "\x22\xff\xff\xff\xff\x7f", frameHeader{4, 6, 1<<35 - 1}, true, false},
		{"length too long", "\x22\xff\xff\xff\xff\xff", frameHeader{}, false, true},
		{"length too long, and more", "\x22\x80\x80\x80\x80\x80\x00", frameHeader{}, false, true},
		{"field zero", "\x02\x00", frameHeader{}, false, true},
		{"field 16", "\x82\x01\x00", frameHeader{}, false, true},
		{"varint", "\x08\x00", frameHeader{}, false, true},
	} {
		got, complete, err := parseFrameHeader([]byte(c.wire))
		if got != c.want || complete != c.complete || (err != nil) != c.bad || c.bad && !errors.Is(err, messages.ErrProtocol) {
			t.Errorf("%s: %+v, %v, %v", c.name, got, complete, err)
		}
	}
}

// FuzzFrameHeader compares with protobuf's own decoder.
func FuzzFrameHeader(f *testing.F) {
	for _, seed := range []string{"", "\x0a", "\x22\x80\x01", "\x22\xff\xff\xff\xff\x7f", "\x22\xff\xff\xff\xff\xff", "\x08\x01", "\x82\x01\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, complete, err := parseFrameHeader(b)
		if err != nil && (complete || !errors.Is(err, messages.ErrProtocol)) {
			t.Fatal(complete, err)
		}
		for n := range min(len(b), maxFrameHeader) { // what is decided does not change as more arrives
			_, early, earlyErr := parseFrameHeader(b[:n])
			if early && !complete || earlyErr != nil && err == nil {
				t.Errorf("%d bytes: %v, %v; all: %v, %v", n, early, earlyErr, complete, err)
			}
		}
		if !complete {
			if err == nil && len(b) >= maxFrameHeader {
				t.Error("waits for more than the longest header")
			}
			return
		}
		number, wireType, n := protowire.ConsumeTag(b)
		length, m := protowire.ConsumeVarint(b[max(n, 0):])
		want := frameHeader{field: int(number), size: n + m, body: int(length)}
		if wireType != protowire.BytesType || n < 0 || m < 0 || got != want {
			t.Errorf("got %+v, protobuf says %+v, type %d", got, want, wireType)
		}
	})
}

// FuzzControl gives any bytes in any pieces to the parser of control streams.
func FuzzControl(f *testing.F) {
	said, err := appendMessageFrame(nil, fieldControl, &conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: strings.Repeat("x", 300)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(said, uint16(1))
	f.Add(append(said, said...), uint16(77))
	f.Add([]byte("\x0a\x00"), uint16(1))
	f.Add([]byte("\x0a\xff\xff\xff\xff\x7f"), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		var whole conecv1.ControlFrames
		reader := &pieces{rest: b, next: func() int { return int(piece)%300 + 1 }}
		control := &Control{raw: reader}
		count := 0
		for {
			message, err := control.Receive()
			if err != nil {
				if reader.largest > 2*maxControl {
					t.Errorf("buffer of %d bytes", reader.largest)
				}
				if len(reader.rest) == 0 && errors.Is(err, io.EOF) && (proto.Unmarshal(b, &whole) != nil || len(whole.GetControl()) != count) {
					t.Errorf("clean end after %d messages, protobuf says %d", count, len(whole.GetControl()))
				}
				if !errors.Is(err, io.EOF) && !isOurs(err) {
					t.Error(err)
				}
				return
			}
			if message.GetSaid() == nil {
				t.Error("said nothing")
			}
			count++
		}
	})
}
