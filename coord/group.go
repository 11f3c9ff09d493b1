package coord

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Limits and defaults of groups.
const (
	tokenSize        = 16               // bytes of JoinGroup.member
	membershipsEach  = 16               // of one client in one group
	keepAtLeast      = 16 << 10         // bytes
	keepByDefault    = 1 << 20          // bytes
	rejoinByDefault  = 30 * time.Second // that a member may be away
	rejoinAtMost     = 10 * time.Minute
	eventsRemembered = 1 << 14 // entries that are no messages, older than what is kept
	eventsUnpruned   = 1 << 10 // that are added until old ones are forgotten
	sealedMembers    = 256     // of a sealed group: each sender hands a key to each of them
	groupHead        = 32      // bytes around a message in an entry, at most
)

// group is who is in a group, and what it says. The feed is the group's one order: a
// number of an entry says who was a member then.
//
// Members are changed by the group's actor alone; under mu, because pumps ask who was
// there ([group.gap]). What members say goes to the feed past all of this.
type group struct {
	name        string
	incarnation []byte
	options     *conecv1.GroupOptions
	limits      Limits
	feed        *netio.Feed

	events events

	mu      sync.Mutex
	members map[uint64]*member // by number; those that left, too, as long as an entry is kept in which they had not
	last    uint64             // number of the last member
}

// member is one membership.
type member struct {
	*conecv1.GroupMember
	token string

	joined, left uint64 // numbers of the entries that say so
	gone         bool   // left is set
	accepted     uint64 // messages of it that the feed has taken
}

func newGroup(name string, options *conecv1.GroupOptions, limits Limits) *group {
	options = groupOptions(options, limits)
	if options.GetSealed() {
		limits.MembersPerGroup = min(limits.MembersPerGroup, sealedMembers)
	}
	incarnation := make([]byte, tokenSize)
	_, _ = rand.Read(incarnation) // never fails (crypto/rand)
	return &group{
		name: name, incarnation: incarnation, options: options, limits: limits,
		feed:    netio.NewFeed(int(options.GetKeep()), options.GetSlow() == conecv1.SlowMember_SLOW_MEMBER_WAITED_FOR),
		members: map[uint64]*member{},
	}
}

// groupOptions returns what a group is to be, within the limits.
func groupOptions(wanted *conecv1.GroupOptions, limits Limits) *conecv1.GroupOptions {
	options := &conecv1.GroupOptions{Slow: wanted.GetSlow(), Keep: cmp.Or(wanted.GetKeep(), keepByDefault), Rejoin: wanted.GetRejoin(), Sealed: wanted.GetSealed()}
	options.Keep = min(max(options.GetKeep(), keepAtLeast), uint64(limits.GroupKeep))
	options.Rejoin = min(cmp.Or(options.GetRejoin(), uint64(rejoinByDefault.Milliseconds())), uint64(rejoinAtMost.Milliseconds()))
	return options
}

// checkJoin refuses what can not be meant.
func checkJoin(join *conecv1.JoinGroup) error {
	if err := messages.CheckGroupName(join.GetGroup()); err != nil {
		return err
	}
	switch slow := join.GetMake().GetSlow(); {
	case join.GetAsks():
		return nil
	case len(join.GetMember()) != tokenSize:
		return fmt.Errorf("%w: membership of %d bytes", messages.ErrProtocol, len(join.GetMember()))
	case !join.GetSends() && !join.GetReceives():
		return fmt.Errorf("%w: a member that neither sends nor receives", messages.ErrProtocol)
	case conecv1.SlowMember_name[int32(slow)] == "":
		return fmt.Errorf("%w: no such treatment of slow members: %d", messages.ErrVersion, slow)
	case len(join.GetSeal()) > messages.MaxSeal:
		return fmt.Errorf("%w: key and certificates of %d bytes, at most %d", messages.ErrLimit, len(join.GetSeal()), messages.MaxSeal)
	case join.GetMake() != nil && join.GetMake().GetSealed() != (len(join.GetSeal()) > 0):
		return fmt.Errorf("%w: a group is made sealed by a member with a key", messages.ErrProtocol)
	}
	return nil
}

// mismatch refuses who wants a sealed group and would join one that is not, or the reverse.
func (g *group) mismatch(join *conecv1.JoinGroup) error {
	switch sealed := len(join.GetSeal()) > 0; {
	case sealed && !g.options.GetSealed():
		return fmt.Errorf("%w: the group is not sealed", messages.ErrRefused)
	case !sealed && g.options.GetSealed():
		return fmt.Errorf("%w: the group is sealed", messages.ErrRefused)
	}
	return nil
}

// mayAdd refuses what a member may not say, and reports whether it is a message.
func (g *group) mayAdd(m *member, message []byte) (isMessage bool, err error) {
	isMessage = !g.options.GetSealed() || !messages.IsSealedControl(message)
	switch {
	case isMessage && !m.GetSends():
		return true, fmt.Errorf("%w: message of a member that only receives", messages.ErrProtocol)
	case len(message) > g.limits.GroupMessage:
		return true, &messages.SizeError{Size: len(message), Limit: g.limits.GroupMessage}
	}
	return isMessage, nil
}

// follows reports whether a member gets the entries.
func (g *group) follows(m *member) bool { return m.GetReceives() || g.options.GetSealed() }

// find returns the membership that a client comes back to, nil if there is none.
func (g *group) find(name string, join *conecv1.JoinGroup) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if !m.gone && m.token == string(join.GetMember()) && m.GetName() == name {
			return m
		}
	}
	return nil
}

// join makes a member.
func (g *group) join(name string, join *conecv1.JoinGroup) (*member, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	present, own := 0, 0
	for _, m := range g.members {
		if m.gone {
			continue
		}
		if present++; m.GetName() == name {
			own++
		}
	}
	switch {
	case own >= membershipsEach:
		return nil, fmt.Errorf("%w: %d memberships of one client", messages.ErrLimit, own)
	case present >= g.limits.MembersPerGroup:
		return nil, fmt.Errorf("%w: %d members", messages.ErrLimit, present)
	}
	m := &member{
		GroupMember: &conecv1.GroupMember{Number: g.last + 1, Name: name, Sends: join.GetSends(), Receives: join.GetReceives(), Seal: join.GetSeal()},
		token:       string(join.GetMember()),
	}
	var err error
	if m.joined, err = g.tell(&conecv1.GroupEntry{Joined: m.GroupMember}); err != nil {
		return nil, err
	}
	g.last++
	g.members[m.GetNumber()] = m
	return m, nil
}

// leave ends a membership.
func (g *group) leave(m *member, code conecv1.Code) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.gone {
		return
	}
	number, err := g.tell(&conecv1.GroupEntry{Left: &conecv1.GroupLeft{Number: m.GetNumber(), Code: code}})
	if err != nil {
		return // the group is over
	}
	m.gone, m.left = true, number
	g.prune()
}

// tell adds an entry that is no message. Called with mu held.
func (g *group) tell(entry *conecv1.GroupEntry) (number uint64, err error) {
	body, err := proto.Marshal(entry)
	if err != nil {
		return 0, err
	}
	return g.feed.TryAdd(nil, body, g.events.note)
}

// prune forgets members that left before what is kept, and old events. Called with mu
// held.
func (g *group) prune() {
	first, _ := g.feed.Range()
	maps.DeleteFunc(g.members, func(_ uint64, m *member) bool { return m.gone && m.left < first })
	g.events.prune(first)
}

// roster returns who was a member just before an entry that is kept, by number. Called
// with mu held.
func (g *group) roster(at uint64) []*conecv1.GroupMember {
	var roster []*conecv1.GroupMember
	for _, m := range g.members {
		if m.joined < at && (!m.gone || m.left >= at) {
			roster = append(roster, m.GroupMember)
		}
	}
	slices.SortFunc(roster, func(a, b *conecv1.GroupMember) int { return cmp.Compare(a.GetNumber(), b.GetNumber()) })
	return roster
}

// gap returns what a member is told that misses the entries from one to another.
func (g *group) gap(from, to uint64) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	missed, err := g.events.messages(from, to)
	if err != nil {
		return nil, err
	}
	if g.options.GetSlow() == conecv1.SlowMember_SLOW_MEMBER_ENDS && missed > 0 {
		return nil, fmt.Errorf("%w: %d messages behind, and the group does not allow that", messages.ErrLimit, missed)
	}
	return proto.Marshal(&conecv1.GroupEntry{Gap: &conecv1.GroupGap{To: to, Messages: missed, Members: g.roster(to)}})
}

// start returns what a member is told when it joins or comes back.
func (g *group) start(m *member, resumed bool, join *conecv1.JoinGroup) *conecv1.GroupJoined {
	g.mu.Lock()
	defer g.mu.Unlock()
	first, next := g.feed.Range()
	joined := &conecv1.GroupJoined{
		Incarnation: g.incarnation, Number: m.GetNumber(), Accepted: m.accepted, Resumed: resumed,
		Options: g.options, MaxMessage: uint64(g.limits.GroupMessage),
	}
	switch {
	case !g.follows(m):
		joined.From = next
	case string(join.GetIncarnation()) == string(g.incarnation) && join.GetNext() <= next:
		joined.From = max(join.GetNext(), first)
		missed, err := g.events.messages(join.GetNext(), joined.GetFrom())
		joined.Missed, joined.Uncounted = missed, err != nil
	default:
		joined.From = g.events.before(m.joined+1, join.GetHistory(), first)
	}
	joined.Members = g.roster(joined.GetFrom())
	return joined
}

// count returns how many members there are now.
func (g *group) count() *conecv1.GroupCount {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := &conecv1.GroupCount{}
	for _, m := range g.members {
		if m.gone {
			continue
		}
		count.Members++
		if m.GetSends() {
			count.Senders++
		}
		if m.GetReceives() {
			count.Receivers++
		}
	}
	return count
}

// info returns what there is to be seen.
func (g *group) info() GroupInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	first, next := g.feed.Range()
	info := GroupInfo{Name: g.name, Sealed: g.options.GetSealed(), Messages: g.events.allMessages(next)}
	info.Kept, _ = g.events.messages(first, next) // what is kept is remembered
	for _, m := range g.roster(next) {
		info.Members = append(info.Members, GroupMember{Name: m.GetName(), Sends: m.GetSends(), Receives: m.GetReceives()})
	}
	return info
}
