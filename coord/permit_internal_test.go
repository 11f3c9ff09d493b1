package coord

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// rulebook makes a book whose registry has rules; everybody may attach.
func rulebook(t *testing.T, rules string) *book {
	t.Helper()
	b := newBook(t, Limits{})
	b.set(rules)
	b.silent()
	return b
}

// set puts rules in force, as the coordinator does when all may stay.
func (b *book) set(rules string) {
	b.t.Helper()
	r, err := policy.Parse("p", []byte("attach: [{name: '*', open: true}]\n"+rules), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.r.policy = r
	b.deliver(b.r.enforce())
}

// refusal hears that a request is refused, and why.
func (b *book) refusal(id uint64) error {
	b.t.Helper()
	said := b.hear(id)
	refused := said.GetOpenRefused()
	if refused == nil {
		b.t.Fatalf("client %d was told %v", id, said)
	}
	return messages.FromCode(refused.GetCode(), refused.GetReason())
}

// forbidden hears that a channel is not allowed any more.
func (b *book) forbidden(id uint64, channel []byte, directOnly bool) {
	b.t.Helper()
	said := b.hear(id).GetOfferWithdrawn()
	if said.GetCode() != conecv1.Code_CODE_FORBIDDEN || string(said.GetChannel()) != string(channel) || said.GetReason() == "" || said.GetDirectOnly() != directOnly {
		b.t.Errorf("client %d was told %v", id, said)
	}
}

const allowAll = "peers: [{from: '*', to: '*', may: [see, open, relay]}]\n"

func TestHiddenPeerIsLikeNone(t *testing.T) {
	b := rulebook(t, "peers: [{from: alice, to: bob, may: [see]}]\n")
	alice, _ := b.client("alice"), b.client("bob")
	mallory := b.client("mallory")
	b.open(alice, 1, "bob")
	if err := b.refusal(alice); !errors.Is(err, messages.ErrForbidden) {
		t.Errorf("alice: %v", err)
	}
	told := map[string]string{}
	for i, name := range []string{"bob", "nobody"} {
		b.open(mallory, uint64(i+1), name)
		b.deliver(b.r.introducePeers(b.now, mallory, &conecv1.IntroducePeers{Request: 7, One: name, Other: "mallory"}))
		first, second := b.hear(mallory), b.hear(mallory)
		first.GetOpenRefused().Request = 0
		second.GetPeersIntroduced().Peer = "x"
		told[name] = first.String() + second.String()
	}
	if told["bob"] != told["nobody"] {
		t.Errorf("of one who is hidden:\n%s\nof one who is not there:\n%s", told["bob"], told["nobody"])
	}
	b.empty()
	b.open(mallory, 9, "mallory") // everybody reaches itself
	if b.hear(mallory).GetChannelOffered() == nil {
		t.Error("mallory can not open a channel to itself")
	}
}

func TestDirectOnlyRoute(t *testing.T) {
	b := rulebook(t, "peers: [{from: '*', to: '*', may: [see, open]}]\n")
	alice, bob := b.client("alice"), b.client("bob")
	b.deliver(b.r.open(b.now, alice, &conecv1.OpenChannel{Request: 1, Peer: "bob", Mode: conecv1.Mode_MODE_RELAY}))
	if err := b.refusal(alice); !errors.Is(err, messages.ErrForbidden) {
		t.Errorf("over the relay only: %v", err)
	}
	b.open(alice, 2, "bob")
	offer := b.hear(bob).GetChannelOffered().GetIntroduction()
	b.answer(bob, offer.GetChannel(), 0)
	intro := b.hear(alice).GetChannelIntroduced().GetIntroduction()
	if !offer.GetDirectOnly() || !intro.GetDirectOnly() || b.routes.capped != 1 {
		t.Errorf("offered %v, introduced %v, %d capped routes", offer, intro, b.routes.capped)
	}
	b.pass(9*time.Second + handshakeTime)
	if len(b.routes.held) != 2 {
		t.Error("the route has gone too early")
	}
	b.pass(2 * time.Second)
	if len(b.routes.held) != 0 || len(b.r.channels) != 1 {
		t.Errorf("%d ends of routes, %d channels", len(b.routes.held), len(b.r.channels))
	}
	b.silent()
	b.release(alice, intro.GetChannel())
	b.hear(bob)
	b.empty()
}

// pass lets time pass.
func (b *book) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.deliver(b.r.expire(b.now))
}

// TestEnforce changes the policy under what is there.
func TestEnforce(t *testing.T) {
	const forth = "peers: [{from: alice, to: bob, may: [see, open, relay]}]\n"
	for name, test := range map[string]struct {
		rules string
		check func(b *book, alice, bob uint64, channel []byte)
	}{
		"the same":                 {allowAll, func(*book, uint64, uint64, []byte) {}},
		"only the other way round": {"peers: [{from: bob, to: alice, may: [see, open, relay]}]\n", func(*book, uint64, uint64, []byte) {}},
		"not any more": {"", func(b *book, alice, bob uint64, channel []byte) {
			b.forbidden(alice, channel, false)
			b.forbidden(bob, channel, false)
			b.empty()
		}},
		"seen, not opened": {"peers: [{from: '*', to: '*', may: [see]}]\n", func(b *book, alice, bob uint64, channel []byte) {
			b.forbidden(alice, channel, false)
			b.forbidden(bob, channel, false)
			b.empty()
		}},
		"without the relay": {"peers: [{from: '*', to: '*', may: [see, open]}]\n", func(b *book, alice, bob uint64, channel []byte) {
			b.forbidden(alice, channel, true)
			b.forbidden(bob, channel, true)
			if len(b.routes.held) != 0 || len(b.r.channels) != 1 {
				t.Errorf("%d ends of routes, %d channels", len(b.routes.held), len(b.r.channels))
			}
			b.set(allowAll) // it has no route now, and does not get it back
			b.set("")
			b.forbidden(alice, channel, false)
			b.forbidden(bob, channel, false)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := rulebook(t, forth)
			alice, bob := b.client("alice"), b.client("bob")
			channel := b.channel(alice, bob, "bob")
			b.set(test.rules)
			test.check(b, alice, bob, channel)
			b.silent()
		})
	}
}

// TestEnforcePending changes the policy while an answer is waited for.
func TestEnforcePending(t *testing.T) {
	for name, test := range map[string]struct {
		rules string
		want  error
	}{
		"the same":          {allowAll, nil},
		"hidden":            {"", messages.ErrNoSuchPeer},
		"not to be opened":  {"peers: [{from: '*', to: '*', may: [see]}]\n", messages.ErrForbidden},
		"without the relay": {"peers: [{from: '*', to: '*', may: [see, open]}]\n", messages.ErrRefused},
		"only the other":    {"peers: [{from: bob, to: alice, may: [see, open, relay]}]\n", messages.ErrNoSuchPeer},
	} {
		t.Run(name, func(t *testing.T) {
			b := rulebook(t, allowAll)
			alice, bob := b.client("alice"), b.client("bob")
			b.open(alice, 1, "bob")
			channel := b.asked(alice, bob)
			b.set(test.rules)
			if test.want == nil {
				b.answer(bob, channel, 0)
				if b.r.channels[string(channel)] == nil {
					t.Error("there is no channel")
				}
				return
			}
			if err := b.refusal(alice); !errors.Is(err, test.want) {
				t.Errorf("alice: %v, want %v", err, test.want)
			}
			if b.hear(bob).GetOfferWithdrawn() == nil {
				t.Error("bob's offer was not withdrawn")
			}
			b.answer(bob, channel, 0) // too late
			b.empty()
		})
	}
}

// TestRestoreAsksThePolicy has two clients want a channel again: one that was allowed, one
// that they made up, and one that goes on without the relay.
func TestRestoreAsksThePolicy(t *testing.T) {
	b := rulebook(t, allowAll)
	alice, bob := b.client("alice"), b.client("bob")
	channel := b.channel(alice, bob, "bob")
	b.deliver(b.r.detach(b.now, alice))
	b.hear(bob)
	b.set("")
	alice = b.client("alice")
	b.restore(alice, channel, "bob")
	b.forbidden(alice, channel, false)
	b.forbidden(bob, channel, false)
	b.empty()
	made := []byte("made up by both.")
	b.restore(alice, made, "bob")
	b.restore(bob, made, "alice")
	b.forbidden(alice, made, false)
	b.forbidden(bob, made, false)
	b.empty()
	b.set("peers: [{from: '*', to: '*', may: [see, open]}]\n")
	b.restore(alice, made, "bob")
	b.restore(bob, made, "alice")
	b.forbidden(alice, made, true)
	b.forbidden(bob, made, true)
	if len(b.routes.held) != 0 || len(b.r.channels) != 1 {
		t.Errorf("%d ends of routes, %d channels", len(b.routes.held), len(b.r.channels))
	}
}

const handOver = "introduce: [{by: hub, between: [alice, bob]}]\npeers: [{from: hub, to: '*', may: [see]}]\n"

// handed has the hub introduce alice and bob.
func (b *book) handed(hub, alice, bob uint64) []byte {
	b.t.Helper()
	b.deliver(b.r.introducePeers(b.now, hub, &conecv1.IntroducePeers{Request: 1, One: "alice", Other: "bob", Purpose: "chat"}))
	channel := b.hear(bob).GetChannelOffered().GetIntroduction().GetChannel()
	b.answer(bob, channel, 0)
	offer := b.hear(alice).GetChannelOffered().GetIntroduction()
	if !offer.GetDials() || offer.GetPeer() != "bob" || offer.GetPurpose() != "chat" || !offer.GetDirectOnly() {
		b.t.Errorf("alice was offered %v", offer)
	}
	b.answer(alice, channel, 0)
	if said := b.hear(hub).GetPeersIntroduced(); said.GetRequest() != 1 || said.GetCode() != 0 {
		b.t.Errorf("the hub was told %v", said)
	}
	return channel
}

func TestHandOver(t *testing.T) {
	b := rulebook(t, handOver)
	hub, alice, bob := b.client("hub"), b.client("alice"), b.client("bob")
	channel := b.handed(hub, alice, bob)
	b.set(handOver)
	b.deliver(b.r.detach(b.now, hub))
	b.set(handOver) // the hub need not be there
	b.silent()
	b.deliver(b.r.detach(b.now, alice))
	b.hear(bob)
	alice = b.client("alice")
	b.restore(alice, channel, "bob")
	b.forbidden(alice, channel, true) // the channel goes on, without the relay as before
	b.forbidden(bob, channel, true)
	b.set("")
	b.forbidden(alice, channel, false)
	b.forbidden(bob, channel, false)
	b.empty()
}

// TestHandOverFails tries all who may not, and all that may go wrong.
func TestHandOverFails(t *testing.T) {
	b := rulebook(t, handOver+"limits: [{name: hub, pending: 2}]\n")
	hub, alice, bob, mallory := b.client("hub"), b.client("alice"), b.client("bob"), b.client("mallory")
	introduce := func(id, request uint64, one, other string) {
		b.deliver(b.r.introducePeers(b.now, id, &conecv1.IntroducePeers{Request: request, One: one, Other: other}))
	}
	told := func(id uint64, want error, peer string, byPeer bool) {
		t.Helper()
		said := b.hear(id).GetPeersIntroduced()
		if err := messages.FromCode(said.GetCode(), said.GetReason()); !errors.Is(err, want) || said.GetPeer() != peer || said.GetByPeer() != byPeer {
			t.Errorf("told %v, want %v", said, want)
		}
	}
	introduce(mallory, 1, "alice", "bob")
	told(mallory, messages.ErrNoSuchPeer, "alice", false)
	introduce(hub, 1, "alice", "mallory")
	told(hub, messages.ErrForbidden, "", false)
	introduce(hub, 1, "alice", "nobody")
	told(hub, messages.ErrNoSuchPeer, "nobody", false)
	introduce(hub, 0, "alice", "bob")
	told(hub, messages.ErrProtocol, "", false)
	b.empty()

	introduce(hub, 1, "alice", "bob")
	introduce(hub, 2, "bob", "alice")
	introduce(hub, 2, "alice", "bob")
	told(hub, messages.ErrProtocol, "", false)
	introduce(hub, 3, "alice", "bob")
	told(hub, messages.ErrLimit, "", false)
	first := b.hear(bob).GetChannelOffered().GetIntroduction().GetChannel()
	second := b.hear(alice).GetChannelOffered().GetIntroduction().GetChannel()
	b.answer(bob, first, conecv1.Code_CODE_REFUSED)
	told(hub, messages.ErrRefused, "bob", true)
	b.hear(bob)
	b.answer(alice, second, 0)
	b.hear(bob)
	b.deliver(b.r.cancel(hub, &conecv1.CancelOpen{Request: 2}))
	told(hub, messages.ErrCanceled, "bob", false)
	b.hear(alice)
	b.hear(bob)
	b.empty()

	introduce(hub, 4, "alice", "bob")
	b.hear(bob)
	b.set("")
	told(hub, messages.ErrForbidden, "bob", false)
	b.hear(bob)
	b.set(handOver)
	introduce(hub, 5, "alice", "bob")
	b.hear(bob)
	b.deliver(b.r.detach(b.now, hub))
	b.hear(bob)
	b.empty()
}

// TestProgramIntroducesWhomItLikes holds that the policy is not asked about what the coordinator's own program does.
func TestProgramIntroducesWhomItLikes(t *testing.T) {
	b := rulebook(t, "")
	alice, bob := b.client("alice"), b.client("bob")
	ended := make(chan error, 1)
	says, err := b.r.introduce(b.now, introduce{a: "alice", b: "bob"}, func(err error) { ended <- err })
	if err != nil {
		t.Fatal(err)
	}
	b.deliver(says)
	channel := b.hear(bob).GetChannelOffered().GetIntroduction().GetChannel()
	b.set("limits: [{name: x, channels: 1}]\n")
	b.answer(bob, channel, 0)
	b.hear(alice)
	b.answer(alice, channel, 0)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.set("")
	b.silent()
	if len(b.r.channels) != 1 {
		t.Error("the channel has ended")
	}
}

// TestPolicyLimits holds that a policy lowers limits, and does not raise them.
func TestPolicyLimits(t *testing.T) {
	b := newBook(t, Limits{ChannelsPerClient: 3, PendingPerClient: 10})
	b.set(allowAll + "limits: [{name: 'small-*', channels: 1, pending: 1, opens: 1}, {name: 'big-*', channels: 100}]\n")
	small, big, bob := b.client("small-1"), b.client("big-1"), b.client("bob")
	b.channel(small, bob, "bob")
	b.open(small, 2, "bob")
	if err := b.refusal(small); !errors.Is(err, messages.ErrLimit) {
		t.Errorf("a second channel: %v", err)
	}
	b.silent()
	for range 2 {
		b.channel(big, bob, "bob")
	}
	b.open(big, 9, "bob")
	if err := b.refusal(big); !errors.Is(err, messages.ErrLimit) || err.Error() != `limit reached: "bob" has 3 channels` {
		t.Errorf("a fourth channel: %v", err)
	}
	b.set(allowAll) // ends nothing, and lets it have as many as others
	carol := b.client("carol")
	b.channel(small, carol, "carol")
	b.silent()
}

// TestOpenRate floods the coordinator with introductions that are taken back.
func TestOpenRate(t *testing.T) {
	b := rulebook(t, allowAll+"limits: [{name: mallory, opens: 10}]\n")
	mallory, bob := b.client("mallory"), b.client("bob")
	offers, refusals := 0, 0
	for i := range uint64(6000) { // 100 per second, for a minute
		b.open(mallory, i+1, "bob")
		b.deliver(b.r.cancel(mallory, &conecv1.CancelOpen{Request: i + 1}))
		for _, said := range b.heard[bob] {
			if said.GetChannelOffered() != nil {
				offers++
			}
		}
		for _, said := range b.heard[mallory] {
			if said.GetOpenRefused() != nil {
				refusals++
			}
		}
		b.heard = map[uint64][]*conecv1.Control{}
		b.now = b.now.Add(10 * time.Millisecond)
	}
	if offers < 600 || offers > 660 || offers+refusals != 6000 {
		t.Errorf("%d offers, %d refusals; want 10 offers per second, and 50 at once", offers, refusals)
	}
	b.empty()
}

// TestExpel ends all that a client had, and leaves nobody waiting for it.
func TestExpel(t *testing.T) {
	b := rulebook(t, allowAll)
	alice, bob, carol := b.client("alice"), b.client("bob"), b.client("carol")
	channel := b.channel(alice, bob, "bob")
	b.channel(bob, carol, "carol")
	b.open(alice, 9, "carol")
	b.asked(alice, carol)
	b.deliver(b.r.detach(b.now, alice))
	b.hear(carol)
	b.hear(bob)
	alice = b.client("alice") // back, and its restore is not there yet
	b.deliver(b.r.expel(b.now, alice))
	if len(b.r.restores) != 0 {
		t.Error("bob still waits for alice")
	}
	b.silent()
	alice = b.client("alice")
	b.restore(alice, channel, "bob")
	b.restore(bob, channel, "alice")
	b.hear(alice)
	b.hear(bob)
	b.deliver(b.r.expel(b.now, alice))
	b.forbidden(bob, channel, false)
	b.silent()
	if len(b.r.channels) != 1 || len(b.routes.held) != 2 || len(b.r.names) != 2 {
		t.Errorf("%d channels, %d ends of routes, %d names", len(b.r.channels), len(b.routes.held), len(b.r.names))
	}
}

func TestCoded(t *testing.T) {
	for _, test := range []struct{ err, want error }{
		{nil, nil},
		{errors.New("not before nine"), messages.ErrForbidden},
		{fmt.Errorf("%w: busy", messages.ErrRefused), messages.ErrRefused},
	} {
		if got := coded(test.err); !errors.Is(got, test.want) {
			t.Errorf("%v becomes %v", test.err, got)
		}
	}
	if got := coded(errors.New("not before nine")).Error(); got != "not allowed: not before nine" {
		t.Errorf("text is %q", got)
	}
}

func TestBanList(t *testing.T) {
	now := time.Unix(1e9, 0)
	var l banList
	impose := func(b policy.Ban, want error) {
		t.Helper()
		if err := l.impose(now, b, 2); !errors.Is(err, want) {
			t.Errorf("ban %+v: %v, want %v", b, err, want)
		}
	}
	who := func(name string) *policy.Subject { return &policy.Subject{Name: name, Now: now} }
	impose(policy.Ban{Name: "a", Until: now.Add(time.Minute)}, nil)
	impose(policy.Ban{Name: "b"}, nil)
	impose(policy.Ban{Name: "c"}, messages.ErrLimit)
	impose(policy.Ban{Name: "b", Reason: "noise"}, nil) // in place of the former
	if err := l.check(who("b")); !errors.Is(err, messages.ErrBanned) || err.Error() != "banned: noise" || len(l.bans) != 2 {
		t.Errorf("b: %v; %d bans", err, len(l.bans))
	}
	if err := l.check(who("a")); !errors.Is(err, messages.ErrBanned) {
		t.Errorf("a: %v", err)
	}
	now = now.Add(time.Minute)
	if err := l.check(who("a")); err != nil {
		t.Errorf("a, later: %v", err)
	}
	impose(policy.Ban{Name: "c"}, nil) // a's is over
	if !l.lift(now, policy.Ban{Name: "b"}) || l.lift(now, policy.Ban{Name: "b"}) || l.check(who("b")) != nil {
		t.Error("b's ban was not lifted once")
	}
}
