package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Stream is a bidirectional sequence of whole messages, in order unless
// [StreamOptions] say otherwise. Its directions are independent. All methods may
// be called from any goroutine.
type Stream struct {
	raw       carrier
	resumable *resumable // nil if the stream ends with its channel
	peer      string
	terms     *conecv1.OpenStream
	channel   *Channel
}

// carrier is what a stream is made of: a QUIC stream, or one after the other.
type carrier interface {
	Send(ctx context.Context, message []byte) error
	Receive(ctx context.Context) ([]byte, error)
	ReceiveInto(ctx context.Context, buffer []byte) ([]byte, error)
	CloseSend()
	Close()
	Reset(why error)
	TrySend(message []byte) error
	TryReceive() ([]byte, error)
	Stats() netio.DeliveryStats
}

// Peer returns the name of the other side, which the channel authenticated.
func (s *Stream) Peer() string { return s.peer }

// Purpose returns what the opener said the stream is for.
func (s *Stream) Purpose() string { return s.terms.GetPurpose() }

// Channel returns the channel that carries the stream, or the last one that did if
// none does now.
func (s *Stream) Channel() *Channel {
	if s.resumable != nil {
		return &Channel{cl: s.channel.cl, ref: s.resumable.channel.Load()}
	}
	return s.channel
}

// Send queues a message of at most Config.MaxMessage bytes; the slice is free
// again when Send returns. Messages are sent in order, as soon as the channel
// takes them. While 256 KiB wait, Send blocks, until ctx ends: then nothing of
// the message is sent. That Send returned nil does not mean that the message has
// arrived; [Channel.Close] and [Client.Close] wait for that. A resumable stream
// ([StreamOptions]) keeps what it sends until the peer's client has it; Send
// blocks, too, while Config.ResumeBuffer bytes are kept.
//
// When the stream fails, the error has a [*messages.DoubtError] that says how many
// messages the peer's client has for sure; [StreamStats] says when it tells. It is
// none if nothing is in doubt.
func (s *Stream) Send(ctx context.Context, message []byte) error {
	if err := s.raw.Send(ctx, message); err != nil {
		return s.opError("send", err)
	}
	return nil
}

// Receive returns the next message, or io.EOF after the peer's last. It blocks
// until there is one or ctx ends. The slice is the caller's to keep and change;
// messages of a few KiB share an allocation of at most 32 KiB, so who keeps a
// few of many for long should copy them.
func (s *Stream) Receive(ctx context.Context) ([]byte, error) {
	message, err := s.raw.Receive(ctx)
	return message, s.receiveError(err)
}

// ReceiveInto is Receive into the caller's memory: it returns buffer[:0] with the
// message appended. Who receives many large messages spares the collector.
func (s *Stream) ReceiveInto(ctx context.Context, buffer []byte) ([]byte, error) {
	message, err := s.raw.ReceiveInto(ctx, buffer)
	return message, s.receiveError(err)
}

// Confirm blocks until the peer's client has everything sent so far on a resumable
// stream, or ctx ends. Its receive buffer has it then, and its program will get it
// even if the stream fails. If it will never be known what has arrived, Confirm returns
// [*messages.DoubtError], in a [*messages.OpError]. For other streams it returns
// [messages.ErrNotResumable].
func (s *Stream) Confirm(ctx context.Context) error {
	err := messages.ErrNotResumable
	if s.resumable != nil {
		err = s.resumable.Confirm(ctx)
	}
	if err != nil {
		return s.opError("confirm", err)
	}
	return nil
}

// Confirmed returns how many messages the peer's client has for sure: the first so
// many. See [StreamStats] for when it tells, if the stream is not resumable.
func (s *Stream) Confirmed() uint64 { return s.raw.Stats().Confirmed }

// Messages iterates over the messages until the peer's last. An error, of the
// stream or of ctx, comes as the last pair.
func (s *Stream) Messages(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			message, err := s.Receive(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// CloseSend ends the sending direction: the peer receives what was sent and then
// io.EOF. It does not block.
func (s *Stream) CloseSend() { s.raw.CloseSend() }

// Close ends the stream: what was sent still arrives, what was not received is
// dropped and the peer's further sends fail. It does not block.
func (s *Stream) Close() { s.raw.Close() }

// Reset ends the stream at once in both directions. The peer's calls fail with
// [messages.ErrReset]; those of a resumable stream that is detached, with
// [messages.ErrNoSuchStream] or when the wait is over.
func (s *Stream) Reset() { s.raw.Reset(messages.ErrReset) }

// receiveError says what was being done, unless there is no error or it is io.EOF.
func (s *Stream) receiveError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.opError("receive", err)
}

func (s *Stream) opError(op string, err error) error {
	remote := netio.IsRemote(err)
	if s.resumable == nil && isFailure(err) {
		if stats := s.raw.Stats(); stats.Confirmed < stats.Sent {
			err = &messages.DoubtError{Confirmed: stats.Confirmed, InDoubt: stats.Sent - stats.Confirmed, Err: err}
		}
	}
	if doubt, ok := errors.AsType[*messages.DoubtError](err); ok {
		marked := *doubt
		marked.Err = plain(doubt.Err)
		return &messages.OpError{Op: op, Peer: s.peer, Remote: remote, Err: &marked}
	}
	return &messages.OpError{Op: op, Peer: s.peer, Remote: remote, Err: plain(err)}
}

// isFailure reports whether an error means that a stream has failed: not that it has
// ended in order, nor that one call came to nothing.
func isFailure(err error) bool {
	if errors.Is(err, messages.ErrCanceled) || errors.Is(err, messages.ErrTimeout) {
		return true // of the stream, not of a call
	}
	if _, ok := errors.AsType[*messages.SizeError](err); ok {
		return false
	}
	for _, harmless := range []error{
		messages.ErrClosed, messages.ErrWouldBlock, messages.ErrNoDeadline, messages.ErrNotResumable,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, harmless) {
			return false
		}
	}
	return true
}

// plain takes the mark of whose decision it was off an error.
func plain(err error) error {
	if !netio.IsRemote(err) {
		return err
	}
	return errors.Unwrap(err)
}
