package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// hall is a world for groups: a coordinator and clients, each at home behind a NAT.
type hall struct {
	*sim.World
	hub     *sim.Coordinator
	clients []*sim.Client
}

func newHall(w *sim.World, clients int, change func(*coord.Config)) *hall {
	h := &hall{World: w, hub: w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{Latency: 10 * time.Millisecond}), change)}
	home := w.Gateway("home", w.Internet(), sim.PortRestricted(), sim.Line{Latency: 5 * time.Millisecond})
	for i := range clients {
		host := w.Host(fmt.Sprintf("c%d", i), home, sim.Line{Latency: time.Millisecond})
		h.clients = append(h.clients, w.Client(host, nil))
	}
	return h
}

// join joins a group with a client.
func (h *hall) join(i int, options *client.JoinOptions) *client.Group {
	h.T.Helper()
	g, err := h.clients[i].Current().Join(h.soon(), "room", options)
	if err != nil {
		h.T.Fatal(err)
	}
	return g
}

// soon limits what a test waits for.
func (h *hall) soon() context.Context { return within(time.Minute) }

func (h *hall) send(g *client.Group, text string) {
	h.T.Helper()
	if err := g.Send(h.soon(), []byte(text)); err != nil {
		h.T.Fatal(err)
	}
}

// next returns what happens next in a group, as text.
func (h *hall) next(g *client.Group) string {
	h.T.Helper()
	event, err := g.Next(h.soon())
	if err != nil {
		h.T.Helper()
		h.T.Fatal(err)
	}
	switch event := event.(type) {
	case client.GroupMessage:
		return event.From.Name + ": " + string(event.Data)
	case client.MemberJoined:
		return event.Member.Name + " joined"
	case client.MemberLeft:
		return fmt.Sprint(event.Member.Name, " left: ", event.Err)
	}
	return fmt.Sprintf("%T%+v", event, event)
}

func (h *hall) want(g *client.Group, events ...string) {
	h.T.Helper()
	for _, want := range events {
		if got := h.next(g); got != want {
			h.T.Fatalf("%s: %q, want %q", g.Self().Name, got, want)
		}
	}
}

// TestGroup is a group in which everything goes well: joining is in force at once, own messages come by option, counts and
// members are right, who leaves is heard of, and the group ends with its last member.
func TestGroup(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 4, nil)
		if _, err := h.clients[3].Current().CountGroup(h.soon(), "room"); !errors.Is(err, messages.ErrNoSuchGroup) {
			w.T.Error("counted a group that is not there:", err)
		}
		if _, err := h.clients[3].Current().Join(h.soon(), "room", &client.JoinOptions{Existing: true}); !errors.Is(err, messages.ErrNoSuchGroup) {
			w.T.Error("joined a group that is not there:", err)
		}
		a := h.join(0, &client.JoinOptions{Own: true})
		h.send(a, "alone")
		h.want(a, "c0: alone")
		b := h.join(1, nil)
		h.send(a, "hello")
		h.want(b, "c0: hello")
		h.send(b, "hi")
		h.want(a, "c1 joined", "c0: hello", "c1: hi")
		late := h.join(2, &client.JoinOptions{History: 2, ReceiveOnly: true})
		h.want(late, "c0: hello", "c1: hi")
		if err := late.Send(h.soon(), nil); !errors.Is(err, messages.ErrRefused) {
			w.T.Error("sent to a group as one that only receives:", err)
		}
		sender := h.join(3, &client.JoinOptions{SendOnly: true})
		h.send(sender, "and I")
		if err := sender.Confirm(h.soon()); err != nil {
			w.T.Error(err)
		}
		h.want(late, "c3 joined", "c3: and I")
		h.want(a, "c2 joined", "c3 joined", "c3: and I")
		count, err := h.clients[2].Current().CountGroup(h.soon(), "room")
		if want := (client.GroupCount{Senders: 3, Receivers: 3, Members: 4}); err != nil || count != want {
			w.T.Errorf("counted %+v, %v, want %+v", count, err, want)
		}
		if members := a.Members(); len(members) != 4 || members[0].Name != "c0" || members[3].Receives {
			w.T.Error("members", members)
		}
		h.send(b, "bye")
		if err := b.Leave(h.soon()); err != nil {
			w.T.Error(err)
		}
		if _, err := b.Next(h.soon()); !errors.Is(err, net.ErrClosed) {
			w.T.Error("after leaving:", err)
		}
		h.want(a, "c1: bye", "c1 left: closed")
		for _, g := range []*client.Group{a, late, sender} {
			if err := g.Leave(h.soon()); err != nil {
				w.T.Error(err)
			}
		}
		w.Eventually(time.Second, "the group is gone", func() bool { return h.hub.Stats().Groups == 0 })
	})
}

// TestGroupAway takes the network from a member for a while: the others notice nothing, and it has missed nothing when it is
// back; what it has sent meanwhile comes once.
func TestGroupAway(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, nil)
		a, b := h.join(0, nil), h.join(1, nil)
		h.want(a, "c1 joined")
		for round := range 3 {
			h.send(b, "before")
			heal := w.Add(sim.Isolate(h.clients[1].Host()))
			h.send(b, fmt.Sprint("away ", round))
			h.send(a, fmt.Sprint("missing you ", round))
			<-time.After(20 * time.Second)
			synctest.Wait()
			heal()
			h.want(a, "c1: before", fmt.Sprint("c1: away ", round))
			h.want(b, "client.GroupRejoined{Resumed:true InDoubt:0 Another:false}", fmt.Sprint("c0: missing you ", round))
		}
		w.Add(sim.Isolate(h.clients[1].Host()))
		h.want(a, "c1 left: unreachable")
	})
}

// nobody is a policy under which nobody joins a group whose name begins with "secret", nor makes one that begins with "old".
type nobody struct{ policy.AllowAll }

func (nobody) Join(_ *policy.Subject, group string, create bool) error {
	if strings.HasPrefix(group, "secret") || create && strings.HasPrefix(group, "old") {
		return fmt.Errorf("%w: not that group", messages.ErrRefused)
	}
	return nil
}

// TestGroupLimits shows that what exceeds a limit, or is not allowed, is refused with the reason, and has no effect on others.
func TestGroupLimits(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, func(config *coord.Config) {
			config.Policy = nobody{}
			config.Limits = coord.Limits{Groups: 3, GroupsPerClient: 2, MembersPerGroup: 2, GroupMessage: 1000, StreamsPerClient: 5}
		})
		alice, bob := h.clients[0].Current(), h.clients[1].Current()
		join := func(cl *client.Client, name string, want error) *client.Group {
			h.T.Helper()
			g, err := cl.Join(h.soon(), name, nil)
			if !errors.Is(err, want) {
				w.T.Errorf("join %q: %v, want %v", name, err, want)
			}
			return g
		}
		a := join(alice, "room", nil)
		join(alice, "secret", messages.ErrRefused)
		join(alice, "old", messages.ErrRefused)
		join(alice, "Room", messages.ErrNameInvalid)
		join(alice, "second", nil)
		join(alice, "third", messages.ErrLimit) // that alice has made
		b := join(bob, "room", nil)
		join(bob, "room", messages.ErrLimit) // members
		join(bob, "third", nil)
		if _, err := bob.CountGroup(h.soon(), "secret"); !errors.Is(err, messages.ErrRefused) {
			w.T.Error("counted a group that is not for bob:", err)
		}
		var size *messages.SizeError
		if err := a.Send(h.soon(), make([]byte, 1001)); !errors.As(err, &size) || size.Limit != 1000 {
			w.T.Error("sent a message that is too large:", err)
		}
		if err := a.Send(h.soon(), make([]byte, 1000)); err != nil {
			w.T.Error(err)
		}
		if message, err := b.Receive(h.soon()); err != nil || len(message.Data) != 1000 {
			w.T.Error(len(message.Data), err)
		}
	})
}

// TestGroupPolicy changes the policy, kicks and bans: who may not stay in a group is told why and the others see it leave, nobody
// else notices, and who was kicked comes back.
func TestGroupPolicy(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 3, nil)
		witness := h.join(0, nil)
		secret, err := h.clients[1].Current().Join(h.soon(), "secret", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		b, c := h.join(1, nil), h.join(2, nil)
		h.want(witness, "c1 joined", "c2 joined")
		if err := h.hub.SetPolicy(h.soon(), nobody{}); err != nil {
			w.T.Fatal(err)
		}
		if _, err := secret.Next(h.soon()); !errors.Is(err, messages.ErrRefused) {
			w.T.Error("a membership that is not allowed ends with", err)
		}
		h.send(b, "still here")
		h.want(witness, "c1: still here")
		if err := h.hub.Kick(h.soon(), "c1", "for a test"); err != nil {
			w.T.Fatal(err)
		}
		h.want(witness, "c1 left: kicked", "c1 joined")
		h.want(b, "c2 joined", "client.GroupRejoined{Resumed:false InDoubt:0 Another:false}")
		if _, err := h.hub.Ban(h.soon(), policy.Ban{Name: "c2", Reason: "for a test"}); err != nil {
			w.T.Fatal(err)
		}
		h.want(witness, "c2 left: banned")
		for err == nil {
			_, err = c.Next(h.soon())
		}
		if !errors.Is(err, messages.ErrBanned) {
			w.T.Error("the membership of a client that is banned ends with", err)
		}
	})
}

// TestGroupSlow has members that do not read: one that is skipped is told how many it missed, the membership of another ends,
// and for a third all wait, so that it gets everything.
func TestGroupSlow(t *testing.T) {
	for _, slow := range []client.SlowMembers{client.SkipSlow, client.EndSlow, client.AwaitSlow} {
		sim.Test(t, nil, func(w *sim.World) {
			h := newHall(w, 2, nil)
			options := &client.JoinOptions{Make: client.GroupOptions{Slow: slow, Keep: 64 << 10}}
			a, b := h.join(0, &client.JoinOptions{SendOnly: true, Make: options.Make}), h.join(1, options)
			const count, size = 800, 1000
			w.Go(func() {
				for range count {
					if err := a.Send(h.soon(), make([]byte, size)); err != nil {
						w.T.Error(err)
						return
					}
				}
			})
			<-time.After(20 * time.Second)
			came, missed := uint64(0), uint64(0)
			for came+missed < count {
				message, err := b.Receive(h.soon())
				if slow == client.EndSlow && errors.Is(err, messages.ErrLimit) {
					return
				}
				if err != nil {
					w.T.Fatalf("%d: %v, %d came, %d were missed", slow, err, came, missed)
				}
				came++
				missed += message.Missed
			}
			if slow == client.EndSlow || (missed == 0) != (slow == client.AwaitSlow) || came+missed != count {
				w.T.Errorf("%d: %d messages came and %d were missed", slow, came, missed)
			}
		})
	}
}

// TestGroupEnds has one client join, count and leave while another does, so that the group ends and begins anew at every
// moment: each is answered.
func TestGroupEnds(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, nil)
		done := make(chan bool)
		for i := range 2 {
			w.Go(func() {
				defer func() { done <- true }()
				for n := range 40 {
					<-time.After(time.Duration(n*(i+1)) * 100 * time.Microsecond)
					g, err := h.clients[i].Current().Join(h.soon(), "room", nil)
					if err != nil {
						w.T.Error(err)
						return
					}
					h.send(g, "hello")
					if err := g.Leave(h.soon()); err != nil {
						w.T.Error(err)
					}
					if _, err := h.clients[i].Current().CountGroup(h.soon(), "room"); err != nil && !errors.Is(err, messages.ErrNoSuchGroup) {
						w.T.Error(err)
					}
				}
			})
		}
		<-done
		<-done
		w.Eventually(time.Second, "the group is gone", func() bool { return h.hub.Stats().Groups == 0 })
	})
}

// TestFloodOfJoins has a client join and leave a group as often as it may, and beyond: the others hear of no more than that, and
// it is let in again after a pause.
func TestFloodOfJoins(t *testing.T) {
	const perSecond, flood = 4, 100
	sim.Test(t, nil, func(w *sim.World) {
		h := newHall(w, 2, func(c *coord.Config) { c.Limits.JoinRate = perSecond })
		a := h.join(0, nil)
		joined, began := 0, time.Now()
		for range flood {
			g, err := h.clients[1].Current().Join(h.soon(), "room", nil)
			if err == nil {
				joined++
				err = g.Leave(h.soon())
			}
			if err != nil && !errors.Is(err, messages.ErrBusy) {
				w.T.Fatal(err)
			}
		}
		if most := int((5*time.Second+time.Since(began))*perSecond/time.Second) + 1; joined < 5*perSecond || joined > most {
			w.T.Errorf("joined %d times of %d, want %d to %d", joined, flood, 5*perSecond, most)
		}
		for range joined {
			h.want(a, "c1 joined", "c1 left: closed")
		}
		<-time.After(time.Second)
		h.send(h.join(1, nil), "again")
		h.want(a, "c1 joined", "c1: again")
	})
}
