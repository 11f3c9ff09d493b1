package netio

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
)

// Every direction of a QUIC stream carries the wire encoding of one protobuf
// message (ControlFrames or StreamFrames), written field by field as they come
// to be. A frame is one such field: tag, length, body. All fields are length
// delimited and have numbers below 16, so that a tag is one byte.
const (
	// frameTagMask keeps the wire type of a tag byte.
	frameTagMask = 7
	// maxFrameHeader is the tag and the longest length.
	maxFrameHeader = 1 + binary.MaxVarintLen32
)

// Field numbers in ControlFrames and StreamFrames.
const (
	fieldControl  = 1
	fieldOpen     = 1
	fieldOpened   = 2
	fieldRefused  = 3
	fieldMessages = 4
	fieldAck      = 5
	fieldEnd      = 6
)

// frameSize returns how many bytes a frame with a body of n bytes takes.
func frameSize(n int) int {
	return 1 + protowire.SizeBytes(n)
}

// appendFrame appends a frame that carries body.
func appendFrame(dst []byte, field int, body []byte) []byte {
	return append(appendFrameHeader(dst, field, len(body)), body...)
}

// appendFrameHeader appends what comes before a body of size bytes.
func appendFrameHeader(dst []byte, field, size int) []byte {
	return protowire.AppendVarint(append(dst, byte(field<<3)|byte(protowire.BytesType)), uint64(size))
}

// appendMessageFrame appends a frame that carries a protobuf message.
func appendMessageFrame(dst []byte, field int, message proto.Message) ([]byte, error) {
	body, err := proto.Marshal(message)
	if err != nil {
		return dst, err
	}
	return appendFrame(dst, field, body), nil
}

// frameHeader is the decoded head of a frame.
type frameHeader struct {
	field int // field number
	size  int // bytes of tag and length
	body  int // bytes of body
}

// parseFrameHeader decodes the head of the frame at the start of b. It returns
// false if b ends before the head does, and an error that matches
// [messages.ErrProtocol] if b can not be the start of a frame.
func parseFrameHeader(b []byte) (header frameHeader, complete bool, err error) {
	if len(b) == 0 {
		return frameHeader{}, false, nil
	}
	tag := b[0]
	if tag&0x80 != 0 || tag&frameTagMask != byte(protowire.BytesType) || tag>>3 == 0 {
		return frameHeader{}, false, fmt.Errorf("%w: tag byte %#x starts no frame", messages.ErrProtocol, tag)
	}
	var body uint64
	for i := 1; i < min(len(b), maxFrameHeader); i++ {
		body |= uint64(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return frameHeader{field: int(tag >> 3), size: i + 1, body: int(body)}, true, nil
		}
	}
	if len(b) >= maxFrameHeader {
		return frameHeader{}, false, fmt.Errorf("%w: frame length has more than %d bytes", messages.ErrProtocol, maxFrameHeader-1)
	}
	return frameHeader{}, false, nil
}
