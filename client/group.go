package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// SlowMembers says what a group does with a member that is behind by all that it keeps.
type SlowMembers int

const (
	// SkipSlow has the member miss the oldest messages; it is told how many.
	SkipSlow = SlowMembers(conecv1.SlowMember_SLOW_MEMBER_UNSPECIFIED)
	// EndSlow ends its membership.
	EndSlow = SlowMembers(conecv1.SlowMember_SLOW_MEMBER_ENDS)
	// AwaitSlow has all who send wait for it. Nobody misses anything, and everybody is as
	// slow as the slowest.
	AwaitSlow = SlowMembers(conecv1.SlowMember_SLOW_MEMBER_WAITED_FOR)
)

// GroupOptions say what a group is, if it is brought to life by joining it. A zero field
// means its default. The coordinator's limits hold.
type GroupOptions struct {
	// Slow is what happens to members that are too slow. If zero, they miss messages.
	Slow SlowMembers
	// Keep is how many bytes of messages the coordinator keeps: by so much a member may be
	// behind, or away, and miss nothing. At least 16 KiB. If zero, 1 MiB.
	Keep int
	// Rejoin is how long a member that lost the coordinator stays one, until the others
	// are told that it left. If zero, 30 seconds; at most 10 minutes.
	Rejoin time.Duration
}

// JoinOptions say how to join a group. A nil *JoinOptions and zero fields mean the
// defaults.
type JoinOptions struct {
	// SendOnly makes a member that receives nothing, ReceiveOnly one that sends nothing. A
	// member that receives has to: one that does not is slow.
	SendOnly, ReceiveOnly bool
	// Own has the member receive its own messages, too, in their place in the group's order.
	Own bool
	// History is how many messages from before to receive first, if they are kept;
	// negative, all that are.
	History int
	// Existing fails with [messages.ErrNoSuchGroup] if the group is not there, instead of
	// bringing it to life.
	Existing bool
	// Make says what the group is if it is brought to life.
	Make GroupOptions
	// Sealed has the members encrypt what they send: the coordinator passes it on and can not
	// read it. A group is sealed or not from its beginning on: a member that says otherwise is
	// refused, with [messages.ErrRefused], whoever makes it believe what. Those who join can not
	// read what was there before. A sealed group has at most 256 members, and its
	// messages 128 bytes less. See docs/groups.md for what it protects from.
	Sealed bool
}

func (o *JoinOptions) check() error {
	var errs []error
	if o.SendOnly && o.ReceiveOnly {
		errs = append(errs, errors.New("SendOnly and ReceiveOnly: a member does one of them at least"))
	}
	if o.SendOnly && (o.Own || o.History != 0) {
		errs = append(errs, errors.New("SendOnly: with Own or History there is something to receive"))
	}
	if o.Sealed && o.History != 0 {
		errs = append(errs, errors.New("no History with Sealed: who joins can not read what was there before"))
	}
	if o.Make.Keep < 0 {
		errs = append(errs, fmt.Errorf("Make.Keep is %d: want 0 for the default, or more", o.Make.Keep))
	}
	if o.Make.Rejoin < 0 {
		errs = append(errs, fmt.Errorf("Make.Rejoin is %v: want 0 for the default, or more", o.Make.Rejoin))
	}
	if o.Make.Slow < SkipSlow || o.Make.Slow > AwaitSlow {
		errs = append(errs, fmt.Errorf("Make.Slow is %d: want SkipSlow, EndSlow or AwaitSlow", o.Make.Slow))
	}
	if len(errs) > 0 {
		return fmt.Errorf("join options: %w", errors.Join(errs...))
	}
	return nil
}

// request says it to the coordinator.
func (o *JoinOptions) request(name string, token []byte) *conecv1.JoinGroup {
	join := &conecv1.JoinGroup{Group: name, Member: token, Sends: !o.ReceiveOnly, Receives: !o.SendOnly, History: uint64(max(o.History, 0))}
	if o.History < 0 {
		join.History = 1 << 62 // more than there ever are
	}
	if !o.Existing {
		join.Make = &conecv1.GroupOptions{
			Slow: conecv1.SlowMember(o.Make.Slow), Keep: uint64(o.Make.Keep), Rejoin: uint64(o.Make.Rejoin.Milliseconds()), Sealed: o.Sealed,
		}
	}
	return join
}

// Member is a member of a group.
type Member struct {
	// Number is unique in the group, and grows in the order of joining.
	Number uint64
	// Name is the name of its client, which the coordinator has authenticated.
	Name string
	// Sends and Receives tell what it does.
	Sends, Receives bool
	// Untrusted is why, in a sealed group, this client does not believe that the member is who
	// it is said to be: it gives it no keys, and reads nothing of it. Nil if it does.
	Untrusted error
}

// GroupEvent is what happens in a group: one of [GroupMessage], [MemberJoined],
// [MemberLeft], [GroupMissed], [GroupRejoined].
type GroupEvent interface{ groupEvent() }

// GroupMessage is a message that a member sent.
type GroupMessage struct {
	// From is the member; its name is authenticated.
	From Member
	// Data is the message. It is the caller's to keep; small messages share an allocation.
	Data []byte
	// Place is its place in the order of all that happens in the group: the same for all
	// members, and ascending, as long as there is no [GroupRejoined] with Another.
	Place uint64
	// Missed is how many messages were missed since the one before. Only [Group.Receive]
	// says it so; [Group.Next] has an event for it.
	Missed uint64
}

// MemberJoined says that another client has joined.
type MemberJoined struct{ Member Member }

// MemberLeft says that a member is one no longer.
type MemberLeft struct {
	Member Member
	// Err is why: [messages.ErrClosed] if it has left in order, [messages.ErrUnreachable] if
	// it was away too long, nil if that happened while this member could not hear of it.
	Err error
}

// GroupMissed says that this member was too slow, or away too long, and what it missed.
type GroupMissed struct {
	// Messages is how many messages it missed, exactly.
	Messages uint64
	// Unreadable is how many of these came, in a sealed group, and could not be read: their
	// senders had not heard yet that this member had joined, or are not trusted; or the
	// coordinator made them up.
	Unreadable uint64
	// Forged is how many messages came in a sealed group, not counted in Messages, that the one
	// who is named has not sent, not here, or before: the coordinator or a member tries
	// something. If such a message takes the place of a true one, that is missed, too, and
	// counted as soon as there is a later one of its sender.
	Forged uint64
}

// and returns what was missed in all.
func (g GroupMissed) and(more GroupMissed) GroupMissed {
	return GroupMissed{g.Messages + more.Messages, g.Unreadable + more.Unreadable, g.Forged + more.Forged}
}

// sizeOf returns how many bytes of what may wait for the program an event takes.
func sizeOf(event GroupEvent) int {
	message, _ := event.(GroupMessage)
	return eventSize + len(message.Data)
}

// GroupRejoined says that this client was away from the coordinator and is back.
type GroupRejoined struct {
	// Resumed tells that the others have not noticed, and that what was sent meanwhile has
	// arrived once. Else the membership is a new one.
	Resumed bool
	// InDoubt is how many of the messages that this member sent may have been lost, if the
	// membership is a new one: the last before it was away. What was not sent yet is.
	InDoubt uint64
	// Another tells that the coordinator knows nothing of what was: it is another group of
	// the same name. How many messages were missed can not be known.
	Another bool
}

func (GroupMessage) groupEvent()  {}
func (MemberJoined) groupEvent()  {}
func (MemberLeft) groupEvent()    {}
func (GroupMissed) groupEvent()   {}
func (GroupRejoined) groupEvent() {}

// Group is a membership of a group: a many-to-many stream with one order for all. All
// methods may be called from any goroutine.
type Group struct {
	cl   *Client
	name string
	pid  atomic.Pointer[actor.PID]
	*membership
}

// Join joins a group of any clients of the coordinator, and brings it to life if there is
// none of that name; names are like those of clients. When Join returns, the membership is in
// force: every message that is sent from now on by anybody arrives. It blocks until then, or
// ctx ends. Errors: [messages.ErrNoSuchGroup], [messages.ErrLimit], [messages.ErrNameInvalid],
// what the coordinator's policy says.
//
// All members see the same messages and changes of members in the same order. A member that
// loses the coordinator comes back by itself, and misses nothing that is still kept
// ([GroupOptions]). Messages pass through the coordinator.
func (cl *Client) Join(ctx context.Context, name string, options *JoinOptions) (*Group, error) {
	if options == nil {
		options = &JoinOptions{}
	}
	err := cmp.Or(messages.CheckGroupName(name), options.check())
	if err != nil {
		return nil, cl.groupError(ctx, "join", name, err)
	}
	g := &Group{cl: cl, name: name, membership: newMembership(*options)}
	if options.Sealed {
		g.sealed = newSealed(name, cl.transport.Identity(), cl.trusts, cl.config.Now, cl.config.Logger)
	}
	result, err := actors.Ask[*joinResult](ctx, cl.sys, cl.pid, joinGroup{g})
	if err == nil {
		err = asRemote(result.err, result.remote)
	}
	if err == nil && options.Sealed {
		err = g.awaitHeard(ctx)
	}
	if err != nil {
		_ = g.end(messages.ErrCanceled) // nothing was sent
		cl.sys.Root.Send(cl.pid, abandonGroup{g})
		return nil, cl.groupError(ctx, "join", name, err)
	}
	return g, nil
}

// Name returns the group's name.
func (g *Group) Name() string { return g.name }

// Self returns this membership.
func (g *Group) Self() Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.members[g.self]
}

// Members returns who is a member at the place in the group's order that this member has
// reached, in the order of joining. Who only sends does not hear of changes.
func (g *Group) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]Member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// Send sends a message of at most 1 MiB, or what the coordinator allows, to all other members.
// The slice is free again when Send returns. It blocks while 1 MiB waits that the
// coordinator has not confirmed, until ctx ends: then nothing of the message is sent. While
// the coordinator is away, messages wait. Errors: [*messages.SizeError], anything that matches
// net.ErrClosed; a [*messages.DoubtError] in it says how many messages may be lost.
func (g *Group) Send(ctx context.Context, message []byte) error {
	if g.options.ReceiveOnly {
		return g.cl.groupError(ctx, "send to", g.name, fmt.Errorf("%w: a member that only receives", messages.ErrRefused))
	}
	if err := g.send(ctx, message); err != nil {
		return g.cl.groupError(ctx, "send to", g.name, err)
	}
	return nil
}

// Confirm blocks until the coordinator has everything sent so far, or ctx ends. From then on
// all members that receive get it, but for those that are too slow.
func (g *Group) Confirm(ctx context.Context) error {
	if err := g.confirm(ctx); err != nil {
		return g.cl.groupError(ctx, "confirm to", g.name, err)
	}
	return nil
}

// Next returns what happened next in the group. It blocks until something does, ctx ends or
// the membership does.
func (g *Group) Next(ctx context.Context) (GroupEvent, error) {
	if g.options.SendOnly {
		return nil, g.cl.groupError(ctx, "receive from", g.name, fmt.Errorf("%w: a member that only sends", messages.ErrRefused))
	}
	event, err := g.receive(ctx)
	if err != nil {
		return nil, g.cl.groupError(ctx, "receive from", g.name, err)
	}
	return event, nil
}

// Receive returns the next message. It blocks like [Group.Next], and skips all that is no
// message.
func (g *Group) Receive(ctx context.Context) (GroupMessage, error) {
	missed := uint64(0)
	for {
		event, err := g.Next(ctx)
		if err != nil {
			return GroupMessage{}, err
		}
		switch event := event.(type) {
		case GroupMissed:
			missed += event.Messages
		case GroupMessage:
			event.Missed = missed
			return event, nil
		}
	}
}

// Leave ends the membership in order: what was sent is in the group, and then the others are
// told. It blocks until then, or ctx ends. While the coordinator is away it returns at once, and the
// others hear of it when this member was away too long. A [*messages.DoubtError] says how
// many of the messages that were sent may be lost.
func (g *Group) Leave(ctx context.Context) error {
	result, err := actors.Ask[*joinResult](ctx, g.cl.sys, g.pid.Load(), leaveGroup{})
	switch {
	case errors.Is(err, actors.ErrDeadLetter): // it is over already
		err = g.end(messages.ErrClosed)
	case err == nil:
		err = result.err
	default:
		g.cl.sys.Root.Send(g.cl.pid, abandonGroup{g})
	}
	if err != nil {
		return g.cl.groupError(ctx, "leave", g.name, err)
	}
	return nil
}

// GroupCount is how many members a group has.
type GroupCount struct {
	// Senders and Receivers are those that send and receive; a member may do both.
	Senders, Receivers, Members int
}

// CountGroup asks how many members a group has; the client need not be one. Errors:
// [messages.ErrNoSuchGroup], what the coordinator's policy says.
func (cl *Client) CountGroup(ctx context.Context, name string) (GroupCount, error) {
	count, err := cl.countGroup(ctx, name)
	if err != nil {
		return GroupCount{}, cl.groupError(ctx, "count", name, err)
	}
	return GroupCount{int(count.GetSenders()), int(count.GetReceivers()), int(count.GetMembers())}, nil
}

func (cl *Client) countGroup(ctx context.Context, name string) (*conecv1.GroupCount, error) {
	if err := messages.CheckGroupName(name); err != nil {
		return nil, err
	}
	stream, err := cl.openHome(ctx, &conecv1.OpenStream{
		Purpose: messages.GroupPurpose, Join: &conecv1.JoinGroup{Group: name, Asks: true},
	})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	body, err := stream.Receive(ctx)
	if err != nil {
		return nil, err
	}
	count := &conecv1.GroupCount{}
	return count, proto.Unmarshal(body, count)
}

// openHome opens a stream to the coordinator.
func (cl *Client) openHome(ctx context.Context, open *conecv1.OpenStream) (*netio.Stream, error) {
	home, err := actors.Ask[*homeResult](ctx, cl.sys, cl.pid, awaitHome{})
	if err != nil {
		return nil, err
	}
	if home.err != nil {
		return nil, asRemote(home.err, home.remote)
	}
	return cl.openRaw(ctx, &channelRef{cl.shared.home.Load(), home.pid}, actors.OpenStream{Open: open}, func() {})
}

func (cl *Client) groupError(ctx context.Context, op, group string, err error) error {
	return cl.opError(ctx, fmt.Sprintf("%s group %q", op, group), "", err)
}
