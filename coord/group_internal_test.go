package coord

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// asks is what a client that joins says.
func asks(token int, change func(*conecv1.JoinGroup)) *conecv1.JoinGroup {
	join := &conecv1.JoinGroup{Group: "room", Member: fmt.Appendf(nil, "%016d", token), Sends: true, Receives: true, Make: &conecv1.GroupOptions{}}
	if change != nil {
		change(join)
	}
	return join
}

func TestCheckJoin(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*conecv1.JoinGroup)
		want   error
	}{
		{"as it should be", nil, nil},
		{"no name", func(j *conecv1.JoinGroup) { j.Group = "" }, messages.ErrNameInvalid},
		{"look-alike", func(j *conecv1.JoinGroup) { j.Group = "rооm" }, messages.ErrNameInvalid}, //nolint:gosmopolitan // two Cyrillic letters
		{"capitals", func(j *conecv1.JoinGroup) { j.Group = "Room" }, messages.ErrNameInvalid},
		{"no membership", func(j *conecv1.JoinGroup) { j.Member = nil }, messages.ErrProtocol},
		{"long membership", func(j *conecv1.JoinGroup) { j.Member = make([]byte, 17) }, messages.ErrProtocol},
		{"neither sends nor receives", func(j *conecv1.JoinGroup) { j.Sends, j.Receives = false, false }, messages.ErrProtocol},
		{"unknown treatment", func(j *conecv1.JoinGroup) { j.Make.Slow = 9 }, messages.ErrVersion},
		{"sealed", func(j *conecv1.JoinGroup) { j.Make.Sealed, j.Seal = true, []byte("key") }, nil},
		{"sealed without a key", func(j *conecv1.JoinGroup) { j.Make.Sealed = true }, messages.ErrProtocol},
		{"not sealed with a key", func(j *conecv1.JoinGroup) { j.Seal = []byte("key") }, messages.ErrProtocol},
		{"large key", func(j *conecv1.JoinGroup) { j.Make, j.Seal = nil, make([]byte, messages.MaxSeal+1) }, messages.ErrLimit},
		{"only asks", func(j *conecv1.JoinGroup) { j.Asks, j.Member = true, nil }, nil},
	} {
		if err := checkJoin(asks(1, test.change)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// TestGroupRoster holds the roster, the count of messages and the history at every entry against a plain record of what
// happened.
func TestGroupRoster(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	g := newGroup("room", &conecv1.GroupOptions{Keep: keepAtLeast}, Limits{}.withDefaults())
	var record []map[uint64]bool // who was a member before an entry
	var isMessage []bool
	present := map[uint64]bool{}
	note := func(message bool) {
		record, isMessage = append(record, map[uint64]bool{}), append(isMessage, message)
		for number := range present {
			record[len(record)-1][number] = true
		}
	}
	members := map[uint64]*member{}
	for n := range 3000 {
		switch what := random.IntN(10); {
		case what < 1 || len(present) == 0:
			note(false)
			m, err := g.join("alice", asks(n, nil))
			if len(present) >= membershipsEach {
				if !errors.Is(err, messages.ErrLimit) {
					t.Fatal("joined too often:", err)
				}
				record, isMessage = record[:len(record)-1], isMessage[:len(isMessage)-1]
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			members[m.GetNumber()] = m
			present[m.GetNumber()] = true
		case what < 2:
			note(false)
			for _, m := range members {
				g.leave(m, conecv1.Code_CODE_CLOSED)
				delete(members, m.GetNumber())
				delete(present, m.GetNumber())
				break
			}
		default:
			note(true)
			if _, err := g.feed.TryAdd(nil, make([]byte, random.IntN(200)), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, next := g.feed.Range()
	if first == 0 || next != uint64(len(record)) {
		t.Fatalf("the feed has %d to %d of %d", first, next, len(record))
	}
	for at := first; at < next; at++ {
		roster := g.roster(at)
		for _, m := range roster {
			if !record[at][m.GetNumber()] {
				t.Fatalf("before %d, %v was no member", at, m)
			}
		}
		if len(roster) != len(record[at]) {
			t.Fatalf("before %d there were %d members, not %d", at, len(record[at]), len(roster))
		}
		from := uint64(random.Int64N(int64(at)))
		want := uint64(0)
		for _, message := range isMessage[from:at] {
			if message {
				want++
			}
		}
		if got, err := g.events.messages(from, at); got != want || err != nil {
			t.Fatalf("%d messages from %d to %d, %v, want %d", got, from, at, err, want)
		}
		count := uint64(random.IntN(30))
		history := g.events.before(at, count, first)
		have := uint64(0)
		for _, message := range isMessage[history:at] {
			if message {
				have++
			}
		}
		if have != count && history != first || count > 0 && history < at && history > first && !isMessage[history] {
			t.Fatalf("the last %d messages before %d begin at %d", count, at, history)
		}
	}
	if len(g.members) > len(present)+int(next-first) {
		t.Errorf("%d members are remembered", len(g.members))
	}
}

// TestGroupForgets has so many come and go that it can not be said any more how many messages one missed who was away for
// all of that: it is told so.
func TestGroupForgets(t *testing.T) {
	g := newGroup("room", &conecv1.GroupOptions{Keep: keepAtLeast}, Limits{}.withDefaults())
	for n := range 2 * eventsRemembered {
		m, err := g.join("alice", asks(n, nil))
		if err != nil {
			t.Fatal(err)
		}
		g.leave(m, conecv1.Code_CODE_CLOSED)
	}
	if len(g.events.numbers) > 2*eventsRemembered {
		t.Errorf("%d events are remembered", len(g.events.numbers))
	}
	if _, err := g.gap(0, g.events.numbers[len(g.events.numbers)-1]); !errors.Is(err, messages.ErrLimit) {
		t.Error("a gap is counted whose events are forgotten:", err)
	}
	m, err := g.join("alice", asks(-1, nil))
	if err != nil {
		t.Fatal(err)
	}
	joined := g.start(m, false, asks(-1, func(j *conecv1.JoinGroup) { j.Incarnation = g.incarnation }))
	if !joined.GetUncounted() {
		t.Errorf("who was away is told %v", joined)
	}
}

// TestGroupStart shows with what a membership begins and goes on.
func TestGroupStart(t *testing.T) {
	limits := Limits{MembersPerGroup: 3}.withDefaults()
	g := newGroup("room", &conecv1.GroupOptions{Keep: 1 << 40, Rejoin: 1 << 40}, limits)
	if g.options.GetKeep() != uint64(limits.GroupKeep) || g.options.GetRejoin() != uint64(rejoinAtMost.Milliseconds()) {
		t.Errorf("the group keeps to no limits: %v", g.options)
	}
	alice, err := g.join("alice", asks(1, nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := g.feed.TryAdd(nil, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	bob, err := g.join("bob", asks(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		change  func(*conecv1.JoinGroup)
		from    uint64
		missed  uint64
		members []uint64
	}{
		{"new", nil, 7, 0, []uint64{1, 2}},
		{"with history", func(j *conecv1.JoinGroup) { j.History = 2 }, 4, 0, []uint64{1}},
		{"with all history", func(j *conecv1.JoinGroup) { j.History = 1 << 62 }, 0, 0, nil},
		{"goes on", func(j *conecv1.JoinGroup) { j.Incarnation, j.Next = g.incarnation, 3 }, 3, 0, []uint64{1}},
		{"of another group", func(j *conecv1.JoinGroup) { j.Incarnation, j.Next = []byte("another"), 3 }, 7, 0, []uint64{1, 2}},
		{"ahead of all", func(j *conecv1.JoinGroup) { j.Incarnation, j.Next = g.incarnation, 99 }, 7, 0, []uint64{1, 2}},
	} {
		joined := g.start(bob, false, asks(2, test.change))
		var members []uint64
		for _, m := range joined.GetMembers() {
			members = append(members, m.GetNumber())
		}
		if joined.GetFrom() != test.from || joined.GetMissed() != test.missed || !slices.Equal(members, test.members) {
			t.Errorf("%s: from %d, missed %d, members %v, want %+v", test.name, joined.GetFrom(), joined.GetMissed(), members, test)
		}
	}
	if g.find("bob", asks(2, nil)) != bob || g.find("alice", asks(2, nil)) != nil || g.find("bob", asks(3, nil)) != nil {
		t.Error("a membership is found by its token and name, and by nothing less")
	}
	if _, err := g.join("carol", asks(3, nil)); err != nil {
		t.Error(err)
	}
	if _, err := g.join("dave", asks(4, nil)); !errors.Is(err, messages.ErrLimit) {
		t.Error("a fourth of three members:", err)
	}
	g.leave(alice, conecv1.Code_CODE_UNREACHABLE)
	g.leave(alice, conecv1.Code_CODE_CLOSED)
	if count := g.count(); !proto.Equal(count, &conecv1.GroupCount{Senders: 2, Receivers: 2, Members: 2}) {
		t.Errorf("there are %v", count)
	}
	if _, next := g.feed.Range(); next != 9 {
		t.Errorf("leaving twice was told twice: %d entries", next)
	}
}

// TestSealedGroup shows what the coordinator makes of what members of a sealed group say: messages count, the rest does not;
// who sends no messages may say the rest; and there is a limit to how much is remembered of it.
func TestSealedGroup(t *testing.T) {
	sealed := func(j *conecv1.JoinGroup) { j.Make.Sealed, j.Seal = true, []byte("key") }
	g := newGroup("room", &conecv1.GroupOptions{Keep: keepAtLeast, Sealed: true}, Limits{}.withDefaults())
	if !g.options.GetSealed() || g.limits.MembersPerGroup != sealedMembers {
		t.Errorf("the group is %v, for %d members", g.options, g.limits.MembersPerGroup)
	}
	if err := g.mismatch(asks(1, nil)); !errors.Is(err, messages.ErrRefused) {
		t.Error("one without a key joins:", err)
	}
	plain := newGroup("room", &conecv1.GroupOptions{}, Limits{}.withDefaults())
	if err := errors.Join(g.mismatch(asks(1, sealed)), plain.mismatch(asks(1, nil))); err != nil {
		t.Error(err)
	}
	if err := plain.mismatch(asks(1, sealed)); !errors.Is(err, messages.ErrRefused) {
		t.Error("one with a key joins a group that is not sealed:", err)
	}
	m, err := g.join("alice", asks(1, sealed))
	if err != nil || string(m.GetSeal()) != "key" {
		t.Fatal(m, err)
	}
	reader, err := g.join("bob", asks(2, func(j *conecv1.JoinGroup) { sealed(j); j.Sends = false }))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := g.join("carol", asks(3, func(j *conecv1.JoinGroup) { sealed(j); j.Receives = false }))
	if err != nil || !g.follows(sender) || plain.follows(sender) {
		t.Error("who only sends to a sealed group must hear of keys all the same", err)
	}
	message, err := proto.Marshal(&conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Message{Message: &conecv1.SealedMessage{Key: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := proto.Marshal(&conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Want{Want: &conecv1.SealedWant{Members: []uint64{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	count := uint64(0)
	for n := range 5000 {
		body := want
		if n%3 == 0 {
			count++
			body = message
		}
		if err := g.add(t.Context(), m, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.add(t.Context(), reader, want, nil); err != nil {
		t.Error("who only receives may not ask for keys:", err)
	}
	if err := g.add(t.Context(), reader, message, nil); !errors.Is(err, messages.ErrProtocol) {
		t.Error("who only receives sent a message:", err)
	}
	if err := plain.add(t.Context(), reader, want, nil); !errors.Is(err, messages.ErrProtocol) {
		t.Error("who only receives sent a message:", err)
	}
	_, next := g.feed.Range()
	if got, err := g.events.messages(0, next); got != count || err != nil {
		t.Errorf("%d messages are counted, %v, want %d", got, err, count)
	}
	for range 3 * eventsRemembered {
		if err := g.add(t.Context(), m, want, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.events.numbers); n > eventsRemembered+eventsUnpruned+keepAtLeast {
		t.Errorf("%d events are remembered", n)
	}
	body := make([]byte, g.limits.GroupMessage+1)
	if err := g.add(t.Context(), m, append(want, body...), nil); !errors.Is(err, messages.ErrTooLarge) {
		t.Error("too large:", err)
	}
}
