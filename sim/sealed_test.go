package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestSealedGroup is a sealed group in which everything goes well: all read what is sent once they have joined, and those
// that only send or receive do so; who wants a group that is not sealed is refused.
func TestSealedGroup(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 5, nil)
		a := h.join(0, &client.JoinOptions{Sealed: true, Own: true})
		h.send(a, "alone")
		h.want(a, "c0: alone")
		b := h.join(1, &client.JoinOptions{Sealed: true})
		h.send(a, "hello") // at once: who has joined reads what is sent from now on
		h.want(b, "c0: hello")
		h.send(b, "hi")
		h.want(a, "c1 joined", "c0: hello", "c1: hi")
		late := h.join(2, &client.JoinOptions{Sealed: true, ReceiveOnly: true})
		sender := h.join(3, &client.JoinOptions{Sealed: true, SendOnly: true})
		h.send(sender, "and I")
		h.want(late, "c3 joined", "c3: and I")
		h.send(a, "")
		h.want(late, "c0: ")
		count, err := h.clients[2].Current().CountGroup(h.soon(), "room")
		if want := (client.GroupCount{Senders: 3, Receivers: 3, Members: 4}); err != nil || count != want {
			w.T.Errorf("counted %+v, %v, want %+v", count, err, want)
		}
		for _, member := range late.Members() {
			if member.Untrusted != nil {
				w.T.Errorf("%+v", member)
			}
		}
		if err := late.Send(h.soon(), nil); !errors.Is(err, messages.ErrRefused) {
			w.T.Error("sent to a group as one that only receives:", err)
		}
		for _, options := range []*client.JoinOptions{nil, {Existing: true}} {
			if _, err := h.clients[4].Current().Join(h.soon(), "room", options); !errors.Is(err, messages.ErrRefused) {
				w.T.Error("joined a sealed group unawares:", err)
			}
		}
		if err := b.Leave(h.soon()); err != nil {
			w.T.Error(err)
		}
		h.send(a, "without you")
		h.want(late, "c1 left: closed", "c0: without you")
		h.want(a, "c2 joined", "c3 joined", "c3: and I", "c0: ", "c1 left: closed", "c0: without you")
		for _, g := range []*client.Group{a, late, sender} {
			if err := g.Leave(h.soon()); err != nil {
				w.T.Error(err)
			}
		}
		w.Eventually(time.Second, "the group is gone", func() bool { return h.hub.Stats().Groups == 0 })
		open := h.join(0, nil)
		for _, options := range []*client.JoinOptions{{Sealed: true}, {Sealed: true, Existing: true}} {
			if _, err := h.clients[4].Current().Join(h.soon(), "room", options); !errors.Is(err, messages.ErrRefused) {
				w.T.Error("joined a group that is not sealed:", err)
			}
		}
		if len(open.Members()) != 1 {
			w.T.Error("who was refused had joined")
		}
	})
}

// TestSealedGroupAway takes the network from a member: for a while, and what it sent meanwhile comes once; then for so long that
// it is a member no more, joins anew, and reads again. The coordinator restarts, and everybody reads again in the new group.
func TestSealedGroupAway(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, nil)
		options := &client.JoinOptions{Sealed: true}
		a, b := h.join(0, options), h.join(1, options)
		h.want(a, "c1 joined")
		away := func(lasts time.Duration, meanwhile func()) {
			heal := w.Add(sim.Isolate(h.clients[1].Host()))
			meanwhile()
			<-time.After(lasts)
			synctest.Wait()
			heal()
		}
		for round := range 3 {
			h.send(b, "before")
			away(20*time.Second, func() {
				h.send(b, fmt.Sprint("away ", round))
				h.send(a, fmt.Sprint("missing you ", round))
			})
			h.want(a, "c1: before", fmt.Sprint("c1: away ", round))
			h.want(b, "client.GroupRejoined{Resumed:true InDoubt:0 Another:false}", fmt.Sprint("c0: missing you ", round))
		}
		away(2*time.Minute, func() {
			h.want(a, "c1 left: unreachable")
			h.send(a, "you are out")
			h.send(b, "am I?")
		})
		h.want(a, "c1 joined", "c1: am I?")
		h.want(b, "client.GroupRejoined{Resumed:false InDoubt:0 Another:false}", "c1 left: unreachable",
			"client.GroupMissed{Messages:1 Unreadable:1 Forged:0}")
		h.send(a, "welcome back")
		h.want(b, "c0: welcome back")
		h.hub.Start()
		for _, g := range []*client.Group{a, b} {
			if got := h.next(g); !strings.Contains(got, "Another:true") {
				w.T.Error(got)
			}
		}
		<-time.After(10 * time.Second)
		h.send(a, "all new")
		h.send(b, "for me, too")
		for h.next(a) != "c1: for me, too" {
		}
		for h.next(b) != "c0: all new" {
		}
	})
}

// TestSealedGroupUnread has a member that does not receive for long: its messages can be read by those who join all the same, since
// it hears of them; and one that has missed keys because it was too slow gets them again.
func TestSealedGroupUnread(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 3, nil)
		slow := h.join(0, &client.JoinOptions{Sealed: true, Make: client.GroupOptions{Keep: 256 << 10}})
		b := h.join(1, &client.JoinOptions{Sealed: true})
		h.send(slow, "one")
		h.want(b, "c0: one")
		for range 20 {
			h.send(b, strings.Repeat("x", 1000))
		}
		if err := b.Confirm(h.soon()); err != nil {
			w.T.Fatal(err)
		}
		c := h.join(2, &client.JoinOptions{Sealed: true})
		h.send(slow, "two")
		h.want(c, "c0: two")
		h.want(b, "c2 joined", "c0: two")
		if err := c.Leave(h.soon()); err != nil {
			w.T.Error(err)
		}
		const flood, size = 40, 200 << 10
		for range flood { // b's key is a new one, after the first message
			h.send(b, strings.Repeat("y", size))
		}
		h.want(b, "c2 left: closed")
		<-time.After(10 * time.Second)
		read, missed := 0, uint64(0)
		for read+int(missed) < 20+flood {
			event, err := slow.Next(h.soon())
			if err != nil {
				w.T.Fatal(err)
			}
			switch event := event.(type) {
			case client.GroupMessage:
				read++
			case client.GroupMissed:
				missed += event.Messages
			}
		}
		if missed == 0 || read+int(missed) != 20+flood {
			w.T.Errorf("%d messages read, %d missed, of %d", read, missed, 20+flood)
		}
		<-time.After(2 * time.Second)
		h.send(b, "unread, if the key is lost")
		<-time.After(time.Second)
		h.send(b, "read")
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			message, err := slow.Receive(ctx)
			cancel()
			if err != nil {
				w.T.Fatal(err)
			}
			if string(message.Data) == "read" {
				return
			}
		}
	})
}

// TestSealedTrust shows that members of a sealed group are trusted as peers are: who has another key than expected, or is of
// no authority, is named so, gets no keys and is not read, and the others go on.
func TestSealedTrust(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	for name, trust := range map[string]func(*client.Config){
		"pin":   func(config *client.Config) { config.Peers = map[string]string{"mallory": netio.Fingerprint(nil)} },
		"roots": func(config *client.Config) { config.PeerRoots = rootsOf(root) },
	} {
		inWorld(t, 1, func(w *world) {
			join := func(name string, change func(*client.Config)) *client.Group {
				w.T.Helper()
				cl := w.client(name, near, change)
				g, err := cl.Join(within(time.Minute), "room", &client.JoinOptions{Sealed: true})
				w.must(err)
				return g
			}
			issued := func(name string, change func(*client.Config)) func(*client.Config) {
				return func(config *client.Config) {
					config.Identity = identity(w.T, root, netio.Order{Name: name})
					if change != nil {
						change(config)
					}
				}
			}
			mallory := join("mallory", nil)
			alice := join("alice", issued("alice", trust))
			bob := join("bob", issued("bob", trust))
			w.must(mallory.Send(within(time.Minute), []byte("I am mallory")))
			w.must(mallory.Confirm(within(time.Minute)))
			w.must(alice.Send(within(time.Minute), []byte("for bob")))
			message, err := bob.Receive(within(time.Minute))
			w.must(err)
			if message.From.Name != "alice" || string(message.Data) != "for bob" || message.Missed != 1 {
				w.T.Errorf("%s: bob read %q of %s after %d that he missed", name, message.Data, message.From.Name, message.Missed)
			}
			for _, member := range bob.Members() {
				if (member.Untrusted != nil) != (member.Name == "mallory") {
					w.T.Errorf("%s: %+v", name, member)
				}
			}
			if event, err := mallory.Next(within(10 * time.Second)); err != nil || event.(client.MemberJoined).Member.Name != "alice" {
				w.T.Error(event, err)
			}
			for {
				event, err := mallory.Next(within(10 * time.Second))
				if err != nil {
					break
				}
				if read, ok := event.(client.GroupMessage); ok {
					w.T.Errorf("%s: mallory read %q", name, read.Data)
				}
			}
		})
	}
}
