package coord

import (
	"fmt"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// What the registry asks its policy, and what follows from a change of it.

// A channel that may not use the relay gets a route for its handshake, and to find a direct
// path: that much, for so long.
const (
	handshakeBytes = 64 << 10         // each way
	handshakeTime  = 30 * time.Second // after the last instant at which it could be accepted
)

// warrant is why two clients have a channel though perhaps neither may open one.
type warrant struct {
	by *policy.Subject // the client that introduced them; nil: the coordinator's program
}

// coded gives an error of a policy a code that the client can tell, if it has none.
func coded(err error) error {
	if code, _ := messages.ToCode(err); code == conecv1.Code_CODE_INTERNAL {
		return fmt.Errorf("%w: %w", messages.ErrForbidden, err)
	}
	return err
}

// sees says why a client may not know that another is there.
func (r *registry) sees(who, whom *policy.Subject) error { return r.policy.See(who, whom) }

// visible returns the client of a name, nil if there is none or who asks may not see it.
func (r *registry) visible(who *attachment, name string) *attachment {
	whom := r.names[name]
	if whom == nil || who != whom && r.sees(&who.subject, &whom.subject) != nil {
		return nil
	}
	return whom
}

// opens tells whether a client may open channels to another. Each may to itself.
func (r *registry) opens(who, whom *attachment) error {
	if who == whom {
		return nil
	}
	if err := r.sees(&who.subject, &whom.subject); err != nil {
		return coded(err)
	}
	return coded(r.policy.Open(&who.subject, &whom.subject))
}

// mayOpen tells why a client may not open a channel to another that it sees, or whether it
// has to do without the relay.
func (r *registry) mayOpen(who, whom *attachment, mode conecv1.Mode) (directOnly bool, err error) {
	if err := r.opens(who, whom); err != nil {
		return false, err
	}
	err = coded(r.policy.Relay(&who.subject, &whom.subject))
	if mode == conecv1.Mode_MODE_RELAY {
		return false, err
	}
	return err != nil, nil
}

var errChannelForbidden = fmt.Errorf("%w: the policy does not allow this channel any more", messages.ErrForbidden)

// mayKeep tells why two clients may not have a channel that is there already, whoever has opened it.
func (r *registry) mayKeep(a, b *attachment, by *warrant) error {
	switch {
	case by != nil && by.by == nil,
		r.opens(a, b) == nil, r.opens(b, a) == nil,
		by != nil && r.policy.Introduce(by.by, &a.subject, &b.subject) == nil:
		return nil
	}
	return errChannelForbidden
}

// mayRelay tells whether a channel that is there may use the relay, whoever has opened it.
func (r *registry) mayRelay(a, b *attachment) bool {
	return r.policy.Relay(&a.subject, &b.subject) == nil || r.policy.Relay(&b.subject, &a.subject) == nil
}

// route makes the route of an introduction.
func (r *registry) route(intro *introduction) (dialer, acceptor uint32, err error) {
	if intro.directOnly {
		return r.routes.AddCappedRoute(intro.dialer.id, intro.acceptor.id, handshakeBytes)
	}
	return r.routes.AddRoute(intro.dialer.id, intro.acceptor.id)
}

// unroute takes a channel's route away.
func (r *registry) unroute(channel *introduced) {
	if channel.routed {
		r.routes.RemoveRoute(channel.routes[0])
		channel.routed = false
	}
}

// enforce ends what a new policy does not allow any more, among those who may still attach.
func (r *registry) enforce() (says []say) {
	for _, a := range r.clients {
		a.limits = r.limitsOf(a)
	}
	for _, intro := range byNumber(r.pending) {
		if err := r.mayGoOn(intro); err != nil {
			code, reason := messages.ToCode(err)
			says = append(says, r.fail(intro, intro.asked(), code, reason, false)...)
		}
	}
	for _, channel := range byNumber(r.channels) {
		a, b := channel.ends[0], channel.ends[1]
		switch {
		case r.mayKeep(a, b, channel.by) != nil:
			r.drop(channel)
			says = append(says, forbid(channel.channel, a, b)...)
		case channel.routed && channel.capped.IsZero() && !r.mayRelay(a, b):
			r.unroute(channel)
			says = append(says, confine(channel.channel, a, b)...)
		}
	}
	return says
}

// mayGoOn tells why an introduction that waits for an answer has to end.
func (r *registry) mayGoOn(intro *introduction) error {
	directOnly := !r.mayRelay(intro.dialer, intro.acceptor)
	if intro.by != nil {
		if err := r.mayKeep(intro.dialer, intro.acceptor, intro.by); err != nil {
			return err
		}
	} else {
		if r.visible(intro.dialer, intro.acceptor.name) == nil {
			return messages.ErrNoSuchPeer
		}
		var err error
		if directOnly, err = r.mayOpen(intro.dialer, intro.acceptor, intro.mode); err != nil {
			return err
		}
	}
	if directOnly && !intro.directOnly { // one of them was told otherwise
		return fmt.Errorf("%w: the policy has changed meanwhile; ask again", messages.ErrRefused)
	}
	return nil
}

// expel detaches a client that may not come back, and ends its channels: its peers, too,
// are not to wait for it.
func (r *registry) expel(now time.Time, id uint64) (says []say) {
	a := r.clients[id]
	for _, channel := range byNumber(a.channels) {
		r.drop(channel)
		for _, other := range channel.ends {
			if other != a {
				says = append(says, forbid(channel.channel, other)...)
			}
		}
	}
	for channel, wish := range r.restores { // of channels that it had in a former attachment
		if wish.peer == a.name {
			r.unwish(channel)
		}
	}
	return append(says, r.detach(now, id)...)
}

// forbid tells the ends of a channel that it is not allowed any more.
func forbid(channel string, ends ...*attachment) []say {
	return withdrawnBy(&conecv1.OfferWithdrawn{
		Channel: []byte(channel), Code: conecv1.Code_CODE_FORBIDDEN, Reason: "the policy does not allow this channel any more",
	}, ends)
}

// confine tells the ends of a channel that it may take direct paths only from now on.
func confine(channel string, ends ...*attachment) []say {
	return withdrawnBy(&conecv1.OfferWithdrawn{
		Channel: []byte(channel), Code: conecv1.Code_CODE_FORBIDDEN, Reason: "the policy does not allow the relay any more", DirectOnly: true,
	}, ends)
}

func withdrawnBy(msg *conecv1.OfferWithdrawn, ends []*attachment) (says []say) {
	for _, end := range ends {
		says = append(says, say{end.id, &conecv1.Control{Said: &conecv1.Control_OfferWithdrawn{OfferWithdrawn: msg}}})
	}
	return says
}

// limitsOf returns what holds for a client: the coordinator's limits, or the policy's where
// they are lower.
func (r *registry) limitsOf(a *attachment) policy.Limits {
	limits := r.policy.Limits(&a.subject)
	for _, limit := range []struct {
		of  *int
		all int
	}{
		{&limits.Channels, r.limits.ChannelsPerClient},
		{&limits.Pending, r.limits.PendingPerClient},
		{&limits.Opens, r.limits.OpenRate},
		{&limits.Joins, r.limits.JoinRate},
	} {
		if *limit.of <= 0 || *limit.of > limit.all {
			*limit.of = limit.all
		}
	}
	return limits
}

// allowance lets something happen at a rate, and five seconds' worth of it at once after a
// pause. It keeps the time at which all is there again (the generic cell rate algorithm,
// ITU-T I.371).
type allowance struct{ full time.Time }

const allowanceBurst = 5 * time.Second

// take tells whether it may happen once more.
func (a *allowance) take(now time.Time, perSecond int) bool {
	next := a.full
	if next.Before(now) {
		next = now
	}
	next = next.Add(time.Second / time.Duration(perSecond))
	if next.Sub(now) > allowanceBurst {
		return false
	}
	a.full = next
	return true
}

// roomFor says why a client may not attach, though it may be who it is.
func (r *registry) roomFor(a *attachment) error {
	if len(r.clients) >= r.limits.Clients {
		return fmt.Errorf("%w: %d clients", messages.ErrLimit, len(r.clients))
	}
	most, class := a.limits.Clients, a.limits.Class
	if most <= 0 {
		return nil
	}
	for _, other := range r.clients {
		if other.limits.Clients > 0 && other.limits.Class == class {
			most--
		}
	}
	if most <= 0 {
		return fmt.Errorf("%w: %d clients of %s", messages.ErrLimit, a.limits.Clients, class)
	}
	return nil
}

func tooFast(a *attachment) string {
	return fmt.Sprintf("more than %d introductions per second", a.limits.Opens)
}
