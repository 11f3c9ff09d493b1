package client

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Pauses between attempts to come back to a group. They double.
const (
	rejoinFirst  = 50 * time.Millisecond
	rejoinSlower = 2 * time.Second
)

// groupActor keeps a membership of a group: it joins, and comes back when the stream to
// the coordinator is lost.
//
//	behavior  message     does                                             then
//	any       Started     asks the client for its home channel             -
//	any       homeResult  starts a pump, which opens a stream and joins    -
//	any       groupUp     tells who waits                                  -
//	any       groupDown   after a pause, asks for the home channel again   -, or stops
//	any       leaveGroup  has the pump leave                               stops
//	any       Stopping    ends its pump, which closes the stream           -
//
// The pump hands over what the program sends; what the group says, the program reads off
// the stream. Both share the [membership].
//
// Parent: client actor. If it fails, the membership is over.
type groupActor struct {
	group *Group
	cl    *Client

	life    actors.Life
	timer   *time.Timer
	apart   actors.Apart
	pause   time.Duration
	up      bool         // the coordinator has the membership now
	joiner  *actor.PID   // waits for the membership
	leavers []*actor.PID // wait for its end
}

// What the program, the client actor and the pump say.
type (
	joinGroup  struct{ group *Group }
	joinResult struct {
		err    error
		remote bool
	}
	leaveGroup   struct{}
	abandonGroup struct{ group *Group }
	awaitHome    struct{}
	homeResult   struct {
		pid    *actor.PID
		err    error
		remote bool
	}
	groupUp   struct{ actors.Life }
	groupDown struct {
		actors.Life
		err    error
		remote bool
		again  bool
	}
	groupAgain struct{ actors.Life }
)

// Receive implements actor.Actor.
func (g *groupActor) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		g.life = actors.Begin()
		if g.group.isOver() { // this is a restart
			ctx.Stop(ctx.Self())
			return
		}
		ctx.Request(ctx.Parent(), awaitHome{})
	case *actor.Stopping, *actor.Restarting:
		g.life.End()
		if g.timer != nil {
			g.timer.Stop()
		}
		g.over(ctx, messages.ErrClosed, false)
	case *homeResult:
		if msg.err != nil {
			g.over(ctx, msg.err, msg.remote)
			ctx.Stop(ctx.Self())
			return
		}
		life, root, self := g.life, ctx.ActorSystem().Root, ctx.Self()
		g.cl.sys.Pumps.Go(func() { g.pump(life, root, self, msg.pid) })
	case groupUp:
		if msg.Of(g.life) {
			g.pause, g.up = 0, true
			g.answer(ctx, nil, false)
		}
	case groupDown:
		if msg.Of(g.life) {
			g.down(ctx, msg)
		}
	case groupAgain:
		if msg.Of(g.life) {
			ctx.Request(ctx.Parent(), awaitHome{})
		}
	case leaveGroup:
		g.leavers = append(g.leavers, ctx.Sender())
		if g.group.leave(); !g.up { // the others hear of it when it has been away too long
			g.over(ctx, messages.ErrClosed, false)
			ctx.Stop(ctx.Self())
		}
	}
}

// down acts on the end of a stream.
func (g *groupActor) down(ctx actor.Context, msg groupDown) {
	g.up = false
	if !msg.again {
		g.over(ctx, msg.err, msg.remote)
		ctx.Stop(ctx.Self())
		return
	}
	g.pause = min(max(2*g.pause, rejoinFirst), rejoinSlower)
	life, root, self := g.life, ctx.ActorSystem().Root, ctx.Self()
	g.timer = g.apart.AfterFunc(g.pause, func() { root.Send(self, groupAgain{life}) })
}

// over ends the membership and tells who waits.
func (g *groupActor) over(ctx actor.Context, err error, remote bool) {
	left := g.group.end(err)
	g.answer(ctx, err, remote)
	for _, leaver := range g.leavers {
		ctx.Send(leaver, &joinResult{err: left})
	}
	g.leavers = nil
}

// answer tells who joins, once.
func (g *groupActor) answer(ctx actor.Context, err error, remote bool) {
	if g.joiner != nil {
		ctx.Send(g.joiner, &joinResult{err, remote})
		g.joiner = nil
	}
}

// The part of the client actor that keeps groups.

// maxHomeless is how many may wait for the home channel.
const maxHomeless = 4096

type (
	listGroups struct{}
	groupList  struct{ pids []*actor.PID }
)

// joinGroup spawns a group, which answers.
func (c *clientActor) joinGroup(ctx actor.Context, msg joinGroup) {
	joiner := ctx.Sender()
	pid := ctx.Spawn(c.cl.sys.Props(func() actor.Actor { return &groupActor{group: msg.group, cl: c.cl, joiner: joiner} }))
	msg.group.pid.Store(pid)
	c.groups[msg.group] = pid
}

// groupGone forgets a group.
func (c *clientActor) groupGone(who *actor.PID) {
	maps.DeleteFunc(c.groups, func(_ *Group, pid *actor.PID) bool { return pid.Equal(who) })
}

// awaitHome tells who asks the home channel, now or once the client is attached.
func (c *clientActor) awaitHome(ctx actor.Context) {
	switch {
	case c.final != nil:
		ctx.Respond(&homeResult{err: c.final})
	case c.bound:
		ctx.Respond(&homeResult{pid: c.home})
	case len(c.homeless) >= maxHomeless:
		ctx.Respond(&homeResult{err: fmt.Errorf("%w: %d wait for the coordinator", messages.ErrLimit, len(c.homeless))})
	default:
		c.homeless = append(c.homeless, ctx.Sender())
	}
}

// tellHomeless answers those who wait for the home channel.
func (c *clientActor) tellHomeless(ctx actor.Context, result *homeResult) {
	for _, asker := range c.homeless {
		ctx.Send(asker, result)
	}
	c.homeless = nil
}

// pump attaches the membership to a new stream and sends what the program does, until the
// stream ends.
func (g *groupActor) pump(life actors.Life, root *actor.RootContext, self, home *actor.PID) {
	stream, err := g.attach(life, home)
	if err == nil {
		root.Send(self, groupUp{life})
		if g.group.sealed != nil {
			g.cl.sys.Pumps.Go(func() { g.group.hear(life.Context(), stream) })
		}
		g.group.give(life.Context(), stream)
		err = stream.ReceiveErr()
		stream.CloseSend() // what has come of it is still to be received
		if life.Context().Err() != nil || g.group.isLeaving() {
			stream.Close()
		}
	}
	remote := netio.IsRemote(err) || errors.As(err, new(remoteError))
	again := !g.group.isLeaving() && (!remote || mayReturn(err))
	root.Send(self, groupDown{life, err, remote, again})
}

// mayReturn reports whether a membership can go on after the coordinator has ended its
// stream.
func mayReturn(err error) bool {
	for _, passing := range []error{
		messages.ErrClosed, messages.ErrShutdown, messages.ErrCanceled, messages.ErrInternal, messages.ErrUnreachable, messages.ErrTimeout,
		messages.ErrKicked, messages.ErrBusy,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// attach opens a stream and joins, or goes on with the membership.
func (g *groupActor) attach(life actors.Life, home *actor.PID) (*netio.Stream, error) {
	ctx := life.Context()
	if err := g.group.settle(ctx); err != nil {
		return nil, err
	}
	join, err := g.group.request(g.group.name)
	if err != nil {
		return nil, err
	}
	open := &conecv1.OpenStream{Purpose: messages.GroupPurpose, Join: join}
	stream, err := g.cl.openRaw(ctx, &channelRef{g.cl.shared.home.Load(), home}, actors.OpenStream{Open: open}, func() {})
	if err != nil {
		return nil, err
	}
	stream.OnConfirmed(g.group.confirmed)
	body, err := stream.Receive(ctx)
	if err != nil {
		stream.Close()
		return nil, err
	}
	joined := &conecv1.GroupJoined{}
	if err := proto.Unmarshal(body, joined); err != nil || len(joined.GetIncarnation()) == 0 {
		err = fmt.Errorf("%w: not the beginning of a membership", messages.ErrProtocol)
		stream.Reset(err)
		return nil, err
	}
	if err := g.group.accept(joined); err != nil {
		stream.Reset(err)
		return nil, asRemote(err, true) // the coordinator is to blame
	}
	g.group.attach(stream, joined)
	return stream, nil
}
