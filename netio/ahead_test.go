package netio_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// TestDialAhead dials a peer before it is known where and who it is. What QUIC writes first takes another way.
func TestDialAhead(t *testing.T) {
	for name, trusted := range map[string]bool{"the peer": true, "somebody else": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
				b := newEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"), nil)
				passed := make(chan []byte, netio.MaxPassed)
				a.port.PassOn(func(packet []byte) { passed <- packet })
				var pin netio.Pin
				dialed := make(chan error)
				var conn *netio.Conn
				go func() {
					var err error
					conn, err = a.DialAhead(within(t), a.port, "bob", &pin)
					dialed <- err
				}()
				await := b.expect(a)
				synctest.Wait()
				first := len(passed) // before QUIC sends anything again
				if first == 0 {
					t.Fatal("no packet was passed on")
				}
				if trusted {
					pin.Set(b.id.Chain()[0])
				} else {
					pin.Set(a.id.Chain()[0])
				}
				relay := func(from, to *end) { // as if to were the relay
					from.Switch().AllowRaw(to.link.LocalAddr())
					from.port.SetRoute(7)
					from.port.SetPath(netio.Path{Link: from.link, To: to.link.LocalAddr(), Relayed: true})
				}
				relay(a, b)
				relay(b, a)
				for range first {
					packet := <-passed
					go b.port.Take(packet)
				}
				began := time.Now()
				err := <-dialed
				if trusted {
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > 0 {
						t.Errorf("took %v: something had to be sent again", took)
					}
					if _, err := await(within(t)); err != nil {
						t.Error(err)
					}
					conn.Close(messages.ErrClosed)
				} else if !errors.Is(err, messages.ErrUntrusted) {
					t.Errorf("%v, want that the certificate is another one", err)
				}
				if n := a.port.Stats().Dropped; n > 0 {
					t.Errorf("%d packets were dropped", n)
				}
			})
		})
	}
}

// TestPassOn passes on the first packets only: QUIC sends others again.
func TestPassOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
		passed := 0
		a.port.PassOn(func([]byte) { passed++ })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := a.DialAhead(ctx, a.port, "bob", &netio.Pin{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the time is over", err)
		}
		if dropped := a.port.Stats().Dropped; passed != netio.MaxPassed || dropped == 0 {
			t.Errorf("%d packets passed on and %d dropped, want %d and some", passed, dropped, netio.MaxPassed)
		}
	})
}

// TestTakeWakes gives packets to a switch whose reader waits for its only link, a socket.
func TestTakeWakes(t *testing.T) {
	link, err := netio.ListenUDP(loopbackAny)
	if err != nil {
		t.Fatal(err)
	}
	sw := newSwitch(t, netio.SwitchConfig{}, link)
	sw.AllowRaw(coordinatorAddr)
	port := openPort(t, sw)
	port.SetRoute(7)
	port.SetPath(netio.Path{To: coordinatorAddr, Relayed: true})
	const count = 200
	got := make(chan string)
	go func() {
		defer close(got)
		buffer := make([]byte, 100)
		for range count {
			n, from, err := sw.ReadFrom(buffer)
			if err != nil || from.String() != port.Addr().String() {
				t.Errorf("read %v from %v", err, from)
				return
			}
			got <- string(buffer[:n])
		}
	}()
	seen := map[string]bool{}
	for i := range count {
		go port.Take(fmt.Appendf(nil, "@%d", i))
		if i%3 > 0 {
			continue // so that some come together
		}
		for len(seen) <= i {
			select {
			case text := <-got:
				seen[text] = true
			case <-within(t).Done():
				t.Fatalf("%d packets were read of %d", len(seen), i+1)
			}
		}
	}
	for text := range got {
		seen[text] = true
	}
	if len(seen) != count {
		t.Errorf("%d packets were read, want %d", len(seen), count)
	}
}

// TestTakeChecks drops what is no packet of the channel.
func TestTakeChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		sw := newSwitch(t, netio.SwitchConfig{}, n.link("10.0.0.1:1"))
		port := openPort(t, sw)
		take := func(relay netip.AddrPort, packet string) {
			port.SetPath(netio.Path{To: relay, Relayed: true})
			go port.Take([]byte(packet))
			synctest.Wait()
		}
		sw.AllowRaw(coordinatorAddr)
		go func() { _, _, _ = sw.ReadFrom(make([]byte, 100)) }()
		take(coordinatorAddr, "@no route")
		port.SetRoute(7)
		take(strangerAddr, "@not attached")
		take(coordinatorAddr, "!no QUIC")
		take(coordinatorAddr, "")
		if got := sw.Stats().Dropped; got.Unknown != 1 || got.Unproven != 1 || got.UnknownType != 1 || got.Malformed != 1 {
			t.Errorf("dropped %+v", got)
		}
	})
}

// TestEarlyRefused has a stream refused that has carried messages: the opener hears why, whatever code the other side makes up.
func TestEarlyRefused(t *testing.T) {
	for _, why := range []error{messages.ErrBusy, messages.FromCode(-1, "made up")} {
		synctest.Test(t, func(t *testing.T) {
			ca, cb := connectEnds(t, nil, nil)
			out, err := ca.OpenStream(within(t), &conecv1.OpenStream{})
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Send(within(t), []byte("early")); err != nil {
				t.Fatal(err)
			}
			in, err := cb.AcceptStream(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.AwaitOpen(within(t)); err != nil {
				t.Fatal(err)
			}
			in.Refuse(fmt.Errorf("%w: not now", why))
			_, received := out.Receive(within(t))
			sent := out.Send(within(t), []byte("late"))
			for _, err := range []error{received, sent} {
				code, _ := messages.ToCode(err)
				if want, _ := messages.ToCode(why); code != want || !netio.IsRemote(err) {
					t.Errorf("%v, want %v by the other side", err, why)
				}
			}
			<-out.Ended()
			<-in.Ended()
		})
	}
}

// TestResumableEarly sends before the other side has accepted, and more than goes out before that. Nothing is lost and nothing
// comes twice, also if the channel is lost, and with it what was sent.
func TestResumableEarly(t *testing.T) {
	for name, lose := range map[string]bool{"accepted": false, "lost before it is accepted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newEnds(t, nil, nil)
				r := &rig{t: t, a: a, b: b, ra: newLasting(a, 'a', 1<<20), rb: newLasting(b, 'b', 1<<20)}
				r.channel()
				out, err := r.ca.OpenFor(within(t), &conecv1.OpenStream{Purpose: "test"}, r.ra.Resumable, true)
				if err != nil {
					t.Fatal(err)
				}
				const count = 10
				for i := range count {
					if err := r.ra.Send(within(t), []byte(strings.Repeat(fmt.Sprint(i), 10<<10))); err != nil {
						t.Fatal(err)
					}
				}
				in, err := r.cb.AcceptStream(within(t))
				if err != nil {
					t.Fatal(err)
				}
				open, err := in.AwaitOpen(within(t))
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // all that may come is there
				if refused, err := r.ra.Answered(canceledContext()); refused || !errors.Is(err, context.Canceled) {
					t.Errorf("answered %v, %v before it was", refused, err)
				}
				if lose {
					r.ca.Close(messages.ErrReset)
					if err := <-r.ra.detached; err == nil {
						t.Error("detached without a reason")
					}
					r.channel()
					r.attach()
				} else if err := in.AcceptFor(r.rb.Resumable, open.GetResume()); err != nil {
					t.Fatal(err)
				} else if err := out.AwaitAnswer(within(t)); err != nil {
					t.Fatal(err)
				}
				for i := range count {
					if got, err := r.rb.Receive(within(t)); err != nil || string(got) != strings.Repeat(fmt.Sprint(i), 10<<10) {
						t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
					}
				}
				if refused, err := r.ra.Answered(within(t)); refused || err != nil {
					t.Errorf("answered %v, %v", refused, err)
				}
				if err := r.rb.Send(within(t), []byte("back")); err != nil {
					t.Fatal(err)
				}
				if got, err := r.ra.Receive(within(t)); string(got) != "back" {
					t.Errorf("back came %q, %v", got, err)
				}
				if err := r.ra.Confirm(within(t)); err != nil || r.ra.Confirmed() != count {
					t.Errorf("%d messages confirmed, %v", r.ra.Confirmed(), err)
				}
			})
		})
	}
}

func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
