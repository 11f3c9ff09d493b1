package coord

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// groupActor owns one group: who is a member, and on which stream.
//
//	behavior  message       does
//	any       joinGroup     makes a member, or gives one that came back its new stream
//	any       memberEnded   ends the membership, or waits for the member to come back
//	any       countGroup    answers
//	any       groupExpired  ends memberships of those that were away too long
//	any       expelMembers  ends memberships
//	any       listMembers   answers
//	any       Stopping      resets all streams
//
// What members say does not pass here: a pump for each takes it off the member's stream
// and adds it to the feed, and the streams send that.
//
// Parent: coordinator, which it tells when nobody is left. Never restarted: its members
// join again.
type groupActor struct {
	sys *actors.System
	*group

	life  actors.Life
	timer *time.Timer // nil while nobody is away
	apart actors.Apart
	joins uint64                // that were asked for, as the coordinator counts them
	on    map[*member]*seat     // members that have a stream
	away  map[*member]time.Time // members that have none, and until when they may come back
}

// seat is a member's stream.
type seat struct {
	stream *netio.Stream
	next   *joinGroup // has come back on another stream while this one ends
	out    error      // why the membership ends, nil if it need not
}

// What the coordinator and pumps say.
type (
	joinGroup struct {
		peer   string
		stream *netio.Stream
		join   *conecv1.JoinGroup
	}
	memberEnded struct {
		actors.Life
		member   *member
		accepted uint64
		err      error
	}
	groupExpired struct{ actors.Life }
	expelMembers struct{ why map[string]error } // by the client's name
	listMembers  struct{}
	memberList   struct {
		group string
		names []string
	}
	countGroup struct{ stream *netio.Stream }
	groupEmpty struct {
		name  string
		joins uint64
	}
)

func groupProps(sys *actors.System, g *group) *actor.Props {
	return sys.Props(func() actor.Actor { return &groupActor{sys: sys, group: g} })
}

// Receive implements actor.Actor.
func (g *groupActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		g.life, g.on, g.away = actors.Begin(), map[*member]*seat{}, map[*member]time.Time{}
	case *actor.Stopping, *actor.Restarting:
		g.life.End()
		if g.timer != nil {
			g.timer.Stop()
		}
		g.feed.Close(messages.ErrShutdown)
		for _, seat := range g.on {
			seat.stream.Reset(messages.ErrShutdown)
			if seat.next != nil {
				seat.next.stream.Refuse(messages.ErrShutdown)
			}
		}
	case joinGroup:
		g.joins++
		g.asked(ctx, msg)
		g.empty(ctx)
	case memberEnded:
		if msg.Of(g.life) {
			g.ended(ctx, msg)
			g.empty(ctx)
		}
	case groupExpired:
		if msg.Of(g.life) {
			g.timer = nil
			g.expire(time.Now())
			g.empty(ctx)
			g.again(ctx)
		}
	case expelMembers:
		g.expel(msg)
		g.empty(ctx)
	case listMembers:
		list := memberList{group: g.name}
		for m := range g.on {
			list.names = append(list.names, m.GetName())
		}
		ctx.Respond(list)
	case countGroup:
		g.joins++
		answerCount(msg.stream, g.count())
		g.empty(ctx)
	}
}

// again sets the timer for the next expiry, if somebody is away.
func (g *groupActor) again(ctx actor.Context) {
	if g.timer != nil || len(g.away) == 0 {
		return
	}
	life, root, self := g.life, ctx.ActorSystem().Root, ctx.Self()
	g.timer = g.apart.AfterFunc(expiry, func() { root.Send(self, groupExpired{life}) })
}

// empty tells the coordinator when nobody is left.
func (g *groupActor) empty(ctx actor.Context) {
	if len(g.on) == 0 && len(g.away) == 0 {
		ctx.Request(ctx.Parent(), groupEmpty{g.name, g.joins})
	}
}

// asked acts on a client that wants to join or to come back.
func (g *groupActor) asked(ctx actor.Context, msg joinGroup) {
	if err := g.mismatch(msg.join); err != nil {
		msg.stream.Refuse(err)
		return
	}
	m := g.find(msg.peer, msg.join)
	if m == nil {
		var err error
		if m, err = g.join(msg.peer, msg.join); err != nil {
			msg.stream.Refuse(err)
			return
		}
		g.seat(ctx, m, msg, false)
		return
	}
	if seat := g.on[m]; seat != nil {
		if seat.next != nil {
			seat.next.stream.Refuse(messages.ErrSuperseded)
		}
		seat.next = &msg
		seat.stream.Cut(messages.ErrSuperseded) // its pump adds what has come, and says how much that was
		return
	}
	delete(g.away, m)
	g.seat(ctx, m, msg, true)
}

// seat gives a member a stream.
func (g *groupActor) seat(ctx actor.Context, m *member, msg joinGroup, resumed bool) {
	joined := g.start(m, resumed, msg.join)
	body, err := proto.Marshal(joined)
	if err == nil {
		err = msg.stream.Accept()
	}
	if err == nil {
		err = msg.stream.TrySend(body)
	}
	if err == nil && g.follows(m) {
		err = msg.stream.Follow(g.feed, joined.GetFrom(), g.gap)
	}
	if err != nil {
		msg.stream.Reset(err) // its pump says so
	}
	g.on[m] = &seat{stream: msg.stream}
	life, root, self, stream := g.life, ctx.ActorSystem().Root, ctx.Self(), msg.stream
	accepted := m.accepted
	g.sys.Pumps.Go(func() {
		err := g.listen(life.Context(), m, stream, &accepted)
		root.Send(self, memberEnded{life, m, accepted, err})
	})
}

// acknowledgeAfter is how many messages of a member are taken until it is told so, at
// the latest.
const acknowledgeAfter = 64

// listen is a pump: it adds what a member says to the feed until its stream ends, and
// returns why that was.
func (g *groupActor) listen(ctx context.Context, m *member, stream *netio.Stream, accepted *uint64) error {
	head := make([]byte, 0, groupHead)
	untold := 0
	for {
		message, err := stream.TryReceive()
		if errors.Is(err, messages.ErrWouldBlock) {
			if untold > 0 {
				stream.Acknowledge()
				untold = 0
			}
			message, err = stream.Receive(ctx)
		}
		if err != nil {
			return err
		}
		if err := g.add(ctx, m, message, head); err != nil {
			stream.Reset(err)
			return err
		}
		*accepted++
		if untold++; untold == acknowledgeAfter {
			stream.Acknowledge()
			untold = 0
		}
	}
}

// add adds what a member says to the feed.
func (g *group) add(ctx context.Context, m *member, message, head []byte) error {
	isMessage, err := g.mayAdd(m, message)
	if err != nil {
		return err
	}
	note := g.events.note
	if isMessage {
		note = nil
	}
	if _, err = g.feed.Add(ctx, messages.AppendGroupData(head, m.GetNumber(), message), message, note); err == nil && g.events.many() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.prune()
	}
	return err
}

// ended acts on the end of a member's stream.
func (g *groupActor) ended(ctx actor.Context, msg memberEnded) {
	m, seat := msg.member, g.on[msg.member]
	delete(g.on, m)
	m.accepted = msg.accepted
	switch {
	case seat.out != nil:
		g.end(m, seat, seat.out)
	case errors.Is(msg.err, io.EOF):
		seat.stream.Close()
		g.end(m, seat, messages.ErrClosed)
	case seat.next != nil:
		g.seat(ctx, m, *seat.next, true)
	case netio.IsRemote(msg.err) && errors.Is(msg.err, messages.ErrClosed) && !errors.Is(msg.err, messages.ErrReset):
		g.end(m, seat, messages.ErrClosed) // its client has ended in order
	case netio.IsRemote(msg.err) || isLost(msg.err):
		g.away[m] = time.Now().Add(time.Duration(g.options.GetRejoin()) * time.Millisecond)
		g.again(ctx)
	default: // it broke a rule, or is too slow
		g.end(m, seat, msg.err)
	}
}

// isLost reports whether a stream ended because its connection did.
func isLost(err error) bool {
	return errors.Is(err, messages.ErrUnreachable) || errors.Is(err, messages.ErrTimeout) ||
		errors.Is(err, messages.ErrClosed) || errors.Is(err, messages.ErrSuperseded)
}

// end ends a membership for good.
func (g *groupActor) end(m *member, seat *seat, why error) {
	if seat != nil && seat.next != nil {
		seat.next.stream.Refuse(why)
	}
	code, _ := messages.ToCode(why)
	g.leave(m, code)
}

// expire ends the memberships of those that were away too long.
func (g *groupActor) expire(now time.Time) {
	for m, until := range g.away {
		if now.After(until) {
			delete(g.away, m)
			g.leave(m, conecv1.Code_CODE_UNREACHABLE)
		}
	}
}

// expel ends the memberships of those that may not stay.
func (g *groupActor) expel(msg expelMembers) {
	for m, seat := range g.on {
		if why := msg.why[m.GetName()]; why != nil {
			seat.out = why
			seat.stream.Reset(why)
		}
	}
	for m := range g.away {
		if why := msg.why[m.GetName()]; why != nil {
			delete(g.away, m)
			g.end(m, nil, why)
		}
	}
}

// answerCount tells on a stream how many members there are, and ends it.
func answerCount(stream *netio.Stream, count *conecv1.GroupCount) {
	body, err := proto.Marshal(count)
	if err == nil {
		err = stream.Accept()
	}
	if err == nil {
		err = stream.TrySend(body)
	}
	if err != nil {
		stream.Reset(err)
		return
	}
	stream.Close()
}
