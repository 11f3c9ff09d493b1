package client

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// falseHall is a coordinator's part in a sealed group, for tests: it sees all that members say, and gives each what it
// likes.
type falseHall struct {
	t           *testing.T
	now         time.Time
	incarnation []byte
	number      uint64 // of the last member
	entries     uint64
	members     []*guest
	seen        [][]byte // all that was said to the coordinator
	said        [][]byte // what the last flush has taken
}

// guest is a member.
type guest struct {
	*membership
	hall *falseHall
	name string
	as   *conecv1.GroupMember
}

func newFalseHall(t *testing.T) *falseHall {
	t.Helper()
	return &falseHall{t: t, now: time.Now(), incarnation: bytes.Repeat([]byte{7}, 16)}
}

// trusts is [Client.trusts].
func (h *falseHall) trusts(name string, chain [][]byte) error {
	config := Config{Now: func() time.Time { return h.now }}
	return (&Client{config: config, trust: newTrust(&config, func([]byte) bool { return false })}).trusts(name, chain)
}

func (h *falseHall) guest(name string, options JoinOptions) *guest {
	h.t.Helper()
	identity, err := netio.NewIdentity(name, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	options.Sealed = true
	g := &guest{membership: newMembership(options), hall: h, name: name}
	g.sealed = newSealed("room", identity, h.trusts, func() time.Time { return h.now }, slog.New(slog.DiscardHandler))
	return g
}

// join has a client join; everybody hears of it.
func (h *falseHall) join(name string, options JoinOptions) *guest {
	h.t.Helper()
	g := h.guest(name, options)
	h.let(g)
	return g
}

func (h *falseHall) let(g *guest) {
	h.t.Helper()
	request, err := g.request("room")
	if err != nil {
		h.t.Fatal(err)
	}
	h.seen = append(h.seen, marshal(h.t, request))
	h.number++
	g.as = &conecv1.GroupMember{
		Number: h.number, Name: g.name, Sends: request.GetSends(), Receives: request.GetReceives(), Seal: request.GetSeal(),
	}
	h.give(marshal(h.t, &conecv1.GroupEntry{Joined: g.as}), h.members...)
	h.members = append(h.members, g)
	h.entries++
	joined := h.joined(g)
	if err := g.accept(joined); err != nil {
		h.t.Fatal(err)
	}
	g.attach(nil, joined)
}

// joined is what a coordinator says to one that joins.
func (h *falseHall) joined(g *guest) *conecv1.GroupJoined {
	joined := &conecv1.GroupJoined{
		Incarnation: h.incarnation, Number: g.as.GetNumber(), From: h.entries, Options: &conecv1.GroupOptions{Sealed: true}, MaxMessage: 1 << 20,
	}
	for _, member := range h.members {
		joined.Members = append(joined.Members, member.as)
	}
	return joined
}

// leave says that somebody left, to some.
func (h *falseHall) leave(g *guest, to ...*guest) {
	h.t.Helper()
	h.members = slices.DeleteFunc(h.members, func(other *guest) bool { return other == g })
	h.give(marshal(h.t, &conecv1.GroupEntry{Left: &conecv1.GroupLeft{Number: g.as.GetNumber(), Code: conecv1.Code_CODE_CLOSED}}), to...)
}

// give has some hear an entry.
func (h *falseHall) give(entry []byte, to ...*guest) {
	h.t.Helper()
	for _, g := range to {
		if err := g.heard(entry); err != nil {
			h.t.Fatal(g.name, err)
		}
	}
}

// from is an entry with what a member said.
func from(g *guest, payload []byte) []byte {
	return append(messages.AppendGroupData(nil, g.as.GetNumber(), payload), payload...)
}

// taken returns what a member says to the coordinator now.
func (g *guest) taken() (said [][]byte) {
	g.hall.t.Helper()
	for {
		g.mu.Lock()
		message, some, err := g.take()
		g.mu.Unlock()
		if err != nil {
			g.hall.t.Fatal(err)
		}
		if !some {
			return said
		}
		g.hall.seen, said = append(g.hall.seen, message), append(said, message)
	}
}

// flush passes on what all members say, as it should be, until they say nothing more.
func (h *falseHall) flush() {
	h.t.Helper()
	for again := true; again; {
		again = false
		for _, g := range h.members {
			for _, payload := range g.taken() {
				h.give(from(g, payload), h.members...)
				again = true
			}
		}
	}
}

func (g *guest) say(texts ...string) {
	g.hall.t.Helper()
	for _, text := range texts {
		if err := g.send(g.hall.t.Context(), []byte(text)); err != nil {
			g.hall.t.Fatal(err)
		}
	}
}

// sealedTexts has a member say something, and returns only the messages of it, without what is said about keys.
func (g *guest) sealedTexts(texts ...string) (sealed [][]byte) {
	g.hall.t.Helper()
	g.say(texts...)
	for _, payload := range g.taken() {
		if !messages.IsSealedControl(payload) {
			sealed = append(sealed, payload)
		}
	}
	return sealed
}

// want compares what has happened for a member.
func (g *guest) want(want ...string) {
	g.hall.t.Helper()
	var got []string
	for {
		g.mu.Lock()
		event := g.event()
		g.mu.Unlock()
		switch event := event.(type) {
		case nil:
			if !slices.Equal(got, want) {
				g.hall.t.Errorf("%s: %q, want %q", g.name, got, want)
			}
			return
		case GroupMessage:
			got = append(got, event.From.Name+": "+string(event.Data))
		case GroupMissed:
			got = append(got, fmt.Sprintf("%d missed, %d unreadable, %d forged", event.Messages, event.Unreadable, event.Forged))
		case MemberJoined, MemberLeft:
		default:
			got = append(got, fmt.Sprintf("%T", event))
		}
	}
}

func marshal(t *testing.T, message proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
