package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// What a sender decides on when a peer is lost. They match [net.ErrClosed].
var (
	// ErrPeerGone means that the process that an actor was in has ended: its client
	// has another one now, or has left.
	ErrPeerGone error = goneError{}
	// ErrPeerUnreachable means that a peer was not reached for so long that it was
	// given up.
	ErrPeerUnreachable error = unreachableError{}
)

// ErrInDoubt is matched, beside the reason, by the error of a confirmation of a message
// that was on its way when the peer was lost: it may have been delivered.
var ErrInDoubt = errors.New("the message may have been delivered")

type goneError struct{}

func (goneError) Error() string        { return "the peer's process is gone" }
func (goneError) Is(target error) bool { return target == net.ErrClosed }

type unreachableError struct{}

func (unreachableError) Error() string { return "peer unreachable" }
func (unreachableError) Is(target error) bool {
	return target == net.ErrClosed || target == messages.ErrUnreachable
}

// Undeliverable is published on a system's EventStream for every message to an actor
// of another client that was not delivered, or may not have been. Such a message is a
// dead letter, too: if it has a sender, that receives a DeadLetterResponse, or its Ask
// ends with Err.
type Undeliverable struct {
	// Target is the actor that the message was for, as its sender named it.
	Target *actor.PID
	// Message is the message, without its envelope.
	Message any
	// Sender is the actor that sent it; nil if it did not say.
	Sender *actor.PID
	// Err is why: among others [ErrPeerGone], [ErrPeerUnreachable], [ErrOverflow],
	// [messages.ErrNoSuchActor], [messages.ErrRefused].
	Err error
	// InDoubt tells that the message was on its way when the peer was lost: it may
	// have been delivered.
	InDoubt bool
}

// undeliverable tells everybody that a message was not delivered.
func (s *System) undeliverable(pid *actor.PID, message any, why error, inDoubt bool) {
	_, body, sender := actor.UnwrapEnvelope(message)
	if suppressed, yes := s.undeliveredLog.allow(time.Now()); yes {
		s.cfg.Logger.Warn("message to a peer was not delivered", "actor", nameOf(pid), "message", fmt.Sprintf("%T", body),
			"err", why, "in_doubt", inDoubt, "suppressed", suppressed)
	}
	publish(s.as, &Undeliverable{Target: pid, Message: body, Sender: sender, Err: why, InDoubt: inDoubt})
	if sender != nil && sender.Id == asksID && sender.Address == s.as.Address() {
		if inDoubt {
			why = fmt.Errorf("%w: %w", why, ErrInDoubt)
		}
		if errors.Is(why, messages.ErrNoSuchActor) {
			why = fmt.Errorf("%w: %w", ErrDeadLetter, why) // as if it were near
		}
		s.asks.fail(sender.RequestId, why)
	}
	s.as.DeadLetter.SendUserMessage(pid, message)
}

// lostReason is why a lane's stream is over, as the program is told.
func lostReason(err error) error {
	switch {
	case errors.Is(err, messages.ErrNoSuchStream):
		return ErrPeerGone
	case errors.Is(err, messages.ErrUnreachable), errors.Is(err, messages.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ErrPeerUnreachable
	case errors.Is(err, messages.ErrClosed), errors.Is(err, ErrClosed), errors.Is(err, io.EOF):
		return ErrPeerGone
	}
	return err
}
