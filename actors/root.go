package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"
	"github.com/asynkron/protoactor-go/extensions"
	cmap "github.com/orcaman/concurrent-map"
)

const rootID = "root"

var (
	errNoProps  = errors.New("nil Props")
	errOwnSpawn = errors.New("props with a spawn function, such as a router's, can be spawned by actors only")
)

// extensionID is where an actor system keeps its System.
var extensionID = extensions.NextExtensionID()

type extension struct{ *System }

func (extension) ExtensionID() extensions.ExtensionID { return extensionID }

// newActorSystem returns what [actor.NewActorSystemWithConfig] would, with three differences. Its registry is one concurrent map
// instead of 1,024, which are 2.9 MB and 3 ms. Its address is set before anything has a PID. And its dead letters are not
// heard by the library, whose throttle starts goroutines that outlive the system: see hearDeadLetters.
//
// All of it is made with exported functions, but for the two fields that have none. Should a later version of the library not
// have these two, its constructor is used, and what it made replaced where that is possible.
func newActorSystem(address string, logger *slog.Logger) *actor.ActorSystem {
	config := actor.NewConfig()
	config.LoggerFactory = func(*actor.ActorSystem) *slog.Logger { return logger }
	as := &actor.ActorSystem{}
	if !setField(as, "logger", logger) || !setField(as, "stopper", make(chan struct{})) {
		as = actor.NewActorSystemWithConfig(config)
	}
	as.ID = address
	as.Config = config
	as.ProcessRegistry = &actor.ProcessRegistryValue{
		ActorSystem: as,
		Address:     address,
		LocalPIDs:   &actor.SliceMap{LocalPIDs: []cmap.ConcurrentMap{newProcessMap()}},
	}
	as.Root = actor.NewRootContext(as, actor.EmptyMessageHeader)
	as.Guardians = actor.NewGuardians(as)
	as.EventStream = eventstream.NewEventStream() // the one that the library listens to, for dead letters
	as.DeadLetter = actor.NewDeadLetter(as)
	as.EventStream = eventstream.NewEventStream()
	as.Extensions = extensions.NewExtensions()
	as.Extensions.Register(actor.NewMetrics(as, nil))
	actor.SubscribeSupervision(as)
	as.ProcessRegistry.Add(actor.NewEventStreamProcess(as), "eventstream")
	return as
}

// processShards is how many locks the table of a system's processes has.
const processShards = 4

// newProcessMap makes a table with fewer shards than the library's 32, which take 4 KB: each stands in several places.
// Lookups work as before; iterating sees each entry several times.
func newProcessMap() cmap.ConcurrentMap {
	shards := cmap.New()
	for i := range shards {
		shards[i] = shards[i%processShards]
	}
	return shards
}

// setField sets an unexported field. It says whether there is one of that name and type.
func setField(as *actor.ActorSystem, name string, value any) bool {
	field, v := reflect.ValueOf(as).Elem().FieldByName(name), reflect.ValueOf(value)
	if !field.IsValid() || field.Type() != v.Type() {
		return false
	}
	reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem().Set(v)
	return true
}

// hearDeadLetters tells who sent a message that it reached nobody, tells who watches nobody that nobody is there, and logs.
// It is what the library does itself, without goroutines and without payloads in the log.
func (s *System) hearDeadLetters() {
	log := throttle{every: s.cfg.DeadLetterThrottle}
	s.as.EventStream.Subscribe(func(event any) {
		dead, ok := event.(*actor.DeadLetterEvent)
		if !ok {
			return
		}
		s.deadLetters.Add(1)
		if dead.Sender != nil {
			s.as.Root.Send(dead.Sender, &actor.DeadLetterResponse{Target: dead.PID})
		}
		if watch, ok := dead.Message.(*actor.Watch); ok && watch.Watcher != nil {
			process, _ := s.as.ProcessRegistry.Get(watch.Watcher)
			process.SendSystemMessage(watch.Watcher, &actor.Terminated{Who: dead.PID, Why: actor.TerminatedReason_NotFound})
		}
		if _, quiet := dead.Message.(actor.IgnoreDeadLetterLogging); quiet {
			return
		}
		if suppressed, yes := log.allow(time.Now()); yes {
			s.cfg.Logger.Info("dead letter", "actor", nameOf(dead.PID), "message", fmt.Sprintf("%T", dead.Message),
				"sender", nameOf(dead.Sender), "suppressed", suppressed)
		}
	})
}

// throttle lets one event pass in a while, and counts the others.
type throttle struct {
	every time.Duration

	mu         sync.Mutex
	next       time.Time
	suppressed int
}

func (t *throttle) allow(now time.Time) (suppressed int, yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		t.suppressed++
		return 0, false
	}
	t.next = now.Add(max(t.every, 0))
	suppressed, t.suppressed = t.suppressed, 0
	return suppressed, true
}

// adopt returns Props for an actor of this system: with a mailbox of ours, and its children adopted likewise. Adopting twice
// changes nothing.
func (s *System) adopt(props *actor.Props) *actor.Props {
	spawner := codeOf(props, "spawner")
	if spawner == codeOfFunc(spawnAdopted) {
		return props
	}
	opts := []actor.PropsOption{actor.WithSpawnMiddleware(s.inherit)}
	if spawner == 0 { // a router has its own, and is adopted again each time
		opts = append(opts, actor.WithSpawnFunc(spawnAdopted))
	}
	if codeOf(props, "mailboxProducer") != codeOfFunc(s.mailbox) {
		opts = append(opts, actor.WithMailbox(s.mailbox))
	}
	if s.cfg.Dispatcher != nil {
		opts = append(opts, actor.WithDispatcher(s.cfg.Dispatcher))
	}
	return props.Clone(opts...)
}

// inherit adopts what an actor spawns.
func (s *System) inherit(next actor.SpawnFunc) actor.SpawnFunc {
	return func(as *actor.ActorSystem, id string, props *actor.Props, parent actor.SpawnerContext) (*actor.PID, error) {
		return next(as, id, s.adopt(props), parent)
	}
}

// spawnAdopted is the library's own way to spawn, but that an actor that is stopping spawns nothing: who spawns a child in place
// of one that has stopped would go on for ever. That Props have it marks them as adopted.
func spawnAdopted(as *actor.ActorSystem, id string, props *actor.Props, parent actor.SpawnerContext) (*actor.PID, error) {
	if isStopping(as, parent.Self()) {
		return nil, ErrClosed
	}
	return actor.DefaultSpawner(as, id, props, parent)
}

// codeOf is the address of the code of a function in Props: 0 if it is nil, or if there is no such field in a later version
// of the library. Then Props are adopted each time, which is slower and otherwise the same.
func codeOf(props *actor.Props, field string) uintptr {
	f := reflect.ValueOf(props).Elem().FieldByName(field)
	if !f.IsValid() || f.Kind() != reflect.Func || f.IsNil() {
		return 0
	}
	return f.Pointer()
}

func codeOfFunc(f any) uintptr { return reflect.ValueOf(f).Pointer() }

// parent makes an actor a child of the root actor though something else spawns it.
type parent struct {
	*actor.RootContext
	root *actor.PID
}

func (p parent) Self() *actor.PID { return p.root }

// root is the parent of all actors that were not spawned by actors.
//
//	behavior  message  does
//	any       Failure  asks the child's strategy, or the system's
//
// Parent: none. It does not fail: a strategy that panics has its child stopped. Its children are in System.tops, not in its
// context, so that spawning need not wait for it. It is stopped last.
type root struct{ sys *System }

// Receive has nothing to do.
func (r *root) Receive(actor.Context) {}

// HandleFailure is called by the runtime when a child has failed.
func (r *root) HandleFailure(
	as *actor.ActorSystem, over actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any,
) {
	r.sys.mu.Lock()
	strategy := r.sys.tops[child]
	r.sys.mu.Unlock()
	if strategy == nil {
		strategy = r.sys.cfg.Supervisor
	}
	defer func() {
		if p := recover(); p != nil {
			fault := faultOf(p)
			as.Logger().Error("supervisor strategy failed", "actor", child.Id, "err", fault, "stack", string(fault.Stack))
			over.StopChildren(child)
		}
	}()
	strategy.HandleFailure(as, top{over, r.sys, child}, child, rs, reason, message)
}

// top is what a strategy sees of the root actor.
type top struct {
	actor.Supervisor
	sys   *System
	child *actor.PID
}

// Children returns the root actor's children.
func (t top) Children() []*actor.PID {
	t.sys.mu.Lock()
	defer t.sys.mu.Unlock()
	children := make([]*actor.PID, 0, len(t.sys.tops))
	for child := range t.sys.tops {
		children = append(children, child)
	}
	return children
}

// EscalateFailure stops the child: nobody is above.
func (t top) EscalateFailure(reason, _ any) {
	t.sys.Logger().Error("failure reached the root", "actor", t.child.Id, "err", errorOf(reason), "stack", stackOf(reason))
	t.StopChildren(t.child)
}
