package coord

import (
	"fmt"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Introductions that neither of the two has asked for: by the coordinator's program, or by
// a client.

// introduce is an introduction by the coordinator's program. done is told once
// both have accepted, or why not.
func (r *registry) introduce(now time.Time, msg introduce, done func(error)) ([]say, error) {
	intro := &introduction{mode: msg.mode, purpose: msg.purpose, by: &warrant{}, ticket: msg.ticket, done: done}
	var err error
	if intro.dialer, err = accepting(r.names[msg.a], msg.a); err != nil {
		return nil, err
	}
	if intro.acceptor, err = accepting(r.names[msg.b], msg.b); err != nil {
		return nil, err
	}
	intro.directOnly = !r.mayRelay(intro.dialer, intro.acceptor)
	return r.offer(now, intro)
}

// cancelIntroduce takes an introduction by the coordinator's program back.
func (r *registry) cancelIntroduce(ticket uint64) []say {
	for _, intro := range r.pending {
		if intro.ticket == ticket && intro.done != nil {
			return r.fail(intro, intro.asked(), conecv1.Code_CODE_CANCELED, "", false)
		}
	}
	return nil // it was answered meanwhile
}

// accepting returns a client that was looked up by name, if it accepts channels.
func accepting(a *attachment, name string) (*attachment, error) {
	if a == nil {
		return nil, &messages.OpError{Op: "introduce", Peer: name, Err: messages.ErrNoSuchPeer}
	}
	if !a.accepts {
		return nil, &messages.OpError{Op: "introduce", Peer: name, Err: messages.ErrNotAccepting}
	}
	return a, nil
}

// introducePeers answers an IntroducePeers: it offers the channel to the one that is to
// accept, or refuses.
func (r *registry) introducePeers(now time.Time, id uint64, msg *conecv1.IntroducePeers) []say {
	by := r.clients[id]
	intro := &introduction{
		purpose: msg.GetPurpose(), by: &warrant{&by.subject}, introducer: by, introduces: msg.GetRequest(),
	}
	says, err := r.offerBetween(now, by, intro, msg)
	if err != nil {
		return r.tellIntroducer(intro, nil, false, err)
	}
	by.introducing[msg.GetRequest()] = intro
	return says
}

func (r *registry) offerBetween(now time.Time, by *attachment, intro *introduction, msg *conecv1.IntroducePeers) ([]say, error) {
	switch {
	case !by.opens.take(now, by.limits.Opens):
		return nil, fmt.Errorf("%w: %s", messages.ErrLimit, tooFast(by))
	case len(msg.GetPurpose()) > messages.MaxPurpose:
		return nil, fmt.Errorf("%w: purpose of more than %d bytes", messages.ErrLimit, messages.MaxPurpose)
	case msg.GetRequest() == 0 || by.opening[msg.GetRequest()] != nil || by.introducing[msg.GetRequest()] != nil:
		return nil, fmt.Errorf("%w: request number is in use", messages.ErrProtocol)
	case len(by.introducing) >= by.limits.Pending:
		return nil, fmt.Errorf("%w: %d introductions wait to be answered", messages.ErrLimit, len(by.introducing))
	}
	one, other := r.visible(by, msg.GetOne()), r.visible(by, msg.GetOther())
	if one != nil && other != nil {
		if err := r.policy.Introduce(&by.subject, &one.subject, &other.subject); err != nil {
			return nil, coded(err)
		}
	}
	var err error
	if intro.dialer, err = accepting(one, msg.GetOne()); err != nil {
		return nil, err
	}
	if intro.acceptor, err = accepting(other, msg.GetOther()); err != nil {
		return nil, err
	}
	intro.directOnly = !r.mayRelay(intro.dialer, intro.acceptor)
	return r.offer(now, intro)
}

// tellIntroducer says how an introduction ended: because of one of its ends, if that is not nil.
func (r *registry) tellIntroducer(intro *introduction, because *attachment, byPeer bool, err error) []say {
	if because != nil {
		err = &messages.OpError{Op: "introduce", Peer: because.name, Remote: byPeer, Err: err}
	}
	if intro.done != nil {
		intro.done(err)
	}
	if intro.introducer == nil {
		return nil
	}
	answer := &conecv1.PeersIntroduced{Request: intro.introduces, ByPeer: byPeer}
	if of, ok := err.(*messages.OpError); ok { //nolint:errorlint // made here or in accepting, and not wrapped
		answer.Peer, err = of.Peer, of.Err
	}
	answer.Code, answer.Reason = messages.ToCode(err)
	return []say{{intro.introducer.id, &conecv1.Control{Said: &conecv1.Control_PeersIntroduced{PeersIntroduced: answer}}}}
}

// forgetIntroducer ends what a client that leaves was introducing.
func (r *registry) forgetIntroducer(a *attachment) (says []say) {
	for _, intro := range byNumber(r.pending) {
		if intro.introducer == a {
			intro.introducer = nil
			says = append(says, r.fail(intro, intro.asked(), conecv1.Code_CODE_CANCELED, "", false)...)
		}
	}
	return says
}
