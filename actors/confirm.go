package actors

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
)

// Confirmation tells an actor what became of a message ([Remote.Confirm]).
type Confirmation struct {
	// Target is the actor that the message was for, Tag what its sender gave with it.
	Target *actor.PID
	Tag    any
	// Err is nil if the message is in the target's mailbox. Otherwise it was not
	// delivered, or may not have been: see [Undeliverable], which is published too.
	Err error
}

// SendWait sends a message to an actor, near or far, and waits while as much as may
// waits for its peer ([RemoteConfig]) or, near, while its mailbox is full; or until
// ctx ends: then nothing was sent. It blocks, and so is not for Receive. That it
// returned nil does not mean that the message has arrived: see SendConfirmed.
func (r *Remote) SendWait(ctx context.Context, pid *actor.PID, message any) error {
	return r.sendWait(ctx, pid, message, nil)
}

func (r *Remote) sendWait(ctx context.Context, pid *actor.PID, message any, confirm func(error)) error {
	err := ErrDeadLetter
	if pid != nil && message != nil {
		message = traced(ctx, message)
		if process, _ := r.sys.as.ProcessRegistry.Get(pid); process != nil {
			if p, far := process.(*peer); far {
				err = p.sendWait(ctx, pid, message, confirm)
			} else {
				err = r.sys.sendNear(ctx, pid, message, confirm)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("send to %q: %w", nameOf(pid), err)
	}
	return nil
}

// SendConfirmed is SendWait, and then waits until the message is in the mailbox of its
// target. Errors wrap why it is not, or may not be: [ErrPeerGone] and
// [ErrPeerUnreachable] leave it in doubt, as does the end of ctx.
func (r *Remote) SendConfirmed(ctx context.Context, pid *actor.PID, message any) error {
	done := make(chan error, 1)
	if err := r.sendWait(ctx, pid, message, func(err error) { done <- err }); err != nil {
		return err
	}
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("send to %q: %w", nameOf(pid), err)
	}
	return nil
}

// Confirm sends a message for an actor, which then receives a [*Confirmation] with the
// tag. The actor is the message's sender. It does not block.
func (r *Remote) Confirm(ctx actor.Context, pid *actor.PID, message, tag any) {
	self, root := ctx.Self(), r.sys.Root
	confirm := func(err error) { root.Send(self, &Confirmation{Target: pid, Tag: tag, Err: err}) }
	process, _ := r.sys.as.ProcessRegistry.Get(pid)
	envelope := &actor.MessageEnvelope{Message: message, Sender: self}
	if p, far := process.(*peer); far {
		if err := p.send(pid, envelope, confirm); err != nil {
			r.sys.undeliverable(pid, envelope, err, false)
			confirm(err)
		}
		return
	}
	confirm(r.sys.postNear(pid, envelope))
}

// sendNear sends to an actor of this system. It polls nothing: a full mailbox tells
// when it has been emptied.
func (s *System) sendNear(ctx context.Context, pid *actor.PID, message any, confirm func(error)) error {
	for {
		m := mailboxOf(s.as, pid)
		room := make(chan struct{})
		if m == nil || !m.awaitRoom(room) {
			break
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := s.postNear(pid, message)
	if confirm != nil {
		confirm(err)
		return nil
	}
	return err
}

// postNear sends to an actor of this system, and says whether it is there and had room.
func (s *System) postNear(pid *actor.PID, message any) error {
	m := mailboxOf(s.as, pid)
	if m == nil {
		if _, ok := s.as.ProcessRegistry.GetLocal(pid.GetId()); !ok {
			s.Root.Send(pid, message) // a dead letter
			return ErrDeadLetter
		}
		s.Root.Send(pid, message)
		return nil
	}
	return m.post(message)
}
