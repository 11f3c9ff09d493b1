package coord

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// book is a registry with clients that tell it things, step by step.
type book struct {
	t      *testing.T
	r      *registry
	routes *fakeRoutes
	now    time.Time
	heard  map[uint64][]*conecv1.Control
	last   uint64 // client id
}

func newBook(t *testing.T, limits Limits) *book {
	t.Helper()
	routes := &fakeRoutes{held: map[uint32]uint32{}, shut: map[uint32]bool{}}
	return &book{
		t: t, r: newRegistry(limits.withDefaults(), routes), routes: routes,
		now: time.Unix(1e9, 0), heard: map[uint64][]*conecv1.Control{},
	}
}

// attach attaches a client whose key is its name and a suffix.
func (b *book) attach(name, key string) (uint64, error) {
	b.last++
	_, says, err := b.r.attach(b.now, &attachment{
		id: b.last, subject: policy.Subject{Name: name}, name: name, key: []byte(name + key),
		shows: &credentials{certificate: []byte("certificate of " + name), hash: []byte("hash of " + name)}, accepts: true,
	})
	b.deliver(says)
	return b.last, err
}

// client attaches a client that must be let in.
func (b *book) client(name string) uint64 {
	b.t.Helper()
	id, err := b.attach(name, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *book) deliver(says []say) {
	for _, s := range says {
		b.heard[s.to] = append(b.heard[s.to], s.message)
	}
}

// hear returns what a client was told next.
func (b *book) hear(id uint64) *conecv1.Control {
	b.t.Helper()
	if len(b.heard[id]) == 0 {
		b.t.Fatalf("client %d was told nothing", id)
	}
	message := b.heard[id][0]
	b.heard[id] = b.heard[id][1:]
	return message
}

// silent checks that nobody was told anything more.
func (b *book) silent() {
	b.t.Helper()
	for id, heard := range b.heard {
		if len(heard) > 0 {
			b.t.Errorf("client %d was told %v", id, heard)
		}
	}
	b.heard = map[uint64][]*conecv1.Control{}
}

// empty checks that nothing is held for channels any more.
func (b *book) empty() {
	b.t.Helper()
	b.silent()
	if len(b.r.pending)+len(b.r.channels)+len(b.r.restores)+len(b.routes.held) != 0 {
		b.t.Errorf("%d pending, %d channels, %d restores, %d routes are left",
			len(b.r.pending), len(b.r.channels), len(b.r.restores), len(b.routes.held))
	}
	for _, a := range b.r.clients {
		if len(a.opening)+len(a.channels)+a.pending != 0 {
			b.t.Errorf("%q has %d opening, %d channels, %d pending", a.name, len(a.opening), len(a.channels), a.pending)
		}
	}
}

func (b *book) open(id, request uint64, peer string) {
	b.deliver(b.r.open(b.now, id, &conecv1.OpenChannel{Request: request, Peer: peer, Purpose: "chat"}))
}

func (b *book) openShared(id, request uint64, peer string) {
	b.deliver(b.r.open(b.now, id, &conecv1.OpenChannel{Request: request, Peer: peer, Shared: true}))
}

func (b *book) answer(id uint64, channel []byte, code conecv1.Code) {
	b.deliver(b.r.answer(id, &conecv1.AnswerOffer{Channel: channel, Code: code, Reason: "because"}))
}

func (b *book) release(id uint64, channel []byte) {
	b.deliver(b.r.release(id, &conecv1.ReleaseChannel{Channel: channel}))
}

func (b *book) restore(id uint64, channel []byte, peer string) {
	b.deliver(b.r.restore(b.now, id, &conecv1.RestoreChannel{Channel: channel, Peer: peer}))
}

// channel introduces two clients.
func (b *book) channel(from, to uint64, peer string) []byte {
	b.t.Helper()
	b.open(from, 1, peer)
	channel := b.asked(from, to)
	b.answer(to, channel, 0)
	b.silent()
	return channel
}

// asked has the acceptor hear of a channel, and the dialer that it has.
func (b *book) asked(from, to uint64) []byte {
	b.t.Helper()
	channel := b.hear(to).GetChannelOffered().GetIntroduction().GetChannel()
	if got := b.hear(from).GetChannelIntroduced().GetIntroduction().GetChannel(); string(got) != string(channel) || len(got) == 0 {
		b.t.Fatalf("introduced %x, want %x", got, channel)
	}
	return channel
}

func (b *book) wantRefused(id, request uint64, code conecv1.Code, byPeer bool) {
	b.t.Helper()
	got := b.hear(id).GetOpenRefused()
	if got.GetRequest() != request || got.GetCode() != code || got.GetByPeer() != byPeer {
		b.t.Errorf("refusal %v, want of %d with %v, by the peer %v", got, request, code, byPeer)
	}
}

func TestRegistryIntroduces(t *testing.T) {
	b := newBook(t, Limits{})
	alice, bob := b.client("alice"), b.client("bob")
	b.open(alice, 7, "bob")
	offered := b.hear(bob).GetChannelOffered().GetIntroduction()
	want := &conecv1.Introduction{
		Channel: offered.GetChannel(), Peer: "alice", Certificate: []byte("certificate of alice"), Own: []byte("hash of bob"),
		Route: offered.GetRoute(), Purpose: "chat",
	}
	if !proto.Equal(offered, want) || len(offered.GetChannel()) != channelIDSize {
		t.Errorf("the acceptor was told\n%v, want\n%v", offered, want)
	}
	got := b.hear(alice).GetChannelIntroduced() // at once
	want.Own = []byte("hash of alice")
	want.Peer, want.Certificate, want.Dials, want.Route = "bob", []byte("certificate of bob"), true, got.GetIntroduction().GetRoute()
	if !proto.Equal(got.GetIntroduction(), want) || got.GetRequest() != 7 {
		t.Errorf("the dialer was told\n%v, want\n%v", got, want)
	}
	if b.routes.held[offered.GetRoute()] != got.GetIntroduction().GetRoute() {
		t.Error("the two ends have not one route")
	}
	dials, accepts := got.GetIntroduction().GetRoute(), offered.GetRoute()
	if !b.routes.shut[dials] || b.routes.shut[accepts] {
		t.Error("the relay forwards before bob has accepted, or not what bob sends")
	}
	b.answer(bob, offered.GetChannel(), 0)
	if b.routes.shut[dials] {
		t.Error("the relay does not forward though bob has accepted")
	}
	b.silent() // alice hears it of bob
	b.release(alice, offered.GetChannel())
	if withdrawn := b.hear(bob).GetOfferWithdrawn(); string(withdrawn.GetChannel()) != string(offered.GetChannel()) {
		t.Errorf("the other end was told %v", withdrawn)
	}
	b.release(bob, offered.GetChannel())
	b.empty()
}

// S1, S2: only who was asked answers, once.
func TestRegistryAnswers(t *testing.T) {
	for _, code := range []conecv1.Code{conecv1.Code_CODE_UNSPECIFIED, conecv1.Code_CODE_REFUSED} {
		t.Run(code.String(), func(t *testing.T) {
			b := newBook(t, Limits{})
			alice, bob, mallory := b.client("alice"), b.client("bob"), b.client("mallory")
			b.answer(mallory, []byte("never offered"), code)
			b.answer(mallory, nil, code)
			b.silent()
			b.open(alice, 1, "bob")
			channel := b.asked(alice, bob)
			b.answer(mallory, channel, code)
			b.answer(alice, channel, code) // nor does who asked
			b.release(mallory, channel)
			b.release(alice, channel)
			b.silent()
			b.answer(bob, channel, conecv1.Code_CODE_REFUSED)
			b.wantRefused(alice, 1, conecv1.Code_CODE_REFUSED, true)
			b.hear(bob) // withdrawn
			b.answer(bob, channel, code)
			b.answer(mallory, channel, code)
			b.empty()
		})
	}
}

// Who is introduced by the coordinator's program is asked one after the other.
func TestRegistryIntroduceAsks(t *testing.T) {
	b := newBook(t, Limits{})
	alice, bob := b.client("alice"), b.client("bob")
	var done []error
	says, err := b.r.introduce(b.now, introduce{a: "alice", b: "bob", purpose: "game"}, func(err error) { done = append(done, err) })
	if err != nil {
		t.Fatal(err)
	}
	b.deliver(says)
	channel := b.hear(bob).GetChannelOffered().GetIntroduction().GetChannel()
	b.answer(alice, channel, 0) // not yet asked
	b.silent()
	b.answer(bob, channel, 0)
	b.answer(bob, channel, conecv1.Code_CODE_REFUSED) // too late
	intro := b.hear(alice).GetChannelOffered().GetIntroduction()
	if !intro.GetDials() || intro.GetPeer() != "bob" || intro.GetPurpose() != "game" {
		t.Errorf("the dialer was offered %v", intro)
	}
	if len(done) != 0 {
		t.Error("done before both have accepted")
	}
	b.answer(alice, channel, 0)
	if len(done) != 1 || done[0] != nil || len(b.r.channels) != 1 {
		t.Errorf("done %v with %d channels", done, len(b.r.channels))
	}
	b.silent()
}

// B3: of two shared channels that cross, one remains; the one who is offered it
// need not be answered.
func TestRegistryCrossing(t *testing.T) {
	b := newBook(t, Limits{})
	alice, bob := b.client("alice"), b.client("bob")
	b.openShared(alice, 1, "bob")
	channel := b.asked(alice, bob)
	b.openShared(bob, 1, "alice")
	b.passPacket(bob, 1, "of what crossed")
	b.silent()
	b.answer(bob, channel, 0)
	if len(b.r.channels) != 1 || len(b.r.pending) != 0 {
		t.Errorf("%d channels, %d pending", len(b.r.channels), len(b.r.pending))
	}
	b.open(alice, 2, "bob") // channels of the programs' own do not cross
	b.asked(alice, bob)
	b.open(bob, 2, "alice")
	b.asked(bob, alice)
	b.openShared(alice, 3, "alice") // nor does one to oneself
	b.openShared(alice, 4, "alice")
	for range 2 {
		if b.asked(alice, alice) == nil {
			t.Error("a channel to oneself was not offered")
		}
	}
}

// Whatever ends an introduction tells both ends, and leaves nothing.
func TestRegistryEndsOfIntroductions(t *testing.T) {
	for name, end := range map[string]struct {
		end     func(b *book, alice, bob uint64, channel []byte)
		refusal conecv1.Code // what alice hears; 0 if she does not
		byPeer  bool
		there   bool // bob is still there
	}{
		"refused":  {func(b *book, _, bob uint64, channel []byte) { b.answer(bob, channel, conecv1.Code_CODE_BUSY) }, conecv1.Code_CODE_BUSY, true, true},
		"released": {func(b *book, _, bob uint64, channel []byte) { b.release(bob, channel) }, conecv1.Code_CODE_CLOSED, true, true},
		"canceled": {func(b *book, alice, _ uint64, _ []byte) {
			b.deliver(b.r.cancel(alice, &conecv1.CancelOpen{Request: 1}))
		}, 0, false, true},
		"acceptor left": {func(b *book, _, bob uint64, _ []byte) { b.deliver(b.r.detach(b.now, bob)) }, conecv1.Code_CODE_NO_SUCH_PEER, false, false},
		"dialer left":   {func(b *book, alice, _ uint64, _ []byte) { b.deliver(b.r.detach(b.now, alice)) }, 0, false, true},
		"expired": {func(b *book, _, _ uint64, _ []byte) {
			b.now = b.now.Add(10*time.Second + 1)
			b.deliver(b.r.expire(b.now))
		}, conecv1.Code_CODE_TIMEOUT, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook(t, Limits{})
			alice, bob := b.client("alice"), b.client("bob")
			b.open(alice, 1, "bob")
			channel := b.asked(alice, bob)
			b.now = b.now.Add(10 * time.Second)
			b.deliver(b.r.expire(b.now)) // not yet
			b.silent()
			end.end(b, alice, bob, channel)
			if end.refusal != 0 {
				b.wantRefused(alice, 1, end.refusal, end.byPeer)
			}
			if withdrawn := b.hear(bob).GetOfferWithdrawn(); end.there && string(withdrawn.GetChannel()) != string(channel) {
				t.Errorf("the acceptor was told %v", withdrawn)
			}
			b.answer(b.stillThere(bob), channel, 0) // too late
			b.empty()
		})
	}
}

// stillThere returns a client, or another if it has left: those say nothing more.
func (b *book) stillThere(id uint64) uint64 {
	if b.r.clients[id] == nil {
		return b.client("carol")
	}
	return id
}

// B11: a name that is free again is another's; nothing of its former holder
// remains.
func TestRegistryNames(t *testing.T) {
	b := newBook(t, Limits{})
	former, bob := b.client("alice"), b.client("bob")
	if _, err := b.attach("alice", "another key"); !errors.Is(err, messages.ErrNameTaken) {
		t.Errorf("another key: %v, want taken", err)
	}
	b.open(former, 7, "bob")
	channel := b.asked(former, bob)
	latter := b.client("alice") // the same key
	b.hear(bob)                 // withdrawn
	b.open(latter, 7, "nobody")
	b.wantRefused(latter, 7, conecv1.Code_CODE_NO_SUCH_PEER, false)
	b.answer(bob, channel, 0)
	b.empty()
	b.deliver(b.r.detach(b.now, former)) // its connection ends only now
	if b.r.names["alice"] == nil || b.r.names["alice"].id != latter {
		t.Error("the end of the former attachment took the name from the new one")
	}
	b.deliver(b.r.detach(b.now, latter))
	if _, err := b.attach("alice", "another key"); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
}

// A channel that outlives an attachment has a route again once both ends are back;
// who merely knows its name has not.
func TestRegistryRestores(t *testing.T) {
	b := newBook(t, Limits{})
	alice, bob := b.client("alice"), b.client("bob")
	channel := b.channel(alice, bob, "bob")

	b.deliver(b.r.detach(b.now, alice)) // bob stays
	if withdrawn := b.hear(bob).GetOfferWithdrawn(); withdrawn.GetCode() != conecv1.Code_CODE_NO_SUCH_PEER {
		t.Errorf("bob was told %v, want that alice left", withdrawn)
	}
	if len(b.routes.held) != 0 {
		t.Error("the route remains")
	}
	alice, mallory := b.client("alice"), b.client("mallory")
	b.restore(mallory, channel, "bob")
	b.restore(alice, channel, "mallory")
	b.silent()
	b.restore(alice, channel, "bob")
	a, z := b.hear(alice).GetChannelRestored(), b.hear(bob).GetChannelRestored()
	if string(a.GetChannel()) != string(channel) || b.routes.held[a.GetRoute()] != z.GetRoute() {
		t.Errorf("restored %v and %v", a, z)
	}
	b.restore(alice, channel, "bob") // once is enough
	b.silent()

	b.deliver(b.r.detach(b.now, alice)) // both leave
	b.hear(bob)
	b.deliver(b.r.detach(b.now, bob))
	if len(b.r.restores) != 0 {
		t.Error("a wish outlives who wished it")
	}
	alice, bob = b.client("alice"), b.client("bob")
	b.restore(bob, channel, "alice")
	b.silent()
	b.now = b.now.Add(2*time.Minute + 1)
	b.deliver(b.r.expire(b.now))
	b.restore(alice, channel, "bob") // too late for bob's wish: alice waits now
	b.silent()
	b.release(alice, channel)
	b.restore(bob, channel, "alice") // alice no longer has the channel
	b.silent()
	b.release(bob, channel)
	b.empty()
}

// S8, B12, B13: what clients make the coordinator hold is limited, and freed.
func TestRegistryLimits(t *testing.T) {
	const limit = 4
	b := newBook(t, Limits{PendingPerClient: limit, ChannelsPerClient: limit, Clients: 3})
	alice, bob, mallory := b.client("alice"), b.client("bob"), b.client("mallory")
	if _, err := b.attach("carol", ""); !errors.Is(err, messages.ErrLimit) {
		t.Errorf("a client too many: %v", err)
	}
	for i := range uint64(1000) {
		b.open(mallory, i+1, "bob")
		b.restore(mallory, fmt.Appendf(nil, "%016d", i), "bob")
	}
	if n := len(b.heard[bob]); n != limit {
		t.Errorf("%d offers, want %d", n, limit)
	}
	if n := len(b.heard[mallory]); n != 1000 {
		t.Errorf("%d answers, want %d", n, 1000)
	}
	if n := len(b.r.restores); n > limit {
		t.Errorf("%d wishes of one client, want at most %d", n, limit)
	}
	b.heard[mallory] = b.heard[mallory][limit:]
	b.wantRefused(mallory, limit+1, conecv1.Code_CODE_LIMIT, false)
	for _, offer := range b.heard[bob] {
		b.answer(bob, offer.GetChannelOffered().GetIntroduction().GetChannel(), 0)
	}
	b.heard = map[uint64][]*conecv1.Control{}
	b.open(mallory, 2000, "alice")
	b.wantRefused(mallory, 2000, conecv1.Code_CODE_LIMIT, false)
	b.open(alice, 1, "alice")
	b.asked(alice, alice)
	b.silent()
	b.deliver(b.r.detach(b.now, mallory))
	b.deliver(b.r.detach(b.now, alice))
	b.deliver(b.r.detach(b.now, bob))
	b.heard = map[uint64][]*conecv1.Control{}
	b.empty()
}

// TestClientsPerRule attaches more clients than a rule lets there be.
func TestClientsPerRule(t *testing.T) {
	b := rulebook(t, allowAll+"limits: [{name: 'guest-*', clients: 2}, {name: vip, clients: 2}]\n")
	full := func(name string) {
		t.Helper()
		if _, err := b.attach(name, ""); !errors.Is(err, messages.ErrLimit) || err.Error() != "limit reached: 2 clients of guest-*" {
			t.Errorf("%s attaches: %v", name, err)
		}
	}
	first := b.client("guest-1")
	b.client("guest-2")
	full("guest-3")
	b.client("vip")
	b.client("other")
	b.client("guest-1") // anew
	full("guest-3")
	b.deliver(b.r.detach(b.now, b.r.names["guest-1"].id))
	third := b.client("guest-3")
	b.set(allowAll + "limits: [{name: 'guest-*', clients: 1}]\n") // the two stay
	if b.r.clients[third] == nil || len(b.r.clients) != 4 || b.r.clients[first] != nil {
		t.Errorf("%d clients", len(b.r.clients))
	}
	third = b.client("guest-3") // takes its own place
	if b.r.clients[third] == nil || len(b.r.clients) != 4 {
		t.Errorf("%d clients", len(b.r.clients))
	}
	b.deliver(b.r.detach(b.now, third))
	if _, err := b.attach("guest-4", ""); !errors.Is(err, messages.ErrLimit) {
		t.Error(err)
	}
}

// TestSupersededWithOldKey has a process come back whose successor has renewed the key of their name.
func TestSupersededWithOldKey(t *testing.T) {
	b := rulebook(t, allowAll)
	attach := func(instance uint64, key string) error {
		b.last++
		_, says, err := b.r.attach(b.now, &attachment{
			id: b.last, subject: policy.Subject{Name: "alice"}, name: "alice", key: []byte(key), instance: instance, shows: &credentials{},
		})
		b.deliver(says)
		return err
	}
	if err := errors.Join(attach(1, "first"), attach(2, "first")); err != nil {
		t.Fatal(err)
	}
	b.r.names["alice"].key = []byte("second")
	if err := attach(1, "first"); !errors.Is(err, messages.ErrSuperseded) {
		t.Errorf("a superseded process hears %v", err)
	}
	if err := attach(3, "first"); !errors.Is(err, messages.ErrNameTaken) {
		t.Errorf("another process hears %v", err)
	}
	if err := errors.Join(attach(4, "second"), attach(4, "second")); err != nil {
		t.Error(err)
	}
	if err := attach(2, "second"); !errors.Is(err, messages.ErrSuperseded) {
		t.Errorf("a superseded process hears %v", err)
	}
}
