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
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
)

// What whoever runs the coordinator may do to its clients.

// Orders of the coordinator's program; the answer is a *governed.
type (
	setPolicy struct{ policy policy.Policy }
	kick      struct{ name, reason string }
	ban       struct{ policy.Ban }
	unban     struct{ policy.Ban }
	listBans  struct{}
	governed  struct {
		removed int
		bans    []policy.Ban
		err     error
	}
)

// SetPolicy puts another policy in the place of the one in force; nil is [policy.AllowAll].
// Who may not attach any more is disconnected and told why; so is who has a channel, or
// waits for one, that is not allowed any more: see docs/operations.md. Nobody else
// notices. It blocks until that is said, or ctx ends; then it may be done all the same.
func (c *Coordinator) SetPolicy(ctx context.Context, p policy.Policy) error {
	if p == nil {
		p = policy.AllowAll{}
	}
	_, err := c.order(ctx, "set policy", setPolicy{p})
	return err
}

// Kick disconnects a client and tells it why. It comes back by itself, after a few seconds,
// and its channels go on; [Coordinator.Ban] keeps it away. It fails with
// [messages.ErrNoSuchPeer] if no client of that name is attached, and blocks until the
// client was told, or ctx ends.
func (c *Coordinator) Kick(ctx context.Context, name, reason string) error {
	_, err := c.order(ctx, "kick", kick{name, reason})
	return err
}

// Ban keeps clients away until the ban ends or is lifted, and disconnects those that are
// attached; it returns how many these were. Their peers are told to end the channels that
// they have with them. A ban of the same name, key and address replaces the former one. Bans are
// forgotten when the coordinator ends; those in a policy file are not.
//
// It fails if the ban is not valid, with [messages.ErrLimit] if there are too many
// ([Limits]), and blocks until clients were told, or ctx ends.
func (c *Coordinator) Ban(ctx context.Context, b policy.Ban) (removed int, err error) {
	if err := b.Validate(); err != nil {
		return 0, fmt.Errorf("ban: %w", err)
	}
	result, err := c.order(ctx, "ban", ban{b})
	return result.removed, err
}

// Unban lifts the ban that has the same name, key and address. It fails with
// [messages.ErrNoSuchPeer] if there is none, and blocks until it is done, or ctx ends.
func (c *Coordinator) Unban(ctx context.Context, b policy.Ban) error {
	_, err := c.order(ctx, "unban", unban{b})
	return err
}

// Bans returns what [Coordinator.Ban] has imposed and has not ended, the oldest first. It
// blocks until the coordinator has answered, or ctx ends.
func (c *Coordinator) Bans(ctx context.Context) ([]policy.Ban, error) {
	result, err := c.order(ctx, "list bans", listBans{})
	return result.bans, err
}

// order has the coordinator's actor do something.
func (c *Coordinator) order(ctx context.Context, what string, message any) (governed, error) {
	result, err := actors.Ask[*governed](ctx, c.sys, c.pid, message)
	if err == nil {
		err = result.err
	}
	if err != nil {
		return governed{}, fmt.Errorf("%s: %w", what, err)
	}
	return *result, nil
}

// govern does what the coordinator's program orders.
func (c *coordinator) govern(ctx actor.Context) {
	now := c.config.Now()
	switch msg := ctx.Message().(type) {
	case setPolicy:
		removed := c.setPolicy(ctx, msg.policy)
		ctx.Respond(&governed{removed: removed})
	case kick:
		h := c.named(msg.name)
		if h == nil {
			ctx.Respond(&governed{err: fmt.Errorf("%w: %q", messages.ErrNoSuchPeer, msg.name)})
			return
		}
		why := messages.ErrKicked
		if msg.reason != "" {
			why = fmt.Errorf("%w: %s", messages.ErrKicked, messages.Clip(msg.reason, messages.MaxReason))
		}
		c.detach(ctx, h, why)
		ctx.Respond(&governed{removed: 1})
	case ban:
		if err := c.bans.impose(now, msg.Ban, c.config.Limits.Bans); err != nil {
			ctx.Respond(&governed{err: err})
			return
		}
		ctx.Respond(&governed{removed: c.removeUnwanted(ctx)})
	case unban:
		if !c.bans.lift(now, msg.Ban) {
			ctx.Respond(&governed{err: fmt.Errorf("%w: no such ban", messages.ErrNoSuchPeer)})
			return
		}
		ctx.Respond(&governed{})
	case listBans:
		c.bans.expire(now)
		ctx.Respond(&governed{bans: slices.Clone(c.bans.bans)})
	}
}

// setPolicy has another policy in force.
func (c *coordinator) setPolicy(ctx actor.Context, p policy.Policy) (removed int) {
	c.registry.policy = p
	removed = c.removeUnwanted(ctx)
	c.reviewHalls(ctx)
	c.presence.reevaluate()
	says := c.registry.enforce()
	for _, h := range c.attached {
		c.relay.LimitClient(h.client.id, h.client.limits.RelayRate)
	}
	c.config.Logger.Info("policy set", "removed", removed, "attached", len(c.attached))
	c.say(ctx, says)
	return removed
}

// admit decides whether a client may attach, or stay.
func (c *coordinator) admit(h *home, who *policy.Subject) error {
	if len(who.Token) > messages.MaxToken {
		return fmt.Errorf("%w: join token of %d bytes", messages.ErrLimit, len(who.Token))
	}
	who.Addr, who.Now = c.real(h), c.config.Now()
	if err := c.bans.check(who); err != nil {
		return err
	}
	return coded(c.registry.policy.Attach(who))
}

// removeUnwanted disconnects all who may not stay.
func (c *coordinator) removeUnwanted(ctx actor.Context) (removed int) {
	for _, h := range c.byName() {
		if err := c.admit(h, &h.client.subject); err != nil {
			c.remove(ctx, h, err)
			removed++
		}
	}
	return removed
}

// remove ends a client's attachment, and the channels that it has.
func (c *coordinator) remove(ctx actor.Context, h *home, why error) {
	c.dismiss(ctx, h, why, c.registry.expel(time.Now(), h.client.id))
}

// detach ends a client's attachment alone.
func (c *coordinator) detach(ctx actor.Context, h *home, why error) {
	c.dismiss(ctx, h, why, c.registry.detach(time.Now(), h.client.id))
}

func (c *coordinator) dismiss(ctx actor.Context, h *home, why error, says []say) {
	c.config.Logger.Info("client removed", "peer", h.client.name, "err", why)
	c.forget(h)
	c.end(ctx, h, why)
	c.say(ctx, says)
}

// byName returns the home channels of all clients, so that what is said does not depend on
// the order of a map.
func (c *coordinator) byName() []*home {
	return slices.SortedFunc(maps.Values(c.attached), func(a, b *home) int { return cmp.Compare(a.client.name, b.client.name) })
}

// named returns the home channel of the client that has a name.
func (c *coordinator) named(name string) *home {
	if a := c.registry.names[name]; a != nil {
		return c.attached[a.id]
	}
	return nil
}
