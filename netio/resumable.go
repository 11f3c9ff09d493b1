package netio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
)

// Resumable is an ordered, bidirectional sequence of whole messages that outlives
// the connections which carry it: it is attached to one [Stream] after the other
// ([Conn.OpenFor], [Stream.AcceptFor]), and what the other side lacks is sent
// again. All methods may be called from any goroutine.
type Resumable struct {
	config  ResumableConfig
	limits  Limits
	journal *journal
	intake  *intake
	over    chan struct{} // closed when the stream needs no attachment any more
	known   chan struct{} // closed when the other side has accepted the stream for the first time
	leave   func()        // gives the budget back

	mu      sync.Mutex
	at      *Stream // that carries the stream now; nil while none does
	opening *Stream // that may come next; for the side that opens
	attempt uint64  // of the last one
	peer    []byte  // incarnation of the other side, once known
	ended   bool    // over is closed
	refused error   // why the other side did not accept a stream that was open early
}

// ResumableConfig says which resumable stream it is.
type ResumableConfig struct {
	// Peer is the name of the other side.
	Peer string
	// ID names it among those that its opener opened to its acceptor; [IDSize]
	// bytes.
	ID []byte
	// Incarnation names this process; [IDSize] bytes.
	Incarnation []byte
	// Keep is how many bytes may be kept and wait, not counting one message that
	// is larger.
	Keep int
	// Detached is told that nothing carries the stream any more, and why. It must
	// not block.
	Detached func(err error)
	// Ended is told once that the stream needs no attachment any more. It must not
	// block.
	Ended func()
}

// IDSize is the size in bytes of what names resumable streams and processes.
const IDSize = 16

// NewResumable returns a stream that is attached to nothing yet. It returns an error
// that matches [messages.ErrLimit] if the peer's memory is used up.
func (t *Transport) NewResumable(config ResumableConfig) (*Resumable, error) {
	limits := t.config.Limits
	r := &Resumable{config: config, limits: limits, over: make(chan struct{}), known: make(chan struct{})}
	r.intake = newIntake(limits.MaxMessage)
	queue := r.intake.queue
	queue.buffers = &t.buffers
	budget, leave := t.budgetFor(config.Peer)
	if r.leave = leave; !queue.window.open(budget, limits.ReceiveBuffer) {
		leave()
		return nil, errNoMemory
	}
	r.journal = newJournal(&t.buffers, limits.SendBuffer, config.Keep, r.intake)
	r.intake.journal = r.journal
	r.journal.failed = r.lost
	r.journal.memory.from = &budget.keep
	return r, nil
}

// Send queues one message and keeps it until the other side has it. It blocks
// while too much is kept, until ctx ends: then nothing of the message is sent.
// Errors: [*messages.SizeError] (the stream stays usable), [*messages.DoubtError],
// [messages.ErrClosed].
func (r *Resumable) Send(ctx context.Context, message []byte) error {
	return r.send(ctx, message, gift{})
}

// Give is Send of the message that buffer[at:] is, which is not copied. Unless Give returns an
// error, buffer is the stream's until it calls used, which must not block nor use the stream; it
// may not do so if the stream ends. There must be [GiveRoom] bytes before the message, which are
// overwritten.
func (r *Resumable) Give(ctx context.Context, buffer []byte, at int, used func()) error {
	return r.send(ctx, buffer[at:], gift{buffer, used})
}

func (r *Resumable) send(ctx context.Context, message []byte, g gift) error {
	if err := r.limits.check(message); err != nil {
		return err
	}
	return r.journal.send(ctx, message, g)
}

// Receive is like [Stream.Receive].
func (r *Resumable) Receive(ctx context.Context) ([]byte, error) { return r.intake.queue.receive(ctx) }

// ReceiveInto is like [Stream.ReceiveInto].
func (r *Resumable) ReceiveInto(ctx context.Context, buffer []byte) ([]byte, error) {
	return r.intake.queue.receiveInto(ctx, buffer)
}

// ReceiveAll has all messages used, one after the other, and nobody else may receive. It blocks
// until use returns an error, there are no more messages or ctx ends, and returns why. use is
// called by what reads the stream, so that it costs no change of goroutines, and must not block:
// nothing else is read from the stream meanwhile. The memory of a message is used again after
// that, unless use keeps messages.
func (r *Resumable) ReceiveAll(ctx context.Context, keeps bool, use func(message []byte) error) error {
	return r.intake.queue.receiveAll(ctx, keeps, use)
}

// Confirm blocks until the other side has taken over everything sent so far, it
// is not known whether it has ([*messages.DoubtError]), or ctx ends.
func (r *Resumable) Confirm(ctx context.Context) error { return r.journal.confirm(ctx) }

// Confirmed returns how many messages the other side has for sure.
func (r *Resumable) Confirmed() uint64 { return r.journal.confirmed() }

// CloseSend ends the sending direction after everything queued. It does not block.
func (r *Resumable) CloseSend() { r.journal.closeSend() }

// Close ends the sending direction after everything queued, and drops what was
// not received: the other side's sends fail. It does not block.
func (r *Resumable) Close() {
	r.journal.closeSend()
	r.intake.stop(messages.ErrClosed)
}

// Reset ends the stream at once in both directions. The other side gets why, if
// the stream is attached; else it will find that the stream is not known.
func (r *Resumable) Reset(why error) {
	r.intake.queue.discard(why)
	r.end(why, why)
}

// End ends the stream at once, because nothing will carry it any more. What has
// arrived can still be received. The other side is not told why.
func (r *Resumable) End(why error) { r.end(why, messages.ErrCanceled) }

// end ends the stream, and tells an other side that is attached what it is to hear.
func (r *Resumable) end(why, told error) {
	r.journal.end(why)
	doubt := r.journal.doubt(why)
	if doubt.InDoubt == 0 && errors.Is(why, messages.ErrClosed) {
		r.intake.end(why)
	} else {
		r.intake.end(doubt)
	}
	at, opening := r.finish()
	for _, stream := range []*Stream{at, opening} {
		if stream != nil {
			stream.cancelWrite(told)
			stream.cancelRead(told)
		}
	}
}

// finish notes that the stream needs no attachment any more. It returns those
// that it has.
func (r *Resumable) finish() (at, opening *Stream) {
	r.mu.Lock()
	first := !r.ended
	r.ended = true
	at, opening, r.at, r.opening = r.at, r.opening, nil, nil
	r.mu.Unlock()
	if first {
		close(r.over)
		r.leave()
		r.config.Ended()
	}
	return at, opening
}

// Ended is closed when the stream needs no attachment any more: both sides know
// that everything was said, or it failed.
func (r *Resumable) Ended() <-chan struct{} { return r.over }

// Answered blocks until the other side has accepted the stream for the first time, the
// stream is over, or ctx ends. If it was refused, nobody has received anything of it. For
// the side that opens.
func (r *Resumable) Answered(ctx context.Context) (refused bool, err error) {
	select {
	case <-r.known:
		return false, nil
	case <-r.over:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.peer != nil:
		return false, nil
	case r.refused != nil:
		return true, r.refused
	}
	return false, r.intake.queue.reason()
}

// Attached reports whether a QUIC stream carries the stream now.
func (r *Resumable) Attached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at != nil
}

// Done reports whether both directions are over in order, so that only the other
// side may still need the stream.
func (r *Resumable) Done() bool { return r.journal.done() && r.intake.done() }

// Peer returns the incarnation of the other side's process, nil while it is not known.
func (r *Resumable) Peer() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peer
}

// ID returns the name of the stream.
func (r *Resumable) ID() []byte { return r.config.ID }

// lost leaves an attachment that failed or came to its end. err is as QUIC gave
// it.
func (r *Resumable) lost(at *Stream, err error) {
	r.mu.Lock()
	if r.opening == at {
		r.opening = nil
	}
	if r.at != at {
		r.mu.Unlock()
		at.leave(err)
		return
	}
	r.at = nil
	r.intake.attach(nil)
	if errors.Is(err, io.EOF) && r.Done() { // the journal ends the QUIC stream, too
		r.mu.Unlock()
		r.finish()
		return
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: QUIC stream ends before the stream does", messages.ErrProtocol)
	}
	r.journal.detach()
	ended := r.ended
	r.refused = at.answer
	r.mu.Unlock()
	final := isFinal(err) || at.answer != nil
	err = fromQUIC(err)
	at.leave(err)
	switch {
	case ended:
	case final && r.Done():
		r.finish()
	case final:
		r.End(err)
	default:
		r.config.Detached(err)
	}
}

// leave ends a QUIC stream that carries nothing any more. A violation is told to
// the other side.
func (s *Stream) leave(err error) {
	why := messages.ErrCanceled
	if isOurs(err) {
		why = err
	}
	s.cancelWrite(why)
	s.cancelRead(why)
}

// isFinal reports whether an attachment ended because the stream is over, and not
// only the attachment.
func isFinal(err error) bool {
	if reset, ok := errors.AsType[*quic.StreamError](err); ok {
		err = fromQUIC(err)
		return reset.Remote && !errors.Is(err, messages.ErrCanceled) && !errors.Is(err, messages.ErrShutdown)
	}
	if errors.Is(err, errLeft) {
		return false
	}
	if isOurs(err) {
		return true
	}
	return errors.Is(fromQUIC(err), messages.ErrClosed)
}
