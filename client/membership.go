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

// unconfirmedBytes is how much of what a member sends may wait for the coordinator to
// confirm it.
const unconfirmedBytes = 1 << 20

// membership is the part of a [Group] that its actor, a pump and the program share: what
// waits to be sent, what has happened, and on which stream it goes on. The pump of each
// attachment, one at a time, calls settle, request, attach, give and detach.
//
// Nothing blocks with mu held.
type membership struct {
	token  []byte
	reader chan struct{} // holds a token while nobody receives: one at a time, so that all see the same order

	mu          sync.Mutex
	options     JoinOptions
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

	maxMessage int
	queue      [][]byte      // sent by the program, not confirmed
	bytes      int           // of them
	first      uint64        // number of the first of them, in this membership
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

// send queues a message.
func (m *membership) send(ctx context.Context, message []byte) error {
	m.mu.Lock()
	for m.err == nil && !m.leaving && len(message) <= m.maxMessage && m.bytes > 0 && m.bytes+len(message) > unconfirmedBytes {
		space := m.space
		m.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return m.doubt()
	case m.leaving:
		return messages.ErrClosed
	case len(message) > m.maxMessage:
		return &messages.SizeError{Size: len(message), Limit: m.maxMessage}
	}
	m.queue = append(m.queue, slices.Clone(message))
	m.bytes += len(message)
	signal(m.wake)
	return nil
}

// doubt returns why the membership is over, and what of it may be lost. Called with mu
// held.
func (m *membership) doubt() error {
	if len(m.queue) == 0 {
		return m.err
	}
	return &messages.DoubtError{Confirmed: m.first, InDoubt: uint64(len(m.queue)), Err: m.err}
}

// confirm waits until nothing is unconfirmed.
func (m *membership) confirm(ctx context.Context) error {
	for {
		m.mu.Lock()
		done, err, space := len(m.queue) == 0, m.err, m.space
		if !done && err != nil {
			err = m.doubt()
		}
		m.mu.Unlock()
		if done || err != nil {
			if done {
				return nil
			}
			return err
		}
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirmed hears that the coordinator has so many messages of the stream.
func (m *membership) confirmed(count uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(m.began + count)
}

// forget drops messages up to a number. Called with mu held.
func (m *membership) forget(until uint64) {
	n := 0
	for n < len(m.queue) && m.first < until {
		m.bytes -= len(m.queue[n])
		m.queue[n] = nil
		m.first++
		n++
	}
	if n == 0 {
		return
	}
	m.queue = m.queue[n:]
	m.given = max(m.given-n, 0)
	close(m.space)
	m.space = make(chan struct{})
}

// give sends what is queued on a stream until that ends, or ctx does, or the membership was
// left and everything was sent: then it ends sending and waits for the other side's end.
func (m *membership) give(ctx context.Context, stream *netio.Stream) {
	for {
		m.mu.Lock()
		var message []byte
		some := m.given < len(m.queue)
		if some {
			message = m.queue[m.given]
			m.given++
		}
		leaving := m.leaving
		m.mu.Unlock()
		switch {
		case some:
			if stream.Send(ctx, message) == nil {
				continue
			}
		case leaving:
			stream.CloseSend()
		default:
			select {
			case <-m.wake:
				continue
			case <-stream.Ended():
			case <-stream.ReceiveEnded(): // it failed, or the group has ended it
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-stream.ReceiveEnded():
		case <-ctx.Done():
		}
		return
	}
}

// receive returns the next event; nil if it is a message, so that one by itself needs no
// memory.
func (m *membership) receive(ctx context.Context) (GroupMessage, GroupEvent, error) {
	for {
		message, event, changed, err := m.tryReceive(ctx)
		if changed == nil || err != nil {
			return message, event, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return GroupMessage{}, nil, ctx.Err()
		}
	}
}

// tryReceive returns the next event of the stream that there is. If that has ended, or there
// is none, it returns what tells of the next.
func (m *membership) tryReceive(ctx context.Context) (_ GroupMessage, _ GroupEvent, changed <-chan struct{}, err error) {
	none := GroupMessage{}
	select {
	case <-m.reader:
		defer func() { m.reader <- struct{}{} }()
	case <-ctx.Done():
		return none, nil, nil, ctx.Err()
	}
	for {
		m.mu.Lock()
		if len(m.events) > 0 {
			event := m.events[0]
			m.events[0] = nil
			m.events = m.events[1:]
			m.mu.Unlock()
			if message, ok := event.(GroupMessage); ok {
				return message, nil, nil, nil
			}
			return none, event, nil, nil
		}
		stream, err, changed := m.stream, m.err, m.changed
		m.mu.Unlock()
		if stream == nil || err != nil {
			return none, nil, changed, err
		}
		entry, err := stream.Receive(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return none, nil, nil, ctx.Err()
		case err != nil:
			return none, nil, changed, nil // the pump notices, too
		}
		message, some, err := m.heard(entry)
		if err != nil {
			stream.Reset(err)
		} else if some {
			return message, nil, nil, nil
		}
	}
}

// heard acts on an entry, and returns the message if it is some for the program; of all else
// there are events then. Who calls it holds the reader's token.
func (m *membership) heard(body []byte) (message GroupMessage, some bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sender, data, ok := messages.CutGroupData(body); ok {
		from, known := m.members[sender]
		if !known {
			return message, false, fmt.Errorf("%w: message of member %d, who did not join", messages.ErrProtocol, sender)
		}
		message = GroupMessage{From: from, Data: data, Place: m.next}
		m.next++
		return message, sender != m.self || m.options.Own, nil
	}
	return message, false, m.told(body)
}

// told acts on an entry that is no message. Called with mu held.
func (m *membership) told(body []byte) error {
	entry := &conecv1.GroupEntry{}
	if err := proto.Unmarshal(body, entry); err != nil {
		return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	switch {
	case entry.GetJoined() != nil:
		m.next++
		m.joined(toMember(entry.GetJoined()))
	case entry.GetLeft() != nil:
		m.next++
		m.left(entry.GetLeft().GetNumber(), messages.FromCode(entry.GetLeft().GetCode(), ""))
	case entry.GetGap() != nil:
		if missed := entry.GetGap().GetMessages(); missed > 0 {
			m.events = append(m.events, GroupMissed{missed})
		}
		m.next = entry.GetGap().GetTo()
		m.replace(entry.GetGap().GetMembers())
	default:
		return fmt.Errorf("%w: empty entry of a group", messages.ErrProtocol)
	}
	return nil
}

func toMember(member *conecv1.GroupMember) Member {
	return Member{Number: member.GetNumber(), Name: member.GetName(), Sends: member.GetSends(), Receives: member.GetReceives()}
}

// joined and left change the members and say so. Called with mu held.
func (m *membership) joined(member Member) {
	if _, known := m.members[member.Number]; !known && member.Number != m.self {
		m.events = append(m.events, MemberJoined{member})
	}
	m.members[member.Number] = member
}

func (m *membership) left(number uint64, why error) {
	if member, known := m.members[number]; known {
		delete(m.members, number)
		m.events = append(m.events, MemberLeft{member, why})
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
		m.joined(toMember(member))
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
	for {
		entry, err := stream.TryReceive()
		if err != nil {
			break
		}
		message, some, err := m.heard(entry)
		if err != nil {
			return err
		}
		if some {
			m.mu.Lock()
			m.events = append(m.events, message)
			m.mu.Unlock()
		}
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
func (m *membership) request(name string) *conecv1.JoinGroup {
	m.mu.Lock()
	defer m.mu.Unlock()
	join := m.options.request(name, m.token)
	join.Incarnation, join.Next = m.incarnation, m.next
	return join
}

// attach goes on with a stream on which the coordinator has said how.
func (m *membership) attach(stream *netio.Stream, joined *conecv1.GroupJoined) {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := m.incarnation != nil
	same := bytes.Equal(m.incarnation, joined.GetIncarnation())
	m.incarnation, m.self, m.next, m.maxMessage = joined.GetIncarnation(), joined.GetNumber(), joined.GetFrom(), int(joined.GetMaxMessage())
	doubtful := uint64(0)
	if joined.GetResumed() {
		m.forget(joined.GetAccepted())
	} else { // the numbers begin anew, with what was not sent yet
		doubtful = uint64(m.given)
		m.forget(m.first + doubtful)
		m.first = 0
	}
	m.given, m.began = 0, m.first
	if again {
		m.events = append(m.events, GroupRejoined{Resumed: joined.GetResumed(), InDoubt: doubtful, Another: !same || joined.GetUncounted()})
		if missed := joined.GetMissed(); missed > 0 {
			m.events = append(m.events, GroupMissed{missed})
		}
		m.replace(joined.GetMembers())
	} else {
		for _, member := range joined.GetMembers() {
			m.members[member.GetNumber()] = toMember(member)
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
	if len(m.queue) > 0 {
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
