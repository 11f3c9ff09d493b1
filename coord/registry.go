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
	RemoveRoute(route uint32)
}

// attachment is one attached client.
type attachment struct {
	id       uint64
	subject  policy.Subject
	name     string
	key      []byte // public key, DER
	shows    *credentials
	renewed  time.Time // when that was asked for last
	accepts  bool
	opening  map[uint64]*introduction // by request
	pending  int                      // introductions that this client is part of
	channels map[string]*introduced
	wishes   int // channels that it wants a route for again
}

// introduction is a channel that was asked for and is not there yet. The
// acceptor is asked first; the dialer hears of it when the acceptor is ready.
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
	asksDialer       bool // the acceptor is ready, the dialer was offered the channel too
	deadline         time.Time
	ticket           uint64      // of the program's, if it introduces
	done             func(error) // told how it ended, if the program introduces
}

// introduced is a channel that two clients were given.
type introduced struct {
	serial
	channel string
	ends    [2]*attachment
	routes  [2]uint32 // of the ends; removing one removes both
}

// restore is one client's wish to have a route again for a channel it still has.
type restore struct {
	from     *attachment
	peer     string
	deadline time.Time
}

// say is something to say to a client.
type say struct {
	to      uint64
	message *conecv1.Control
}

func newRegistry(limits Limits, routes routeTable) *registry {
	return &registry{
		limits: limits, routes: routes,
		names: map[string]*attachment{}, clients: map[uint64]*attachment{},
		pending: map[string]*introduction{}, channels: map[string]*introduced{}, restores: map[string]*restore{},
	}
}

// attach registers a name. If the same key holds the name, the old attachment is
// returned as superseded, and was detached.
func (r *registry) attach(now time.Time, a *attachment) (superseded uint64, says []say, err error) {
	if held := r.names[a.name]; held != nil {
		if !bytes.Equal(held.key, a.key) {
			return 0, nil, fmt.Errorf("%w: %q", messages.ErrNameTaken, a.name)
		}
		superseded = held.id
		says = r.detach(now, held.id)
	}
	if len(r.clients) >= r.limits.Clients {
		return superseded, says, fmt.Errorf("%w: %d clients", messages.ErrLimit, len(r.clients))
	}
	a.opening, a.channels = map[uint64]*introduction{}, map[string]*introduced{}
	r.names[a.name], r.clients[a.id] = a, a
	return superseded, says, nil
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
	for _, channel := range byNumber(a.channels) {
		r.drop(channel)
		for _, other := range channel.ends {
			if other != a { // one that is not connected yet gives up
				r.wish(now, other, channel.channel, a.name)
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
	peer := r.names[msg.GetPeer()]
	refuse := func(code conecv1.Code, reason string) []say {
		return []say{{id, refused(msg.GetRequest(), code, reason, false)}}
	}
	switch {
	case len(msg.GetPurpose()) > messages.MaxPurpose:
		return refuse(conecv1.Code_CODE_LIMIT, fmt.Sprintf("purpose of more than %d bytes", messages.MaxPurpose))
	case peer == nil:
		return refuse(conecv1.Code_CODE_NO_SUCH_PEER, "")
	case !peer.accepts:
		return refuse(conecv1.Code_CODE_NOT_ACCEPTING, "")
	case opener.opening[msg.GetRequest()] != nil || msg.GetRequest() == 0:
		return refuse(conecv1.Code_CODE_PROTOCOL, "request number is in use")
	}
	if msg.GetShared() && r.crossing(opener, peer, msg.GetMode()) {
		return nil // the opener is being offered the same channel by its peer: one is enough
	}
	intro := &introduction{
		dialer: opener, acceptor: peer, request: msg.GetRequest(),
		mode: msg.GetMode(), purpose: msg.GetPurpose(), shared: msg.GetShared(),
	}
	says, err := r.offer(now, intro)
	if err != nil {
		code, reason := messages.ToCode(err)
		return refuse(code, reason)
	}
	opener.opening[msg.GetRequest()] = intro
	return says
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
		if a.pending >= r.limits.PendingPerClient {
			return nil, fmt.Errorf("%w: %d channels of %q wait to be answered", messages.ErrLimit, a.pending, a.name)
		}
		if len(a.channels) >= r.limits.ChannelsPerClient {
			return nil, fmt.Errorf("%w: %q has %d channels", messages.ErrLimit, a.name, len(a.channels))
		}
	}
	var err error
	intro.dialerRoute, intro.acceptorRoute, err = r.routes.AddRoute(intro.dialer.id, intro.acceptor.id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrLimit, err)
	}
	intro.channel, intro.serial = newChannelID(), r.next()
	intro.dialerShows, intro.acceptorShows = intro.dialer.shows, intro.acceptor.shows
	intro.deadline = now.Add(r.limits.AnswerTimeout)
	intro.dialer.pending++
	intro.acceptor.pending++
	r.pending[intro.channel] = intro
	return []say{{intro.acceptor.id, offered(intro, false)}}, nil
}

// introduce is an introduction by the coordinator's program. done is told once
// both have accepted, or why not.
func (r *registry) introduce(now time.Time, msg introduce, done func(error)) ([]say, error) {
	intro := &introduction{mode: msg.mode, purpose: msg.purpose, ticket: msg.ticket, done: done}
	var err error
	if intro.dialer, err = r.accepting(msg.a); err != nil {
		return nil, err
	}
	if intro.acceptor, err = r.accepting(msg.b); err != nil {
		return nil, err
	}
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

// accepting returns the client of a name, if it accepts channels.
func (r *registry) accepting(name string) (*attachment, error) {
	a := r.names[name]
	if a == nil {
		return nil, &messages.OpError{Op: "introduce", Peer: name, Err: messages.ErrNoSuchPeer}
	}
	if !a.accepts {
		return nil, &messages.OpError{Op: "introduce", Peer: name, Err: messages.ErrNotAccepting}
	}
	return a, nil
}

// cancel takes an OpenChannel back.
func (r *registry) cancel(id uint64, msg *conecv1.CancelOpen) []say {
	if intro := r.clients[id].opening[msg.GetRequest()]; intro != nil {
		return r.withdraw(intro, intro.dialer, conecv1.Code_CODE_CANCELED)
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
	if intro.request == 0 && !intro.asksDialer {
		intro.asksDialer = true
		return []say{{intro.dialer.id, offered(intro, true)}}
	}
	r.forget(intro)
	channel := &introduced{channel: intro.channel, ends: [2]*attachment{intro.dialer, intro.acceptor}}
	channel.routes = [2]uint32{intro.dialerRoute, intro.acceptorRoute}
	r.keep(channel)
	if intro.request == 0 {
		intro.done(nil)
		return nil
	}
	return []say{{intro.dialer.id, &conecv1.Control{Said: &conecv1.Control_ChannelIntroduced{ChannelIntroduced: &conecv1.ChannelIntroduced{
		Request: intro.request, Introduction: intro.forEnd(true),
	}}}}}
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
	r.routes.RemoveRoute(channel.routes[0])
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

// restore gives a channel that outlived an attachment a route again, once both of
// its clients want it. Who stayed attached while the other left wants it unasked.
func (r *registry) restore(now time.Time, id uint64, msg *conecv1.RestoreChannel) []say {
	a, channel := r.clients[id], string(msg.GetChannel())
	if len(channel) != channelIDSize || len(a.channels) >= r.limits.ChannelsPerClient || r.channels[channel] != nil {
		return nil
	}
	wish := r.restores[channel]
	if wish != nil && wish.peer == a.name && msg.GetPeer() == wish.from.name { // of a client with itself, both from the same
		r.unwish(channel)
		return r.rejoin(channel, wish.from, a)
	}
	if wish == nil {
		r.wish(now, a, channel, msg.GetPeer())
	}
	return nil
}

// wish notes that a client would like to have a route for a channel again.
func (r *registry) wish(now time.Time, from *attachment, channel, peer string) {
	r.unwish(channel)
	if from.wishes < r.limits.ChannelsPerClient && len(r.restores) < r.limits.Clients*wishesPerClient {
		r.restores[channel] = &restore{from: from, peer: peer, deadline: now.Add(r.limits.RestoreTimeout)}
		from.wishes++
	}
}

func (r *registry) unwish(channel string) {
	if wish := r.restores[channel]; wish != nil {
		wish.from.wishes--
		delete(r.restores, channel)
	}
}

// rejoin makes a new route between the ends of a channel.
func (r *registry) rejoin(channel string, a, b *attachment) []say {
	routeA, routeB, err := r.routes.AddRoute(a.id, b.id)
	if err != nil {
		return nil // the channel goes on without relay; its ends ask again when they attach again
	}
	r.keep(&introduced{channel: channel, ends: [2]*attachment{a, b}, routes: [2]uint32{routeA, routeB}})
	restored := func(route uint32) *conecv1.Control {
		return &conecv1.Control{Said: &conecv1.Control_ChannelRestored{ChannelRestored: &conecv1.ChannelRestored{
			Channel: []byte(channel), Route: route,
		}}}
	}
	return []say{{a.id, restored(routeA)}, {b.id, restored(routeB)}}
}

// expire ends introductions that nobody answered, and wishes nobody shared.
func (r *registry) expire(now time.Time) (says []say) {
	for _, intro := range byNumber(r.pending) {
		if now.After(intro.deadline) {
			says = append(says, r.fail(intro, intro.asked(), conecv1.Code_CODE_TIMEOUT, "the peer did not answer", false)...)
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
	if intro.done != nil {
		intro.done(&messages.OpError{Op: "introduce", Peer: by.name, Remote: byPeer, Err: messages.FromCode(code, reason)})
	}
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
		Mode: i.mode, Purpose: i.purpose, Dials: dials, Shared: i.shared,
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
