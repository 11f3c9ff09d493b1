package actors

import "github.com/asynkron/protoactor-go/actor"

// end is called when the actor has stopped, and its parent and watchers know.
func (m *Mailbox) end() {
	m.mu.Lock()
	m.stopped, m.suspended, m.halted = true, false, false
	m.tellRoom()
	if m.retries != nil && m.retries.timer != nil {
		m.retries.timer.Stop()
	}
	system := append(m.commands.msgs[m.commands.next:], m.system...)
	unread := append(m.taking.msgs[m.taking.next:], m.user...)
	m.system, m.commands, m.user, m.taking = nil, batch[any]{}, nil, batch[posted]{}
	m.urgent.Store(0)
	m.left.Store(0)
	m.mu.Unlock()

	for _, msg := range system {
		m.afterEnd(msg)
	}
	for i := range unread {
		m.quietly(func() { m.deadLetter(unread[i].take()) })
	}
}

// afterEnd answers what the runtime says to an actor that has stopped: who wants to watch it is told so.
func (m *Mailbox) afterEnd(message any) {
	if watch, ok := message.(*actor.Watch); ok {
		m.tell(watch.Watcher, &actor.Terminated{Who: m.self.Self()})
	}
}

func (m *Mailbox) tell(pid *actor.PID, message any) {
	if pid == nil {
		return
	}
	process, _ := m.self.ActorSystem().ProcessRegistry.Get(pid)
	process.SendSystemMessage(pid, message)
}

// deadLetter publishes a message that the actor will not read. What tells of such messages is dropped instead: its subscriber
// would send it here again.
func (m *Mailbox) deadLetter(message any) {
	if m.self == nil {
		return
	}
	switch actor.UnwrapEnvelopeMessage(message).(type) {
	case *actor.PoisonPill, *actor.DeadLetterEvent, *MailboxOverflow:
		return
	}
	m.self.ActorSystem().DeadLetter.SendUserMessage(m.self.Self(), message)
}

// overflow tells of a message for which there was no room, and of none that tells of such.
func (m *Mailbox) overflow(bare any) {
	if m.self == nil {
		return
	}
	if m.sys != nil {
		m.sys.overflows.Add(1)
	}
	switch bare.(type) {
	case *actor.DeadLetterEvent, *MailboxOverflow: // as above
	default:
		publish(m.self.ActorSystem(), &MailboxOverflow{PID: m.self.Self(), Message: bare, Limit: m.limit})
	}
}
