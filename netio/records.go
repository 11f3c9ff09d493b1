package netio

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
)

// creditNumber begins the unidirectional stream that carries records: there is one in
// each direction of a channel.
const creditNumber = 3

// Kinds of records on the stream that carries credit.
const (
	recordGrant  = 0 // of a stream: what its sender may send, and what has come of it
	recordWant   = 1 // of a stream: what its sender has sent, and the size of the frame that it can not send
	recordAsk    = 2 // asks for the time: that of who asks
	recordAnswer = 3 // the time that was asked with, and that of who answers
	recordKinds  = 4
)

// records tell the other side of a connection what it may send on each stream, and
// hear what this side may. There are few, late and large ones: a stream is told of
// when a fourth of its window was used up.
//
// Under the mutex of the carriers that it is part of, but for what only the pump uses.
type records struct {
	streams map[uint64]*Stream // by number; ordered ones and heads
	heard   bool               // the other side's stream came
	raw     *quic.SendStream
	due     []*Stream       // to be told of
	asks    bool            // the time is to be asked for
	answers []time.Duration // questions that came
	pumping bool
	bytes   []byte // of the pump
}

// due is what is to be told of a stream, under mu of its carriers.
type due struct {
	limit bool // what the other side may send
	frame int  // the size of a frame that waits for credit; 0: none does
	put   uint64
}

// maxAnswers is how many questions for the time may wait; more are not answered.
const maxAnswers = 16

// enter has a stream take part in credit. It must be called before the other side
// can know the stream. The first opens the stream for records, before unordered
// messages can take all that the other side allows.
func (c *carriers) enter(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.records
	if k.streams == nil {
		k.streams = map[uint64]*Stream{}
		go c.readStreams()
		var err error
		if k.raw, err = c.raw.OpenUniStream(); err != nil {
			go c.abort(fmt.Errorf("%w: the other side allows no stream for credit", messages.ErrProtocol))
		} else {
			k.raw.SetPriority(urgencyControl, true)
			k.bytes = binary.AppendUvarint(nil, creditNumber)
		}
	}
	k.streams[s.ID()] = s
}

// leave ends that.
func (c *carriers) leave(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.records.streams, s.ID())
}

// tell has the other side told what it may send on a stream.
func (c *carriers) tell(s *Stream) { c.note(func() { c.list(s); s.due.limit = true }) }

// want has the other side told that a frame of n bytes may not be sent after put
// bytes.
func (c *carriers) want(s *Stream, put uint64, n int) {
	c.note(func() { c.list(s); s.due.frame, s.due.put = n, put })
}

// list puts a stream on the list of those to be told of.
func (c *carriers) list(s *Stream) {
	if !s.due.limit && s.due.frame == 0 {
		c.records.due = append(c.records.due, s)
	}
}

// note does something with mu held, and then has told what is due.
func (c *carriers) note(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
	if k := &c.records; !k.pumping && k.raw != nil {
		k.pumping = true
		go c.sendRecords()
	}
}

// sendRecords is a pump: it writes records until none are due.
func (c *carriers) sendRecords() {
	k := &c.records
	for c.nextRecords() {
		if _, err := k.raw.Write(k.bytes); err != nil { // the connection is over, or the other side broke it
			c.abort(fmt.Errorf("%w: the stream for credit was refused", messages.ErrProtocol))
			return
		}
		k.bytes = k.bytes[:0]
	}
}

// nextRecords appends what is due. It returns false, and the pump has ended, if
// nothing is.
func (c *carriers) nextRecords() bool {
	k := &c.records
	c.mu.Lock()
	if len(k.due) == 0 && !k.asks && len(k.answers) == 0 {
		k.pumping = false
		c.mu.Unlock()
		return false
	}
	told := k.due
	k.due = nil
	for i, s := range told {
		if s.due.frame > 0 {
			k.bytes = appendUvarints(k.bytes, s.ID()*recordKinds+recordWant, s.due.put, uint64(s.due.frame))
		}
		if !s.due.limit {
			told[i] = nil
		}
		s.due = due{}
	}
	for _, asked := range k.answers {
		k.bytes = appendUvarints(k.bytes, recordAnswer, uint64(asked/time.Microsecond), uint64(c.now()/time.Microsecond))
	}
	if k.asks {
		k.bytes = appendUvarints(k.bytes, recordAsk, uint64(c.now()/time.Microsecond))
	}
	k.asks, k.answers = false, nil
	c.mu.Unlock()
	for _, s := range told {
		if s == nil {
			continue
		}
		if g, ok := s.creditor().grant(); ok {
			k.bytes = appendUvarints(k.bytes, s.ID()*recordKinds+recordGrant, g.limit, g.come, g.messages)
		}
	}
	return true
}

func appendUvarints(b []byte, values ...uint64) []byte {
	for _, value := range values {
		b = binary.AppendUvarint(b, value)
	}
	return b
}

// startRecords reads the other side's stream for records, of which there is one.
func (c *carriers) startRecords(raw io.Reader) {
	c.mu.Lock()
	again := c.records.heard
	c.records.heard = true
	c.mu.Unlock()
	if again {
		c.abort(fmt.Errorf("%w: a second stream for credit", messages.ErrProtocol))
		return
	}
	const buffer = 512
	for buffered := bufio.NewReaderSize(raw, buffer); ; {
		if err := c.takeRecord(buffered); err != nil {
			c.abort(fmt.Errorf("%w: the stream for credit ended: %w", messages.ErrProtocol, err)) // unless the connection is over
			return
		}
	}
}

func (c *carriers) takeRecord(raw *bufio.Reader) error {
	head, err := binary.ReadUvarint(raw)
	if err != nil {
		return err
	}
	var values [3]uint64
	for i := range [recordKinds]int{recordGrant: 3, recordWant: 2, recordAsk: 1, recordAnswer: 2}[head%recordKinds] {
		if values[i], err = binary.ReadUvarint(raw); err != nil {
			return err
		}
	}
	switch head % recordKinds {
	case recordAsk:
		c.note(func() {
			if len(c.records.answers) < maxAnswers {
				c.records.answers = append(c.records.answers, micros(values[0]))
			}
		})
		return nil
	case recordAnswer:
		c.clock.answered(micros(values[0]), micros(values[1]))
		return nil
	}
	c.mu.Lock()
	s := c.records.streams[head/recordKinds]
	c.mu.Unlock()
	switch {
	case s == nil: // it is over
	case head%recordKinds == recordGrant:
		s.creditor().granted(grant{values[0], values[1], values[2]})
	case values[1] > uint64(s.limits.MaxMessage)+maxFrameHeader+messageCost:
		s.creditor().refuse(fmt.Errorf("%w: frame of %d bytes, limit %d", messages.ErrTooLarge, values[1], s.limits.MaxMessage))
	default:
		s.creditor().wanted(min(values[0], maxNumber), int(values[1]))
	}
	return nil
}

// micros is a time on a clock, as it is on the wire.
func micros(n uint64) time.Duration { return time.Duration(min(n, maxSent)) * time.Microsecond }

// abort ends the connection because the other side broke the rules.
func (c *carriers) abort(why error) {
	code, reason := messages.ToCode(why)
	_ = c.raw.CloseWithError(quic.ApplicationErrorCode(code), reason) // always nil
}
