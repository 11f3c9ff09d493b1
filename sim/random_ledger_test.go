package sim_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// actorLedger knows what was sent and heard by all actors of a play.
type actorLedger struct {
	w *sim.World

	mu      sync.Mutex
	pairs   map[string]*actorPair  // by sender and target
	watches map[string]watchState  // by watcher, id and address
	deaths  map[string][]time.Time // of clients, by name
	reasons map[string]int         // why messages did not come, and how many
}

// actorPair is one sender, in one life, and one target.
type actorPair struct {
	from, to string // clients
	messages []sentMessage
	last     int // number of the last one that came
}

// sentMessage is one message of a pair.
type sentMessage struct {
	at                      time.Time
	came, told, doubt, dead bool
}

// watchState is whether a watch is open.
type watchState int

const (
	watchOpen watchState = iota + 1
	watchAnswered
)

func newActorLedger(w *sim.World) *actorLedger {
	return &actorLedger{w: w, pairs: map[string]*actorPair{}, watches: map[string]watchState{}, deaths: map[string][]time.Time{}, reasons: map[string]int{}}
}

// send notes a message, and returns its text.
func (l *actorLedger) send(from, to string, size int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := from + ">" + to
	pair := l.pairs[key]
	if pair == nil {
		pair = &actorPair{from: strings.SplitN(from, ".", 2)[0], to: strings.SplitN(to, "/", 2)[0], last: -1}
		l.pairs[key] = pair
	}
	pair.messages = append(pair.messages, sentMessage{at: time.Now()})
	return fmt.Sprintf("%s|%d|%s", key, len(pair.messages)-1, strings.Repeat("x", size))
}

// find returns what is known of a message. Called with the lock.
func (l *actorLedger) find(text string) (*actorPair, int, *sentMessage) {
	parts := strings.SplitN(text, "|", 3)
	if len(parts) != 3 {
		return nil, 0, nil // a question
	}
	number, err := strconv.Atoi(parts[1])
	pair := l.pairs[parts[0]]
	if err != nil || pair == nil || number >= len(pair.messages) {
		l.w.T.Errorf("nobody sent %.80q", text)
		return nil, 0, nil
	}
	return pair, number, &pair.messages[number]
}

// receive notes that a message came.
func (l *actorLedger) receive(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pair, number, message := l.find(text)
	if message == nil {
		return
	}
	if number <= pair.last {
		l.w.T.Errorf("%.60s came after %d", text, pair.last)
	}
	if message.told && !message.doubt {
		l.w.T.Errorf("%.60s came, and its sender was told that it does not", text)
	}
	pair.last, message.came = number, true
}

// listen hears of what was not delivered.
func (l *actorLedger) listen(sys *client.Actors) {
	local := sys.Address()
	sys.ActorSystem().EventStream.Subscribe(func(event any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch event := event.(type) {
		case *actors.Undeliverable:
			text, ok := event.Message.(*wrapperspb.StringValue)
			if !ok {
				return
			}
			if _, _, message := l.find(text.GetValue()); message != nil {
				if message.told || message.came && !event.InDoubt {
					l.w.T.Errorf("%.60s: told again, or although it came: %v", text.GetValue(), event.Err)
				}
				message.told, message.doubt = true, event.InDoubt
				l.reasons[fmt.Sprintf("%.40s, in doubt: %t", event.Err, event.InDoubt)]++
			}
		case *actor.DeadLetterEvent:
			text, ok := event.Message.(*wrapperspb.StringValue)
			if !ok || event.PID.GetAddress() != local {
				return
			}
			if _, _, message := l.find(text.GetValue()); message != nil {
				message.dead = true // it was in the mailbox of an actor that has stopped
			}
		}
	})
}

// dies notes that a process has ended, or is about to.
func (l *actorLedger) dies(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaths[name] = append(l.deaths[name], time.Now())
}

// watch notes that an actor is about to watch one, unless it does already.
func (l *actorLedger) watch(who, id, address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := who + ">" + address + "/" + id
	if l.watches[key] == watchOpen {
		return false
	}
	l.watches[key] = watchOpen
	return true
}

// ended notes that a watch was answered.
func (l *actorLedger) ended(who, id, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := who + ">" + address + "/" + id
	if l.watches[key] != watchOpen {
		l.w.T.Errorf("%s was told again", key)
	}
	l.watches[key] = watchAnswered
}

// forget drops the watches of an actor that has stopped.
func (l *actorLedger) forget(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.watches {
		if strings.HasPrefix(key, who+">") {
			delete(l.watches, key)
		}
	}
}

// check holds at the end that every message has a fate and every watch an answer.
func (l *actorLedger) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := map[string]int{}
	for key, pair := range l.pairs {
		for number, m := range pair.messages {
			count["sent"]++
			switch {
			case m.came:
				count["came"]++
			case m.told:
				count["told"]++
			case m.dead:
				count["dead"]++
			case l.diedSince(pair.from, m.at) || l.diedSince(pair.to, m.at):
				count["with a process"]++
			default:
				l.w.T.Errorf("%s|%d of %v is lost, and nobody was told", key, number, m.at)
			}
		}
	}
	answered := 0
	for key, state := range l.watches {
		if state == watchOpen {
			l.w.T.Errorf("%s was not answered", key)
		}
		answered++
	}
	l.w.T.Logf("messages: %v; told %v; %d watches", count, l.reasons, answered)
	if answered < 10 || count["came"] < count["sent"]/3 {
		l.w.T.Error("so few came that this shows nothing")
	}
}

func (l *actorLedger) diedSince(name string, at time.Time) bool {
	for _, death := range l.deaths[name] {
		if !death.Before(at) {
			return true
		}
	}
	return false
}
