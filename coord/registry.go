package coord

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// registry knows who is attached under which name and which channels were
// introduced. It is plain state without goroutine or clock: each method takes
// what a client said and returns what to say to whom. [coordinator] runs it.
type registry struct {
	limits Limits
	routes routeTable
	policy policy.Policy

	names    map[string]*attachment
	clients  map[uint64]*attachment
	pending  map[string]*introduction // offered, not yet answered; by channel
	channels map[string]*introduced   // by channel
	restores map[string]*restore      // wait for the other client; by channel
	last     serial
}

// serial numbers what the registry holds, so that what is said does not depend
// on the order of a map.
type serial uint64

func (s serial) number() serial { return s }

func (r *registry) next() serial {
	r.last++
	return r.last
}

// byNumber returns the values of a map, the oldest first.
func byNumber[T interface{ number() serial }](m map[string]T) []T {
	return slices.SortedFunc(maps.Values(m), func(a, b T) int { return cmp.Compare(a.number(), b.number()) })
}

// routeTable is the relay, as far as the registry needs it.
type routeTable interface {
	AddRoute(a, b uint64) (routeA, routeB uint32, err error)
	AddCappedRoute(a, b uint64, bytes int64) (routeA, routeB uint32, err error)
	RemoveRoute(route uint32)
	ShutRoute(route uint32, shut bool)
}

// attachment is one attached client.
type attachment struct {
	id          uint64
	subject     policy.Subject
	since       time.Time // by the wall clock
	name        string
	key         []byte   // public key, DER
	instance    uint64   // of the client's process, 0 if it did not say
	former      []uint64 // instances that it took the name over from, the latest last
	shows       *credentials
	renewed     time.Time // when that was asked for last
	accepts     bool
	limits      policy.Limits            // of the policy or the configuration, whichever is less
	opens       allowance                // of requests
	joins       allowance                // of groups
	opening     map[uint64]*introduction // by request
	introducing map[uint64]*introduction // of others, by request
	pending     int                      // introductions that this client is part of
	channels    map[string]*introduced
	wishes      int // channels that it wants a route for again
}

// introduction is a channel that was asked for and not accepted yet. Who asks for
// one is told at once whom to dial; the relay drops what it sends until the
// acceptor is ready. If the coordinator's program introduces, the dialer is asked then.
type introduction struct {
	serial
	channel          string
	dialer, acceptor *attachment
	dialerShows      *credentials // what the acceptor is told…
	acceptorShows    *credentials // …and the dialer, though they be renewed meanwhile
	request          uint64       // of the dialer; 0 if the coordinator's program introduces
	mode             conecv1.Mode
	purpose          string
	shared           bool
	dialerRoute      uint32
	acceptorRoute    uint32
	directOnly       bool // the policy keeps it off the relay
	passed           int  // packets, from the dialer
	asksDialer       bool // the acceptor is ready, the dialer was offered the channel too
	deadline         time.Time
	by               *warrant    // who introduces; nil if the dialer opens it
	introducer       *attachment // the client that introduces and waits for the answer, nil if none does
	introduces       uint64      // its request
	ticket           uint64      // of the program's, if it introduces
	done             func(error) // told how it ended, if the program introduces
}

// introduced is a channel that two clients were given.
type introduced struct {
	serial
	channel string
	ends    [2]*attachment
	routes  [2]uint32 // of the ends; removing one removes both
	routed  bool      // it has a route
	capped  time.Time // when its route goes, because it is for the handshake only; zero: it stays
	by      *warrant  // who introduced the ends; nil if one opened it
}

// restore is one client's wish to have a route again for a channel it still has.
type restore struct {
	from     *attachment
	peer     string
	by       *warrant // the former channel's
	deadline time.Time
}

// say is something to say to a client.
type say struct {
	to      uint64
	message *conecv1.Control
}

func newRegistry(limits Limits, routes routeTable) *registry {
	return &registry{
		limits: limits, routes: routes, policy: policy.AllowAll{},
		names: map[string]*attachment{}, clients: map[uint64]*attachment{},
		pending: map[string]*introduction{}, channels: map[string]*introduced{}, restores: map[string]*restore{},
	}
}

// attach registers a name. If the same key holds the name, the old attachment is
// returned as superseded, and was detached; it may not have heard of that when it comes
// back, and is told then.
func (r *registry) attach(now time.Time, a *attachment) (superseded uint64, says []say, err error) {
	held := r.names[a.name]
	if held != nil {
		if slices.Contains(held.former, a.instance) { // also if the key was renewed since
			return 0, nil, messages.ErrSuperseded
		}
		if !bytes.Equal(held.key, a.key) {
			return 0, nil, fmt.Errorf("%w: %q", messages.ErrNameTaken, a.name)
		}
		a.former = held.former
		if held.instance != a.instance && held.instance != 0 {
			a.former = latest(append(slices.Clone(a.former), held.instance))
		}
		superseded = held.id
		says = r.detach(now, held.id)
	}
	a.limits = r.limitsOf(a)
	if held == nil { // else it takes that one's place
		if err := r.roomFor(a); err != nil {
			return 0, nil, err
		}
	}
	a.opening, a.channels = map[uint64]*introduction{}, map[string]*introduced{}
	a.introducing = map[uint64]*introduction{}
	r.names[a.name], r.clients[a.id] = a, a
	return superseded, says, nil
}

// latest returns the last few of the instances that a name was taken over from.
func latest(instances []uint64) []uint64 {
	const most = 8
	return instances[max(len(instances)-most, 0):]
}

// detach forgets a client, what it asked for and what it was offered.
func (r *registry) detach(now time.Time, id uint64) (says []say) {
	a := r.clients[id]
	if a == nil {
		return nil
	}
	delete(r.clients, id)
	delete(r.names, a.name)
	for _, intro := range byNumber(r.pending) {
		switch a {
		case intro.dialer:
			says = append(says, r.withdraw(intro, a, conecv1.Code_CODE_NO_SUCH_PEER)...)
		case intro.acceptor:
			says = append(says, r.fail(intro, a, conecv1.Code_CODE_NO_SUCH_PEER, "the peer left", false)...)
		}
	}
	says = append(says, r.forgetIntroducer(a)...)
	for _, channel := range byNumber(a.channels) {
		r.drop(channel)
		for _, other := range channel.ends {
			if other != a { // one that is not connected yet gives up
				r.wish(now, other, channel.channel, a.name, channel.by)
				says = append(says, say{other.id, withdrawn(channel.channel, conecv1.Code_CODE_NO_SUCH_PEER)})
			}
		}
	}
	for channel, wish := range r.restores {
		if wish.from == a {
			r.unwish(channel)
		}
	}
	return says
}

// open answers an OpenChannel: it offers the channel to the peer, or refuses.
func (r *registry) open(now time.Time, id uint64, msg *conecv1.OpenChannel) []say {
	opener := r.clients[id]
	peer := r.visible(opener, msg.GetPeer())
	refuse := func(code conecv1.Code, reason string) []say {
		return []say{{id, refused(msg.GetRequest(), code, reason, false)}}
	}
	switch {
	case !opener.opens.take(now, opener.limits.Opens):
		return refuse(conecv1.Code_CODE_LIMIT, tooFast(opener))
	case len(msg.GetPurpose()) > messages.MaxPurpose:
		return refuse(conecv1.Code_CODE_LIMIT, fmt.Sprintf("purpose of more than %d bytes", messages.MaxPurpose))
	case peer == nil:
		return refuse(conecv1.Code_CODE_NO_SUCH_PEER, "")
	}
	directOnly, err := r.mayOpen(opener, peer, msg.GetMode())
	switch {
	case err != nil:
		code, reason := messages.ToCode(err)
		return refuse(code, reason)
	case !peer.accepts:
		return refuse(conecv1.Code_CODE_NOT_ACCEPTING, "")
	case opener.opening[msg.GetRequest()] != nil || opener.introducing[msg.GetRequest()] != nil || msg.GetRequest() == 0:
		return refuse(conecv1.Code_CODE_PROTOCOL, "request number is in use")
	}
	if msg.GetShared() && r.crossing(opener, peer, msg.GetMode()) {
		return nil // the opener is being offered the same channel by its peer: one is enough
	}
	intro := &introduction{
		dialer: opener, acceptor: peer, request: msg.GetRequest(),
		mode: msg.GetMode(), purpose: msg.GetPurpose(), shared: msg.GetShared(), directOnly: directOnly,
	}
	says, err := r.offer(now, intro)
	if err != nil {
		code, reason := messages.ToCode(err)
		return refuse(code, reason)
	}
	opener.opening[msg.GetRequest()] = intro
	return append(says, say{id, &conecv1.Control{Said: &conecv1.Control_ChannelIntroduced{ChannelIntroduced: &conecv1.ChannelIntroduced{
		Request: intro.request, Introduction: intro.forEnd(true),
	}}}})
}

// crossing reports whether peer is just opening a shared channel to opener.
func (r *registry) crossing(opener, peer *attachment, mode conecv1.Mode) bool {
	for _, intro := range peer.opening {
		if intro.acceptor == opener && intro.shared && intro.mode == mode && opener != peer {
			return true
		}
	}
	return false
}

// offer begins an introduction: the acceptor is asked.
func (r *registry) offer(now time.Time, intro *introduction) ([]say, error) {
	for _, a := range []*attachment{intro.dialer, intro.acceptor} {
		if a.pending >= a.limits.Pending {
			return nil, fmt.Errorf("%w: %d channels of %q wait to be answered", messages.ErrLimit, a.pending, a.name)
		}
		if len(a.channels) >= a.limits.Channels {
			return nil, fmt.Errorf("%w: %q has %d channels", messages.ErrLimit, a.name, len(a.channels))
		}
	}
	var err error
	intro.dialerRoute, intro.acceptorRoute, err = r.route(intro)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrLimit, err)
	}
	r.routes.ShutRoute(intro.dialerRoute, true)
	intro.channel, intro.serial = newChannelID(), r.next()
	intro.dialerShows, intro.acceptorShows = intro.dialer.shows, intro.acceptor.shows
	intro.deadline = now.Add(r.limits.AnswerTimeout)
	intro.dialer.pending++
	intro.acceptor.pending++
	r.pending[intro.channel] = intro
	return []say{{intro.acceptor.id, offered(intro, false)}}, nil
}

// cancel takes an OpenChannel back.
func (r *registry) cancel(id uint64, msg *conecv1.CancelOpen) []say {
	a := r.clients[id]
	if intro := a.opening[msg.GetRequest()]; intro != nil {
		return r.withdraw(intro, intro.dialer, conecv1.Code_CODE_CANCELED)
	}
	if intro := a.introducing[msg.GetRequest()]; intro != nil {
		return r.fail(intro, intro.asked(), conecv1.Code_CODE_CANCELED, "", false)
	}
	return nil // it was answered meanwhile
}

// answer acts on an AnswerOffer. An answer to what was not offered to this
// client has no effect: it may be late.
func (r *registry) answer(id uint64, msg *conecv1.AnswerOffer) []say {
	a := r.clients[id]
	intro := r.pending[string(msg.GetChannel())]
	if intro == nil || a != intro.asked() {
		return nil
	}
	if msg.GetCode() != conecv1.Code_CODE_UNSPECIFIED {
		return r.fail(intro, a, msg.GetCode(), messages.Clip(msg.GetReason(), messages.MaxReason), true)
	}
	r.routes.ShutRoute(intro.dialerRoute, false)
	if intro.request == 0 && !intro.asksDialer {
		intro.asksDialer = true
		return []say{{intro.dialer.id, offered(intro, true)}}
	}
	r.forget(intro)
	channel := &introduced{channel: intro.channel, ends: [2]*attachment{intro.dialer, intro.acceptor}, by: intro.by}
	channel.routes, channel.routed = [2]uint32{intro.dialerRoute, intro.acceptorRoute}, true
	if intro.directOnly {
		channel.capped = intro.deadline.Add(handshakeTime)
	}
	r.keep(channel)
	if intro.request == 0 {
		return r.tellIntroducer(intro, nil, false, nil)
	}
	return nil // the dialer hears it of the acceptor
}

// keep notes a channel that both ends have.
func (r *registry) keep(channel *introduced) {
	channel.serial = r.next()
	r.channels[channel.channel] = channel
	for _, end := range channel.ends {
		end.channels[channel.channel] = channel
	}
}

// drop forgets a channel and its route.
func (r *registry) drop(channel *introduced) {
	delete(r.channels, channel.channel)
	for _, end := range channel.ends {
		delete(end.channels, channel.channel)
	}
	r.unroute(channel)
}

// release acts on a client's word that its channel has ended.
func (r *registry) release(id uint64, msg *conecv1.ReleaseChannel) (says []say) {
	channel := string(msg.GetChannel())
	if wish := r.restores[channel]; wish != nil && wish.from == r.clients[id] {
		r.unwish(channel)
	}
	if held := r.clients[id].channels[channel]; held != nil {
		r.drop(held)
		other := held.ends[0] // of a client with itself: the same
		if other.id == id {
			other = held.ends[1]
		}
		says = append(says, say{other.id, withdrawn(channel, conecv1.Code_CODE_CLOSED)}) // it may still wait for this one to connect
	}
	if intro := r.pending[channel]; intro != nil && r.clients[id] == intro.asked() {
		says = append(says, r.fail(intro, intro.asked(), conecv1.Code_CODE_CLOSED, "the peer gave up", true)...)
	}
	return says
}

// expire ends introductions that nobody answered, and wishes nobody shared.
func (r *registry) expire(now time.Time) (says []say) {
	for _, intro := range byNumber(r.pending) {
		if now.After(intro.deadline) {
			says = append(says, r.fail(intro, intro.asked(), conecv1.Code_CODE_TIMEOUT, "the peer did not answer", false)...)
		}
	}
	for _, channel := range byNumber(r.channels) {
		if channel.routed && !channel.capped.IsZero() && now.After(channel.capped) {
			r.unroute(channel)
		}
	}
	for channel, wish := range r.restores {
		if now.After(wish.deadline) {
			r.unwish(channel)
		}
	}
	return says
}

// withdraw ends an introduction on the dialer's side.
func (r *registry) withdraw(intro *introduction, by *attachment, code conecv1.Code) []say {
	says := r.fail(intro, by, code, "", false)
	for i, s := range says {
		if s.to == intro.dialer.id && intro.request != 0 {
			return append(says[:i], says[i+1:]...) // it knows
		}
	}
	return says
}

// fail ends an introduction without a channel, because of one of its ends, and
// tells both.
func (r *registry) fail(intro *introduction, by *attachment, code conecv1.Code, reason string, byPeer bool) (says []say) {
	r.forget(intro)
	r.routes.RemoveRoute(intro.dialerRoute)
	says = append(says, r.tellIntroducer(intro, by, byPeer, messages.FromCode(code, reason))...)
	if intro.request != 0 {
		says = append(says, say{intro.dialer.id, refused(intro.request, code, reason, byPeer)})
	} else if intro.asksDialer {
		says = append(says, say{intro.dialer.id, withdrawn(intro.channel, code)})
	}
	return append(says, say{intro.acceptor.id, withdrawn(intro.channel, code)})
}

// asked is the end that has to answer now.
func (i *introduction) asked() *attachment {
	if i.asksDialer {
		return i.dialer
	}
	return i.acceptor
}

// forget takes an introduction off the tables.
func (r *registry) forget(intro *introduction) {
	delete(r.pending, intro.channel)
	delete(intro.dialer.opening, intro.request)
	if intro.introducer != nil {
		delete(intro.introducer.introducing, intro.introduces)
	}
	intro.dialer.pending--
	intro.acceptor.pending--
}

const (
	channelIDSize   = 16 // bytes
	wishesPerClient = 16 // on average
)

func newChannelID() string {
	id := make([]byte, channelIDSize)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return string(id)
}

// forEnd is what one end is told of the channel.
func (i *introduction) forEnd(dials bool) *conecv1.Introduction {
	peer, shows, own, route := i.acceptor, i.acceptorShows, i.dialerShows, i.dialerRoute
	if !dials {
		peer, shows, own, route = i.dialer, i.dialerShows, i.acceptorShows, i.acceptorRoute
	}
	return &conecv1.Introduction{
		Channel: []byte(i.channel), Peer: peer.name, Route: route,
		Certificate: shows.certificate, Chain: shows.chain, Authority: shows.authority, Own: own.hash,
		Mode: i.mode, Purpose: i.purpose, Dials: dials, Shared: i.shared, DirectOnly: i.directOnly,
	}
}

func offered(i *introduction, dials bool) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_ChannelOffered{ChannelOffered: &conecv1.ChannelOffered{Introduction: i.forEnd(dials)}}}
}

func withdrawn(channel string, code conecv1.Code) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_OfferWithdrawn{OfferWithdrawn: &conecv1.OfferWithdrawn{Channel: []byte(channel), Code: code}}}
}

func refused(request uint64, code conecv1.Code, reason string, byPeer bool) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_OpenRefused{OpenRefused: &conecv1.OpenRefused{
		Request: request, Code: code, Reason: reason, ByPeer: byPeer,
	}}}
}
