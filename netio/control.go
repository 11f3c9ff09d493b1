package netio

import (
	"fmt"
	"io"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Limits of a control stream, in bytes.
const (
	maxControl       = 64 << 10
	maxControlWaits  = 256 << 10
	controlUrgency   = 0 // RFC 9218: before all data
	minControlBuffer = 256
)

// Control is the control stream of a [Conn]. One goroutine may receive while
// any number send.
type Control struct {
	raw        io.Reader // the QUIC stream
	out        *outbox
	buffer     []byte
	start, end int
}

func newControl(raw *quic.Stream, buffers *bufferPool) *Control {
	raw.SetPriority(controlUrgency, false)
	return &Control{raw: raw, out: newOutbox(raw, buffers, maxControlWaits)}
}

// Send queues a control message. It does not block: an error that matches
// [messages.ErrLimit] says that the other side has not read for long, one that
// matches [messages.ErrTooLarge] that the message has more than 64 KiB.
func (c *Control) Send(message *conecv1.Control) error {
	body, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	if len(body) > maxControl {
		return fmt.Errorf("%w: control message of %d bytes, limit %d", messages.ErrTooLarge, len(body), maxControl)
	}
	return c.out.try(fieldControl, body)
}

// Receive returns the next control message. It blocks until there is one or the
// connection ends. Only one goroutine may call it. Errors: one that matches
// [messages.ErrProtocol] for what is no control message, io.EOF if the other
// side ended the stream, or why the connection ended.
func (c *Control) Receive() (*conecv1.Control, error) {
	for {
		header, complete, err := parseFrameHeader(c.buffer[c.start:c.end])
		if err != nil {
			return nil, err
		}
		if complete {
			if header.field != fieldControl {
				return nil, fmt.Errorf("%w: frame %d on a control stream", messages.ErrProtocol, header.field)
			}
			if header.body > maxControl {
				return nil, fmt.Errorf("%w: control message of %d bytes, limit %d", messages.ErrTooLarge, header.body, maxControl)
			}
			if size := header.size + header.body; c.end-c.start >= size {
				body := c.buffer[c.start+header.size : c.start+size]
				c.start += size
				return parseControl(body)
			}
		}
		if err := c.fill(header.size + header.body); err != nil {
			return nil, err
		}
	}
}

// fill reads more, making room for a frame of size bytes as its parts arrive.
func (c *Control) fill(size int) error {
	if c.start == c.end {
		c.start, c.end = 0, 0
		if len(c.buffer) > minControlBuffer {
			c.buffer = nil // an idle connection holds little
		}
	}
	if c.end == len(c.buffer) {
		have := c.end - c.start
		grown := c.buffer
		if have > len(c.buffer)/2 || len(c.buffer) == 0 {
			grown = make([]byte, max(minControlBuffer, min(2*len(c.buffer), max(size, 2*have))))
		}
		c.end = copy(grown, c.buffer[c.start:c.end])
		c.start, c.buffer = 0, grown
	}
	n, err := c.raw.Read(c.buffer[c.end:])
	c.end += n
	switch {
	case n > 0:
		return nil
	case err == io.EOF && c.start != c.end:
		return fmt.Errorf("%w: control stream ends inside a frame", messages.ErrProtocol)
	}
	return fromQUIC(err)
}

// parseControl decodes a control message; one that says nothing is an error.
func parseControl(body []byte) (*conecv1.Control, error) {
	message := &conecv1.Control{}
	if err := proto.Unmarshal(body, message); err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	if message.GetSaid() == nil {
		return nil, fmt.Errorf("%w: control message of unknown kind", messages.ErrProtocol)
	}
	return message, nil
}
