package actors

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// SystemConfig says how a [System] is. It is never modified.
type SystemConfig struct {
	// Name is the address of the system's actors, such as "conec/alice": PID.Address. If empty, "conec".
	Name string
	// Logger receives what the system and its actors log. If nil, nothing is logged.
	Logger *slog.Logger
	// MailboxLimit is how many user messages wait in a mailbox. If zero or negative, [DefaultMailboxLimit].
	MailboxLimit int
	// AskLimit is how many [Ask] calls may wait at a time. If zero or negative, 65,536.
	AskLimit int
	// Supervisor decides about actors that were spawned from outside of actors and fail. If nil, a [Backoff] with its defaults.
	// It runs on the goroutine of the root actor.
	Supervisor actor.SupervisorStrategy
	// Dispatcher runs the actors. If nil, each busy actor has a goroutine, and an idle one has none. One that runs them where
	// they are scheduled holds up who sends to them, and the stream of a peer that does.
	Dispatcher actor.Dispatcher
	// Label is called by each goroutine that begins to run an actor, to label itself (see [LabelOf]). If nil, it keeps the
	// labels of who sent the message. It is not called where there is a Dispatcher.
	Label func()
	// DeadLetterThrottle is the least time between two log entries about dead letters, and between two about subscribers of
	// events that panic; those between are counted. If zero, 1 second; if negative, each is logged. The EventStream has all dead
	// letters in any case.
	DeadLetterThrottle time.Duration
}

func (cfg *SystemConfig) withDefaults() SystemConfig {
	var c SystemConfig
	if cfg != nil {
		c = *cfg
	}
	if c.Name == "" {
		c.Name = "conec"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MailboxLimit <= 0 {
		c.MailboxLimit = DefaultMailboxLimit
	}
	if c.AskLimit <= 0 {
		c.AskLimit = 65_536
	}
	if c.Supervisor == nil {
		c.Supervisor = &Backoff{}
	}
	if c.Label == nil || c.Dispatcher != nil {
		c.Label = func() {}
	}
	if c.DeadLetterThrottle == 0 {
		c.DeadLetterThrottle = time.Second
	}
	return c
}

// A System is a proto.actor system whose actors all have a [Mailbox] and all have one root, and which can be closed. Its
// methods may be called from any goroutine. Names in use by the system: asks, deadletter, eventstream, peers, root, and all that begin
// with "conec.".
type System struct {
	// Root sends and spawns from outside of actors. What it spawns is a child of the system's root actor.
	Root *actor.RootContext
	// Pumps are the goroutines that block on behalf of the system's actors. Close waits for them.
	Pumps Pumps

	cfg     SystemConfig
	as      *actor.ActorSystem
	root    *actor.PID
	asks    *asks
	mailbox actor.MailboxProducer

	remote atomic.Pointer[Remote] // nil if the system has no peers

	deadLetters, overflows atomic.Uint64
	undeliveredLog         throttle // of messages
	subscriberLog          throttle // of panics

	mu      sync.Mutex
	tops    map[*actor.PID]actor.SupervisorStrategy // the children of root; nil is cfg.Supervisor
	live    int                                     // actors, with root, and calls that are at work on them
	ending  bool                                    // closing has begun: no new actors but the system's own
	others  chan struct{}                           // closed when ending and all tops are the system's own; nil before
	closing bool
	closed  bool
	none    chan struct{} // closed with closed: when closing and live is 0
}

// ownPrefix begins the names of the system's own actors, which end after the others.
const ownPrefix = "conec."

func isOwn(pid *actor.PID) bool { return strings.HasPrefix(pid.Id, ownPrefix) }

// SystemStats are a system's counters, at one instant.
type SystemStats struct {
	// Actors is how many actors there are, without the system's own.
	Actors int
	// Asks is how many [Ask] calls wait.
	Asks int
	// Pumps is how many pumps run.
	Pumps int
	// DeadLetters is how many messages reached nobody, Overflows included.
	DeadLetters uint64
	// Overflows is how many messages found a mailbox full.
	Overflows uint64
}

// NewSystem returns a running system. A nil cfg is the default. It starts no goroutine; it costs about 15 microseconds and 8 kB.
func NewSystem(cfg *SystemConfig) *System {
	s := &System{
		cfg:  cfg.withDefaults(),
		tops: make(map[*actor.PID]actor.SupervisorStrategy),
		none: make(chan struct{}),
	}
	s.mailbox = NewMailbox(s.cfg.MailboxLimit)
	s.as = newActorSystem(s.cfg.Name, s.cfg.Logger)
	s.as.Extensions.Register(extension{s})
	s.undeliveredLog.every, s.subscriberLog.every = s.cfg.DeadLetterThrottle, s.cfg.DeadLetterThrottle
	s.hearDeadLetters()
	s.asks = &asks{as: s.as, limit: s.cfg.AskLimit, open: make(map[uint32]openAsk)}
	s.as.ProcessRegistry.Add(s.asks, asksID)

	s.Root = s.as.Root
	s.root, _ = s.Root.SpawnNamed(s.adopt(actor.PropsFromProducer(func() actor.Actor { return &root{s} })), rootID)
	s.Root.WithSpawnMiddleware(func(actor.SpawnFunc) actor.SpawnFunc {
		return func(_ *actor.ActorSystem, name string, props *actor.Props, _ actor.SpawnerContext) (*actor.PID, error) {
			return s.spawn(props, name)
		}
	})
	return s
}

// Of returns the System around an actor system, for example ctx.ActorSystem(); nil if there is none.
func Of(as *actor.ActorSystem) *System {
	ext, _ := as.Extensions.Get(extensionID).(extension)
	return ext.System
}

// ActorSystem returns the proto.actor system inside. Do not call its Shutdown.
func (s *System) ActorSystem() *actor.ActorSystem { return s.as }

// Logger returns the system's logger. It is never nil.
func (s *System) Logger() *slog.Logger { return s.cfg.Logger }

// Address returns the address of the system's actors.
func (s *System) Address() string { return s.cfg.Name }

// Props is [actor.PropsFromProducer] with what each actor of this system has: its mailbox, unless opts say [NewMailbox], and
// the same for its children. Plain Props may be spawned as well, but then this is done again for each actor; make Props once
// where many actors are spawned. Other mailboxes than ours are replaced.
func (s *System) Props(producer actor.Producer, opts ...actor.PropsOption) *actor.Props {
	return s.adopt(actor.PropsFromProducer(producer, opts...))
}

// Spawn starts an actor under the system's root, supervised by [SystemConfig.Supervisor]. Its id is name, or "$" and a number if
// name is empty. The producer runs on the caller's goroutine; otherwise Spawn does not block, so actors may call it too. Errors
// wrap [actor.ErrNameExists], [ErrClosed], or say what the producer panicked with. Guardians in props are ignored.
//
// Root's own spawn methods do the same, except that those without a name panic if there is an error.
func (s *System) Spawn(props *actor.Props, name string) (*actor.PID, error) {
	return s.spawn(props, name)
}

// SpawnSupervised is [System.Spawn] with a strategy for this actor, which runs on the goroutine of the root actor.
func (s *System) SpawnSupervised(props *actor.Props, name string, by actor.SupervisorStrategy) (*actor.PID, error) {
	if props != nil {
		props = s.adopt(props).Clone(actor.WithOnInit(func(ctx actor.Context) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tops[ctx.Self()] = by
		}))
	}
	return s.spawn(props, name)
}

func (s *System) spawn(props *actor.Props, name string) (pid *actor.PID, err error) {
	if name == "" {
		name = s.as.ProcessRegistry.NextID()
	}
	defer func() {
		if r := recover(); r != nil {
			err = faultOf(r)
		}
		if err != nil {
			err = fmt.Errorf("spawn %q: %w", name, err)
		}
	}()
	if props == nil {
		return nil, errNoProps
	}
	s.mu.Lock()
	if s.closing || s.ending && !strings.HasPrefix(name, ownPrefix) {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.live++ // until here it is done, so that Close does not end in the middle
	s.mu.Unlock()
	defer s.leave(nil)
	props = s.adopt(props)
	if code := codeOf(props, "spawner"); code != 0 && code != codeOfFunc(spawnAdopted) {
		return nil, errOwnSpawn
	}
	return actor.DefaultSpawner(s.as, name, props, parent{s.Root, s.root})
}

// Mailbox returns what the mailbox of an actor of this system looks like, false if there is no such actor.
func (s *System) Mailbox(pid *actor.PID) (MailboxStats, bool) {
	m := mailboxOf(s.as, pid)
	if m == nil {
		return MailboxStats{}, false
	}
	return m.stats(), true
}

// Stats returns the system's counters.
func (s *System) Stats() SystemStats {
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	return SystemStats{
		Actors:      max(live-1, 0),
		Asks:        s.asks.len(),
		Pumps:       s.Pumps.Len(),
		DeadLetters: s.deadLetters.Load(),
		Overflows:   s.overflows.Load(),
	}
}

// Close stops all actors, each after its children, and waits for them and for the [Pumps]. Messages still queued become dead
// letters, as does what is sent later; asks end with [ErrClosed]. Afterwards no goroutine of the system is left.
//
// Close blocks until then or until ctx ends; then the error wraps ctx's and names actors that are left, and they go on
// stopping. Close may be called again, also to go on waiting. An actor must not call it: it would wait for itself.
func (s *System) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.live++
	tops := slices.Collect(maps.Keys(s.tops))
	s.mu.Unlock()
	for _, top := range tops {
		stopActor(s.as, top)
	}
	s.leave(nil)
	defer s.asks.close()
	select {
	case <-s.none:
	case <-ctx.Done():
		return fmt.Errorf("close actor system: still there: %s: %w", s.leftovers(), ctx.Err())
	}
	if err := s.Pumps.Wait(ctx); err != nil {
		return fmt.Errorf("close actor system: %w", err)
	}
	return nil
}

// stopOthers stops all actors but the system's own, each after its children, and waits for them, or until ctx ends. There will be
// no new ones.
func (s *System) stopOthers(ctx context.Context) error {
	s.mu.Lock()
	if !s.ending {
		s.ending, s.others = true, make(chan struct{})
	}
	tops := slices.Collect(maps.Keys(s.tops))
	s.tellOthers()
	others := s.others
	s.mu.Unlock()
	for _, top := range tops {
		if !isOwn(top) {
			stopActor(s.as, top)
		}
	}
	select {
	case <-others:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop actors: still there: %s: %w", s.leftovers(), ctx.Err())
	}
}

// tellOthers tells who waits for it that only the system's own actors are left. Called with the lock.
func (s *System) tellOthers() {
	if s.others == nil {
		return
	}
	for top := range s.tops {
		if !isOwn(top) {
			return
		}
	}
	select {
	case <-s.others:
	default:
		close(s.others)
	}
}

// leftovers names some of the actors that are there, in order.
func (s *System) leftovers() string {
	const most = 8
	names := s.ids()
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// ids returns the ids of all actors but the root, in order.
func (s *System) ids() (ids []string) {
	for _, bucket := range s.as.ProcessRegistry.LocalPIDs.LocalPIDs {
		bucket.IterCb(func(id string, process any) {
			if _, ok := process.(*actor.ActorProcess); ok && id != rootID {
				ids = append(ids, id)
			}
		})
	}
	slices.Sort(ids)
	return slices.Compact(ids) // see newProcessMap
}

// enter is called when an actor is there but has received nothing. It says whether the actor has to stop again: because the
// system is closing, or its parent is stopping and would not stop it.
func (s *System) enter(self actor.Context) (doomed bool) {
	over := self.Parent()
	if over != nil && over != s.root {
		doomed = isStopping(s.as, over)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live++
	if over == s.root && over != nil {
		s.tops[self.Self()] = s.tops[self.Self()] // a strategy may be there already
	}
	return doomed || s.closing || s.ending && over == s.root && !isOwn(self.Self())
}

// leave is called when an actor has stopped and its goroutine ends, and with nil when a call that counted itself is done. It
// stops root after all others.
func (s *System) leave(pid *actor.PID) {
	s.mu.Lock()
	s.live--
	delete(s.tops, pid)
	s.tellOthers()
	last := s.closing && s.live == 1
	if s.closing && s.live == 0 && !s.closed {
		s.closed = true
		close(s.none)
	}
	s.mu.Unlock()
	if last {
		stopActor(s.as, s.root)
	}
}
