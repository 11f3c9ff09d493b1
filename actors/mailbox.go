package actors

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// DefaultMailboxLimit is how many user messages a mailbox holds unless told otherwise.
const DefaultMailboxLimit = 65_536

// keep is how many slots a mailbox keeps for later when it is drained.
const keep = 20

// userRooms is the memory of long mailboxes.
var userRooms rooms[posted]

// A MailboxOverflow is published on the system's EventStream when a mailbox is full: Message was not queued, and is a dead
// letter too.
type MailboxOverflow struct {
	// PID is the actor whose mailbox is full.
	PID *actor.PID
	// Message is what was dropped, without its envelope.
	Message any
	// Limit is how many messages the mailbox holds.
	Limit int
}

// MailboxStats is what a mailbox looks like from outside, at one instant.
type MailboxStats struct {
	// Depth is how many user messages wait.
	Depth int
	// Limit is how many may wait.
	Limit int
	// Drops is how many were refused since the actor was spawned, because as many as Limit were waiting.
	Drops uint64
}

// Mailbox is an [actor.Mailbox] with a limit, which also repairs what goes wrong when an actor ends:
//
//   - beyond the limit a message is a dead letter, a [MailboxOverflow], and counted; a sender never blocks. The first PoisonPill
//     is let in all the same;
//   - nil is refused: a dead letter;
//   - when the actor has stopped, what it did not read becomes dead letters, and so does what comes later;
//   - a panic reaches the supervisor as a [Fault] with its stack, and runtime.Goexit as a failure;
//   - a panic while stopping is logged and the stop goes on, so that watchers and the parent are told, once.
//
// User messages of one sender are received in the order sent. System messages go first and have no limit: there are a few per
// child and watcher. While the actor is failing, user messages wait, also across the restart. Any goroutine may post.
type Mailbox struct {
	// What producers write comes first, what the consumer writes last, what hardly changes between: they run on different
	// processors, and a cache line that both write costs more than all the rest.
	mu         sync.Mutex // held for a few instructions only; guards all down to dispatcher
	user       []posted   // not seen by the consumer
	limit      int
	taken      int  // what the consumer took from user at last
	running    bool // a goroutine runs the actor, or is about to
	suspended  bool // failing: no user messages
	stopping   bool // has been told to stop
	stopped    bool // has stopped, and everybody knows
	doomed     bool // to be stopped as soon as it started
	poisoned   bool // has a PoisonPill
	drops      uint64
	restarts   uint64
	system     []any
	retries    *retries        // nil unless it ever failed
	room       []chan struct{} // of who waits until the mailbox is not full
	dispatcher actor.Dispatcher

	loop    func()        // process, as a value that is made once
	self    actor.Context // the actor's own; nil in a test without an actor
	sys     *System       // nil in a foreign actor system
	invoker actor.MessageInvoker

	urgent atomic.Int64 // system messages
	left   atomic.Int64 // user messages that the consumer took and has not used

	// The rest belongs to the consumer: the goroutine that runs.
	taking   batch[posted] // user messages
	commands batch[any]    // system messages
	halted   bool          // suspended, again
	busy     bool          // inside the loop of run
	current  any
	watchers *actor.PIDSet // nil if there was none
}

var _ actor.Mailbox = (*Mailbox)(nil)

// NewMailbox returns a producer of mailboxes that hold up to limit user messages, [DefaultMailboxLimit] if it is not positive.
// Give it to [actor.WithMailbox] for an actor with a limit of its own.
//
//go:noinline
func NewMailbox(limit int) actor.MailboxProducer {
	if limit <= 0 {
		limit = DefaultMailboxLimit
	}
	return func() actor.Mailbox { return &Mailbox{limit: limit} } // adopt knows its code address
}

// posted is a user message in a mailbox.
type posted struct {
	message any
	flow    *inflow // if a peer sent it: gets the cost back when the actor takes it
	cost    int
}

// take returns the message for the actor, and lets the peer that sent it send more.
func (p *posted) take() any {
	if p.flow != nil {
		p.flow.use(p.cost)
	}
	return p.message
}

// batch is what the consumer took from a queue in one go: producers and consumer meet at the lock once per batch.
type batch[T any] struct {
	msgs []T
	next int
}

func (b *batch[T]) used() bool { return b.next == len(b.msgs) }

// swap exchanges the used batch for what is in a queue. Called with the lock.
func (b *batch[T]) swap(queue *[]T) {
	b.msgs, *queue, b.next = *queue, b.msgs[:0], 0
}

func (b *batch[T]) take() (msg T) {
	msg, b.msgs[b.next] = b.msgs[b.next], msg
	b.next++
	return msg
}

// UserMessageCount returns how many user messages wait.
func (m *Mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.depth()
}

func (m *Mailbox) depth() int { return len(m.user) + int(m.left.Load()) }

func (m *Mailbox) stats() MailboxStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return MailboxStats{Depth: m.depth(), Limit: m.limit, Drops: m.drops}
}

// full is called with the lock. What the consumer has not used of its batch is looked at only when it matters.
func (m *Mailbox) full() bool {
	return len(m.user)+m.taken >= m.limit && m.depth() >= m.limit
}

// wake is called with the lock, and says whether the caller must schedule the loop. Before RegisterHandlers nothing runs: the
// registry knows an actor a moment before its mailbox is ready.
func (m *Mailbox) wake() bool {
	if m.running || m.dispatcher == nil {
		return false
	}
	m.running = true
	return true
}

// PostSystemMessage queues a message of the runtime. It never blocks.
func (m *Mailbox) PostSystemMessage(message any) {
	switch message := message.(type) {
	case nil:
		return
	case *probe:
		message.mailbox = m
		return
	}
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		m.afterEnd(message)
		return
	}
	m.system = append(m.system, message)
	m.urgent.Add(1)
	wake := m.wake()
	dispatcher := m.dispatcher
	m.mu.Unlock()
	if wake {
		dispatcher.Schedule(m.loop)
	}
}

// RegisterHandlers connects the mailbox to its actor. It is called by the runtime.
func (m *Mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	m.invoker = invoker
	m.self, _ = invoker.(actor.Context)
	if m.self != nil {
		m.sys = Of(m.self.ActorSystem())
	}
	m.loop = m.process
	m.dispatcher = dispatcher
	m.mu.Unlock()
	if m.sys != nil {
		doomed := m.sys.enter(m.self)
		m.mu.Lock()
		m.doomed = doomed
		m.mu.Unlock()
	}
}

// Start is called by the runtime when it has posted Started.
func (m *Mailbox) Start() {
	m.mu.Lock()
	doomed := m.doomed
	m.mu.Unlock()
	if doomed {
		m.PostSystemMessage(&actor.Stop{})
	}
}

// process is the goroutine of a busy actor.
func (m *Mailbox) process() {
	deepen(0)
	if m.sys != nil {
		m.sys.cfg.Label()
	}
	for {
		m.run()
		m.mu.Lock()
		more := m.urgent.Load() > 0 || !m.suspended && m.depth() > 0
		if more {
			m.mu.Unlock()
			continue
		}
		m.running = false
		m.trim()
		ended := m.stopped
		m.mu.Unlock()
		if ended && m.sys != nil {
			m.sys.leave(m.self.Self()) // the last thing that this actor does: nothing schedules it again
		}
		return
	}
}

// deepen makes the stack of a goroutine that has just begun large enough for most of what an actor does. Grown later, it would
// be copied when it is deep, which takes longer than all else about a message (docs/decisions.md, 2026-11-26).
//
//go:noinline
func deepen(at uint8) byte {
	var room [6 << 10]byte
	room[at] = 1
	return room[at/2]
}

// trim lets go of the room of long queues that are empty. Called with the lock, by the consumer.
func (m *Mailbox) trim() {
	if m.depth() == 0 && cap(m.user)+cap(m.taking.msgs) > keep {
		userRooms.give(m.user)
		userRooms.give(m.taking.msgs)
		m.user, m.taking = nil, batch[posted]{}
	}
	m.system, m.commands = nil, batch[any]{}
}

// run gives messages to the actor until there are none, or it fails.
func (m *Mailbox) run() {
	m.busy = true
	defer func() {
		if m.busy { // recover is nil after Goexit
			m.failed(recover())
		}
	}()
	for i, throughput := 0, m.dispatcher.Throughput(); ; i++ {
		if i > throughput {
			i = 0
			runtime.Gosched()
		}
		if m.urgent.Load() > 0 {
			m.current = m.nextSystem()
			m.invokeSystem(m.current)
			continue
		}
		msg := m.nextUser()
		if msg == nil {
			break
		}
		m.current = msg
		m.invoker.InvokeUserMessage(msg)
	}
	m.current = nil
	m.busy = false
}

func (m *Mailbox) nextSystem() any {
	if m.commands.used() {
		m.mu.Lock()
		m.commands.swap(&m.system)
		m.mu.Unlock()
	}
	m.urgent.Add(-1)
	return m.commands.take()
}

// nextUser returns nil if there is no message or the actor is failing.
func (m *Mailbox) nextUser() any {
	if m.halted {
		return nil
	}
	if m.taking.used() {
		m.mu.Lock()
		m.taking.swap(&m.user)
		m.tellRoom()
		m.taken = len(m.taking.msgs)
		m.left.Store(int64(m.taken))
		m.mu.Unlock()
		if m.taking.used() {
			return nil
		}
	}
	m.left.Add(-1)
	next := m.taking.take()
	return next.take()
}

// invokeSystem lets the actor have a message of the runtime, and keeps track of how the actor is.
func (m *Mailbox) invokeSystem(msg any) {
	switch msg := msg.(type) {
	case *actor.SuspendMailbox:
		m.suspend(true)
		return
	case *actor.ResumeMailbox:
		m.suspend(false)
		return
	case *actor.Restart:
		if m.stopping { // or the stop would turn into a restart
			return
		}
		m.mu.Lock()
		m.restarts++
		m.mu.Unlock()
	case *actor.Watch:
		if m.self != nil && same(msg.Watcher, m.self.Parent()) {
			return // it is told anyway, and twice would be once for a later child of this name
		}
		m.watch(msg.Watcher)
	case *actor.Unwatch:
		if m.watchers != nil {
			m.watchers.Remove(msg.Watcher)
		}
	case *actor.Stop:
		m.mu.Lock()
		m.stopping = true
		m.mu.Unlock()
	}
	m.invoker.InvokeSystemMessage(msg)
	if m.stopping && !m.stopped && !m.registered() {
		m.end()
	}
}

func (m *Mailbox) suspend(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspended, m.halted = yes, yes
}

func (m *Mailbox) watch(who *actor.PID) {
	if m.stopping {
		return // the actor answers by itself
	}
	if m.watchers == nil {
		m.watchers = actor.NewPIDSet()
	}
	m.watchers.Add(who)
}

// fail counts a failure under a supervisor's policy. If the actor is to be restarted, that will happen by itself after the
// delay, unless the actor has stopped until then. Called by the supervisor, while the actor is failing.
func (m *Mailbox) fail(policy Backoff, now time.Time) (delay time.Duration, giveUp bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.retries == nil {
		m.retries = &retries{}
	}
	delay, giveUp = m.retries.fail(policy, now)
	if !giveUp && !m.stopped {
		m.retries.timer = time.AfterFunc(delay, func() { m.PostSystemMessage(&actor.Restart{}) })
	}
	return delay, giveUp
}

// retries is what a mailbox remembers of its actor's failures, so that it is forgotten with the actor.
type retries struct {
	backoffState
	timer *time.Timer // posts Restart
}

// isStopping says whether the actor has been told to stop.
func (m *Mailbox) isStopping() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopping
}

// isStopping says whether a local actor has been told to stop, or is gone.
func isStopping(as *actor.ActorSystem, pid *actor.PID) bool {
	if m := mailboxOf(as, pid); m != nil {
		return m.isStopping()
	}
	if pid == nil {
		return false
	}
	_, there := as.ProcessRegistry.GetLocal(pid.Id)
	return !there
}

// registered says whether the actor still owns its name. It gives it up just before it receives Stopped.
func (m *Mailbox) registered() bool {
	return m.self == nil || mailboxOf(m.self.ActorSystem(), m.self.Self()) == m
}

// probe finds the mailbox behind a PID: the only way from a process to its mailbox is a message.
type probe struct{ mailbox *Mailbox }

// mailboxOf returns the mailbox of a local actor, nil if there is no such actor or its mailbox is not one of ours.
func mailboxOf(as *actor.ActorSystem, pid *actor.PID) *Mailbox {
	if pid == nil || pid.Address != as.Address() {
		return nil
	}
	process, ok := as.ProcessRegistry.GetLocal(pid.Id)
	if _, isActor := process.(*actor.ActorProcess); !ok || !isActor {
		return nil
	}
	var found probe
	process.SendSystemMessage(pid, &found)
	return found.mailbox
}

// stopActor stops a local actor if it is there; unlike Stop it makes no dead letter if not.
func stopActor(as *actor.ActorSystem, pid *actor.PID) {
	if m := mailboxOf(as, pid); m != nil {
		m.PostSystemMessage(&actor.Stop{})
	}
}
