package suite_test

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// bystanders are two clients that must not notice anything.
type bystanders struct {
	w           *world
	alice, bob  *client.Client
	here, there *client.Stream
	events      recorder
}

func (w *world) bystanders() *bystanders {
	w.Helper()
	b := &bystanders{w: w, events: newRecorder()}
	b.alice, b.bob = w.client("alice", b.events.config), w.client("bob")
	b.here, b.there = w.stream(b.alice, b.bob, &client.StreamOptions{Mode: client.RelayOnly})
	await[client.ChannelOpened](w, b.events)
	return b
}

// unharmed uses what was there before, and opens something new.
func (b *bystanders) unharmed() {
	b.w.Helper()
	b.w.both(b.here, b.there)
	here, there := b.w.channel(b.bob, b.alice, nil)
	b.w.both(b.w.streamOn(here, there))
	for {
		select {
		case event := <-b.events:
			switch event := event.(type) {
			case client.Detached:
				b.w.Errorf("a bystander was detached: %v", event.Err)
			case client.ChannelClosed:
				b.w.Errorf("a bystander lost a channel: %+v", event)
			}
			continue
		default:
		}
		return
	}
}

// What a client may not say ends its own connection, with the reason, and nothing
// else.
func TestHostileClient(t *testing.T) {
	unknown := &conecv1.Control{}
	unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x01, 0x01, 'x'}) // field 31, which nobody knows
	for name, test := range map[string]struct {
		attached bool
		say      *conecv1.Control
		is       error
	}{
		"says something before it attaches": {false, open(1, "bob"), messages.ErrProtocol},
		"attaches twice":                    {true, attach("mallory"), messages.ErrProtocol},
		"attaches as another":               {false, attach("alice"), messages.ErrNameMismatch},
		"attaches under no name":            {false, attach(""), messages.ErrNameInvalid},
		"attaches under a bad name":         {false, attach("Mallory!"), messages.ErrNameInvalid},
		"plays the coordinator": {true, &conecv1.Control{Said: &conecv1.Control_ChannelOffered{
			ChannelOffered: &conecv1.ChannelOffered{Introduction: &conecv1.Introduction{Peer: "bob"}},
		}}, messages.ErrProtocol},
		"grants itself a name": {true, &conecv1.Control{Said: &conecv1.Control_Attached{
			Attached: &conecv1.Attached{ClientId: 1},
		}}, messages.ErrProtocol},
		"says what peers say": {true, &conecv1.Control{Said: &conecv1.Control_CloseChannel{
			CloseChannel: &conecv1.CloseChannel{},
		}}, messages.ErrProtocol},
		"says nothing":           {true, &conecv1.Control{}, messages.ErrProtocol},
		"says something unknown": {true, unknown, messages.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				b := w.bystanders()
				identity, err := netio.NewIdentity("mallory", time.Now())
				if err != nil {
					w.Fatal(err)
				}
				raw := w.dial(identity)
				if test.attached {
					raw.attach("mallory")
				}
				raw.say(test.say)
				if err := raw.heardEnd(); !errors.Is(err, test.is) || !netio.IsRemote(err) {
					w.Errorf("the coordinator ended the connection with %v, want %v", err, test.is)
				}
				w.attached(2)
				b.unharmed()
			})
		})
	}
}

// What is wrong but may be late, or is only a bad request, is answered or passed
// over.
func TestHarmlessMistakes(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		raw := w.rawClient("mallory")
		refused := func(request uint64, is error) {
			w.Helper()
			heard := raw.hear().GetOpenRefused()
			if err := messages.FromCode(heard.GetCode(), heard.GetReason()); heard.GetRequest() != request || !errors.Is(err, is) || heard.GetByPeer() {
				w.Errorf("heard %v, want a refusal of %d with %v", heard, request, is)
			}
		}
		raw.say(open(0, "bob"))
		refused(0, messages.ErrProtocol)
		raw.say(open(5, ""))
		refused(5, messages.ErrNoSuchPeer)
		long := open(6, "bob")
		long.GetOpenChannel().Purpose = string(make([]byte, messages.MaxPurpose+1))
		raw.say(long)
		refused(6, messages.ErrLimit)
		raw.say(cancelOpen(99))
		raw.say(release([]byte("no such channel!")))
		raw.say(release(nil))
		raw.say(restore([]byte("no such channel!"), "alice"))
		raw.say(restore(nil, "alice"))
		raw.say(answer([]byte("no such channel!"), nil))
		raw.say(answer(nil, messages.ErrRefused))
		raw.say(open(7, "nobody"))
		refused(7, messages.ErrNoSuchPeer)
		b.unharmed()
	})
}

// S1, S2: nobody answers for another. Mallory knows which channel is offered, and
// says yes, no and that it is over; the coordinator believes only the one who was
// asked.
func TestAnswerForAnother(t *testing.T) {
	for name, say := range map[string]func(channel []byte) *conecv1.Control{
		"accepts":  func(channel []byte) *conecv1.Control { return answer(channel, nil) },
		"refuses":  func(channel []byte) *conecv1.Control { return answer(channel, messages.ErrRefused) },
		"releases": release,
		"restores": func(channel []byte) *conecv1.Control { return restore(channel, "alice") },
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				b := w.bystanders()
				carol, mallory := w.rawClient("carol"), w.rawClient("mallory")
				opened := make(chan error)
				go func() {
					ch, err := b.alice.OpenChannel(w.ctx, "carol", nil)
					if err == nil && ch.Peer() != "carol" {
						err = errors.New("a channel to " + ch.Peer())
					}
					opened <- err
				}()
				intro := carol.hear().GetChannelOffered().GetIntroduction()
				mallory.say(say(intro.GetChannel()))
				mallory.say(open(1, "nobody"))
				if mallory.hear().GetOpenRefused() == nil { // until the coordinator has acted on it
					w.Fatal("no answer")
				}
				select {
				case err := <-opened:
					w.Fatalf("alice heard %v because of mallory", err)
				default:
				}
				carol.connect(intro)
				if err := <-opened; err != nil {
					w.Errorf("alice: %v", err)
				}
				mallory.say(say(intro.GetChannel())) // now that the channel is there
				mallory.say(open(2, "nobody"))
				mallory.hear()
				if n := w.coord.Stats().Channels; n != 2 {
					w.Errorf("%d channels, want 2", n)
				}
				b.unharmed()
			})
		})
	}
}

// S2, S3: a peer is who its certificate says. Whoever connects with another one
// than was introduced is refused, and what it says its name is does not count.
func TestImpostorPeer(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		carol := w.rawClient("carol")
		failed := make(chan error)
		go func() {
			_, err := b.alice.OpenChannel(w.ctx, "carol", &client.ChannelOptions{Mode: client.RelayOnly})
			failed <- err
		}()
		intro := carol.hear().GetChannelOffered().GetIntroduction()
		// Carol's attachment and her packets, but another key for the same name.
		impostor, err := netio.NewIdentity("carol", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		bound := make(chan netio.BoundFrame, 64)
		carol.transport = w.transport(impostor, bound)
		sw := carol.transport.Switch()
		sw.AllowRaw(w.coord.Addr())
		unused, err := sw.OpenPort()
		if err != nil {
			w.Fatal(err)
		}
		carol.transport.Expect(unused, "nobody", nil) // from now on it reads
		carol.bind(carol.transport, bound)
		go func() { _, _ = carol.tryConnect(intro) }()
		if err := <-failed; !errors.Is(err, messages.ErrUntrusted) || !contains(err, `certificate of "carol" is not the introduced one`) {
			w.Errorf("alice: %v, want untrusted", err)
		}
		b.unharmed()
	})
}

// S7: an introduction is for one connection, and is over when the channel is.
// Afterwards the acceptor's port is closed to the one who was introduced.
func TestIntroductionExpires(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		bob := w.client("bob")
		raw := w.rawClient("mallory")
		raw.say(open(1, "bob"))
		intro := raw.hear().GetChannelIntroduced().GetIntroduction()
		conn, _ := raw.connect(intro)
		if _, err := bob.AcceptChannel(w.ctx); err != nil {
			w.Fatal(err)
		}

		// A second connection under the same introduction, while the first is there.
		second, err := raw.tryConnect(intro)
		if err == nil {
			select {
			case <-second.Done():
				err = second.Err()
			case <-w.ctx.Done():
			}
		}
		if err == nil {
			w.Error("a second connection was accepted")
		}
		conn.Close(messages.ErrClosed)
		w.eventually("bob to end the channel", func() bool { return bob.Actors().Stats().Actors == idleActors })
		raw.say(release(intro.GetChannel()))
		w.idle()
		w.client("alice")
		before := w.coord.Stats().Relay.Forwarded.Packets
		sw := raw.transport.Switch()
		frame := binary.BigEndian.AppendUint32([]byte{32}, intro.GetRoute())
		if err := sw.Send(sw.Links()[0], w.coord.Addr(), append(frame, make([]byte, 1200)...)); err != nil {
			w.Fatal(err)
		}
		raw.say(open(2, "nobody"))
		raw.hear() // after the frame
		if after := w.coord.Stats().Relay.Forwarded.Packets; after != before {
			w.Error("the relay still forwards for a channel that has ended")
		}
	})
}

// S8: who connects and says nothing is sent away.
func TestNeverAttaches(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin(func(c *coord.Config) { c.Limits.AttachTimeout = time.Millisecond })
		identity, err := netio.NewIdentity("mallory", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		raw := w.dial(identity)
		// The control stream is there once something is said on it; half a frame is not yet something.
		if err := raw.heardEnd(); !errors.Is(err, messages.ErrTimeout) || !netio.IsRemote(err) {
			w.Errorf("the coordinator ended the connection with %v, want timed out", err)
		}
		w.eventually("no connection", func() bool { return w.coord.Stats().Connections == 0 })
		w.client("alice", func(c *client.Config) {})
	})
}

// S8: whoever floods the coordinator with what has to be answered or with what
// has not, holds up nobody else.
func TestFlood(t *testing.T) {
	for name, say := range map[string]func(i uint64) *conecv1.Control{
		"requests that wait": func(i uint64) *conecv1.Control { return open(i, "carol") },
		"no answers":         func(uint64) *conecv1.Control { return release(make([]byte, 16)) },
		"wishes": func(i uint64) *conecv1.Control {
			return restore(binary.BigEndian.AppendUint64(make([]byte, 8), i), "bob")
		},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.begin()
				b := w.bystanders()
				silent := w.rawClient("carol")
				go drainControl(silent.control)
				_, virtual := w.machine("mallory").(simHost)
				raw := w.rawClient("mallory")
				go drainControl(raw.control)
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for i := uint64(1); raw.conn.Err() == nil; i++ {
						select {
						case <-stop:
							return
						default:
						}
						full := raw.control.Send(say(i)) != nil
						if full || virtual && i%50 == 0 { // virtual time waits for all that it sends
							<-time.After(time.Millisecond)
						}
					}
					if err := raw.conn.Err(); !errors.Is(err, messages.ErrLimit) {
						w.Errorf("the coordinator ended the connection with %v", err)
					}
				}()
				rounds := 20
				if testing.Short() {
					rounds = 3
				}
				for range rounds {
					b.unharmed()
				}
				close(stop)
				<-stopped
				if pending := w.coord.Stats().Pending; pending > 64 { // the default of coord.Limits
					w.Errorf("%d introductions wait, limit 64", pending)
				}
			})
		})
	}
}

// drainControl hears everything until the end.
func drainControl(control *netio.Control) {
	for {
		if _, err := control.Receive(); err != nil {
			return
		}
	}
}

// S8: a flood whose answers nobody reads ends the connection that it comes from.
func TestFloodUnread(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		raw := w.rawClient("mallory")
		for i := uint64(1); raw.conn.Err() == nil; i++ {
			if raw.control.Send(open(i, "nobody")) != nil {
				select {
				case <-raw.conn.Done():
				case <-time.After(time.Millisecond):
				}
			}
		}
		if err := raw.conn.Err(); !errors.Is(err, messages.ErrLimit) || !netio.IsRemote(err) {
			w.Errorf("the coordinator ended the connection with %v, want limit", err)
		}
		w.attached(2)
		b.unharmed()
	})
}

// After a takeover, the former connection may go on talking for a moment.
func TestSupersededGoesOnTalking(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		former := w.rawClient("mallory")
		for range 20 {
			latter := w.dial(former.identity)
			stop := former.talk()
			latter.attach("mallory")
			err := former.heardEnd()
			stop()
			if netio.IsRemote(err) && errors.Is(err, messages.ErrUnreachable) { // a stateless reset has overtaken the reason
				again := w.dial(former.identity)
				again.instance = former.instance
				again.sayAttach("mallory")
				err = again.heardEnd()
			}
			if !errors.Is(err, messages.ErrSuperseded) {
				w.Fatalf("the former attachment ended with %v", err)
			}
			former = latter
		}
		b.unharmed()
	})
}

// talk says things that are not answered until it is stopped.
func (r *rawClient) talk() (stop func()) {
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		says := []*conecv1.Control{cancelOpen(1), release([]byte("x")), restore(make([]byte, 16), "bob"), answer([]byte("x"), nil)}
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
				if r.control.Send(says[i%len(says)]) != nil { // until there is room again
					<-time.After(100 * time.Microsecond)
				}
			}
		}
	}()
	return func() { close(ended); <-stopped }
}

// Random datagrams to the coordinator and to clients do nothing.
func TestRandomDatagrams(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		b := w.bystanders()
		link := w.listen("mallory")
		for i := range 2000 {
			datagram := make([]byte, 1+i%1400)
			_, _ = rand.Read(datagram) // never fails
			if i%2 == 0 {
				datagram[0] = byte(i / 2) // every kind of frame
			}
			for _, to := range []netip.AddrPort{w.coord.Addr(), w.addr(b.alice), w.addr(b.bob)} {
				_ = link.Write(to, netio.Packets{Data: datagram}, true) // may be too fast for the socket
			}
		}
		b.unharmed()
	})
}
