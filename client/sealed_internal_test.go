package client

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestSealedWho shows who reads what: those who are members do; the coordinator, who joins later and who has left do not, even
// if the coordinator gives them everything.
func TestSealedWho(t *testing.T) {
	h := newFalseHall(t)
	alice, bob := h.join("alice", JoinOptions{Own: true}), h.join("bob", JoinOptions{})
	var all [][]byte // as entries
	sealed := func(texts ...string) {
		alice.say(texts...)
		for _, payload := range alice.taken() {
			all = append(all, from(alice, payload))
			h.give(from(alice, payload), h.members...)
		}
	}
	sealed("top secret 1", "top secret 2")
	bob.want("alice: top secret 1", "alice: top secret 2")
	alice.want("alice: top secret 1", "alice: top secret 2")

	carol := h.join("carol", JoinOptions{})
	for _, entry := range all {
		h.give(entry, carol)
	}
	carol.want("2 missed, 2 unreadable, 0 forged")
	sealed("top secret 3")
	carol.want("alice: top secret 3")

	h.leave(carol, bob) // alice has not heard of it yet
	sealed("top secret 4")
	h.give(all[len(all)-1], carol)
	carol.want("alice: top secret 4")
	h.leave(carol, alice)
	all = nil
	sealed("top secret 5", "top secret 6")
	for _, entry := range all {
		h.give(entry, carol)
	}
	carol.want("2 missed, 2 unreadable, 0 forged")
	bob.want("alice: top secret 3", "alice: top secret 4", "alice: top secret 5", "alice: top secret 6")

	for _, said := range h.seen {
		if bytes.Contains(said, []byte("secret")) || bytes.Contains(said, alice.sealed.sealer.chain[:]) ||
			bytes.Contains(said, alice.sealed.sealer.signer.Seed()) {
			t.Errorf("the coordinator reads %q", said)
		}
	}
	if len(h.seen) < 10 {
		t.Errorf("the coordinator has seen %d things only", len(h.seen))
	}
}

// TestSealedAttacks has a malicious coordinator, with or without a member's help, change what bob gets of what alice sends. After
// alice's first message, which is right, it does its work; then comes another one, which is right.
func TestSealedAttacks(t *testing.T) {
	flip := func(payload []byte, change func(*conecv1.SealedMessage)) []byte {
		entry := &conecv1.SealedEntry{}
		if err := proto.Unmarshal(payload, entry); err != nil {
			t.Fatal(err)
		}
		change(entry.GetMessage())
		return marshal(t, entry)
	}
	for _, test := range []struct {
		name   string
		attack func(h *falseHall, alice, bob, mallory *guest, sealed [][]byte) [][]byte // entries for bob
		want   []string                                                                 // between the right messages
	}{
		{"none", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"alice: one", "alice: two"}},
		{"ciphertext changed", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, flip(sealed[0], func(m *conecv1.SealedMessage) { m.Data[3] ^= 1 })), from(alice, sealed[1])}
		}, []string{"1 missed, 0 unreadable, 1 forged", "alice: two"}},
		{"signature changed", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, flip(sealed[0], func(m *conecv1.SealedMessage) { m.Signature[3] ^= 1 })), from(alice, sealed[1])}
		}, []string{"1 missed, 0 unreadable, 1 forged", "alice: two"}},
		{"number changed", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, flip(sealed[0], func(m *conecv1.SealedMessage) { m.Number += 1000 })), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"0 missed, 0 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"replayed", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, sealed[0]), from(alice, sealed[0]), from(alice, sealed[1]), from(alice, sealed[0])}
		}, []string{"alice: one", "0 missed, 0 unreadable, 1 forged", "alice: two", "0 missed, 0 unreadable, 1 forged"}},
		{"reordered", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, sealed[1]), from(alice, sealed[0])}
		}, []string{"1 missed, 0 unreadable, 0 forged", "alice: two", "0 missed, 0 unreadable, 1 forged"}},
		{"withheld", func(_ *falseHall, _, _, _ *guest, _ [][]byte) [][]byte { return nil }, []string{"2 missed, 0 unreadable, 0 forged"}},
		{"as another's", func(_ *falseHall, alice, _, mallory *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(mallory, sealed[0]), from(alice, sealed[1])}
		}, []string{"1 missed, 0 unreadable, 1 forged", "alice: two"}},
		{"a member's as alice's", func(_ *falseHall, alice, _, mallory *guest, sealed [][]byte) [][]byte {
			mallory.say("I am alice")
			return [][]byte{from(alice, mallory.taken()[0]), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"0 missed, 0 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"a member's keys and message as alice's", func(h *falseHall, alice, _, mallory *guest, sealed [][]byte) [][]byte {
			h.leave(h.guestNamed("eve"), mallory) // so mallory makes a new key
			mallory.say("I am alice")
			said := mallory.taken()
			return [][]byte{from(alice, said[0]), from(alice, said[1]), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"1 missed, 1 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"a key made up for alice, and a message under it", func(_ *falseHall, alice, bob, mallory *guest, sealed [][]byte) [][]byte {
			forger := newSealer(alice.sealed.sealer.place, alice.as.GetNumber(), mallory.sealed.identity)
			forger.key, forger.next = alice.sealed.sealer.key, 1
			forger.add(bob.as.GetNumber(), bob.sealed.private.PublicKey())
			keys, err := forger.due()
			if err != nil {
				t.Fatal(err)
			}
			message, err := forger.seal([]byte("I am alice"))
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{from(alice, keys[0]), from(alice, message), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"1 missed, 1 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"sealed by a member with alice's own chain", func(_ *falseHall, alice, bob, mallory *guest, sealed [][]byte) [][]byte {
			forger := *mallory.sealed.sealer // mallory can read alice, and so knows her chain
			theirs := mallory.sealed.opener.senders[alice.as.GetNumber()]
			forger.self, forger.key, forger.chain, forger.next = alice.as.GetNumber(), theirs.key, theirs.chain, theirs.next
			message, err := forger.seal([]byte("I am alice"))
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{from(alice, message), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"0 missed, 0 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"garbage", func(_ *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			return [][]byte{from(alice, nil), from(alice, []byte("garbage")), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"0 missed, 0 unreadable, 2 forged", "alice: one", "alice: two"}},
		{"of an earlier group of the same members", func(h *falseHall, alice, _, _ *guest, sealed [][]byte) [][]byte {
			other := *alice.sealed.sealer
			other.incarnation = bytes.Repeat([]byte{8}, 16)
			other.next--
			message, err := other.seal([]byte("long ago"))
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{from(alice, message), from(alice, sealed[0]), from(alice, sealed[1])}
		}, []string{"0 missed, 0 unreadable, 1 forged", "alice: one", "alice: two"}},
		{"a key replayed, and what came after it", func(h *falseHall, alice, bob, _ *guest, sealed [][]byte) [][]byte {
			entries := [][]byte{from(alice, sealed[0]), from(alice, sealed[1])}
			for _, payload := range h.said {
				entries = append(entries, from(alice, payload))
			}
			return entries
		}, []string{"alice: one", "alice: two", "0 missed, 0 unreadable, 2 forged"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newFalseHall(t)
			alice, bob, mallory := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{}), h.join("mallory", JoinOptions{})
			h.join("eve", JoinOptions{})
			h.flush()
			alice.say("hello")
			h.said = alice.taken() // a key, and the message
			for _, payload := range h.said {
				h.give(from(alice, payload), h.members...)
			}
			mallory.say("hi")
			h.flush()
			bob.want("alice: hello", "mallory: hi")
			sealed := alice.sealedTexts("one", "two")
			for _, entry := range test.attack(h, alice, bob, mallory, sealed) {
				h.give(entry, bob)
			}
			last := alice.sealedTexts("bye")
			h.give(from(alice, last[0]), bob)
			bob.want(append(test.want, "alice: bye")...)
		})
	}
}

func (h *falseHall) guestNamed(name string) *guest {
	return h.members[slices.IndexFunc(h.members, func(g *guest) bool { return g.name == name })]
}

// TestSealedGhosts has a malicious coordinator bring in members that are not what it says.
func TestSealedGhosts(t *testing.T) {
	h := newFalseHall(t)
	alice, bob := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{})
	eve := h.guest("eve", JoinOptions{})
	eve.name = "carol" // whose certificate eve has not
	h.let(eve)
	nobody := h.guest("dave", JoinOptions{})
	request, err := nobody.request("room")
	if err != nil {
		t.Fatal(err)
	}
	h.number++
	for name, change := range map[string]func(*conecv1.SealedMember){
		"another key":     func(m *conecv1.SealedMember) { m.Key[0] ^= 1 },
		"no certificate":  func(m *conecv1.SealedMember) { m.Certificates = nil },
		"no signature":    func(m *conecv1.SealedMember) { m.Signature = nil },
		"bad certificate": func(m *conecv1.SealedMember) { m.Certificates[0] = []byte("x") },
	} {
		seal := &conecv1.SealedMember{}
		if err := proto.Unmarshal(request.GetSeal(), seal); err != nil {
			t.Fatal(err)
		}
		member := &conecv1.GroupMember{Number: 9, Name: "dave", Receives: true, Seal: marshal(t, seal)}
		if peer := checkSeal("room", member, h.trusts); peer.err != nil {
			t.Fatal(peer.err)
		}
		if peer := checkSeal("hall", member, h.trusts); !errors.Is(peer.err, messages.ErrUntrusted) || peer.key != nil {
			t.Error("a key for another group is taken:", peer.err)
		}
		change(seal)
		member.Seal = marshal(t, seal)
		if peer := checkSeal("room", member, h.trusts); !errors.Is(peer.err, messages.ErrUntrusted) || peer.key != nil {
			t.Errorf("%s: %v", name, peer.err)
		}
	}
	eve.say("I am carol")
	alice.say("hello")
	h.flush()
	bob.want("alice: hello", "1 missed, 1 unreadable, 0 forged")
	alice.want("1 missed, 1 unreadable, 0 forged")
	eve.want("1 missed, 1 unreadable, 0 forged") // alice has not given it her key
}

// TestSealedLies has a coordinator say what can not be: the member does not go on.
func TestSealedLies(t *testing.T) {
	h := newFalseHall(t)
	alice, bob := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{})
	left := marshal(t, &conecv1.GroupEntry{Left: &conecv1.GroupLeft{Number: bob.as.GetNumber()}})
	other, _ := proto.Clone(bob.as).(*conecv1.GroupMember)
	other.Name = "alice"
	for name, entries := range map[string][][]byte{
		"a member gets another name": {marshal(t, &conecv1.GroupEntry{Joined: other})},
		"a number is given twice":    {left, marshal(t, &conecv1.GroupEntry{Joined: bob.as})},
		"a number is given twice, in a gap": {left, marshal(t, &conecv1.GroupEntry{Gap: &conecv1.GroupGap{
			To: 10, Members: []*conecv1.GroupMember{alice.as, bob.as},
		}})},
		"who is not there speaks": {from(&guest{as: &conecv1.GroupMember{Number: 9}}, nil)},
	} {
		h := newFalseHall(t)
		h.join("alice", JoinOptions{})
		carol := h.guest("carol", JoinOptions{})
		h.members, h.number = []*guest{alice, bob}, 2
		h.members = append(h.members, carol)
		carol.as = &conecv1.GroupMember{Number: 3, Name: "carol"}
		if _, err := carol.request("room"); err != nil {
			t.Fatal(err)
		}
		joined := h.joined(carol)
		joined.Members = joined.Members[:2]
		if err := carol.accept(joined); err != nil {
			t.Fatal(err)
		}
		carol.attach(nil, joined)
		var err error
		for _, entry := range entries {
			if err != nil {
				t.Errorf("%s: %v before the last", name, err)
			}
			err = carol.heard(entry)
		}
		if !errors.Is(err, messages.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		change func(*conecv1.GroupJoined)
		want   error
	}{
		"the group is not sealed":      {func(j *conecv1.GroupJoined) { j.Options.Sealed = false }, messages.ErrRefused},
		"no options":                   {func(j *conecv1.GroupJoined) { j.Options = nil }, messages.ErrRefused},
		"messages are too small":       {func(j *conecv1.GroupJoined) { j.MaxMessage = 1000 }, messages.ErrLimit},
		"another number goes on":       {func(j *conecv1.GroupJoined) { j.Resumed, j.Number = true, 5 }, messages.ErrProtocol},
		"another incarnation goes on":  {func(j *conecv1.GroupJoined) { j.Resumed, j.Incarnation = true, []byte("other") }, messages.ErrProtocol},
		"a member has become another":  {func(j *conecv1.GroupJoined) { j.Members[1].Name = "carol" }, messages.ErrProtocol},
		"as it should be":              {func(*conecv1.GroupJoined) {}, nil},
		"another incarnation is empty": {func(j *conecv1.GroupJoined) { j.Incarnation, j.Members = []byte("other"), nil }, nil},
	} {
		h := newFalseHall(t)
		h.join("alice", JoinOptions{})
		bob := h.join("bob", JoinOptions{})
		joined, _ := proto.Clone(h.joined(bob)).(*conecv1.GroupJoined)
		test.change(joined)
		if err := bob.accept(joined); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if err := newMembership(JoinOptions{}).accept(h.joined(bob)); !errors.Is(err, messages.ErrRefused) {
		t.Error("one that wants no sealed group joins one:", err)
	}
}

// TestSealedAgain goes on with a membership on another stream: what was sealed and is not there comes as the same bytes, with
// what is new under a new key if somebody has left; a new membership seals anew what was not given.
func TestSealedAgain(t *testing.T) {
	h := newFalseHall(t)
	alice, bob, carol := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{}), h.join("carol", JoinOptions{})
	h.flush()
	alice.say("one", "two")
	before := alice.taken() // a key, and two messages
	h.give(from(alice, before[0]), bob, carol)
	h.give(from(alice, before[1]), bob, carol)
	alice.say("three")
	h.leave(carol, alice, bob)
	joined := h.joined(alice)
	joined.Resumed, joined.Accepted = true, alice.first+uint64(alice.given)-1 // all but two
	if err := alice.accept(joined); err != nil {
		t.Fatal(err)
	}
	alice.attach(nil, joined)
	after := alice.taken()
	if len(after) != 3 || !bytes.Equal(after[0], before[2]) || !messages.IsSealedControl(after[1]) {
		t.Fatalf("%d things are sent again", len(after))
	}
	for _, payload := range after {
		h.give(from(alice, payload), bob, carol)
	}
	bob.want("alice: one", "alice: two", "alice: three")
	carol.want("alice: one", "alice: two", "1 missed, 1 unreadable, 0 forged")
	if err := alice.doubt().(*messages.DoubtError); err.Confirmed != 1 || err.InDoubt != 2 { //nolint:errorlint // it is that
		t.Errorf("in doubt: %+v", err)
	}

	alice.say("four")
	h.members = slices.DeleteFunc(h.members, func(g *guest) bool { return g == alice })
	alice.name = "alice"
	h.leave(alice, bob)
	h.let(alice) // anew: one, two and three are in doubt
	h.flush()
	bob.want("alice: four")
	alice.want("client.GroupRejoined", "client.GroupRejoined")
}

// TestSealedWants has a member miss keys: it asks for them, gets them, and not too often.
func TestSealedWants(t *testing.T) {
	h := newFalseHall(t)
	alice, bob := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{})
	h.flush()
	h.give(marshal(t, &conecv1.GroupEntry{Gap: &conecv1.GroupGap{To: 50, Messages: 3, Members: []*conecv1.GroupMember{alice.as, bob.as}}}), bob)
	for _, payload := range alice.sealedTexts("one", "two") { // bob has not got the key
		h.give(from(alice, payload), bob)
	}
	if said := bob.taken(); len(said) != 0 {
		t.Errorf("asks within a second of joining: %q", said)
	}
	h.now = h.now.Add(2 * time.Second)
	h.give(from(alice, alice.sealedTexts("three")[0]), bob)
	h.give(from(alice, alice.sealedTexts("four")[0]), bob)
	said := bob.taken()
	if len(said) != 1 {
		t.Fatalf("asks %d times", len(said))
	}
	h.give(from(bob, said[0]), alice, bob)
	alice.say("five", "six")
	h.flush()
	bob.want("7 missed, 4 unreadable, 0 forged", "alice: five", "alice: six")
}

// TestSealedWantsAtOnce has a member miss the second key of somebody as soon as it has joined: it asks at once.
func TestSealedWantsAtOnce(t *testing.T) {
	h := newFalseHall(t)
	alice, bob, carol := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{}), h.join("carol", JoinOptions{})
	h.flush()
	alice.say("one")
	for _, payload := range alice.taken() {
		h.give(from(alice, payload), bob)
	}
	h.leave(carol, alice, bob)
	alice.say("two")
	entries := alice.taken()
	h.give(from(alice, entries[len(entries)-1]), bob)
	if said := bob.taken(); len(said) != 1 {
		t.Fatalf("asks %d times", len(said))
	}
}

// FuzzSealed gives a member what anybody may say: it must not fail, nor take it for a message.
func FuzzSealed(f *testing.F) {
	h := newFalseHall(&testing.T{})
	alice, bob := h.join("alice", JoinOptions{}), h.join("bob", JoinOptions{})
	h.flush()
	alice.say("hello")
	said := alice.taken()
	for _, payload := range append(said, bob.sealedTexts("hi")...) {
		f.Add(payload)
	}
	f.Add(alice.as.GetSeal())
	f.Fuzz(func(t *testing.T, payload []byte) {
		known := slices.ContainsFunc(said, func(sent []byte) bool { return bytes.Equal(sent, payload) })
		if err := bob.heard(from(alice, payload)); err != nil {
			t.Fatal(err)
		}
		bob.mu.Lock()
		defer bob.mu.Unlock()
		for event := bob.event(); event != nil; event = bob.event() {
			if message, ok := event.(GroupMessage); ok && !known && string(message.Data) != "hello" {
				t.Errorf("read %q", message.Data)
			}
		}
		if peer := checkSeal("room", &conecv1.GroupMember{Name: "alice", Seal: payload, Receives: true}, h.trusts); peer.err == nil && !bytes.Equal(payload, alice.as.GetSeal()) {
			again := &conecv1.SealedMember{}
			if err := proto.Unmarshal(payload, again); err != nil || len(again.GetKey()) != 32 {
				t.Error("a seal that is none is taken")
			}
		}
	})
}
