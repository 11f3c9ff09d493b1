package sim_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// What the steps of a schedule do to streams, and what must be true of them.

// playedStream is a stream of a schedule.
type playedStream struct {
	number   int
	from, to int
	mode     int
	asked    time.Duration // when it was to be opened
	patience time.Duration // of the opener

	flows  [2]*sequence // what the opener sends, and what the other side sends
	orders [2]*orders   // what the opener is to do, and the other side

	// Under the play's mu.
	ends     [2]*client.Stream
	tasks    [2]task          // what the sides are doing, for reports
	accepted int              // how often the other side accepted a stream of this number
	failed   bool             // it could not be opened
	stalled  [2]time.Duration // until when the sides receive nothing
}

// task says what a side is doing.
type task struct{ sending, receiving bool }

// sequence is one direction of a stream.
type sequence struct {
	stream, side int

	mu       sync.Mutex
	sent     []int // sizes of the messages that Send took
	trying   int   // size of the message that Send has not answered for, -1 for none
	received int
	promised int   // how many must arrive, because something said that they had
	ending   bool  // the sender has ended it in order, or its channel
	dropped  bool  // the receiver has said that it wants no more
	end      error // why receiving ended; io.EOF in order
	endedAt  time.Duration
}

// message returns the content of a message: the same for all of one number.
func (q *sequence) message(number, size int) []byte {
	var head [12]byte
	binary.BigEndian.PutUint32(head[:], uint32(q.stream))
	binary.BigEndian.PutUint32(head[4:], uint32(number))
	head[8], head[9] = byte(q.side), 0xc0
	message := make([]byte, size)
	for at := 0; at < size; at += len(head) {
		copy(message[at:], head[:])
	}
	return message
}

// orders are what one side is to do, one after the other.
type orders struct {
	mu     sync.Mutex
	list   []step
	closed bool
	added  chan struct{}
}

func newOrders() *orders { return &orders{added: make(chan struct{}, 1)} }

// add adds an order, perhaps the last.
func (o *orders) add(s step, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.list, o.closed = append(o.list, s), last
	select {
	case o.added <- struct{}{}:
	default:
	}
}

// next waits for an order. There is none if the last one was taken.
func (o *orders) next() (step, bool) {
	for {
		o.mu.Lock()
		if len(o.list) > 0 {
			first := o.list[0]
			o.list = o.list[1:]
			o.mu.Unlock()
			return first, true
		}
		closed := o.closed
		o.mu.Unlock()
		if closed {
			return step{}, false
		}
		<-o.added
	}
}

// open begins to open a stream.
func (p *play) open(s step) {
	from, to := p.party(s.who), p.party(s.whom)
	if from == nil || to == nil || from.client == nil || to.client == nil {
		return
	}
	stream := &playedStream{number: s.stream, from: s.who, to: s.whom, mode: s.how, asked: p.w.Elapsed(), patience: openWithin}
	if s.last > 0 {
		stream.patience = s.last
	}
	for side := range stream.flows {
		stream.flows[side] = &sequence{stream: s.stream, side: side, trying: -1}
		stream.orders[side] = newOrders()
	}
	cl := from.client.Current()
	p.mu.Lock()
	known := p.streams[s.stream] != nil
	if !known && cl != nil {
		p.streams[s.stream] = stream
	}
	p.mu.Unlock()
	if known || cl == nil {
		return
	}
	p.ends.Go(func() {
		end, err := openStream(cl, stream, to.name)
		p.mu.Lock()
		stream.failed = err != nil
		stream.ends[0] = end
		p.mu.Unlock()
		if err == nil {
			p.attend(stream, 0, end)
			return
		}
		p.refused(stream, err)
	})
}

func openStream(cl *client.Client, s *playedStream, to string) (*client.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	purpose := strconv.Itoa(s.number)
	if s.mode == openOwn {
		channel, err := cl.OpenChannel(ctx, to, nil)
		if err != nil {
			return nil, err
		}
		return channel.OpenStream(ctx, &client.StreamOptions{Purpose: purpose})
	}
	modes := map[int]client.Mode{openAuto: client.Automatic, openRelay: client.RelayOnly, openDirect: client.DirectOnly}
	return cl.OpenStream(ctx, to, &client.StreamOptions{Purpose: purpose, Mode: modes[s.mode]})
}

// refused checks that a stream that could not be opened had a reason.
func (p *play) refused(s *playedStream, err error) {
	p.troubleStream(s, s.from, s.to) // the other side may have it
	took := p.w.Elapsed() - s.asked
	if took > s.patience+time.Second {
		p.fault("slow", "opening stream %d failed after %v: %v", s.number, took, err)
	}
	if !isReason(err) || !p.mayRefuse(s, s.asked) && !p.unlucky(err) {
		p.fault("open", "stream %d of %s to %s, asked for at %v: %v", s.number, clientName(s.from), clientName(s.to), s.asked, err)
	}
}

// isReason reports whether an error is one that faults of the network and of
// programs may lead to.
func isReason(err error) bool {
	for _, reason := range []error{
		net.ErrClosed, context.DeadlineExceeded, messages.ErrNoSuchPeer, messages.ErrUnreachable, messages.ErrBusy,
		messages.ErrLimit, messages.ErrCanceled, messages.ErrRefused,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// greeting is the purpose of streams that only see whether there is somebody.
const greeting = "greeting"

// accept takes the streams that peers open to a client, until it ends.
func (p *play) accept(number int) {
	cl := p.party(number).client.Current()
	if cl == nil {
		return
	}
	p.w.Go(func() {
		for {
			end, err := cl.AcceptStream(context.Background())
			if err != nil {
				return
			}
			if end.Purpose() == greeting {
				go p.answer(end)
				continue
			}
			p.accepted(end, number)
		}
	})
}

func (p *play) answer(end *client.Stream) {
	defer end.Close()
	if message, err := end.Receive(context.Background()); err == nil {
		_ = end.Send(context.Background(), message) // who asked sees what is wrong
	}
}

// accepted takes one end of a stream of the schedule. There may be several of
// one number: the opener tries again if its channel ends before it knows.
func (p *play) accepted(end *client.Stream, at int) {
	number, err := strconv.Atoi(end.Purpose())
	p.mu.Lock()
	s := p.streams[number]
	if err != nil || s == nil || s.to != at {
		p.mu.Unlock()
		p.fault("protocol", "%s accepted a stream for %q", clientName(at), end.Purpose())
		return
	}
	s.accepted++
	again := s.accepted > 1
	s.ends[1] = end
	p.mu.Unlock()
	if again { // what happens to the ends is not followed further
		p.troubleStream(s, s.from, s.to)
		end.Reset()
		return
	}
	p.attend(s, 1, end)
}

// attend does what one side of a stream is to do.
func (p *play) attend(s *playedStream, side int, end *client.Stream) {
	p.mu.Lock()
	s.tasks[side] = task{sending: true, receiving: true}
	p.mu.Unlock()
	p.ends.Go(func() {
		p.receive(s, s.flows[1-side], end)
		p.mu.Lock()
		defer p.mu.Unlock()
		s.tasks[side].receiving = false
	})
	p.ends.Go(func() {
		p.obey(s, s.flows[side], end)
		p.mu.Lock()
		defer p.mu.Unlock()
		s.tasks[side].sending = false
	})
}

// obey does what one side of a stream is told to do in order.
func (p *play) obey(s *playedStream, flow *sequence, end *client.Stream) {
	for {
		order, ok := s.orders[flow.side].next()
		if !ok {
			return
		}
		switch order.do { //nolint:exhaustive // the others are not done in order
		case doSend, doTry:
			for range order.count {
				if err := p.send(s, flow, end, order); err != nil {
					break
				}
				if order.every > 0 {
					<-time.After(order.every)
				}
			}
		case doCloseSend:
			flow.set(func() { flow.ending = true })
			end.CloseSend()
		case doClose:
			flow.set(func() { flow.ending = true })
			back := s.flows[1-flow.side]
			back.set(func() { back.dropped = true })
			end.Close()
		}
	}
}

func (q *sequence) set(change func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change()
}

// send sends one message, or gives up if that is the order.
func (p *play) send(s *playedStream, flow *sequence, end *client.Stream, order step) error {
	ctx, size, number := context.Background(), order.size, 0
	if order.do == doTry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, order.last)
		defer cancel()
	}
	flow.set(func() { number, flow.trying = len(flow.sent), size })
	err := end.Send(ctx, flow.message(number, size))
	var ended, dropped bool
	flow.set(func() {
		flow.trying = -1
		if err == nil {
			flow.sent = append(flow.sent, size)
		}
		ended, dropped = flow.ending, flow.dropped
		if err != nil && flow.received > len(flow.sent) {
			p.fault("twice", "stream %d: message %d arrived, although Send said %v", s.number, number, err)
		}
	})
	if err != nil && ctx.Err() == nil && !ended && !dropped && (!isReason(err) || !p.mayBreak(s, s.asked)) {
		p.fault("send", "stream %d, side %d, message %d: %v", s.number, flow.side, number, err)
	}
	return err
}

// receive takes what comes until it ends.
func (p *play) receive(s *playedStream, flow *sequence, end *client.Stream) {
	for {
		for {
			var stalled time.Duration
			p.mu.Lock()
			stalled = s.stalled[1-flow.side] - p.w.Elapsed()
			p.mu.Unlock()
			if stalled <= 0 {
				break
			}
			<-time.After(stalled)
		}
		message, err := end.Receive(context.Background())
		if err != nil {
			flow.set(func() { flow.end, flow.endedAt = err, p.w.Elapsed() })
			p.received(s, flow, err)
			return
		}
		if wrong := flow.take(message); wrong != "" {
			p.fault("order", "stream %d, from side %d: %s", s.number, flow.side, wrong)
			end.Reset()
			p.troubleStream(s, s.from, s.to)
			return
		}
	}
}

// take checks a message that has come.
func (q *sequence) take(message []byte) (wrong string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	number, size := q.received, q.trying
	q.received++
	if number < len(q.sent) {
		size = q.sent[number]
	}
	switch {
	case number > len(q.sent) || size < 0:
		return fmt.Sprintf("message %d of %d bytes came, and only %d were sent", number, len(message), len(q.sent))
	case !bytes.Equal(message, q.message(number, size)):
		return fmt.Sprintf("message %d of %d bytes came where %d of %d bytes was due: %x", number, len(message), number, size, message[:min(len(message), 12)])
	}
	return ""
}

// received checks why a direction has ended, as it does.
func (p *play) received(s *playedStream, flow *sequence, err error) {
	var dropped bool
	flow.set(func() { dropped = flow.dropped })
	switch {
	case err == io.EOF, dropped: //nolint:errorlint // Receive promises io.EOF itself
	case !isReason(err):
		p.fault("reason", "stream %d, from side %d: %v", s.number, flow.side, err)
	case !p.mayBreak(s, s.asked):
		p.fault("broken", "stream %d, from side %d: nothing that lasted disturbed it, and after %d messages of %d: %v",
			s.number, flow.side, flow.received, len(flow.sent), err)
	}
}

// judge checks a direction after everything has ended.
func (p *play) judge(s *playedStream, flow *sequence) {
	flow.mu.Lock()
	defer flow.mu.Unlock()
	sent := len(flow.sent)
	switch {
	case flow.end == nil: // it was never open
	case flow.end == io.EOF && !flow.ending: //nolint:errorlint // Receive promises io.EOF itself
		p.fault("early", "stream %d, from side %d: ended in order after %d messages of %d, and nobody had ended it",
			s.number, flow.side, flow.received, sent)
	case flow.end == io.EOF && flow.received != sent: //nolint:errorlint // as above
		p.fault("lost", "stream %d, from side %d: ended in order after %d messages of %d", s.number, flow.side, flow.received, sent)
	case flow.received < flow.promised && !flow.dropped:
		p.fault("promise", "stream %d, from side %d: %d messages came, but a close in order said that %d had: %v",
			s.number, flow.side, flow.received, flow.promised, flow.end)
	}
}

// unfinished says what has not ended of a stream, if anything. Called with the
// play's mu held.
func (s *playedStream) unfinished() (text string) {
	for side, name := range []string{"opener", "acceptor"} {
		if s.tasks[side].sending {
			text += fmt.Sprintf("the %s still sends; ", name)
		}
		if s.tasks[side].receiving {
			flow := s.flows[1-side]
			flow.set(func() {
				text += fmt.Sprintf("the %s still receives, after %d messages of %d; ", name, flow.received, len(flow.sent))
			})
		}
	}
	return text
}
