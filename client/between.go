package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Introductions of two others.

// maxBetween is how many introductions of others may wait for an answer.
const maxBetween = 64

// between is one that waits.
type between struct {
	ticket uint64
	asker  *actor.PID
}

// Sent by the program; the answer is a *betweenResult.
type (
	introducePeers struct {
		ticket              uint64
		one, other, purpose string
	}
	cancelIntroduce struct{ ticket uint64 }
	betweenResult   struct {
		peer   string
		remote bool
		err    error
	}
)

// Introduce hands two other clients a channel to each other, as if each had accepted it,
// where the coordinator's policy lets this client do so; the two need not be allowed to
// open one. Their programs get it from AcceptChannel. It blocks until both have accepted,
// one refuses, or ctx ends. Errors: [messages.ErrForbidden], [messages.ErrNoSuchPeer],
// [messages.ErrNotAccepting], [messages.ErrLimit], a client's reason to refuse, and those of
// a coordinator that was lost meanwhile.
func (cl *Client) Introduce(ctx context.Context, one, other, purpose string) error {
	err := errors.Join(messages.CheckName(one), messages.CheckName(other), checkPurpose(purpose))
	if err != nil {
		return cl.opError(ctx, "introduce", "", err)
	}
	ticket := cl.request.Add(1)
	result, err := actors.Ask[*betweenResult](ctx, cl.sys, cl.pid, introducePeers{ticket, one, other, purpose})
	if err != nil {
		cl.sys.Root.Send(cl.pid, cancelIntroduce{ticket})
		return cl.opError(ctx, "introduce", one, err)
	}
	if result.err != nil {
		return cl.opError(ctx, "introduce", result.peer, asRemote(result.err, result.remote))
	}
	return nil
}

// introducePeers asks the coordinator.
func (c *clientActor) introducePeers(ctx actor.Context, msg introducePeers) {
	switch {
	case c.final != nil:
		ctx.Respond(&betweenResult{err: c.final})
		return
	case len(c.between) >= maxBetween:
		ctx.Respond(&betweenResult{err: fmt.Errorf("%w: %d introductions wait", messages.ErrLimit, len(c.between))})
		return
	}
	c.request++
	c.between[c.request] = &between{msg.ticket, ctx.Sender()}
	c.say(ctx, &conecv1.Control{Said: &conecv1.Control_IntroducePeers{IntroducePeers: &conecv1.IntroducePeers{
		Request: c.request, One: msg.one, Other: msg.other, Purpose: msg.purpose,
	}}})
}

// cancelIntroduce takes an introduction back that nobody waits for any more.
func (c *clientActor) cancelIntroduce(ctx actor.Context, msg cancelIntroduce) {
	for request, b := range c.between {
		if b.ticket == msg.ticket {
			delete(c.between, request)
			c.say(ctx, &conecv1.Control{Said: &conecv1.Control_CancelOpen{CancelOpen: &conecv1.CancelOpen{Request: request}}})
		}
	}
}

// peersIntroduced passes the coordinator's answer on. That of one that was taken back is late.
func (c *clientActor) peersIntroduced(ctx actor.Context, msg *conecv1.PeersIntroduced) {
	b := c.between[msg.GetRequest()]
	if b == nil {
		return
	}
	delete(c.between, msg.GetRequest())
	result := &betweenResult{peer: msg.GetPeer(), remote: msg.GetByPeer()}
	if msg.GetCode() != conecv1.Code_CODE_UNSPECIFIED {
		result.err = messages.FromCode(msg.GetCode(), msg.GetReason())
	}
	ctx.Send(b.asker, result)
}

// failBetween tells all who wait that the coordinator is gone: nobody knows how it ended.
func (c *clientActor) failBetween(ctx actor.Context, err error) {
	for _, request := range slices.Sorted(maps.Keys(c.between)) {
		ctx.Send(c.between[request].asker, &betweenResult{err: err})
	}
	clear(c.between)
}
