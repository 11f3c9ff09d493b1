package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// membership is the part of a [Group] that its actor, a pump and the program share: what
// waits to be sent, what has happened, and on which stream it goes on. The pump of each
// attachment, one at a time, calls settle, request, accept, attach and give.
//
// Nothing blocks with mu held.
type membership struct {
	token   []byte
	options JoinOptions
	reader  chan struct{} // holds a token while nobody receives: one at a time, so that all see the same order

	mu          sync.Mutex
	stream      *netio.Stream // nil while away
	changed     chan struct{} // closed and replaced when stream, events or err change
	wake        chan struct{} // of the pump: there is something to send, or to leave
	err         error         // why the membership is over
	leaving     bool
	incarnation []byte
	self        uint64
	next        uint64 // number of the entry that is received next
	members     map[uint64]Member
	events      []GroupEvent // to be received before what the stream has

	sealed     *sealed // nil: the group is not
	maxMessage int
	queue      []outgoing    // not confirmed
	texts      int           // those of them that the program has sent
	bytes      int           // of these
	first      uint64        // number of the first of the queue, in this membership
	controls   uint64        // those before it that the program has not sent
	given      int           // how many of them went to the stream
	began      uint64        // number of the first message of the stream
	space      chan struct{} // closed and replaced when something was confirmed
}

func newMembership(options JoinOptions) *membership {
	m := &membership{
		token: newID(), options: options, reader: make(chan struct{}, 1), changed: make(chan struct{}),
		wake: make(chan struct{}, 1), members: map[uint64]Member{}, space: make(chan struct{}),
		maxMessage: unconfirmedBytes,
	}
	m.reader <- struct{}{}
	return m
}

// receive returns the next event.
func (m *membership) receive(ctx context.Context) (GroupEvent, error) {
	for {
		event, changed, err := m.tryReceive(ctx)
		if event != nil || err != nil {
			return event, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryReceive returns the next event of the stream that there is. If that has ended, or there
// is none, it returns what tells of the next.
func (m *membership) tryReceive(ctx context.Context) (GroupEvent, <-chan struct{}, error) {
	if m.sealed != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if event := m.event(); event != nil {
			return event, nil, nil
		}
		return nil, m.changed, m.err
	}
	select {
	case <-m.reader:
		defer func() { m.reader <- struct{}{} }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	for {
		m.mu.Lock()
		if event := m.event(); event != nil {
			m.mu.Unlock()
			return event, nil, nil
		}
		stream, err, changed := m.stream, m.err, m.changed
		m.mu.Unlock()
		if stream == nil || err != nil {
			return nil, changed, err
		}
		entry, err := stream.Receive(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return nil, nil, ctx.Err()
		case err != nil:
			return nil, changed, nil // the pump notices, too
		}
		if err := m.heard(entry); err != nil {
			stream.Reset(err)
		}
	}
}

// event takes an event off those that wait. Called with mu held.
func (m *membership) event() GroupEvent {
	if len(m.events) == 0 {
		return nil
	}
	event := m.events[0]
	m.events[0] = nil
	m.events = m.events[1:]
	if m.sealed != nil {
		m.sealed.unread -= sizeOf(event)
		signal(m.sealed.room)
	}
	return event
}

// tell adds an event. Called with mu held.
func (m *membership) tell(event GroupEvent) {
	if m.options.SendOnly {
		return
	}
	if last := len(m.events) - 1; last >= 0 {
		before, ok := m.events[last].(GroupMissed)
		if missed, too := event.(GroupMissed); ok && too {
			m.events[last] = before.and(missed)
			return
		}
	}
	m.events = append(m.events, event)
	if m.sealed != nil {
		m.sealed.unread += sizeOf(event)
		m.change()
	}
}

// heard acts on an entry. Who calls it holds the reader's token.
func (m *membership) heard(body []byte) error {
	sender, data, ok := messages.CutGroupData(body)
	switch {
	case ok && m.sealed != nil:
		return m.heardSealed(sender, data)
	case ok:
		return m.heardMessage(sender, data)
	}
	entry := &conecv1.GroupEntry{}
	if err := proto.Unmarshal(body, entry); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	if m.sealed != nil {
		members := entry.GetGap().GetMembers()
		if joined := entry.GetJoined(); joined != nil {
			members = []*conecv1.GroupMember{joined}
		}
		if err := m.sealed.vet(members...); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case entry.GetJoined() != nil:
		m.next++
		m.joined(m.toMember(entry.GetJoined()))
	case entry.GetLeft() != nil:
		m.next++
		m.left(entry.GetLeft().GetNumber(), messages.FromCode(entry.GetLeft().GetCode(), ""))
	case entry.GetGap() != nil:
		if missed := entry.GetGap().GetMessages(); missed > 0 {
			m.tell(GroupMissed{Messages: missed})
		}
		if m.next = entry.GetGap().GetTo(); m.sealed != nil {
			m.sealed.opener.gap()
		}
		m.replace(entry.GetGap().GetMembers())
	default:
		return fmt.Errorf("%w: empty entry of a group", messages.ErrProtocol)
	}
	return nil
}

// heardMessage acts on a message.
func (m *membership) heardMessage(sender uint64, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, known := m.members[sender]
	if !known {
		return fmt.Errorf("%w: message of member %d, who did not join", messages.ErrProtocol, sender)
	}
	if sender != m.self || m.options.Own {
		m.tell(GroupMessage{From: from, Data: data, Place: m.next})
	}
	m.next++
	return nil
}

func (m *membership) toMember(member *conecv1.GroupMember) Member {
	out := Member{Number: member.GetNumber(), Name: member.GetName(), Sends: member.GetSends(), Receives: member.GetReceives()}
	if m.sealed != nil {
		out.Untrusted = m.sealed.peers[out.Number].err
	}
	return out
}

// joined and left change the members and say so. Called with mu held.
func (m *membership) joined(member Member) {
	_, known := m.members[member.Number]
	if !known && member.Number != m.self {
		m.tell(MemberJoined{member})
	}
	m.members[member.Number] = member
	if m.sealed != nil {
		m.joinedSealed(member.Number, !known)
	}
}

func (m *membership) left(number uint64, why error) {
	if member, known := m.members[number]; known {
		delete(m.members, number)
		m.tell(MemberLeft{member, why})
		if m.sealed != nil {
			m.leftSealed(number)
		}
	}
}

// replace takes over who is there, after some changes were not heard of. Called with mu
// held.
func (m *membership) replace(members []*conecv1.GroupMember) {
	present := map[uint64]bool{}
	for _, member := range members {
		present[member.GetNumber()] = true
	}
	for _, number := range slices.Sorted(maps.Keys(m.members)) {
		if !present[number] {
			m.left(number, nil)
		}
	}
	for _, member := range members {
		m.joined(m.toMember(member))
	}
}

// settle takes what has arrived on the last stream, so that it is known what is missing.
func (m *membership) settle(ctx context.Context) error {
	m.mu.Lock()
	stream := m.stream
	m.mu.Unlock()
	if stream == nil {
		return nil
	}
	select { // a receiver gives the token back, since the stream has ended
	case <-m.reader:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { m.reader <- struct{}{} }()
	m.mu.Lock()
	taken := 0
	for _, event := range m.events {
		taken += sizeOf(event)
	}
	m.mu.Unlock()
	for taken < unconfirmedBytes { // the group keeps the rest, or counts it as missed
		entry, err := stream.TryReceive()
		if err != nil {
			break
		}
		if err := m.heard(entry); err != nil {
			return err
		}
		taken += len(entry) + eachUnconfirmed
	}
	m.mu.Lock()
	m.stream = nil
	m.change()
	m.mu.Unlock()
	return nil
}

// change has everybody look again. Called with mu held.
func (m *membership) change() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// request returns what to say to the coordinator to join, or to go on.
func (m *membership) request(name string) (join *conecv1.JoinGroup, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	join = m.options.request(name, m.token)
	join.Incarnation, join.Next = m.incarnation, m.next
	if m.sealed != nil {
		join.Seal, err = m.sealed.offer(!m.options.SendOnly)
	}
	return join, err
}

// accept reports whether the group is what this member wants.
func (m *membership) accept(joined *conecv1.GroupJoined) error {
	switch {
	case m.sealed != nil:
		return m.sealed.accept(joined)
	case joined.GetOptions().GetSealed():
		return fmt.Errorf("%w: the group is sealed", messages.ErrRefused)
	}
	return nil
}

// attach goes on with a stream on which the coordinator has said how.
func (m *membership) attach(stream *netio.Stream, joined *conecv1.GroupJoined) {
	m.mu.Lock()
	defer m.mu.Unlock()
	again, expected := m.incarnation != nil, m.next
	same := bytes.Equal(m.incarnation, joined.GetIncarnation())
	m.incarnation, m.self, m.next, m.maxMessage = joined.GetIncarnation(), joined.GetNumber(), joined.GetFrom(), int(joined.GetMaxMessage())
	doubtful := uint64(0)
	if joined.GetResumed() {
		m.forget(joined.GetAccepted())
	} else { // the numbers begin anew, with what was not sent yet
		texts := m.texts
		m.forget(m.first + uint64(m.given))
		doubtful = uint64(texts - m.texts)
		m.queue = slices.DeleteFunc(m.queue, func(o outgoing) bool { return o.control }) // keys of the old membership
		m.first, m.controls = 0, 0
	}
	m.given, m.began = 0, m.first
	if m.sealed != nil {
		m.attachSealed(joined, expected)
	}
	if again {
		m.tell(GroupRejoined{Resumed: joined.GetResumed(), InDoubt: doubtful, Another: !same || joined.GetUncounted()})
		if missed := joined.GetMissed(); missed > 0 {
			m.tell(GroupMissed{Messages: missed})
		}
		m.replace(joined.GetMembers())
	} else {
		for _, member := range joined.GetMembers() {
			m.members[member.GetNumber()] = m.toMember(member)
			if m.sealed != nil {
				m.joinedSealed(member.GetNumber(), false)
			}
		}
	}
	m.stream = stream
	m.change()
}

// leave has the pump leave once everything was sent.
func (m *membership) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = true
	signal(m.wake)
}

// isLeaving reports whether that was wanted.
func (m *membership) isLeaving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}

// isOver reports whether the membership is over.
func (m *membership) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

// end ends the membership for the program. It returns an error if some of what was sent may
// be lost. That the coordinator has ended the stream in order says that it has everything.
func (m *membership) end(why error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.over(why)
	}
	if m.texts > 0 {
		return m.doubt()
	}
	return nil
}

// over does it. Called with mu held.
func (m *membership) over(why error) {
	if errors.Is(why, io.EOF) {
		why = messages.ErrClosed
		m.forget(m.first + uint64(m.given))
	}
	m.err, m.stream = why, nil
	m.change()
	close(m.space)
	m.space = make(chan struct{})
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
