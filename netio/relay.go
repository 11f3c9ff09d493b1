package netio

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a [Relay].
const (
	DefaultMaxClients      = 1 << 16
	DefaultRoutesPerClient = 1024

	// MinBurst is the smallest burst in bytes that a rate limit allows: one batch of a socket.
	MinBurst = 64 << 10
)

// Errors of a [Relay].
var (
	// ErrUnknownClient means that the relay has no client with this id.
	ErrUnknownClient = errors.New("relay does not know the client")
	// ErrClientExists means that the relay has a client with this id already.
	ErrClientExists = errors.New("relay knows the client already")
)

// RelayConfig says what a [Relay] allows.
type RelayConfig struct {
	// MaxClients limits the clients. If zero, [DefaultMaxClients].
	MaxClients int
	// RoutesPerClient limits the ends of routes at one client. If zero, [DefaultRoutesPerClient].
	RoutesPerClient int
	// BytesPerSecond limits each direction of each route, UDP payload counted. If zero, unlimited.
	BytesPerSecond int64
	// ClientBytesPerSecond limits what a client sends over all its routes, and as much what it is sent. Routes that want
	// more share it evenly. If zero, unlimited.
	ClientBytesPerSecond int64
	// TotalBytesPerSecond limits what all clients send. Clients that want more share it evenly, and the routes of each
	// share its part. If zero, unlimited.
	TotalBytesPerSecond int64
	// Burst is how many bytes each of these limits lets pass at once after a pause, all routes together; one route may
	// have half of that, or a third of the total's. A route that has paused may send one packet in any case. If zero, a
	// tenth of a second's worth; at least [MinBurst].
	Burst int64
	// Random is where route numbers come from. If nil, crypto/rand.
	Random io.Reader
}

func (c RelayConfig) withDefaults() RelayConfig {
	if c.MaxClients <= 0 {
		c.MaxClients = DefaultMaxClients
	}
	if c.RoutesPerClient <= 0 {
		c.RoutesPerClient = DefaultRoutesPerClient
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	return c
}

// RelayStats says what a relay did. Dropped.Unproven are packets from an address at which the client is not bound;
// Dropped.NoPath are packets for a client that is not bound, or has not accepted them.
type RelayStats struct {
	Clients, Routes int // Routes counts both ends
	Forwarded       Traffic
	Binds           uint64 // accepted
	Dropped         Drops
}

// RouteStats says what one end of a route sent.
type RouteStats struct {
	Forwarded   Traffic
	Dropped     uint64 // packets
	RateLimited uint64 // packets, of those dropped
}

// ClientStats says what went over all routes that a client has or had.
type ClientStats struct {
	Sent, Received Traffic
	Dropped        uint64 // packets that it sent
	RateLimited    uint64 // packets, of those dropped
}

// Relay forwards packets between clients of a coordinator. It believes a client's address from authentic bind frames
// only, and forwards only what comes from there.
//
// Forwarding allocates nothing, and takes no lock unless there is a limit that routes share; then one, for less than a
// microsecond. All methods may be called by anybody and none blocks.
type Relay struct {
	cfg     RelayConfig
	clients table[*relayClient]
	routes  table[*relayRoute]
	mu      sync.Mutex // changes of clients and routes, and relayClient.routes and past
	total   traffic
	binds   atomic.Uint64
	drops   drops
	start   time.Time
	who     bucket // of answers to clients that are not known

	fairness fairness
}

// maxAsk is the size in bytes of the largest ask frame.
const maxAsk = 1500

// whoRate is how many bytes per second are answered to clients that are not known: anybody can ask.
const whoRate = 256 << 10

type relayClient struct {
	id            uint64
	bindKey, bond *macKey // what its frames are checked with, and ours made with
	routes        map[uint32]*relayRoute
	past          ClientStats // of routes that are no more
	account       clientAccount
	bound         atomic.Pointer[binding]

	mu       sync.Mutex // sequence, asked, and changes of bound
	sequence uint64     // of the last bind
	asked    uint64     // of the last ask
}

// binding is where a client can be reached; never changed.
type binding struct {
	sw    *Switch
	link  Link
	addr  netip.AddrPort
	local netip.Addr
}

// relayRoute is one end of a route: packets with this number come from client and go to peer.client as peer.number.
type relayRoute struct {
	number uint32
	client *relayClient
	peer   *relayRoute

	shut      atomic.Bool // the peer has not accepted what comes from here
	forwarded traffic
	dropped   atomic.Uint64
	limited   atomic.Uint64 // of those dropped
	bucket    bucket
	account   routeAccount

	capped bool         // set before anybody knows the number
	left   atomic.Int64 // bytes, if it is capped
}

// NewRelay makes a relay without clients.
func NewRelay(cfg RelayConfig) *Relay { return &Relay{cfg: cfg.withDefaults(), start: time.Now()} }

// AddClient lets a client bind. The key is the secret that the client gives to [EncodeBind]. It fails with
// [ErrClientExists] or [ErrTooMany].
func (r *Relay) AddClient(id uint64, key [32]byte) error {
	c := &relayClient{
		id: id, bindKey: newMACKey(key, bindPurpose), bond: newMACKey(key, boundPurpose),
		routes: make(map[uint32]*relayRoute),
	}
	switch ok, full := r.clients.put(id, c, r.cfg.MaxClients, true); {
	case full:
		return ErrTooMany
	case !ok:
		return ErrClientExists
	}
	return nil
}

// LimitClient limits one client as RelayConfig.ClientBytesPerSecond does all; where both do, the smaller counts. If zero,
// only that does.
func (r *Relay) LimitClient(id uint64, bytesPerSecond int64) {
	if c, ok := r.clients.get(id); ok {
		c.account.rate.Store(max(bytesPerSecond, 0))
	}
}

// RemoveClient forgets a client and drops its routes.
func (r *Relay) RemoveClient(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.clients.get(id)
	if !ok {
		return
	}
	r.clients.remove(id, func(o *relayClient) bool { return o == c })
	for _, route := range c.routes {
		r.removeRoute(route)
	}
}

// Bound is where a client can be reached, if it said so.
func (r *Relay) Bound(id uint64) (netip.AddrPort, bool) {
	if c, ok := r.clients.get(id); ok {
		if b := c.bound.Load(); b != nil {
			return b.addr, true
		}
	}
	return netip.AddrPort{}, false
}

// AddRoute connects two clients, which may be the same one. Each knows the route by its own number. It fails with
// [ErrUnknownClient] or [ErrTooMany].
func (r *Relay) AddRoute(aClient, bClient uint64) (routeA, routeB uint32, err error) {
	return r.addRoute(aClient, bClient, 0)
}

// AddCappedRoute is AddRoute for a route each end of which may send so many bytes in all, more than none; what is more is
// dropped.
func (r *Relay) AddCappedRoute(aClient, bClient uint64, bytes int64) (routeA, routeB uint32, err error) {
	return r.addRoute(aClient, bClient, bytes)
}

func (r *Relay) addRoute(aClient, bClient uint64, limit int64) (routeA, routeB uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ca, okA := r.clients.get(aClient)
	cb, okB := r.clients.get(bClient)
	if !okA || !okB {
		return 0, 0, ErrUnknownClient
	}
	if len(ca.routes)+1 > r.cfg.RoutesPerClient || len(cb.routes)+1 > r.cfg.RoutesPerClient ||
		ca == cb && len(ca.routes)+2 > r.cfg.RoutesPerClient {
		return 0, 0, ErrTooMany
	}
	a, b := &relayRoute{client: ca}, &relayRoute{client: cb}
	a.peer, b.peer = b, a
	// Both numbers are known before either end can be found, since forwarding reads them without a lock.
	if a.number, err = r.freeNumber(0); err != nil {
		return 0, 0, err
	}
	if b.number, err = r.freeNumber(a.number); err != nil {
		return 0, 0, err
	}
	for _, end := range []*relayRoute{a, b} {
		end.capped = limit > 0
		end.left.Store(limit)
		r.routes.put(uint64(end.number), end, int(^uint32(0)>>1), true)
		end.client.routes[end.number] = end
	}
	return a.number, b.number, nil
}

// freeNumber is a random number that is no route and not the other one. The caller holds mu.
func (r *Relay) freeNumber(other uint32) (uint32, error) {
	for {
		n, err := randomNumber(r.cfg.Random)
		if err != nil {
			return 0, err
		}
		if _, taken := r.routes.get(uint64(n)); !taken && n != other {
			return n, nil
		}
	}
}

// RemoveRoute removes both ends of a route, given either.
func (r *Relay) RemoveRoute(route uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end, ok := r.routes.get(uint64(route)); ok {
		r.removeRoute(end)
	}
}

// ShutRoute says whether what comes from this end of a route is dropped, because the other end has not accepted it yet.
func (r *Relay) ShutRoute(route uint32, shut bool) {
	if end, ok := r.routes.get(uint64(route)); ok {
		end.shut.Store(shut)
	}
}

func (r *Relay) removeRoute(route *relayRoute) {
	for _, end := range []*relayRoute{route, route.peer} {
		if end.client.routes[end.number] == end {
			end.count(&end.client.past)
		}
		r.routes.remove(uint64(end.number), func(o *relayRoute) bool { return o == end })
		delete(end.client.routes, end.number)
	}
}

// Stats says what the relay did so far.
func (r *Relay) Stats() RelayStats {
	return RelayStats{
		Clients: r.clients.len(), Routes: r.routes.len(),
		Forwarded: r.total.load(), Binds: r.binds.Load(), Dropped: r.drops.load(),
	}
}

// RouteStats says what the client at this end of a route sent.
func (r *Relay) RouteStats(route uint32) (RouteStats, bool) {
	end, ok := r.routes.get(uint64(route))
	if !ok {
		return RouteStats{}, false
	}
	return RouteStats{Forwarded: end.forwarded.load(), Dropped: end.dropped.Load(), RateLimited: end.limited.Load()}, true
}

// ClientStats says what a client sent and was sent.
func (r *Relay) ClientStats(id uint64) (ClientStats, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.clients.get(id)
	if !ok {
		return ClientStats{}, false
	}
	stats := c.past
	for _, end := range c.routes {
		end.count(&stats)
	}
	return stats, true
}

// count adds what went over the route to what its client sent and received.
func (route *relayRoute) count(to *ClientStats) {
	sent, received := route.forwarded.load(), route.peer.forwarded.load()
	to.Sent = Traffic{to.Sent.Packets + sent.Packets, to.Sent.Bytes + sent.Bytes}
	to.Received = Traffic{to.Received.Packets + received.Packets, to.Received.Bytes + received.Bytes}
	to.Dropped += route.dropped.Load()
	to.RateLimited += route.limited.Load()
}

// bind deals with a bind frame: the client is where it came from, and is told so.
func (r *Relay) bind(sw *Switch, a *arrival, frame []byte) dropReason {
	reason := r.rebind(sw, a, frame)
	r.drops.add(reason, 1)
	return reason
}

func (r *Relay) rebind(sw *Switch, a *arrival, frame []byte) dropReason {
	asks := frame[0] == typeAsk
	if len(frame) < bindSize || len(frame) > bindSize && !asks || len(frame) > maxAsk {
		return dropMalformed
	}
	id, sequence := bindNumbers(frame)
	c, ok := r.clients.get(id)
	if !ok { // its coordinator may have been restarted: it does not have to find that out by silence
		if r.who.take(len(frame), len(frame), sw.start.Add(a.at).Sub(r.start), whoRate, MinBurst) == 0 {
			return dropRate
		}
		answer := appendWho(make([]byte, 0, len(frame)), frame)
		_ = sw.sendPackets(a.link, a.From, Packets{Data: answer, Local: a.Local}, false) // counted there
		return dropUnknown
	}
	if !validBind(frame, c.bindKey) {
		return dropMAC
	}
	if asks {
		return r.answerAsk(sw, a, c, frame)
	}
	c.mu.Lock()
	if sequence <= c.sequence {
		c.mu.Unlock()
		return dropReplay
	}
	c.sequence = sequence
	b := c.bound.Load()
	if b == nil || b.sw != sw || b.link != a.link || b.addr != a.From || b.local != a.Local {
		c.bound.Store(&binding{sw: sw, link: a.link, addr: a.From, local: a.Local})
	}
	c.mu.Unlock()
	r.binds.Add(1)
	if l, ok := a.link.(*TCPListener); ok {
		l.proven(a.From)
	}
	r.tellBound(sw, a, c, frame)
	return dropNone
}

// answerAsk tells a client that its frames arrive from an address, and moves nothing: whether the answers arrive there it
// has yet to learn.
func (r *Relay) answerAsk(sw *Switch, a *arrival, c *relayClient, frame []byte) dropReason {
	_, sequence := bindNumbers(frame)
	c.mu.Lock()
	fresh := sequence > c.asked
	if fresh {
		c.asked = sequence
	}
	c.mu.Unlock()
	if !fresh {
		return dropReplay
	}
	r.tellBound(sw, a, c, frame)
	return dropNone
}

// tellBound answers a bind or ask frame with a bound of the same size.
func (r *Relay) tellBound(sw *Switch, a *arrival, c *relayClient, frame []byte) {
	id, sequence := bindNumbers(frame)
	answer := appendBound(make([]byte, 0, len(frame)), BoundFrame{ID: id, Sequence: sequence, Observed: sw.Real(a.From)}, c.bond)
	answer = answer[:len(frame)]                                                     // zeros to the end
	_ = sw.sendPackets(a.link, a.From, Packets{Data: answer, Local: a.Local}, false) // counted there; the client asks again
}

// forward passes on a run of packets that have one route, in one write. It overwrites their headers.
func (r *Relay) forward(sw *Switch, a *arrival, run []byte) {
	packets := (len(run) + a.Segment - 1) / a.Segment
	if len(run) <= headerSize {
		r.drop(sw, nil, dropMalformed, packets)
		return
	}
	route, ok := r.routes.get(uint64(binary.BigEndian.Uint32(run[1:])))
	if !ok {
		r.drop(sw, nil, dropUnknown, packets)
		return
	}
	from := route.client.bound.Load()
	if from == nil || from.addr != a.From || from.link != a.link {
		r.drop(sw, route, dropUnproven, packets)
		return
	}
	to := route.peer.client.bound.Load()
	if to == nil || route.shut.Load() {
		r.drop(sw, route, dropNoPath, packets)
		return
	}
	if granted := r.limit(route, len(run), a.Segment, sw.start.Add(a.at).Sub(r.start)); granted < len(run) {
		kept := granted / a.Segment
		route.limited.Add(uint64(packets - kept))
		r.drop(sw, route, dropRate, packets-kept)
		if granted == 0 {
			return
		}
		run, packets = run[:granted], kept
	}
	for i := 0; len(run)-i >= headerSize; i += a.Segment {
		putHeader(run[i:], run[i], route.peer.number)
	}
	err := to.sw.sendPackets(to.link, to.addr, Packets{Data: run, Segment: a.Segment, ECN: a.ECN, Local: to.local}, false)
	if err != nil {
		route.dropped.Add(uint64(packets))
		r.drops.add(writeReason(err), packets) // the switch has counted it already
		return
	}
	route.forwarded.add(packets, len(run))
	r.total.add(packets, len(run))
}

func (r *Relay) drop(sw *Switch, route *relayRoute, reason dropReason, packets int) {
	if route != nil {
		route.dropped.Add(uint64(packets))
	}
	r.drops.add(reason, packets)
	sw.drops.add(reason, packets)
}
