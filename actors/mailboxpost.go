package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// PostUserMessage queues a message. It never blocks. A MessageBatch is queued as its parts and then as itself, as proto.actor's
// own mailboxes do.
func (m *Mailbox) PostUserMessage(message any) { _ = m.post(message, nil) }

// post does so, and says why not: there is a dead letter then. But if there is no room now and room is not nil, it is closed when
// there is some, and the error is [messages.ErrWouldBlock].
func (m *Mailbox) post(message any, room chan struct{}) error {
	bare := actor.UnwrapEnvelopeMessage(message)
	if batch, ok := bare.(actor.MessageBatch); ok {
		for _, part := range batch.GetMessages() {
			m.PostUserMessage(part)
		}
	}
	_, poison := bare.(*actor.PoisonPill)

	m.mu.Lock()
	if bare == nil || m.stopped {
		m.mu.Unlock()
		m.deadLetter(message)
		return ErrDeadLetter
	}
	if poison && m.poisoned {
		m.mu.Unlock() // one is enough
		return nil
	}
	if m.full() && !poison && room != nil {
		m.room = append(m.room, room)
		m.mu.Unlock()
		return messages.ErrWouldBlock
	}
	if m.full() && !poison {
		m.drops++
		m.mu.Unlock()
		m.overflow(bare)
		m.deadLetter(message)
		return ErrOverflow
	}
	m.poisoned = m.poisoned || poison
	m.user = userRooms.push(m.user, posted{message: message})
	m.queued()
	return nil
}

// queued wakes the actor if it has messages. Called with the lock, which it gives back.
func (m *Mailbox) queued() {
	wake := len(m.user) > 0 && !m.suspended && m.wake()
	dispatcher := m.dispatcher
	m.mu.Unlock()
	if wake {
		dispatcher.Schedule(m.loop)
	}
}

// tellRoom closes what post was given. Called with the lock.
func (m *Mailbox) tellRoom() {
	for _, room := range m.room {
		close(room)
	}
	m.room = nil
}

// postRemote queues messages of a peer, as many as there is room for, and says why not all.
// It never blocks.
func (m *Mailbox) postRemote(run []posted) (taken int, err error) {
	m.mu.Lock()
	for ; taken < len(run) && !m.stopped && !m.full(); taken++ {
		m.user = userRooms.push(m.user, run[taken])
	}
	stopped := m.stopped
	if !stopped {
		m.drops += uint64(len(run) - taken)
	}
	m.queued()
	if taken == len(run) {
		return taken, nil
	}
	for i := range run[taken:] {
		message := run[taken+i].take()
		if !stopped {
			m.overflow(actor.UnwrapEnvelopeMessage(message)) // its sender makes it a dead letter
		}
	}
	if stopped {
		return taken, messages.ErrNoSuchActor
	}
	return taken, fmt.Errorf("%w: %d messages wait for the actor", messages.ErrBusy, m.limit)
}

// isStopped reports whether the actor has stopped.
func (m *Mailbox) isStopped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopped
}
