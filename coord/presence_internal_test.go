package coord

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// stage is presence with clients that watch, step by step.
type stage struct {
	t    *testing.T
	p    *presence
	now  time.Time
	last uint64
	ids  map[string]uint64 // of attached clients, by name
	told []string          // since the last expect, as in "alice 1: +bob"
	// hidden are the pairs that may not see each other, as in "alice bob".
	hidden map[string]bool
	// stalled are clients that take nothing.
	stalled map[uint64]bool
	taken   map[uint64]uint64 // bytes, by client
	// views are what each watch was told is there, by client and watch, as in "alice 1".
	views  map[string]map[string]*conecv1.PeerState
	begun  map[string]map[string]bool // who was told since a list began, nil if it is complete
	lists  int                        // that began
	budget int
}

var errHidden = errors.New("hidden")

func newStage(t *testing.T, limits Limits) *stage {
	t.Helper()
	s := &stage{
		t: t, now: time.Unix(1e9, 0), ids: map[string]uint64{}, hidden: map[string]bool{},
		stalled: map[uint64]bool{}, taken: map[uint64]uint64{},
		views: map[string]map[string]*conecv1.PeerState{}, begun: map[string]map[string]bool{}, budget: 100,
	}
	s.p = newPresence(limits.withDefaults(), func(who, whom *policy.Subject) error {
		if s.hidden[who.Name+" "+whom.Name] {
			return errHidden
		}
		return nil
	})
	return s
}

// attach attaches clients whose processes have the number of their attachment.
func (s *stage) attach(names ...string) {
	for _, name := range names {
		if id := s.ids[name]; id != 0 {
			s.p.detach(id)
		}
		s.last++
		s.ids[name] = s.last
		s.p.attach(s.now, &attachment{
			id: s.last, name: name, key: []byte("key of " + name), accepts: true, subject: policy.Subject{Name: name},
		}, s.last, nil)
	}
}

func (s *stage) detach(name string) {
	s.p.detach(s.ids[name])
	delete(s.ids, name)
}

func (s *stage) watch(name string, number uint64, pattern string) {
	s.t.Helper()
	says, err := s.p.watch(s.ids[name], &conecv1.WatchPeers{Watch: number, Pattern: pattern})
	if err != nil {
		s.t.Fatal(err)
	}
	s.hear(says)
}

func (s *stage) publish(name, value string) {
	s.p.setMetadata(s.now, s.ids[name], &conecv1.SetMetadata{Metadata: []*conecv1.Label{{Key: "is", Value: value}}})
}

// hear notes what is told, and takes it.
func (s *stage) hear(says []say) {
	s.t.Helper()
	for _, said := range says {
		name := s.p.watchers[said.to].client.name
		switch msg := said.message.GetSaid().(type) {
		case *conecv1.Control_PeersChanged:
			s.told = append(s.told, fmt.Sprintf("%s %d:%s", name, msg.PeersChanged.GetWatch(), describeChange(msg.PeersChanged)))
			s.see(said.to, msg.PeersChanged)
			s.size(said.to, proto.Size(msg.PeersChanged))
		case *conecv1.Control_WatchEnded:
			s.told = append(s.told, fmt.Sprintf("%s %d: ended, %v", name, msg.WatchEnded.GetWatch(), msg.WatchEnded.GetCode()))
		default:
			s.t.Errorf("%s was told %v", name, said.message)
		}
	}
}

func (s *stage) find(id, number uint64) *watch {
	for _, w := range s.p.watchers[id].watches {
		if w.number == number {
			return w
		}
	}
	return nil
}

// see notes what a watch is told, and holds that it is true and no repetition.
func (s *stage) see(id uint64, msg *conecv1.PeersChanged) {
	s.t.Helper()
	w := s.find(id, msg.GetWatch())
	if w == nil {
		s.t.Fatalf("client %d is told of watch %d, which has ended", id, msg.GetWatch())
	}
	key := fmt.Sprintf("%d %d", id, msg.GetWatch())
	if msg.GetBegins() {
		s.lists++
		s.begun[key] = map[string]bool{}
	}
	view, begun := s.views[key], s.begun[key]
	if view == nil {
		view = map[string]*conecv1.PeerState{}
		s.views[key] = view
	}
	for _, state := range msg.GetPeers() {
		name := state.GetName()
		sight := s.p.sights[name]
		visible := sight != nil && s.p.visible(w, sight)
		repeats := proto.Equal(view[name], state) && (begun == nil || begun[name])
		unknown := state.GetGone() && view[name] == nil
		if visible == state.GetGone() || visible && !proto.Equal(sight.state, state) || repeats || unknown {
			s.t.Errorf("%s was told %v; there: %t, repeated: %t, never told: %t", key, state, visible, repeats, unknown)
		}
		if view[name] = state; state.GetGone() {
			delete(view, name)
		}
		if begun != nil {
			begun[name] = true
		}
	}
	if msg.GetComplete() {
		for name := range view {
			if !begun[name] {
				delete(view, name)
			}
		}
		delete(s.begun, key)
	}
}

// agree holds that all watches know what is, when all is quiet.
func (s *stage) agree() {
	s.t.Helper()
	for id, of := range s.p.watchers {
		for _, w := range of.watches {
			key := fmt.Sprintf("%d %d", id, w.number)
			want := map[string]*conecv1.PeerState{}
			for name, sight := range s.p.sights {
				if s.p.visible(w, sight) {
					want[name] = sight.state
				}
			}
			if !maps.EqualFunc(s.views[key], want, func(a, b *conecv1.PeerState) bool { return proto.Equal(a, b) }) {
				s.t.Errorf("watch %s knows %v, there are %v", key, s.views[key], want)
			}
			if s.begun[key] != nil {
				s.t.Errorf("list of watch %s is not complete", key)
			}
		}
	}
}

// size holds the limits of what is told, and grants more.
func (s *stage) size(id uint64, size int) {
	s.t.Helper()
	w := s.p.watchers[id]
	if size > maxTold || w.sent > w.limit {
		s.t.Errorf("told %d bytes, %d in all, limit %d", size, w.sent, w.limit)
	}
	if s.taken[id] += uint64(size); !s.stalled[id] {
		s.p.grant(id, &conecv1.GrantPeers{Limit: s.taken[id] + firstGrant})
	}
}

// describeChange says a message in few characters: [ begins, ] completes, + there, - gone.
func describeChange(msg *conecv1.PeersChanged) string {
	var text strings.Builder
	if msg.GetBegins() {
		text.WriteString(" [")
	}
	for _, peer := range msg.GetPeers() {
		sign := " +"
		if peer.GetGone() {
			sign = " -"
		}
		text.WriteString(sign + peer.GetName())
		for _, label := range peer.GetMetadata() {
			text.WriteString("=" + label.GetValue())
		}
	}
	if msg.GetComplete() {
		text.WriteString(" ]")
	}
	return text.String()
}

// settle lets so much time pass, and has everything told that is due.
func (s *stage) settle(after time.Duration) {
	s.t.Helper()
	for until := s.now.Add(after); ; {
		says, wait, more := s.p.flush(s.now, s.budget)
		s.hear(says)
		switch {
		case more:
		case wait > 0 && s.now.Add(wait).Before(until):
			s.now = s.now.Add(wait)
		case s.now.Before(until):
			s.now = until
		default:
			return
		}
	}
}

// expect checks what was told since.
func (s *stage) expect(what string, want ...string) {
	s.t.Helper()
	if !slices.Equal(s.told, want) {
		s.t.Errorf("%s: told %q, want %q", what, s.told, want)
	}
	s.told = nil
}

func TestPresence(t *testing.T) {
	s := newStage(t, Limits{})
	s.attach("alice", "bob", "carol")
	s.watch("alice", 1, "*")
	s.watch("bob", 7, "c*")
	s.settle(0)
	s.expect("lists, without oneself", "alice 1: [ +bob +carol ]", "bob 7: [ +carol ]")
	s.settle(time.Second)
	s.detach("carol")
	s.settle(time.Second)
	s.expect("gone", "alice 1: -carol", "bob 7: -carol")
	s.attach("carol", "dave")
	s.settle(time.Second)
	s.expect("back, and another", "alice 1: +carol +dave", "bob 7: +carol")
	s.attach("carol")
	s.settle(time.Second)
	s.expect("superseded", "alice 1: +carol", "bob 7: +carol")
	s.watch("carol", 1, "nobody")
	s.settle(0)
	s.expect("an empty list", "carol 1: [ ]")
	s.p.endWatch(s.ids["alice"], &conecv1.EndWatch{Watch: 1})
	s.detach("dave")
	s.detach("bob")
	s.settle(time.Second)
	s.expect("ended")
	s.detach("carol")
	s.detach("alice")
	if n := len(s.p.sights) + len(s.p.watchers) + len(s.p.slots) - len(s.p.free) + s.p.gone; n != 0 {
		t.Errorf("%d things are left when everybody has gone", n)
	}
}

// Changes are told at once if there was none for a while, and then together: what is undone meanwhile is not told.
func TestPresenceTogether(t *testing.T) {
	s := newStage(t, Limits{})
	s.attach("alice")
	s.watch("alice", 1, "*")
	s.settle(time.Second)
	s.expect("a list", "alice 1: [ ]")
	s.attach("bob")
	s.settle(0)
	s.expect("the first", "alice 1: +bob")
	s.attach("carol")
	s.settle(spreadEvery / 2)
	s.expect("the next")
	s.attach("dave")
	s.detach("bob")
	s.detach("carol")
	s.settle(spreadEvery/2 + 1)
	s.expect("together", "alice 1: +dave -bob")
	s.watch("alice", 2, "*")
	s.settle(0)
	s.expect("a list does not wait", "alice 2: [ +dave ]")
}

func TestMetadataChangesNotTooOften(t *testing.T) {
	s := newStage(t, Limits{})
	s.attach("alice", "bob")
	s.watch("alice", 1, "*")
	s.settle(time.Second)
	s.told = nil
	for i := range 1000 { // for 10 seconds
		s.publish("bob", fmt.Sprint(i))
		s.settle(10 * time.Millisecond)
	}
	s.settle(time.Second)
	if n := len(s.told); n < 45 || n > 52 || s.told[n-1] != "alice 1: +bob=999" || s.told[0] != "alice 1: +bob=0" {
		t.Errorf("of 1000 changes in 10 seconds %d were told, %s … %s", n, s.told[0], s.told[n-1])
	}
	s.told = nil
	s.publish("bob", "999")
	s.settle(time.Second)
	s.expect("no change")
	s.publish("bob", "a")
	s.publish("bob", "b")
	s.detach("bob")
	s.settle(time.Second)
	s.expect("gone before it was due", "alice 1: -bob")
	s.attach("bob")
	s.publish("bob", "c")
	s.settle(time.Second)
	s.expect("back", "alice 1: +bob", "alice 1: +bob=c")
}

// A client that may not see another never learns of it, and what it may see changes with the policy.
func TestPresencePolicy(t *testing.T) {
	s := newStage(t, Limits{})
	s.hidden["alice carol"] = true
	s.attach("alice", "bob", "carol")
	s.watch("alice", 1, "*")
	s.settle(time.Second)
	s.publish("carol", "here")
	s.settle(time.Second)
	s.detach("carol")
	s.settle(time.Second)
	s.attach("carol")
	s.settle(time.Second)
	s.expect("hidden", "alice 1: [ +bob ]")
	s.hidden = map[string]bool{"alice bob": true}
	s.settle(time.Second)
	s.expect("not asked")
	s.p.reevaluate()
	s.p.reevaluate()
	s.settle(time.Second)
	s.expect("changed", "alice 1: -bob +carol")
	s.p.reevaluate()
	s.settle(time.Second)
	s.expect("not changed")
	s.detach("bob")
	s.settle(time.Second)
	s.expect("gone, unseen")
	s.hidden = map[string]bool{}
	s.attach("bob")
	s.p.reevaluate()
	s.settle(time.Second)
	s.expect("changed, and back", "alice 1: +bob")
}

func TestWatchRefused(t *testing.T) {
	s := newStage(t, Limits{WatchesPerClient: 2})
	s.attach("alice")
	s.watch("alice", 1, "[")
	s.watch("alice", 2, "")
	s.watch("alice", 3, strings.Repeat("x", messages.MaxPattern+1))
	s.expect("patterns", "alice 1: ended, CODE_REFUSED", "alice 2: ended, CODE_REFUSED", "alice 3: ended, CODE_REFUSED")
	s.watch("alice", 1, "a")
	s.watch("alice", 2, "b")
	s.watch("alice", 3, "c")
	s.expect("too many", "alice 3: ended, CODE_LIMIT")
	s.p.endWatch(s.ids["alice"], &conecv1.EndWatch{Watch: 2})
	s.watch("alice", 3, "c")
	s.settle(0)
	s.expect("room again", "alice 1: [ ]", "alice 3: [ ]")
	for _, number := range []uint64{0, 3} {
		if _, err := s.p.watch(s.ids["alice"], &conecv1.WatchPeers{Watch: number, Pattern: "*"}); !errors.Is(err, messages.ErrProtocol) {
			t.Errorf("watch %d: %v", number, err)
		}
	}
	for i := range 10_000 { // somebody who begins and ends watches all the time leaves nothing
		s.p.endWatch(s.ids["alice"], &conecv1.EndWatch{Watch: uint64(i + 3)})
		s.watch("alice", uint64(i+4), "*")
		s.settle(0)
	}
	if n := len(s.p.watches) + len(s.p.queue); n > 200 {
		t.Errorf("%d watches are kept", n)
	}
}

// fill attaches clients with as much metadata as there may be.
func (s *stage) fill(from, to int) {
	for i := from; i < to; i++ {
		name := fmt.Sprintf("c%d", i)
		s.attach(name)
		s.settle(time.Second)
		s.publish(name, strings.Repeat("x", messages.MaxMetadata-2))
		s.settle(time.Second)
	}
}

// Who takes nothing is told 64 KiB, and then what is, not all that was.
func TestStalledWatch(t *testing.T) {
	s := newStage(t, Limits{})
	s.attach("alice", "bob")
	s.stalled[s.ids["alice"]] = true
	s.fill(0, 200)
	s.watch("alice", 1, "*")
	s.watch("bob", 1, "c*")
	s.settle(time.Second)
	alice := s.p.watchers[s.ids["alice"]]
	if alice.sent < firstGrant-2*messages.MaxMetadata || alice.sent > firstGrant {
		t.Errorf("told %d bytes", alice.sent)
	}
	if bob := s.p.watchers[s.ids["bob"]]; bob.watches[0].listing {
		t.Error("who takes what it is told waits for who does not")
	}
	for i := range 200 {
		for range 3 {
			s.detach(fmt.Sprintf("c%d", i))
			s.settle(time.Second)
			if i < 190 {
				s.attach(fmt.Sprintf("c%d", i))
				s.settle(time.Second)
			} else {
				break
			}
		}
	}
	s.told = nil
	s.stalled = map[uint64]bool{}
	s.p.grant(s.ids["alice"], &conecv1.GrantPeers{Limit: 1 << 60})
	s.settle(time.Second)
	got := strings.Join(s.told, "")
	if there, gone := strings.Count(got, "+"), strings.Count(got, "-"); there < 100 || there > 190 || gone != 0 { // none of the last ten was told
		t.Errorf("of 190 peers who came back, told %d there and %d gone", there, gone)
	}
	s.agree()
	if alice.limit > alice.sent+firstGrant {
		t.Errorf("granted %d more", alice.limit-alice.sent)
	}
}

// Of those that have gone, as many are remembered as may be there; then who is slowest gets a new list.
func TestSlowWatchStartsAgain(t *testing.T) {
	s := newStage(t, Limits{Clients: 20})
	for round := range 5 { // each has one more who stalls, and knows of others who have gone
		slow := fmt.Sprintf("slow%d", round)
		s.attach(slow)
		s.watch(slow, 1, "c*")
		s.fill(round*15, round*15+15)
		s.stalled[s.ids[slow]] = true
		s.p.watchers[s.ids[slow]].limit = s.p.watchers[s.ids[slow]].sent
		for i := range 15 {
			s.detach(fmt.Sprintf("c%d", round*15+i))
		}
		s.settle(time.Second)
		if want := 15 * min(round+1, 1); s.p.gone != want {
			t.Fatalf("round %d: %d are remembered that have gone, want %d", round, s.p.gone, want)
		}
	}
	if s.lists != 5 {
		t.Errorf("%d lists", s.lists)
	}
	for _, id := range s.ids {
		s.p.grant(id, &conecv1.GrantPeers{Limit: 1 << 60})
	}
	s.settle(time.Second)
	s.agree()
	if s.p.gone != 0 || s.lists != 5+4 {
		t.Errorf("%d are remembered that have gone, %d lists", s.p.gone, s.lists)
	}
}
