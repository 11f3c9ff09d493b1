package netio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// carriers are what the streams of a connection share: credit, the pace of bulk
// streams, and what carries the messages of loose streams: datagrams and
// unidirectional streams. Each of these begins with the number of the head of the
// stream that it belongs to, and so finds it here.
//
// Used by the streams and by pumps of its own, under mu, which may be taken with
// that of a stream held, and not the other way around.
type carriers struct {
	raw    *quic.Conn
	lossy  bool      // the other side takes datagrams
	began  time.Time // when this connection's clock began
	budget *budget   // nil: without limit
	pace   pace
	clock  clock

	mu       sync.Mutex
	records  records
	loose    map[uint64]*loose // by the number of the head; those that receive
	reading  bool              // the pump that reads datagrams runs
	sendable [2][]*loose       // those with datagrams to send, by urgency
	sending  bool              // the pump that sends datagrams runs
	probe    []byte            // larger than any datagram
	turn     *turn             // nil until the first datagrams are sent
}

func newCarriers(raw *quic.Conn, budget *budget) *carriers {
	c := &carriers{raw: raw, lossy: raw.ConnectionState().SupportsDatagrams.Remote, began: time.Now(), budget: budget}
	c.pace.now = c.now
	c.clock.now, c.clock.ask = c.now, func() { c.note(func() { c.records.asks = true }) }
	c.clock.known = make(chan struct{})
	c.clock.roundTrip = func() time.Duration { return c.raw.ConnectionStats().MinRTT }
	return c
}

// gateNumber begins the unidirectional stream that carries no messages. Heads are
// bidirectional streams, and have other numbers (RFC 9000 section 2.1).
const gateNumber = 2

// register has a loose stream receive. It must be called before the other side
// may send messages.
func (c *carriers) register(l *loose) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loose == nil {
		c.loose = map[uint64]*loose{}
	}
	c.loose[l.head.ID()] = l
	if !c.reading {
		c.reading = true
		go c.readDatagrams()
	}
}

// forget ends that.
func (c *carriers) forget(l *loose) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loose, l.head.ID())
}

func (c *carriers) find(head uint64) *loose {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loose[head]
}

// takesDatagrams says why not, if the other side takes none.
func (c *carriers) takesDatagrams() error {
	if !c.lossy {
		return fmt.Errorf("%w: the other side takes no datagrams", messages.ErrVersion)
	}
	return nil
}

// maxDatagram returns the largest datagram that QUIC takes at present.
func (c *carriers) maxDatagram() int {
	c.mu.Lock()
	if c.probe == nil {
		c.probe = make([]byte, 64<<10)
	}
	probe := c.probe
	c.mu.Unlock()
	if large, ok := errors.AsType[*quic.DatagramTooLargeError](c.raw.SendDatagram(probe)); ok {
		return int(large.MaxDatagramPayloadSize)
	}
	return packetSize + maxItemHead // the connection is over
}

// readDatagrams is a pump: it gives the datagrams to their streams until the
// connection ends. It never waits for a reader.
func (c *carriers) readDatagrams() {
	for {
		datagram, err := c.raw.ReceiveDatagram(context.Background())
		if err != nil {
			return
		}
		head, rest, ok := cutVarint(datagram)
		if !ok {
			continue // nobody's
		}
		l := c.find(head)
		if l == nil || !l.terms.datagrams() {
			continue // it came after the end, or is nobody's
		}
		if err := l.arriveDatagram(rest); err != nil {
			l.head.Reset(err)
		}
	}
}

func (l *loose) arriveDatagram(b []byte) error {
	number, b, ok := cutVarint(b)
	var sent, within time.Duration
	if l.terms.deadline > 0 && ok {
		sent, within, b, ok = cutStamp(b, l.terms.deadline)
	}
	if !ok {
		return fmt.Errorf("%w: head of a datagram", messages.ErrProtocol)
	}
	return l.arrive(number, sent, within, b)
}

// maxSent is the largest time on a clock, in microseconds: 36 years.
const maxSent = 1 << 50

// cutVarint takes an unsigned varint off the front of b.
func cutVarint(b []byte) (value uint64, rest []byte, ok bool) {
	value, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return value, b[n:], true
}

// readStreams is a pump: it takes the unidirectional streams until the connection
// ends. How many there are at a time, QUIC limits.
func (c *carriers) readStreams() {
	for {
		raw, err := c.raw.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		go c.readStream(raw)
	}
}

// firstRead is more than a batch of small messages takes.
const firstRead = 1536

// readStream reads one unidirectional stream and gives its messages to the stream
// that they belong to, once it is whole.
func (c *carriers) readStream(raw *quic.ReceiveStream) {
	b := make([]byte, 0, firstRead)
	var l *loose
	counted := 0
	defer func() { l.comes(-counted) }()
	for {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), l.room(b))
			copy(grown, b)
			b = grown
		}
		n, err := raw.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if l == nil {
			head, rest, ok := cutVarint(b)
			if ok && head == gateNumber {
				_, _ = io.Copy(io.Discard, raw)
				return
			}
			if ok && head == creditNumber {
				c.startRecords(io.MultiReader(bytes.NewReader(rest), raw))
				return
			}
			if ok {
				l = c.find(head)
			}
			if !ok && len(b) > binary.MaxVarintLen64 || ok && (l == nil || l.terms.datagrams()) {
				raw.CancelRead(resetCode) // its stream is over
				return
			}
		}
		if l != nil && len(b) > firstRead {
			if allowed, over := l.comes(len(b) - counted); over {
				raw.CancelRead(resetCode)
				return
			} else if !allowed {
				raw.CancelRead(resetCode)
				l.head.Reset(fmt.Errorf("%w: more unordered messages than allowed", messages.ErrProtocol))
				return
			}
			counted = len(b)
		}
		if errors.Is(err, io.EOF) && l != nil {
			l.comes(-counted)
			counted = 0
			if err := l.arriveBatch(b); err != nil {
				l.head.Reset(err)
			}
			return
		}
		if err != nil {
			return // reset, or the connection is over
		}
	}
}

// room returns how many bytes a message that is being read, and fills b, gets: all
// that it needs if larger ones came whole before it, else twice what it has.
func (l *loose) room(b []byte) int {
	room := 2 * cap(b)
	if l == nil {
		return room
	}
	_, rest, _ := cutVarint(b)
	_, rest, _ = cutVarint(rest)
	if l.terms.deadline > 0 {
		_, _, rest, _ = cutStamp(rest, l.terms.deadline)
	}
	size, rest, ok := cutVarint(rest)
	need := len(b) - len(rest) + int(min(size, uint64(l.head.limits.MaxMessage))) + 1 // for the read that finds the end
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok && need > len(b) && (need <= l.in.largest || need < room) {
		return need
	}
	l.in.largest = max(l.in.largest, room)
	return room
}

// comes counts bytes of messages that are not whole yet. It tells whether the window
// allows so many, and whether nobody wants them any more. A nil stream counts nothing.
func (l *loose) comes(n int) (allowed, over bool) {
	if l == nil || n == 0 {
		return true, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.partial += n
	return n < 0 || l.in.window.allows(l.in.partial) == nil, l.in.over
}

// arriveBatch takes the messages of a whole unidirectional stream.
func (l *loose) arriveBatch(b []byte) error {
	_, b, _ = cutVarint(b)
	number, b, ok := cutVarint(b)
	for ok && len(b) > 0 {
		var sent, within time.Duration
		var size uint64
		if l.terms.deadline > 0 {
			sent, within, b, ok = cutStamp(b, l.terms.deadline)
		}
		if ok {
			size, b, ok = cutVarint(b)
		}
		if !ok || size > uint64(len(b)) {
			ok = false
			break
		}
		if size > uint64(l.head.limits.MaxMessage) {
			return fmt.Errorf("%w: message of %d bytes, limit %d", messages.ErrTooLarge, size, l.head.limits.MaxMessage)
		}
		if err := l.arrive(number, sent, within, b[:size:size]); err != nil {
			return err
		}
		b = b[size:]
		number++
	}
	if !ok {
		return fmt.Errorf("%w: stream of unordered messages ends inside one", messages.ErrProtocol)
	}
	return nil
}

// enlist has the datagrams of a loose stream sent. Called with its mu held; it
// stays on the list until the pump has found nothing more to send.
func (c *carriers) enlist(l *loose) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := 0
	if l.terms.urgency == conecv1.Urgency_URGENCY_BULK {
		at = 1
	}
	c.sendable[at] = append(c.sendable[at], l)
	if !c.sending {
		c.sending = true
		if c.turn == nil {
			c.turn = &turn{conn: c.raw}
		}
		go c.sendDatagrams()
	}
}
