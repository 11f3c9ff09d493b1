package netio

import (
	"encoding/binary"
	"errors"

	"github.com/quic-go/quic-go"
)

// burst is how many bytes of datagrams are sent until streams have a turn: 16
// packets.
const burst = 16 * packetSize

// takenAtOnce is how many messages of a stream are sent until another has a turn.
const takenAtOnce = 32

// sendDatagrams is a pump: it sends the datagrams of all streams, those of the same
// urgency in turn, until there are none.
func (c *carriers) sendDatagrams() {
	batch := make([]item, 0, takenAtOnce)
	for {
		l := c.nextSendable()
		if l == nil {
			return
		}
		batch = l.takeDatagrams(batch[:0])
		for i, it := range batch {
			c.turn.await(len(it.bytes))
			err := c.raw.SendDatagram(it.bytes)
			batch[i] = item{}
			if _, large := errors.AsType[*quic.DatagramTooLargeError](err); large && !it.copied {
				l.tooLarge(it)
			}
		}
		if l.sentDatagrams() {
			c.enlist(l)
		}
	}
}

// nextSendable takes the stream whose turn it is off the list. If there is none,
// the pump has ended.
func (c *carriers) nextSendable() *loose {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, list := range c.sendable {
		if len(list) > 0 {
			l := list[0]
			list[0] = nil
			c.sendable[at] = list[1:]
			return l
		}
		c.sendable[at] = nil
	}
	c.sending = false
	return nil
}

// tooLarge counts a message that fit into a datagram when it was queued.
func (l *loose) tooLarge(it item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveUp([]item{it})
}

// turn makes the datagrams of a connection wait, after each burst, until a packet
// had room for streams: QUIC sends datagrams first, and a flood of them would keep
// everything else out, the control stream too. A byte on a stream of the highest
// urgency shows it: it goes into the first packet that has room. Two bursts may be
// under way, so that QUIC need not wait for the pump.
//
// Owned by the pump that sends datagrams; there is one at a time.
type turn struct {
	conn   *quic.Conn
	gate   *quic.SendStream
	sent   int           // bytes of datagrams since the last turn
	passed chan struct{} // closed when the last byte was sent; nil at first
}

// await blocks until a datagram of that size may be sent.
func (t *turn) await(size int) {
	const frame = 3 // bytes of a datagram frame beside its content
	if t.sent += size + frame; t.sent < burst {
		return
	}
	t.sent = 0
	if t.gate == nil {
		gate, err := t.conn.OpenUniStream()
		if err != nil {
			return // so many streams of messages are under way that QUIC has no datagrams only
		}
		gate.SetPriority(urgencyControl, true)
		if _, err = gate.Write(binary.AppendUvarint(nil, gateNumber)); err != nil {
			return
		}
		t.gate = gate
	}
	if t.passed != nil {
		<-t.passed
	}
	passed := make(chan struct{})
	t.passed = passed
	gate := t.gate
	go func() {
		defer close(passed)
		_, _ = gate.WriteWithLimit([]byte{0}, func(most int) int { return most }) // if the connection is over, all is
	}()
}
