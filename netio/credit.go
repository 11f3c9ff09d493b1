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

// creditNumber begins the unidirectional stream that carries credit: there is one
// in each direction of a channel.
const creditNumber = 3

// Kinds of records on the stream that carries credit.
const (
	recordGrant  = 0 // of a stream: what its sender may send, and what has come of it
	recordWant   = 1 // of a stream: what its sender has sent, and the size of the frame that it can not send
	recordAsk    = 2 // asks for the time: that of who asks
	recordAnswer = 3 // the time that was asked with, and that of who answers
	recordKinds  = 4
)

// grant is what a receiver tells its sender.
type grant struct {
	limit    uint64 // bytes of messages frames that may be sent, since the QUIC stream began
	come     uint64 // bytes that have come
	messages uint64 // messages that have come
}

// credits tells the other side of a connection what it may send on each stream,
// and hears what this side may. There are few, late and large records: a stream is
// told of when a fourth of its window was used up.
//
// Under the mutex of the carriers that it is part of, but for what only the pump
// uses.
type credits struct {
	streams map[uint64]*Stream // by number; ordered ones and heads
	heard   bool               // the other side's stream came
	raw     *quic.SendStream   // nil until the first record
	due     []*Stream          // to be told of
	asks    bool               // the time is to be asked for
	answers []time.Duration    // questions that came
	pumping bool
	record  []byte // of the pump
}

// maxAnswers is how many questions for the time may wait; more are not answered.
const maxAnswers = 16

// enter has a stream take part in credit. It must be called before the other side
// can know the stream.
func (c *carriers) enter(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credits.streams == nil {
		c.credits.streams = map[uint64]*Stream{}
		go c.readStreams()
	}
	c.credits.streams[s.ID()] = s
}

// leave ends that.
func (c *carriers) leave(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.credits.streams, s.ID())
}

// tell has the other side told what it may send on a stream.
func (c *carriers) tell(s *Stream) { c.isDue(func() { c.note(s); s.tells = true }) }

// want has the other side told that a frame of n bytes may not be sent after put
// bytes.
func (c *carriers) want(s *Stream, put uint64, n int) {
	c.isDue(func() { c.note(s); s.wants, s.wantsAt = n, put })
}

// note puts a stream on the list of those to be told of.
func (c *carriers) note(s *Stream) {
	if !s.tells && s.wants == 0 {
		c.credits.due = append(c.credits.due, s)
	}
}

// isDue notes something that is to be told, with mu held, and has it told.
func (c *carriers) isDue(note func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	note()
	if !c.credits.pumping {
		c.credits.pumping = true
		go c.sendRecords()
	}
}

// sendRecords is a pump: it writes records until none are due.
func (c *carriers) sendRecords() {
	k := &c.credits
	if k.raw == nil {
		var err error
		if k.raw, err = c.raw.OpenUniStream(); err != nil {
			c.abort(fmt.Errorf("%w: the other side allows no stream for credit", messages.ErrProtocol))
			return
		}
		k.raw.SetPriority(urgencyControl, true)
		k.record = binary.AppendUvarint(nil, creditNumber)
	}
	for c.nextRecords() {
		if _, err := k.raw.Write(k.record); err != nil { // the connection is over, or the other side broke it
			c.abort(fmt.Errorf("%w: the stream for credit was refused", messages.ErrProtocol))
			return
		}
		k.record = k.record[:0]
	}
}

// nextRecords appends what is due to the records. It returns false, and the pump
// has ended, if nothing is.
func (c *carriers) nextRecords() bool {
	k := &c.credits
	c.mu.Lock()
	if len(k.due) == 0 && !k.asks && len(k.answers) == 0 {
		k.pumping = false
		c.mu.Unlock()
		return false
	}
	told := k.due
	k.due = nil
	for i, s := range told {
		if s.wants > 0 {
			k.record = appendUvarints(k.record, s.ID()*recordKinds+recordWant, s.wantsAt, uint64(s.wants))
		}
		if !s.tells {
			told[i] = nil
		}
		s.tells, s.wants = false, 0
	}
	for _, asked := range k.answers {
		k.record = appendUvarints(k.record, recordAnswer, uint64(asked/time.Microsecond), uint64(c.now()/time.Microsecond))
	}
	if k.asks {
		k.record = appendUvarints(k.record, recordAsk, uint64(c.now()/time.Microsecond))
	}
	k.asks, k.answers = false, nil
	c.mu.Unlock()
	for _, s := range told {
		if s == nil {
			continue
		}
		if g, ok := s.grant(); ok {
			k.record = appendUvarints(k.record, s.ID()*recordKinds+recordGrant, g.limit, g.come, g.messages)
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

// startCredit reads the other side's stream for credit, of which there is one.
func (c *carriers) startCredit(raw io.Reader) {
	c.mu.Lock()
	again := c.credits.heard
	c.credits.heard = true
	c.mu.Unlock()
	if again {
		c.abort(fmt.Errorf("%w: a second stream for credit", messages.ErrProtocol))
		return
	}
	const buffer = 512
	c.readCredit(bufio.NewReaderSize(raw, buffer))
}

// readCredit is a pump: it takes the records of the other side, until the
// connection ends.
func (c *carriers) readCredit(raw *bufio.Reader) {
	for {
		if err := c.takeRecord(raw); err != nil {
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
		c.isDue(func() {
			if len(c.credits.answers) < maxAnswers {
				c.credits.answers = append(c.credits.answers, micros(values[0]))
			}
		})
		return nil
	case recordAnswer:
		c.clock.answered(micros(values[0]), micros(values[1]))
		return nil
	}
	c.mu.Lock()
	s := c.credits.streams[head/recordKinds]
	c.mu.Unlock()
	switch {
	case s == nil: // it is over
	case head%recordKinds == recordWant:
		s.wanted(min(values[0], maxNumber), int(min(values[1], uint64(s.limits.MaxMessage)+messageCost)))
	default:
		s.granted(grant{values[0], values[1], values[2]})
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

// startLimit is what the other side may send from the beginning.
func (s *Stream) startLimit() uint64 {
	if r := s.carries.Load(); r != nil {
		return r.intake.again()
	}
	if l := s.loose.Load(); l != nil {
		return l.startLimit()
	}
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	return s.in.window.start()
}

// grant returns what the other side is to be told that it may send; false if it
// need not be any more.
func (s *Stream) grant() (grant, bool) {
	if k := s.in.intake.Load(); k != nil {
		return k.grant(s.in)
	}
	if l := s.loose.Load(); l != nil {
		return l.grant()
	}
	return s.in.grant(), true
}

// granted takes over what the other side lets this one send.
func (s *Stream) granted(g grant) {
	if r := s.carries.Load(); r != nil {
		r.journal.granted(s, g)
	} else if l := s.loose.Load(); l != nil {
		l.granted(g)
	} else {
		s.out.granted(g)
	}
}

// wanted hears that the other side, which has sent put bytes, has a frame of n
// bytes that it may not send yet.
func (s *Stream) wanted(put uint64, n int) {
	if k := s.in.intake.Load(); k != nil {
		k.wanted(s.in, put, n)
	} else if l := s.loose.Load(); l != nil {
		l.wanted(put, n)
	} else {
		s.in.wanted(put, n)
	}
}

// credit is what the sender of one direction of an ordered stream may send.
//
// A plain value, under the lock of what it is part of.
type credit struct {
	stream *Stream // nil: there is no limit
	limit  uint64
	put    uint64 // bytes that were handed to QUIC
	wanted uint64 // put when the receiver was asked for more, and 1
	grant  grant  // the last
}

// cut returns how many bytes of frames may be sent now: whole frames only, so that
// what is no message can always follow.
func (c *credit) cut(frames []byte) int {
	if c.stream == nil {
		return len(frames)
	}
	room := c.limit - c.put
	if uint64(len(frames)) <= room {
		return len(frames)
	}
	at := 0
	for {
		header, _, _ := parseFrameHeader(frames[at:]) // our own
		size := header.size + header.body
		if uint64(at+size) > room {
			break
		}
		at += size
	}
	if at == 0 && c.wanted != c.put+1 && c.stream.isAnswered() {
		header, _, _ := parseFrameHeader(frames)
		c.wanted = c.put + 1
		c.stream.carriers.want(c.stream, c.put, header.size+header.body)
	}
	return at
}

// take takes over what the receiver told.
func (c *credit) take(g grant) {
	c.limit = max(c.limit, g.limit)
	c.grant.come = max(c.grant.come, min(g.come, c.put))
	c.grant.messages = max(c.grant.messages, g.messages)
}
