package netio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// maxFirstFrame limits the frame that opens, accepts or refuses a stream.
const maxFirstFrame = 4 << 10

// Stream is an ordered, bidirectional sequence of whole messages on a [Conn].
// Its two directions are independent. All methods may be called from any
// goroutine.
type Stream struct {
	raw    *quic.Stream
	limits Limits
	out    *outbox
	in     *inbox
	ended  chan struct{} // closed when both directions are over

	answered chan struct{} // closed with the first frame of the other side
	answer   error         // why it refused
	opened   *conecv1.OpenStream
	decide   func()        // closes decided, once
	decided  chan struct{} // closed when this side has accepted or refused what carries a resumable stream

	carries atomic.Pointer[Resumable] // set if the stream is an attachment of a resumable one

	carriers *carriers
	terms    terms
	credit   uint64                // that the other side's first frame gives
	loose    atomic.Pointer[loose] // nil if the stream is ordered

	due due // under mu of carriers
}

// DefaultMaxMessage is the size in bytes of the largest message, unless [Limits] say
// otherwise.
const DefaultMaxMessage = 16 << 20

// newStream wraps a QUIC stream.
func (c *Conn) newStream(raw *quic.Stream) *Stream {
	limits := c.transport.config.Limits
	decided := make(chan struct{})
	return &Stream{
		raw: raw, limits: limits, carriers: c.carriers,
		out:      newOutbox(raw, &c.transport.buffers, limits.SendBuffer),
		ended:    make(chan struct{}),
		answered: make(chan struct{}),
		decided:  decided, decide: sync.OnceFunc(func() { close(decided) }),
	}
}

// startOpener opens the stream: it has begin say what the stream is for, and expects an answer.
func (s *Stream) startOpener(open *conecv1.OpenStream, begin func(body []byte) error) error {
	s.in = s.newInbox(s.takeAnswer)
	s.opened = open
	if err := s.agree(open); err != nil {
		return err
	}
	first := &conecv1.OpenStream{}
	proto.Merge(first, open)
	if limit := s.creditor().startLimit(); limit > baseWindow || open.GetResume() != nil {
		first.Credit = limit
	}
	body, err := proto.Marshal(first)
	if err != nil {
		return err
	}
	s.carriers.enter(s)
	go s.pump()
	return begin(body)
}

// startAcceptor expects the frame that says what the stream is for.
func (s *Stream) startAcceptor() {
	s.in = s.newInbox(s.takeOpen)
	s.carriers.enter(s)
	go s.pump()
}

func (s *Stream) newInbox(first func(field int, body []byte) error) *inbox {
	in := newInbox(s.raw, s.limits.MaxMessage, first)
	in.buffers, in.tell = s.out.buffers, func() { s.carriers.tell(s) }
	return in
}

// takeAnswer is given the first frame of the side that accepts.
func (s *Stream) takeAnswer(field int, body []byte) error {
	switch field {
	case fieldOpened:
		var opened conecv1.StreamOpened
		if err := proto.Unmarshal(body, &opened); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
		}
		s.creditor().granted(grant{limit: opened.GetCredit()})
		if r := s.carries.Load(); r != nil {
			if err := r.answered(s, &opened); err != nil {
				return err
			}
		}
		if !proto.Equal(opened.GetDelivery(), s.opened.GetDelivery()) {
			s.answer = fmt.Errorf("%w: the other side does not know this delivery", messages.ErrVersion)
		}
	case fieldRefused:
		var refused conecv1.StreamRefused
		if err := proto.Unmarshal(body, &refused); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
		}
		s.answer = remoteError{messages.FromCode(refused.GetCode(), refused.GetReason())}
		close(s.answered)
		s.Reset(s.answer) // who did not wait for the answer hears it of every call
		return s.answer
	default:
		return fmt.Errorf("%w: frame %d answers no open", messages.ErrProtocol, field)
	}
	close(s.answered)
	s.creditor().granted(grant{}) // it may ask for more now
	return nil
}

// takeOpen is given the first frame of the side that opens.
func (s *Stream) takeOpen(field int, body []byte) error {
	if field != fieldOpen {
		return fmt.Errorf("%w: stream begins with frame %d", messages.ErrProtocol, field)
	}
	open := &conecv1.OpenStream{}
	if err := proto.Unmarshal(body, open); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	if len(open.GetPurpose()) > messages.MaxPurpose {
		return fmt.Errorf("%w: purpose of %d bytes", messages.ErrProtocol, len(open.GetPurpose()))
	}
	s.opened = open
	if err := s.agree(open); err != nil {
		return err
	}
	s.creditor().granted(grant{limit: open.GetCredit()})
	s.credit, open.Credit = open.GetCredit(), 0 // what is left are the terms
	close(s.answered)
	if open.GetResume() != nil { // the opener may not have waited: what follows is for a stream that is not known yet
		select {
		case <-s.decided:
		case <-s.raw.Context().Done():
		}
	}
	return nil
}

// agree takes over what the stream is to be, at both sides.
func (s *Stream) agree(open *conecv1.OpenStream) (err error) {
	if s.terms, err = newTerms(open); err != nil {
		return err
	}
	if !s.terms.ordered() && open.GetResume() != nil {
		return fmt.Errorf("%w: a resumable stream that is not ordered", messages.ErrProtocol)
	}
	if s.terms.datagrams() {
		if err = s.carriers.takesDatagrams(); err != nil {
			return err
		}
	}
	s.raw.SetPriority(s.terms.quicUrgency(), true)
	if !s.terms.ordered() {
		l := newLoose(s, s.carriers, s.terms)
		s.in.news = l.takeNews
		s.loose.Store(l)
		return l.start()
	}
	bulk := s.terms.urgency == conecv1.Urgency_URGENCY_BULK
	s.in.pace, s.in.bulk = &s.carriers.pace, bulk
	s.out.mu.Lock() // it may be ended at this moment
	s.out.writer.pace, s.out.writer.bulk, s.out.writer.gone = &s.carriers.pace, bulk, s.raw.Context().Done()
	s.out.credit = credit{stream: s, limit: baseWindow}
	s.out.mu.Unlock()
	if open.GetResume() != nil || s.carries.Load() != nil {
		return nil // its window lasts longer than this
	}
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	if !s.in.window.open(s.carriers.budget, s.limits.ReceiveBuffer) {
		return errNoMemory
	}
	return nil
}

// errNoMemory refuses a stream for which no window is left.
var errNoMemory = fmt.Errorf("%w: memory for this peer", messages.ErrLimit)

// Heard reports whether the other side has said something on the stream.
func (s *Stream) Heard() bool {
	select {
	case <-s.answered:
		return true
	default:
		return false
	}
}

// AwaitAnswer blocks until the other side accepted the stream (nil) or refused
// it, the stream failed, or ctx ended. For the side that opened.
func (s *Stream) AwaitAnswer(ctx context.Context) error {
	if err := s.awaitFirst(ctx); err != nil {
		return err
	}
	return s.answer
}

// AwaitOpen blocks until the other side said what the stream is for. For the
// side that accepts, which then calls Accept or Refuse.
func (s *Stream) AwaitOpen(ctx context.Context) (*conecv1.OpenStream, error) {
	if err := s.awaitFirst(ctx); err != nil {
		return nil, err
	}
	return s.opened, nil
}

func (s *Stream) awaitFirst(ctx context.Context) error {
	select {
	case <-s.answered:
		return nil
	case <-s.in.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.answered: // it came, and then the stream ended
		return nil
	default:
		return s.in.reason()
	}
}

// Accept tells the opener that the stream is open. It does not block. If only the
// opener sends, the direction to it is over then.
func (s *Stream) Accept() error {
	opened := &conecv1.StreamOpened{Delivery: s.opened.GetDelivery()} // it must know the delivery, and says so
	if limit := s.creditor().startLimit(); limit > baseWindow {
		opened.Credit = limit
	}
	body, err := proto.Marshal(opened)
	if err == nil {
		err = s.out.begin(fieldOpened, body)
	}
	if err == nil && s.opened.GetOneWay() {
		s.CloseSend()
	}
	return err
}

// Refuse tells the opener why the stream is not open, and ends it. It does not
// block.
func (s *Stream) Refuse(why error) {
	code, reason := messages.ToCode(why)
	body, err := proto.Marshal(&conecv1.StreamRefused{Code: code, Reason: reason})
	if err == nil {
		_ = s.out.begin(fieldRefused, body) // the stream may be gone already
	}
	if loose := s.loose.Load(); loose != nil {
		loose.fail(messages.ErrRefused, true)
	}
	s.out.closeSend()
	s.stopReceiving(why) // who has sent already may hear this first
}

// ID returns the QUIC stream number.
func (s *Stream) ID() uint64 { return uint64(s.raw.StreamID()) }

// Send queues one message; a pump writes it as soon as the connection takes it.
// It returns when the message is queued, not when it has arrived. It blocks while
// SendBuffer bytes wait, until ctx ends: then nothing of the message is sent.
// Errors: [messages.SizeError] (the stream stays usable), what the other side
// gave as reason, anything matching net.ErrClosed.
func (s *Stream) Send(ctx context.Context, message []byte) error {
	if loose := s.loose.Load(); loose != nil {
		return loose.send(ctx, message, loose.terms.deadline)
	}
	if err := s.limits.check(message); err != nil {
		return err
	}
	return s.out.send(ctx, message)
}

// SendWithin is Send with a deadline for this message, of at most that of the stream.
func (s *Stream) SendWithin(ctx context.Context, message []byte, within time.Duration) error {
	loose := s.loose.Load()
	if loose == nil || loose.terms.deadline == 0 {
		return messages.ErrNoDeadline
	}
	return loose.send(ctx, message, min(max(within.Truncate(time.Microsecond), time.Microsecond), loose.terms.deadline))
}

// Receive returns the next message, or io.EOF after the other side's last. It
// blocks until there is one or ctx ends. The slice is the caller's to keep and
// change; messages of a few KiB share an allocation of at most 32 KiB, so who
// keeps a few of many for long should copy them.
func (s *Stream) Receive(ctx context.Context) ([]byte, error) {
	if loose := s.loose.Load(); loose != nil {
		return loose.receive(ctx)
	}
	return s.in.receive(ctx)
}

// ReceiveInto is Receive into the caller's memory: it returns buffer[:0] with the
// message appended. Who receives many large messages spares the collector.
func (s *Stream) ReceiveInto(ctx context.Context, buffer []byte) ([]byte, error) {
	if loose := s.loose.Load(); loose != nil {
		message, err := loose.receive(ctx)
		if err != nil {
			return nil, err
		}
		return append(buffer[:0], message...), nil
	}
	return s.in.receiveInto(ctx, buffer)
}

// CloseSend ends the sending direction after everything queued: the other side
// receives it all and then io.EOF. It does not block.
func (s *Stream) CloseSend() {
	if r := s.carries.Load(); r != nil {
		r.CloseSend()
		return
	}
	if loose := s.loose.Load(); loose != nil {
		loose.closeSend()
		return
	}
	s.out.closeSend()
}

// Close ends the stream: what was queued is still sent, what was not received is
// dropped. It does not block.
func (s *Stream) Close() {
	if loose := s.loose.Load(); loose != nil {
		loose.closeSend()
		loose.stopReceiving(messages.ErrClosed)
		return
	}
	s.out.closeSend()
	s.stopReceiving(messages.ErrClosed)
}

// Reset ends the stream at once in both directions; the other side gets why.
func (s *Stream) Reset(why error) {
	if loose := s.loose.Load(); loose != nil {
		loose.fail(why, true)
	}
	s.cancelWrite(why)
	s.out.end(why)
	s.stopReceiving(why)
}

// Cut ends the stream at once in both directions, because the channel ends; the
// other side gets why. What has arrived can still be received.
func (s *Stream) Cut(why error) {
	if loose := s.loose.Load(); loose != nil {
		loose.fail(messages.ErrClosed, false)
	}
	s.decide()
	s.cancelWrite(why)
	s.out.end(messages.ErrClosed)
	_ = s.in.finish(messages.ErrClosed)
	s.cancelRead(why)
}

func (s *Stream) stopReceiving(why error) {
	s.decide()
	s.in.discard(why)
	s.cancelRead(why)
}

// cancelWrite and cancelRead end a direction of the QUIC stream at once and tell
// the other side why.
func (s *Stream) cancelWrite(why error) {
	s.raw.CancelWrite(quic.StreamErrorCode(quicCode(why)))
}

func (s *Stream) cancelRead(why error) {
	s.raw.CancelRead(quic.StreamErrorCode(quicCode(why)))
}

// Acknowledge has the other side told what has come so far, on an ordered stream: its
// [Stream.Stats] show it as confirmed. Without, it is told when it may send more.
func (s *Stream) Acknowledge() {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.tell()
}

// OnConfirmed has f called whenever the other side tells what has come. f must not block,
// nor use the stream. It is set before anything is sent.
func (s *Stream) OnConfirmed(f func(messages uint64)) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.confirmed = f
}

// ReceiveEnded is closed when the last message of the other side has been read
// off the network, or receiving failed.
func (s *Stream) ReceiveEnded() <-chan struct{} {
	if loose := s.loose.Load(); loose != nil {
		return loose.in.done
	}
	return s.in.over
}

// ReceiveErr returns why receiving is over, on an ordered stream: what Receive returns once
// everything that came was received. Nil while it is not over.
func (s *Stream) ReceiveErr() error { return s.in.reason() }

// SendEnded is closed when sending is over and everything was handed to QUIC, or
// sending failed.
func (s *Stream) SendEnded() <-chan struct{} { return s.out.done }

// Ended is closed when both directions are over.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

// pump reads until the other side's end; then it waits for the end of sending.
func (s *Stream) pump() {
	defer close(s.ended)
	defer s.carriers.leave(s)
	err := s.in.read()
	if r := s.carries.Load(); r != nil {
		_ = s.in.finish(err)
		r.lost(s, err)
		s.out.end(messages.ErrClosed)
		return
	}
	s.endWrite() // before receivers hear of it: who does, hears the same by Send
	if err = s.in.finish(err); !errors.Is(err, io.EOF) {
		s.cancelRead(err)
		if isOurs(err) { // a fault of the other side: nothing more to say to it
			s.cancelWrite(err)
			s.out.end(err)
		}
	}
	if r := s.carries.Load(); r != nil { // since a moment ago
		r.lost(s, err)
		s.out.end(messages.ErrClosed)
		return
	}
	if l := s.loose.Load(); l != nil {
		l.headEnded(err)
	}
	select {
	case <-s.out.done:
		return
	case <-s.raw.Context().Done(): // also when the other side no longer reads
	}
	s.endWrite()
	<-s.out.done
}

// endWrite ends sending if it is over for QUIC, and was not ended from here.
func (s *Stream) endWrite() {
	if cause := context.Cause(s.raw.Context()); cause != nil && !errors.Is(cause, quic.ErrStreamClosed) {
		s.out.end(fromQUIC(cause))
		s.raw.CancelWrite(0) // QUIC keeps the stream until this side has noted the end
	}
}
