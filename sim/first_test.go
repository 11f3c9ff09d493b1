package sim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// hop is how long a packet takes between a client and the coordinator.
const hop = 50 * time.Millisecond

// hops returns how many of them something has taken; what else it took is next to nothing.
func hops(t *testing.T, took time.Duration) int {
	t.Helper()
	n := int((took + hop/2) / hop)
	if over := took - time.Duration(n)*hop; over < 0 || over > hop/50 {
		t.Errorf("took %v: %d hops and %v", took, n, over)
	}
	return n
}

// firstPair is two clients who know their coordinator and not each other, each one hop from it.
type firstPair struct {
	pair
	hub *sim.Coordinator
}

func newFirstPair(w *sim.World, bob func(*client.Config)) *firstPair {
	at, line := w.Internet(), sim.Line{Latency: hop}
	p := &firstPair{pair{w: w}, w.Coordinator(w.Host("coordinator", at, sim.Line{}), nil)}
	p.alice, p.bob = w.Client(w.Host("alice", at, line), nil), w.Client(w.Host("bob", at, line), bob)
	time.Sleep(time.Second) // nothing is on its way
	return p
}

// arrives tells when the first message of the next stream to a client arrives.
func arrives(w *sim.World, to *sim.Client) <-chan time.Duration {
	arrived := make(chan time.Duration, 1)
	w.Go(func() {
		stream, err := to.Current().AcceptStream(within(time.Minute))
		if err == nil {
			_, err = stream.Receive(within(time.Minute))
		}
		if err != nil {
			w.T.Error(err)
		}
		arrived <- w.Elapsed()
	})
	return arrived
}

// settled holds that nothing is left of what was opened but so many channels.
func (p *firstPair) settled(channels int) {
	p.w.T.Helper()
	p.w.Eventually(20*time.Second, "nothing left over", func() bool {
		stats := p.hub.Stats()
		return stats.Pending == 0 && stats.Channels == channels && stats.Relay.Routes == 2*channels
	})
}

// TestFirstMessage counts how long the first message to a peer takes, in ways of a packet between a client and the
// coordinator: six are three round trips.
func TestFirstMessage(t *testing.T) {
	for name, test := range map[string]struct {
		options         *client.StreamOptions
		opened, arrived int
	}{
		"waits for the answer":          {nil, 8, 10},
		"resumable":                     {&client.StreamOptions{Resumable: true}, 8, 10},
		"unordered":                     {&client.StreamOptions{Delivery: client.Unordered}, 8, 10},
		"early":                         {&client.StreamOptions{Early: true}, 4, 6},
		"early, over the relay only":    {&client.StreamOptions{Early: true, Mode: client.RelayOnly}, 4, 6},
		"early, resumable":              {&client.StreamOptions{Early: true, Resumable: true}, 4, 6},
		"early, resumable, of low rank": {&client.StreamOptions{Early: true, Resumable: true, Urgency: client.Bulk}, 4, 6},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				arrived := arrives(w, p.bob)
				began := w.Elapsed()
				stream, err := p.alice.Current().OpenStream(within(time.Minute), "bob", test.options)
				if err != nil {
					w.T.Fatal(err)
				}
				opened := hops(w.T, w.Elapsed()-began)
				if err := stream.Send(within(time.Minute), []byte("first")); err != nil {
					w.T.Fatal(err)
				}
				if got := hops(w.T, <-arrived-began); opened != test.opened || got != test.arrived {
					w.T.Errorf("opened after %d hops, arrived after %d; want %d and %d", opened, got, test.opened, test.arrived)
				}
			})
		})
	}
}

// TestFirstTell counts the same for a message to an actor that is reached by name, and for the answer to it: who answers
// knows which process has asked, and waits until that has accepted its stream.
func TestFirstTell(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		p := newFirstPair(w, nil)
		arrived := make(chan time.Duration, 1)
		there := p.bob.Current().Actors()
		pid, err := there.Spawn(there.Props(func() actor.Actor {
			return actor.ReceiveFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().(*wrapperspb.StringValue); ok {
					arrived <- w.Elapsed()
					ctx.Respond(wrapperspb.String("answer"))
				}
			})
		}), "greeter")
		if err != nil {
			w.T.Fatal(err)
		}
		there.Export("greeter", pid)
		sys := p.alice.Current().Actors()
		began := w.Elapsed()
		if _, err := actors.Ask[*wrapperspb.StringValue](within(time.Minute), sys.System, sys.PID("bob", "greeter"), wrapperspb.String("hello")); err != nil {
			w.T.Fatal(err)
		}
		answered := hops(w.T, w.Elapsed()-began)
		if got := hops(w.T, <-arrived-began); got != 6 || answered != 12 {
			w.T.Errorf("arrived after %d hops and answered after %d, want 6 and 12", got, answered)
		}
	})
}

// TestFirstRefusedStream refuses a stream that has carried messages already: who sent them is told so by every call.
func TestFirstRefusedStream(t *testing.T) {
	for _, resumable := range []bool{false, true} {
		t.Run(fmt.Sprint("resumable ", resumable), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, func(c *client.Config) {
					c.Admit = func(client.Offer) error { return errors.New("not today") }
				})
				stream, err := p.alice.Current().OpenStream(within(time.Minute), "bob", &client.StreamOptions{Early: true, Resumable: resumable})
				if err != nil {
					w.T.Fatal(err)
				}
				if err := stream.Send(within(time.Minute), []byte("first")); err != nil {
					w.T.Errorf("sent before the refusal: %v", err)
				}
				_, err = stream.Receive(within(time.Minute))
				var op *messages.OpError
				if !errors.Is(err, messages.ErrRefused) || !strings.Contains(err.Error(), "not today") || !errors.As(err, &op) || !op.Remote {
					w.T.Errorf("receive: %v, want that bob does not want it today", err)
				}
				if err := stream.Send(within(time.Minute), []byte("second")); !errors.Is(err, messages.ErrRefused) {
					w.T.Errorf("send: %v, want refused", err)
				}
				if n := stream.Confirmed(); n != 0 {
					w.T.Errorf("%d messages are said to have arrived", n)
				}
				p.settled(1)
			})
		})
	}
}

// TestFirstRefusedChannel refuses a channel that its opener has dialed already. The relay carries nothing to who refuses.
func TestFirstRefusedChannel(t *testing.T) {
	sim.Test(t, nil, func(w *sim.World) {
		p := newFirstPair(w, func(c *client.Config) { c.RelayOnly = true })
		relayed := 0
		w.Add(func(packet sim.Packet) sim.Verdict {
			if packet.Destination == "bob" && packet.Payload[0] == 32 {
				relayed++
			}
			return sim.Verdict{}
		})
		began := w.Elapsed()
		_, err := p.alice.Current().OpenStream(within(time.Minute), "bob", &client.StreamOptions{Early: true, Mode: client.DirectOnly})
		var op *messages.OpError
		if !errors.Is(err, messages.ErrRefused) || !errors.As(err, &op) || !op.Remote {
			w.T.Errorf("open stream: %v, want refused by bob", err)
		}
		if got := hops(w.T, w.Elapsed()-began); got != 4 {
			w.T.Errorf("refused after %d hops, want 4", got)
		}
		p.settled(0)
		if relayed != 0 {
			w.T.Errorf("%d packets were relayed to bob, who had not accepted", relayed)
		}
	})
}

// TestFirstCanceled gives up at each moment of an opening. The peer is freed, and the next attempt does not suffer.
func TestFirstCanceled(t *testing.T) {
	for halves := range 2 * 9 {
		after := time.Duration(halves)*hop/2 + hop/4
		t.Run(after.String(), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				stream, err := p.alice.Current().OpenStream(within(after), "bob", nil)
				if err == nil {
					stream.Reset()
				}
				if (err == nil) != (after > 8*hop) {
					w.T.Errorf("open stream: %v", err)
				}
				p.w.Eventually(20*time.Second, "no introduction", func() bool { return p.hub.Stats().Pending == 0 })
				next, err := p.alice.Current().OpenStream(within(time.Minute), "bob", nil)
				if err == nil {
					err = next.Send(within(time.Minute), []byte("next"))
				}
				if err != nil {
					w.T.Fatal(err)
				}
				for got := ""; got != "next"; { // a stream that was given up may come first
					in, err := p.bob.Current().AcceptStream(within(time.Minute))
					if err != nil {
						w.T.Fatal(err)
					}
					message, _ := in.Receive(within(time.Minute))
					got = string(message)
				}
				p.settled(1)
			})
		})
	}
}

// TestFirstGlare has both send their first message to the other, one a little later. There is one channel. Who asks
// second is offered it, and can send when the first one has proven who it is.
func TestFirstGlare(t *testing.T) {
	for quarters := range 20 {
		later := time.Duration(quarters) * hop / 4
		t.Run(later.String(), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				toBob, toAlice := arrives(w, p.bob), arrives(w, p.alice)
				began := w.Elapsed()
				send := func(from *sim.Client, to string) {
					stream, err := from.Current().OpenStream(within(time.Minute), to, &client.StreamOptions{Early: true})
					if err == nil {
						err = stream.Send(within(time.Minute), []byte("first"))
					}
					if err != nil {
						w.T.Error(err)
					}
				}
				w.Go(func() { send(p.alice, "bob") })
				time.Sleep(later)
				w.Go(func() { send(p.bob, "alice") })
				if alice, bob := hops(w.T, <-toBob-began), hops(w.T, <-toAlice-began); alice != 6 || bob != 8 {
					w.T.Errorf("arrived after %d and %d hops, want 6 and 8", alice, bob)
				}
				p.settled(1)
			})
		})
	}
}

// TestFirstLoss loses one packet of those that an opening takes. What is lost is sent again.
func TestFirstLoss(t *testing.T) {
	for _, way := range [][2]string{{"alice", "coordinator"}, {"coordinator", "bob"}, {"bob", "coordinator"}, {"coordinator", "alice"}} {
		for nth := range 8 {
			t.Run(fmt.Sprintf("%s to %s, %d", way[0], way[1], nth), func(t *testing.T) {
				sim.Test(t, nil, func(w *sim.World) {
					p := newFirstPair(w, nil)
					arrived := arrives(w, p.bob)
					count := -1
					w.Add(func(packet sim.Packet) sim.Verdict {
						if packet.Source == way[0] && packet.Destination == way[1] {
							if count++; count == nth {
								return sim.Drop()
							}
						}
						return sim.Verdict{}
					})
					began := w.Elapsed()
					stream, err := p.alice.Current().OpenStream(within(time.Minute), "bob", &client.StreamOptions{Early: true, Resumable: nth%2 == 0})
					if err == nil {
						err = stream.Send(within(time.Minute), []byte("first"))
					}
					if err != nil {
						w.T.Fatal(err)
					}
					if took := <-arrived - began; took > 20*hop {
						w.T.Errorf("arrived after %v", took)
					}
					p.settled(1)
				})
			})
		}
	}
}

// sendFirst sends three messages on a stream that is opened early and outlives its channel.
func (p *firstPair) sendFirst() (*client.Stream, error) {
	options := &client.StreamOptions{Early: true, Resumable: true}
	stream, err := p.alice.Current().OpenStream(within(time.Minute), "bob", options)
	for errors.Is(err, messages.ErrNoSuchPeer) || errors.Is(err, messages.ErrShutdown) { // who is not back yet
		time.Sleep(hop)
		stream, err = p.alice.Current().OpenStream(within(time.Minute), "bob", options)
	}
	for i := range 3 {
		if err == nil {
			err = stream.Send(within(time.Minute), []byte{byte(i)})
		}
	}
	return stream, err
}

// takeFirst returns how many of three messages a stream gives.
func (p *firstPair) takeFirst(in *client.Stream) (n int) {
	for n < 3 {
		message, err := in.Receive(within(10 * time.Second))
		if err != nil {
			break
		}
		if message[0] != byte(n) {
			p.w.T.Errorf("message %d came in place of %d", message[0], n)
		}
		n++
	}
	return n
}

// TestFirstChannelLost ends the channel at each moment of the opening of a stream that outlives it: what it has carried comes
// once.
func TestFirstChannelLost(t *testing.T) {
	for halves := range 12 {
		after := time.Duration(halves) * hop / 2
		t.Run(after.String(), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				stream, err := p.sendFirst()
				if err != nil {
					w.T.Fatal(err)
				}
				time.Sleep(after)
				stream.Channel().Abort()
				in, err := p.bob.Current().AcceptStream(within(time.Minute))
				if err != nil {
					w.T.Fatal(err)
				}
				if n := p.takeFirst(in); n != 3 {
					w.T.Errorf("%d messages came", n)
				}
				if err := stream.Confirm(within(time.Minute)); err != nil {
					w.T.Error(err)
				}
				p.settled(1)
			})
		})
	}
}

// TestFirstPeerRestarts restarts the peer's process at each moment of an opening. Messages come once to a process, all of them
// unless a former one has them.
func TestFirstPeerRestarts(t *testing.T) {
	for hopsLater := range 9 {
		t.Run(fmt.Sprint(hopsLater), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				w.Go(func() {
					_, err := p.sendFirst() // it fails if a former process has accepted the stream
					w.T.Log(w.Elapsed(), err)
				})
				time.Sleep(time.Duration(hopsLater)*hop + hop/2)
				p.bob.Crash()
				if err := p.bob.Start(); err != nil {
					w.T.Fatal(err)
				}
				in, err := p.bob.Current().AcceptStream(within(time.Minute))
				switch {
				case err == nil:
					if n := p.takeFirst(in); n != 3 {
						w.T.Errorf("%d messages came", n)
					}
				case hopsLater < 6: // nobody can have accepted it before
					w.T.Error(err)
				}
			})
		})
	}
}

// TestFirstCoordinatorRestarts restarts the coordinator at each moment of an opening: who was about to be introduced asks
// again.
func TestFirstCoordinatorRestarts(t *testing.T) {
	for hopsLater := range 8 {
		t.Run(fmt.Sprint(hopsLater), func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				p := newFirstPair(w, nil)
				arrived := arrives(w, p.bob)
				w.Go(func() {
					if _, err := p.sendFirst(); err != nil {
						w.T.Error(err)
					}
				})
				time.Sleep(time.Duration(hopsLater)*hop + hop/2)
				p.hub.Crash()
				time.Sleep(time.Second)
				p.hub.Start()
				<-arrived
				p.settled(1)
			})
		})
	}
}
