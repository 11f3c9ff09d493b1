package netio

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// messageCost is what a message counts beside its size, so that empty ones count too.
const messageCost = 64

func cost(message []byte) int { return len(message) + messageCost }

// loose is what a stream has that is not ordered, or whose messages have deadlines:
// what waits to be sent and what has arrived. Its messages travel on carriers of the
// connection; the head, which is the stream's own QUIC stream, carries news about
// them.
//
// Shared by senders, receivers, the pumps of the connection and the goroutine that
// listens to the head, under mu.
type loose struct {
	head     *Stream
	carriers *carriers
	terms    terms

	mu    sync.Mutex
	out   looseOut
	in    looseIn
	over  error // why everything is over, once it is
	stats DeliveryStats
}

// terms are what was agreed when the stream opened.
type terms struct {
	mode      conecv1.DeliveryMode
	deadline  time.Duration
	copyAfter time.Duration
	urgency   conecv1.Urgency
}

// Limits of what may be agreed.
const (
	maxDeadline  = 24 * time.Hour
	maxCopyAfter = 10 * time.Second
)

// newTerms checks what one side asks for.
func newTerms(open *conecv1.OpenStream) (terms, error) {
	delivery := open.GetDelivery()
	t := terms{
		mode: delivery.GetMode(), urgency: open.GetUrgency(),
		deadline:  time.Duration(min(delivery.GetDeadline(), uint64(maxDeadline/time.Microsecond)+1)) * time.Microsecond,
		copyAfter: time.Duration(min(delivery.GetCopyAfter(), uint64(maxCopyAfter/time.Microsecond)+1)) * time.Microsecond,
	}
	switch {
	case t.urgency < 0 || t.urgency > conecv1.Urgency_URGENCY_BULK:
		return t, fmt.Errorf("%w: urgency %d", messages.ErrProtocol, t.urgency)
	case t.mode < 0 || t.mode > conecv1.DeliveryMode_DELIVERY_MODE_LOSSY:
		return t, fmt.Errorf("%w: delivery mode %d", messages.ErrProtocol, t.mode)
	case t.deadline > maxDeadline || t.copyAfter > maxCopyAfter:
		return t, fmt.Errorf("%w: a deadline is at most %v, and a copy is sent at most %v after", messages.ErrProtocol, maxDeadline, maxCopyAfter)
	case t.copyAfter > 0 && !t.datagrams():
		return t, fmt.Errorf("%w: copies of messages that are not lost", messages.ErrProtocol)
	case delivery != nil && t.ordered():
		return t, fmt.Errorf("%w: delivery without a mode", messages.ErrProtocol)
	}
	return t, nil
}

// ordered reports whether messages travel on the stream itself. Where each has a
// deadline they do not, so that one can be given up: they travel as unordered ones
// and are put in order again.
func (t terms) ordered() bool { return t.inOrder() && t.deadline == 0 }

func (t terms) inOrder() bool {
	return t.mode == conecv1.DeliveryMode_DELIVERY_MODE_UNSPECIFIED
}

func (t terms) datagrams() bool {
	return t.mode == conecv1.DeliveryMode_DELIVERY_MODE_SEQUENCED || t.mode == conecv1.DeliveryMode_DELIVERY_MODE_LOSSY
}

// Urgencies of QUIC streams (RFC 9218 section 4.1).
const (
	urgencyControl     = 0
	urgencyInteractive = 3
	urgencyBulk        = 6
)

func (t terms) quicUrgency() int8 {
	if t.urgency == conecv1.Urgency_URGENCY_BULK {
		return urgencyBulk
	}
	return urgencyInteractive
}

// DeliveryStats count the messages of a stream. Those of its peer are complete
// when Receive has returned io.EOF; then, for each direction,
// Sent = Delivered + Late + Dropped + Lost.
type DeliveryStats struct {
	// Sent is how many messages Send took.
	Sent uint64
	// Confirmed of them, the first, have come to the peer or were given up, as it has
	// told: at the latest after a fourth of its window, of 64 KiB or more. Of sequenced
	// and lossy messages, and by streams that ended in order, nothing is told.
	Confirmed uint64
	// GivenUp of them were not sent, or no longer: their deadline passed, or the
	// path now takes smaller datagrams only. The peer counts them as lost or late.
	GivenUp uint64
	// Delivered is how many messages Receive returned.
	Delivered uint64
	// Late ones came, but after their deadline or, if sequenced, after a newer one.
	Late uint64
	// Dropped ones came and were pushed out by newer ones, since nobody received
	// them in time.
	Dropped uint64
	// Lost ones did not come. Until the peer's end has come, these are gaps, some
	// of which may still be filled.
	Lost uint64
	// Duplicates is how many messages came once more.
	Duplicates uint64
}

// newLoose makes the loose part of a stream.
func newLoose(head *Stream, carriers *carriers, terms terms) *loose {
	l := &loose{head: head, carriers: carriers, terms: terms}
	l.in.init(terms)
	l.out.limit = baseWindow
	return l
}

// start lets messages come.
func (l *loose) start() error {
	if !l.in.window.open(l.carriers.budget, l.head.limits.ReceiveBuffer) {
		return errNoMemory
	}
	l.carriers.register(l)
	if l.terms.deadline > 0 {
		l.in.clocked = true
		l.carriers.clock.begin()
	}
	return nil
}

// maxNews is how many bytes of news may come in one frame.
const maxNews = 64 << 10

// takeNews takes a frame with news of the other side. It is called by the pump of the
// head.
func (l *loose) takeNews(body []byte) error {
	news := &conecv1.DeliveryNews{}
	if err := proto.Unmarshal(body, news); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	return l.hear(news)
}

// headEnded acts on the end of the other side's direction of the head, which is in
// order once it has ended its messages and wants no more of ours, and after a refusal.
func (l *loose) headEnded(err error) {
	if !errors.Is(err, io.EOF) {
		l.fail(err, false)
		return
	}
	if l.head.answer != nil {
		l.fail(l.head.answer, true)
		return
	}
	l.mu.Lock()
	early := l.over == nil && (!l.in.ended || !l.out.endSaid && l.out.err == nil)
	l.mu.Unlock()
	if early {
		l.head.Reset(fmt.Errorf("%w: the head ends before its messages", messages.ErrProtocol))
	}
}

// hear acts on news.
func (l *loose) hear(news *conecv1.DeliveryNews) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != nil {
		return nil
	}
	if err := l.heardComplete(news.GetComplete()); err != nil {
		return err
	}
	for _, message := range news.GetGivenUp() {
		if err := l.heardGivenUp(message); err != nil {
			return err
		}
	}
	if end := news.GetEnd(); end != nil {
		if l.in.ended {
			return fmt.Errorf("%w: ended twice", messages.ErrProtocol)
		}
		l.in.ended, l.in.total = true, end.GetMessages()
	}
	if news.GetStop() != conecv1.Code_CODE_UNSPECIFIED {
		l.stopSending(remoteError{messages.FromCode(news.GetStop(), "")})
	}
	return l.checkEnd()
}

// say tells the other side news, of which there are few: what may be much is told by
// a pump (tellGone). Called with mu held. A head that has no room for it is broken.
func (l *loose) say(news *conecv1.DeliveryNews) {
	body, err := proto.Marshal(news)
	if err == nil {
		err = l.head.out.try(fieldMessages, body)
	}
	if err != nil && l.over == nil {
		l.over = err
		go l.head.Reset(err) // which needs mu
	}
}

// touch has bulk streams give way for a while, if this one is interactive.
func (l *loose) touch() {
	if l.terms.urgency != conecv1.Urgency_URGENCY_BULK {
		l.carriers.pace.touch()
	}
}

// endHead ends this side's direction of the head once both directions of messages
// are over, and none of ours may still have to be given up. Called with mu held.
func (l *loose) endHead() {
	if l.out.endSaid && l.in.over && len(l.out.flights) == 0 && len(l.out.gone) == 0 && !l.out.telling {
		l.head.out.closeSend()
	}
}

// fail ends both directions. What has arrived can still be received, unless it is
// discarded.
func (l *loose) fail(why error, discard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over == nil {
		l.over = why
	}
	l.abandonSending(why)
	l.endReceiving(why)
	if discard {
		l.discard(why)
	}
}

// now is the time by this connection's clock.
func (c *carriers) now() time.Duration { return time.Since(c.began) }

// deliveryStats returns the counts.
func (l *loose) deliveryStats() DeliveryStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats := l.stats
	stats.Sent, stats.Confirmed = l.out.number, l.out.complete
	stats.Lost = l.in.numbers.missing()
	if l.in.ended {
		stats.Lost = l.in.total - min(l.in.total, l.in.numbers.count)
	}
	stats.Lost += l.in.givenUp
	return stats
}

// resetCode is what a QUIC stream of messages is reset with: nobody reads it.
const resetCode = quic.StreamErrorCode(conecv1.Code_CODE_CANCELED)
