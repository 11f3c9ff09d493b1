package actors

import (
	"context"
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// Confirmation tells an actor what became of a message ([Remote.Confirm]).
type Confirmation struct {
	// Target is the actor that the message was for, Tag what its sender gave with it.
	Target *actor.PID
	Tag    any
	// Err is nil if the message is in the target's mailbox. Otherwise it was not
	// delivered, or, if Err matches [ErrInDoubt], may not have been. An [Undeliverable] is
	// published too.
	Err error
}

// SendWait sends a message to an actor, near or far, and waits while, far, others wait
// for the same actor ([RemoteLimits]) or, near, while its mailbox is full; or until
// ctx ends: then nothing was sent. It blocks, and so is not for Receive. That it
// returned nil does not mean that the message has arrived: see SendConfirmed.
func (r *Remote) SendWait(ctx context.Context, pid *actor.PID, message any) error {
	return r.sendWait(ctx, pid, message, nil)
}

func (r *Remote) sendWait(ctx context.Context, pid *actor.PID, message any, confirm func(error)) error {
	err := ErrDeadLetter
	if pid != nil && message != nil {
		message = traced(ctx, message)
		if p, far := r.whose(pid).(*peer); far {
			err = p.sendWait(ctx, pid, message, confirm)
		} else {
			err = r.sys.sendNear(ctx, r.near(pid), message, confirm)
		}
	}
	if err != nil {
		return fmt.Errorf("send to %q: %w", nameOf(pid), err)
	}
	return nil
}

// whose returns the process that a PID leads to.
func (r *Remote) whose(pid *actor.PID) actor.Process {
	if last := r.lastResolved(pid.GetAddress()); last != nil {
		return last // the registry would ask in the end
	}
	process, _ := r.sys.as.ProcessRegistry.Get(pid)
	return process
}

// near returns the actor of this system that a PID means: what is exported under its id,
// if it names this client and not this process.
func (r *Remote) near(pid *actor.PID) *actor.PID {
	if own, ok := r.whose(pid).(loopback); ok {
		if target := own.target(pid); target != nil {
			return target
		}
	}
	return pid
}

// SendConfirmed is SendWait, and then waits until the message is in the mailbox of its
// target. Errors wrap why it is not, or may not be: if they match [ErrInDoubt], or ctx's
// error.
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
	envelope := &actor.MessageEnvelope{Message: message, Sender: self}
	if p, far := r.whose(pid).(*peer); far {
		if err := p.send(pid, envelope, confirm); err != nil {
			r.sys.undeliverable(pid, envelope, err, false)
			confirm(err)
		}
		return
	}
	confirm(r.sys.postNear(r.near(pid), envelope, nil))
}

// sendNear sends to an actor of this system, and waits while its mailbox is full.
func (s *System) sendNear(ctx context.Context, pid *actor.PID, message any, confirm func(error)) error {
	var err error
	for {
		room := make(chan struct{})
		if err = s.postNear(pid, message, room); !errors.Is(err, messages.ErrWouldBlock) {
			break
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if confirm != nil {
		confirm(err)
		return nil
	}
	return err
}

// postNear sends to an actor of this system, and says whether it is there and had room: see
// [Mailbox.post].
func (s *System) postNear(pid *actor.PID, message any, room chan struct{}) error {
	if m := mailboxOf(s.as, pid); m != nil {
		return m.post(message, room)
	}
	_, there := s.as.ProcessRegistry.GetLocal(pid.GetId())
	s.Root.Send(pid, message) // a dead letter, if it is not there
	if there && pid.GetAddress() == s.as.Address() {
		return nil
	}
	return ErrDeadLetter
}
