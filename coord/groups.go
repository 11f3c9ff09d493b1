package coord

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of the coordinator that knows which groups there are.

// hall is one group, as the coordinator knows it.
type hall struct {
	pid   *actor.PID
	group *group // asked without a message who is in it
	maker string // the client that brought it to life
	joins uint64 // that were passed on
}

// streamOffered is said by the actor of a stream that a client opens.
type streamOffered struct {
	home *home
	actors.Incoming
}

// offered acts on a stream that a client opens: it is for a group.
func (c *coordinator) offered(ctx actor.Context, msg streamOffered) {
	h, join := msg.home, msg.Join
	if h.client == nil || c.attached[h.client.id] != h {
		msg.Stream.Refuse(fmt.Errorf("%w: the client is not attached", messages.ErrCanceled))
		return
	}
	if msg.Purpose != messages.GroupPurpose || join == nil {
		msg.Stream.Refuse(fmt.Errorf("%w: a coordinator has no streams for %q", messages.ErrVersion, msg.Purpose))
		return
	}
	if !h.client.joins.take(time.Now(), h.client.limits.Joins) {
		msg.Stream.Refuse(fmt.Errorf("%w: more than %d groups joined per second", messages.ErrBusy, h.client.limits.Joins))
		return
	}
	group, err := c.hall(ctx, h.client, join)
	if err != nil {
		msg.Stream.Refuse(err)
		return
	}
	group.joins++
	if join.GetAsks() {
		ctx.Send(group.pid, countGroup{msg.Stream})
		return
	}
	ctx.Send(group.pid, joinGroup{peer: h.client.name, stream: msg.Stream, join: join})
}

// hall returns a group, which it brings to life if the client may and wants to.
func (c *coordinator) hall(ctx actor.Context, client *attachment, join *conecv1.JoinGroup) (*hall, error) {
	if err := checkJoin(join); err != nil {
		return nil, err
	}
	name := join.GetGroup()
	group := c.halls[name]
	if err := coded(c.registry.policy.Join(&client.subject, name, group == nil)); err != nil {
		return nil, err
	}
	if group != nil {
		return group, nil
	}
	if join.GetMake() == nil || join.GetAsks() {
		return nil, fmt.Errorf("%w: %q", messages.ErrNoSuchGroup, name)
	}
	limits := c.config.Limits
	made := newGroup(name, join.GetMake(), limits)
	all, own := uint64(0), 0
	for _, other := range c.halls {
		if all += other.group.options.GetKeep(); other.maker == client.name {
			own++
		}
	}
	switch {
	case own >= limits.GroupsPerClient:
		return nil, fmt.Errorf("%w: %d groups that this client has made", messages.ErrLimit, own)
	case len(c.halls) >= limits.Groups:
		return nil, fmt.Errorf("%w: %d groups", messages.ErrLimit, len(c.halls))
	case all+made.options.GetKeep() > uint64(limits.GroupMemory):
		return nil, fmt.Errorf("%w: groups keep %d bytes", messages.ErrLimit, all)
	}
	group = &hall{pid: ctx.Spawn(groupProps(c.sys, made)), group: made, maker: client.name}
	c.halls[name] = group
	return group, nil
}

// reviewHalls asks all groups who is in them, after the policy has changed.
func (c *coordinator) reviewHalls(ctx actor.Context) {
	for _, group := range c.halls {
		ctx.Request(group.pid, listMembers{})
	}
}

// review ends the memberships that are not allowed any more. Those of clients that are away
// are looked at when these come back.
func (c *coordinator) review(ctx actor.Context, msg memberList) {
	denied := map[string]error{}
	for _, name := range msg.names {
		if h := c.named(name); h != nil {
			if err := coded(c.registry.policy.Join(&h.client.subject, msg.group, false)); err != nil {
				denied[name] = err
			}
		}
	}
	if group := c.halls[msg.group]; group != nil && len(denied) > 0 {
		ctx.Send(group.pid, expelMembers{denied})
	}
}

// emptied ends a group that nobody is in, unless somebody is about to join.
func (c *coordinator) emptied(ctx actor.Context, msg groupEmpty) {
	if group := c.halls[msg.name]; group != nil && actors.SentBy(ctx, group.pid) && group.joins == msg.joins {
		c.closeHall(ctx, msg.name)
	}
}

// closeHall ends a group.
func (c *coordinator) closeHall(ctx actor.Context, name string) {
	ctx.Stop(c.halls[name].pid)
	delete(c.halls, name)
}

// hallGone forgets a group whose actor failed.
func (c *coordinator) hallGone(who *actor.PID) {
	maps.DeleteFunc(c.halls, func(_ string, group *hall) bool { return group.pid.Equal(who) })
}

// listHalls asks for all groups; the answer is a *hallList.
type (
	listHalls struct{}
	hallList  struct{ halls []hall }
)

func (c *coordinator) listHalls() *hallList {
	list := &hallList{}
	for _, group := range c.halls {
		list.halls = append(list.halls, *group)
	}
	return list
}

// GroupInfo is a group, as the coordinator has it.
type GroupInfo struct {
	// Name is the group's name.
	Name string
	// Maker is the client that brought it to life.
	Maker string
	// Sealed tells that its members encrypt what they send.
	Sealed bool
	// Members are its members in the order of joining, those that are away for a while, too.
	Members []GroupMember
	// Messages counts the messages since it came to life, and Kept those that are kept.
	Messages, Kept uint64
}

// GroupMember is a member of a group.
type GroupMember struct {
	// Name is the client's name.
	Name string
	// Sends and Receives tell what it does.
	Sends, Receives bool
}

// Groups returns all groups, by name. It blocks until the coordinator has answered, or ctx
// ends.
func (c *Coordinator) Groups(ctx context.Context) ([]GroupInfo, error) {
	list, err := actors.Ask[*hallList](ctx, c.sys, c.pid, listHalls{})
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	infos := make([]GroupInfo, 0, len(list.halls))
	for _, hall := range list.halls {
		info := hall.group.info()
		info.Maker = hall.maker
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b GroupInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}
