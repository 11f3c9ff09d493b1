package client

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Sizes of sealed groups, in bytes.
const (
	sealedOverhead = 128      // by which a message grows, at most
	sealedLeast    = 16 << 10 // of the largest message that a coordinator must allow
	sealedUnread   = 1 << 20  // that wait for the program, until no more is taken
	eventSize      = 64       // what an event counts for, beside its message
)

// joinPatience is how long [Client.Join] waits until those who send have heard of the new
// member.
const joinPatience = 2 * time.Second

// sealed is the part of a membership of a sealed group that is about keys.
//
// What is said about keys is between the messages, so a pump takes everything off the
// stream as it comes ([membership.hear]), and the program takes events from there.
type sealed struct {
	group    string
	identity *netio.Identity
	trust    func(name string, chain [][]byte) error
	now      func() time.Time
	logger   *slog.Logger

	// Only who has the token of the entries, or attaches, uses these.
	offered hpke.PrivateKey // whose public key was in the last request
	private hpke.PrivateKey // whose is known to the others
	last    uint64          // number of the last member that was heard of
	peers   map[uint64]*sealPeer
	opener  *opener

	// Under the membership's mu.
	sealer *sealer
	heard  bool            // somebody is to be told how far this member has heard
	want   []uint64        // senders whose keys are to be asked for
	unread int             // bytes of events
	began  uint64          // the entry that the membership began with
	waits  map[uint64]bool // senders that have yet to hear of this member
	ready  chan struct{}   // closed when there are none
	room   chan struct{}   // something of it was received
}

func newSealed(group string, identity *netio.Identity, trust func(string, [][]byte) error, now func() time.Time, logger *slog.Logger) *sealed {
	return &sealed{
		group: group, identity: identity, trust: trust, now: now, logger: logger,
		peers: map[uint64]*sealPeer{}, ready: make(chan struct{}), room: make(chan struct{}, 1),
	}
}

// offer returns what to say of oneself in a request to join: with a key that was never
// used, since the membership may be a new one.
func (s *sealed) offer(receives bool) (seal []byte, err error) {
	s.offered, seal, err = makeSeal(s.group, s.identity, receives)
	return seal, err
}

// vet looks at the keys of members that were not heard of before. A number is given once,
// to one name.
func (s *sealed) vet(members ...*conecv1.GroupMember) error {
	last := s.last
	for _, member := range members {
		number := member.GetNumber()
		peer := s.peers[number]
		switch {
		case peer != nil && peer.name != member.GetName(), peer == nil && number <= last:
			return fmt.Errorf("%w: member %d is another one", messages.ErrProtocol, number)
		case peer != nil:
			continue
		}
		peer = checkSeal(s.group, member, s.trust)
		if peer.err != nil {
			s.logger.Warn("member of a sealed group is not trusted", "group", s.group, "peer", peer.name, "err", peer.err)
		}
		s.peers[number] = peer
		s.last = max(s.last, number)
	}
	return nil
}

// accept checks whether a group is what this client wants, and looks at who is in it.
func (s *sealed) accept(joined *conecv1.GroupJoined) error {
	same := s.opener != nil && bytes.Equal(s.opener.incarnation, joined.GetIncarnation())
	switch {
	case !joined.GetOptions().GetSealed():
		return fmt.Errorf("%w: the group is not sealed", messages.ErrRefused)
	case joined.GetMaxMessage() < sealedLeast:
		return fmt.Errorf("%w: messages of %d bytes, a sealed group needs %d", messages.ErrLimit, joined.GetMaxMessage(), sealedLeast)
	case joined.GetResumed() && (!same || joined.GetNumber() != s.opener.self):
		return fmt.Errorf("%w: another membership goes on", messages.ErrProtocol)
	case !same:
		s.last, s.opener = 0, nil
		clear(s.peers)
	}
	return s.vet(joined.GetMembers()...)
}

// attachSealed goes on with a membership that is there, or a new one, from an entry on that
// may not be the one that was expected. Called with mu held.
func (m *membership) attachSealed(joined *conecv1.GroupJoined, expected uint64) {
	s := m.sealed
	if !joined.GetResumed() {
		where := place{s.group, joined.GetIncarnation()}
		s.private, s.heard, s.want = s.offered, false, nil
		s.sealer = newSealer(where, m.self, s.identity)
		if m.options.Own {
			s.sealer.add(m.self, s.private.PublicKey())
		}
		if s.opener == nil {
			s.opener = newOpener(where, m.self, s.private, s.now())
		}
		s.opener.self, s.opener.private = m.self, s.private
	}
	if expected != joined.GetFrom() {
		s.opener.gap()
	}
	m.maxMessage -= sealedOverhead
	if s.waits != nil {
		return
	}
	s.waits, s.began = map[uint64]bool{}, joined.GetFrom()
	for _, member := range joined.GetMembers() {
		if member.GetSends() && member.GetNumber() != m.self && !m.options.SendOnly {
			s.waits[member.GetNumber()] = true
		}
	}
	m.wait(0)
}

// wait waits no longer for somebody to hear of this member. Called with mu held.
func (m *membership) wait(number uint64) {
	s := m.sealed
	delete(s.waits, number)
	if len(s.waits) > 0 {
		return
	}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

// joinedSealed and leftSealed change who reads what this member seals. Called with mu held.
func (m *membership) joinedSealed(number uint64, isNew bool) {
	s := m.sealed
	if peer := s.peers[number]; peer.key != nil && number != m.self {
		s.sealer.add(number, peer.key)
		if isNew && !m.options.ReceiveOnly {
			s.heard = true
			signal(m.wake)
		}
	}
}

func (m *membership) leftSealed(number uint64) {
	s := m.sealed
	delete(s.peers, number)
	s.opener.forget(number)
	s.sealer.remove(number)
	m.wait(number)
}

// hear is a pump: it takes what the group says off a stream until that ends.
func (m *membership) hear(ctx context.Context, stream *netio.Stream) {
	select {
	case <-m.reader:
	case <-ctx.Done():
		return
	}
	defer func() { m.reader <- struct{}{} }()
	for m.awaitUnread(ctx, stream) {
		entry, err := stream.Receive(ctx)
		if err != nil {
			return // the other pump notices, too
		}
		if err := m.heard(entry); err != nil {
			stream.Reset(err)
			return
		}
	}
}

// awaitUnread waits until the program has received some of what waits for it. What has come
// on a stream that has ended is taken all the same.
func (m *membership) awaitUnread(ctx context.Context, stream *netio.Stream) bool {
	for {
		m.mu.Lock()
		room := m.sealed.unread < sealedUnread
		m.mu.Unlock()
		if room {
			return true
		}
		select {
		case <-m.sealed.room:
		case <-stream.ReceiveEnded():
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// heardSealed acts on what a member of a sealed group says.
func (m *membership) heardSealed(sender uint64, body []byte) error {
	s := m.sealed
	m.mu.Lock()
	from, known := m.members[sender]
	m.mu.Unlock()
	if !known {
		return fmt.Errorf("%w: message of member %d, who did not join", messages.ErrProtocol, sender)
	}
	entry := &conecv1.SealedEntry{}
	if proto.Unmarshal(body, entry) != nil {
		entry.Reset()
	}
	deaf := m.options.SendOnly || sender == m.self && !m.options.Own
	data, isRead, missed := s.read(from, entry, deaf)
	wants := missed.Unreadable > 0 && from.Untrusted == nil && s.opener.wants(sender, s.now())

	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case entry.GetHeard() != nil && entry.GetHeard().GetBefore() >= s.began:
		m.wait(sender)
	case entry.GetWant() != nil && slices.Contains(entry.GetWant().GetMembers(), m.self):
		s.sealer.lacks(sender)
	case entry.GetEntry() == nil && !messages.IsSealedControl(body):
		missed.Forged++ // it is nothing
	}
	if wants {
		s.want = append(s.want, sender)
		signal(m.wake)
	}
	if missed != (GroupMissed{}) {
		m.tell(missed)
	}
	if isRead {
		m.tell(GroupMessage{From: from, Data: data, Place: m.next})
	}
	m.next++
	return nil
}

// read opens what a member has sealed.
func (s *sealed) read(from Member, entry *conecv1.SealedEntry, deaf bool) (data []byte, isRead bool, missed GroupMissed) {
	message, keys := entry.GetMessage(), entry.GetKeys()
	if deaf || message == nil && keys == nil {
		return nil, false, missed
	}
	var err error
	switch {
	case !from.Sends:
		err = errForged
	case from.Untrusted != nil && keys != nil:
	case from.Untrusted != nil:
		err = errNoKey
	case keys != nil:
		missed.Messages, err = s.opener.keys(from.Number, s.peers[from.Number].certificate, keys)
	default:
		data, missed.Messages, err = s.opener.open(from.Number, message)
	}
	switch {
	case errors.Is(err, errForged):
		missed.Forged++
	case err != nil:
		missed.Messages++
		missed.Unreadable++
	}
	return data, err == nil && message != nil, missed
}

// takeSealed puts what has to be said about keys before what is sent next, and encrypts that.
// Called with mu held.
func (m *membership) takeSealed() error {
	s := m.sealed
	var said []*conecv1.SealedEntry
	if s.heard && !m.leaving {
		said = append(said, &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Heard{Heard: &conecv1.SealedHeard{Before: m.next}}})
	}
	if len(s.want) > 0 && !m.leaving {
		said = append(said, &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Want{Want: &conecv1.SealedWant{Members: s.want}}})
	}
	s.heard, s.want = false, nil
	var control []outgoing
	for _, entry := range said {
		body, err := proto.Marshal(entry)
		if err != nil {
			return err
		}
		control = append(control, outgoing{body: body, control: true})
	}
	isMessage := m.given < len(m.queue) && !m.queue[m.given].control && !m.queue[m.given].sealed
	if isMessage {
		keys, err := s.sealer.due()
		if err != nil {
			return err
		}
		for _, body := range keys {
			control = append(control, outgoing{body: body, control: true})
		}
	}
	if len(control) > 0 {
		m.queue = slices.Insert(m.queue, m.given, control...)
		return nil
	}
	if isMessage {
		next := &m.queue[m.given]
		body, err := s.sealer.seal(next.body)
		if err != nil {
			return err
		}
		next.body, next.sealed = body, true
	}
	return nil
}

// awaitHeard blocks until those who send have heard of this new member, for a while at most.
func (m *membership) awaitHeard(ctx context.Context) error {
	timer := time.NewTimer(joinPatience)
	defer timer.Stop()
	select {
	case <-m.sealed.ready:
	case <-timer.C: // some are away, or do not receive
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
