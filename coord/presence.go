package coord

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/coord/policy"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Times of presence.
const (
	spreadEvery   = 100 * time.Millisecond // changes are told at once, and then together
	metadataEvery = 200 * time.Millisecond // a client's metadata changes
)

// presence knows who is there, and tells those who watch. It has a log of names in the
// order of their last changes, and for each watch the place in it up to which that was
// told: who reads slowly costs no more than that, and hears what is, not all that was.
// It is plain state without goroutine or clock; [coordinator] runs it.
type presence struct {
	limits   Limits
	see      func(who, whom *policy.Subject) error
	sights   map[string]*sight   // by name; one that has gone stays while a watch has to hear of it
	watchers map[uint64]*watcher // by client id
	slots    []*sight            // by number; nil: free
	free     []int               // slots
	gone     int                 // of the sights
	log      []logged            // by version
	version  uint64              // of the last change

	waiting []*sight  // whose metadata was changed too soon after the last change
	due     time.Time // when one of them is next; zero if there is none

	watches []*watch  // in the order in which they began
	ended   int       // of these
	queue   []*watch  // that may have something to tell
	spread  uint64    // version for which all watches were queued
	nextAt  time.Time // when they may be queued again
}

// sight is a name and what is known of it.
type sight struct {
	name    string
	slot    int
	version uint64               // of its last change; 0: forgotten
	client  *attachment          // nil: gone
	state   *conecv1.PeerState   // what watches are told
	size    int                  // of state in PeersChanged
	told    int                  // watches that were told that it is there
	next    time.Time            // when its metadata may change again
	waits   bool                 // it is in waiting…
	wish    *conecv1.SetMetadata // …for this; nil: it has gone meanwhile
}

// logged is an entry of the log; it counts only if that is still the sight's version.
type logged struct {
	version uint64
	sight   *sight
}

func newPresence(limits Limits, see func(who, whom *policy.Subject) error) *presence {
	return &presence{limits: limits, see: see, sights: map[string]*sight{}, watchers: map[uint64]*watcher{}}
}

// attach shows a client that has attached. A former attachment of its name was detached.
func (p *presence) attach(now time.Time, a *attachment, instance uint64, metadata []*conecv1.Label) {
	s := p.sights[a.name]
	switch {
	case s == nil:
		s = &sight{name: a.name, slot: p.slot()}
		p.sights[a.name], p.slots[s.slot] = s, s
	case s.client == nil:
		p.gone--
	}
	s.client, s.next = a, now.Add(metadataEvery)
	p.show(s, &conecv1.PeerState{
		Name: a.name, Accepts: a.accepts, Instance: instance, Key: shownKey(a), Metadata: metadata,
	})
	p.watchers[a.id] = &watcher{client: a, limit: firstGrant}
}

// renew shows the key that a client has now.
func (p *presence) renew(a *attachment) {
	s := p.sights[a.name]
	if key := shownKey(a); !bytes.Equal(key, s.state.GetKey()) {
		next := s.copy()
		next.Key, next.FormerKey = key, s.state.GetKey()
		p.show(s, next)
	}
}

// copy returns the state, to be changed: what was shown is not.
func (s *sight) copy() *conecv1.PeerState {
	return &conecv1.PeerState{
		Name: s.name, Accepts: s.state.GetAccepts(), Instance: s.state.GetInstance(),
		Key: s.state.GetKey(), FormerKey: s.state.GetFormerKey(), Metadata: s.state.GetMetadata(),
	}
}

// shownKey is what is shown of a client's key: 16 bytes of its hash.
func shownKey(a *attachment) []byte {
	key := sha256.Sum256(a.key)
	return key[:16]
}

// slot takes a number that no sight has.
func (p *presence) slot() int {
	if n := len(p.free); n > 0 {
		slot := p.free[n-1]
		p.free = p.free[:n-1]
		return slot
	}
	p.slots = append(p.slots, nil)
	return len(p.slots) - 1
}

// detach shows that a client has gone, and ends its watches.
func (p *presence) detach(id uint64) {
	w := p.watchers[id]
	if w == nil {
		return
	}
	delete(p.watchers, id)
	for _, watch := range w.watches {
		p.end(watch)
	}
	s := p.sights[w.client.name]
	s.client, s.wish = nil, nil
	p.gone++
	p.show(s, &conecv1.PeerState{Name: s.name, Gone: true})
	p.forgetUnseen(s)
	for p.gone > p.limits.Clients {
		p.restartSlowest()
	}
}

// forgetUnseen forgets a sight that has gone, if nobody has to hear of that.
func (p *presence) forgetUnseen(s *sight) {
	if s.client == nil && s.told == 0 {
		delete(p.sights, s.name)
		p.slots[s.slot], s.version = nil, 0
		p.free = append(p.free, s.slot)
		p.gone--
	}
}

// show changes what watches are to be told of a sight.
func (p *presence) show(s *sight, state *conecv1.PeerState) {
	p.version++
	s.version, s.state, s.size = p.version, state, entrySize(state)
	p.log = append(p.log, logged{p.version, s})
	const least = 64
	if len(p.log) > 2*len(p.sights)+least {
		p.log = slices.DeleteFunc(p.log, func(l logged) bool { return l.sight.version != l.version })
	}
}

// entrySize is how many bytes a state takes in PeersChanged, at most.
func entrySize(state *conecv1.PeerState) int {
	const head = 1 + 2 // tag and length
	return head + proto.Size(state)
}

// setMetadata changes what a client publishes, now or when it is time to.
func (p *presence) setMetadata(now time.Time, id uint64, msg *conecv1.SetMetadata) {
	s := p.sights[p.watchers[id].client.name]
	switch {
	case s.waits:
		s.wish = msg
	case now.Before(s.next):
		s.waits, s.wish = true, msg
		p.waiting = append(p.waiting, s)
		if p.due.IsZero() || s.next.Before(p.due) {
			p.due = s.next
		}
	default:
		p.publish(now, s, msg)
	}
}

func (p *presence) publish(now time.Time, s *sight, msg *conecv1.SetMetadata) {
	same := slices.EqualFunc(s.state.GetMetadata(), msg.GetMetadata(), func(a, b *conecv1.Label) bool {
		return a.GetKey() == b.GetKey() && a.GetValue() == b.GetValue()
	})
	if same {
		return
	}
	s.next = now.Add(metadataEvery)
	next := s.copy()
	next.Metadata = msg.GetMetadata()
	p.show(s, next)
}

// publishDue publishes what has waited long enough.
func (p *presence) publishDue(now time.Time) {
	if p.due.IsZero() || now.Before(p.due) {
		return
	}
	p.due = time.Time{}
	p.waiting = slices.DeleteFunc(p.waiting, func(s *sight) bool {
		if s.wish != nil && now.Before(s.next) {
			if p.due.IsZero() || s.next.Before(p.due) {
				p.due = s.next
			}
			return false
		}
		if s.wish != nil {
			p.publish(now, s, s.wish)
		}
		s.waits, s.wish = false, nil
		return true
	})
}
