package netio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// lasting is one side of a resumable stream.
type lasting struct {
	*netio.Resumable
	detached chan error
}

func newLasting(e *end, name byte, keep int) *lasting {
	l := &lasting{detached: make(chan error, 100)}
	var err error
	l.Resumable, err = e.NewResumable(netio.ResumableConfig{
		Peer: "peer", ID: bytes.Repeat([]byte{1}, netio.IDSize), Incarnation: bytes.Repeat([]byte{name}, netio.IDSize), Keep: keep,
		Detached: func(err error) { l.detached <- err }, Ended: func() {},
	})
	if err != nil {
		panic(err)
	}
	return l
}

// rig is a resumable stream between two clients, and the channel it is attached to.
type rig struct {
	t      *testing.T
	a, b   *end
	ra, rb *lasting
	ca, cb *netio.Conn
}

// newRig makes a stream of which each side keeps so many bytes, and attaches it.
func newRig(t *testing.T, keep int) *rig {
	t.Helper()
	a, b := newEnds(t, nil, nil)
	r := &rig{t: t, a: a, b: b, ra: newLasting(a, 'a', keep), rb: newLasting(b, 'b', keep)}
	r.channel()
	r.attach()
	return r
}

// channel connects the two.
func (r *rig) channel() {
	r.t.Helper()
	r.ca, r.cb = connect(r.t, r.a, r.b)
}

// attach attaches the stream to the channel.
func (r *rig) attach() {
	r.t.Helper()
	r.attachIn(within(r.t))
}

// attachIn is attach with a context.
func (r *rig) attachIn(ctx context.Context) {
	r.t.Helper()
	out, err := r.ca.OpenFor(ctx, &conecv1.OpenStream{Purpose: "test"}, r.ra.Resumable, false)
	if err != nil {
		r.t.Fatal(err)
	}
	in, err := r.cb.AcceptStream(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	open, err := in.AwaitOpen(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if err = in.AcceptFor(r.rb.Resumable, open.GetResume()); err != nil {
		r.t.Fatal(err)
	}
	if err = out.AwaitAnswer(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// lose ends the channel as if it had failed.
func (r *rig) lose() {
	r.t.Helper()
	r.ca.Close(messages.ErrReset)
	for _, side := range []*lasting{r.ra, r.rb} {
		select {
		case why := <-side.detached:
			if why == nil {
				r.t.Error("detached without a reason")
			}
		case <-within(r.t).Done():
			r.t.Fatal("a side did not notice the loss")
		}
	}
}

// TestResumableRandom ends the channel again and again while both sides send.
func TestResumableRandom(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const count = 3000
			r := newRig(t, 1<<(13+seed%10))
			done := make(chan error, 4)
			for i, side := range []*lasting{r.ra, r.rb} {
				source := rand.New(rand.NewPCG(seed, uint64(i)))
				go func() {
					for n := range count {
						size := source.IntN(200)
						if source.IntN(50) == 0 {
							size = source.IntN(100 << 10)
						}
						if err := side.Send(within(t), fmt.Appendf(bytes.Repeat([]byte{'x'}, size), "%d", n)); err != nil {
							done <- fmt.Errorf("send %d: %w", n, err)
							return
						}
						if source.IntN(10) == 0 {
							<-time.After(time.Duration(source.IntN(5)) * time.Millisecond)
						}
					}
					side.CloseSend()
					done <- side.Confirm(within(t))
				}()
				go func() {
					var buffer []byte
					for n := range count {
						message, err := side.ReceiveInto(within(t), buffer)
						if err != nil || string(bytes.TrimLeft(message, "x")) != fmt.Sprint(n) {
							done <- fmt.Errorf("message %d: %q, %w", n, bytes.TrimLeft(message, "x"), err)
							return
						}
						buffer = message
					}
					_, err := side.Receive(within(t))
					if errors.Is(err, io.EOF) {
						err = nil
					}
					done <- err
				}()
			}
			source := rand.New(rand.NewPCG(seed, 9))
			for ended := 0; ended < 4; {
				select {
				case err := <-done:
					if ended++; err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				case <-time.After(time.Duration(source.IntN(400)) * time.Millisecond):
					select {
					case <-r.ra.Ended():
					case <-r.rb.Ended():
					default:
						r.ca.Close(messages.ErrReset)
						<-r.ca.Done()
						<-r.cb.Done()
						synctest.Wait()
						if r.over() {
							continue
						}
						r.channel()
						r.attach()
					}
				}
			}
			if n := r.ra.Confirmed(); n != count {
				t.Errorf("seed %d: %d confirmed", seed, n)
			}
		})
	}
}

// over reports whether a side needs no attachment any more.
func (r *rig) over() bool {
	for _, side := range []*lasting{r.ra, r.rb} {
		select {
		case <-side.Ended():
			return true
		default:
		}
	}
	return false
}

// TestResumableKeeps: while detached, a stream takes messages up to its limit,
// and blocks beyond; a larger one it takes alone.
func TestResumableKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10_000)
		r.lose()
		message := make([]byte, 1000-3)
		for n := range 10 {
			if err := r.ra.Send(within(t), message); err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.ra.Send(ctx, message); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the limit: %v", err)
		}
		large := make(chan error, 1)
		go func() { large <- r.ra.Send(within(t), make([]byte, 50_000)) }()
		synctest.Wait()
		if len(large) > 0 {
			t.Error("a large message was taken beside others")
		}
		r.channel()
		r.attach()
		if err := <-large; err != nil {
			t.Errorf("large message: %v", err)
		}
		for n := range 11 {
			want := map[bool]int{true: 997, false: 50_000}[n < 10]
			if got, err := r.rb.Receive(within(t)); err != nil || len(got) != want {
				t.Errorf("message %d: %d bytes, %v", n, len(got), err)
			}
		}
	})
}

// TestResumableConfirms: a confirmation comes at once when it is asked for, and
// soon when it is not.
func TestResumableConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		began := time.Now()
		if err := r.ra.Send(within(t), []byte("one")); err != nil {
			t.Fatal(err)
		}
		if err := r.ra.Confirm(within(t)); err != nil || r.ra.Confirmed() != 1 || time.Since(began) > 10*time.Millisecond {
			t.Errorf("asked: %v, %d confirmed after %v", err, r.ra.Confirmed(), time.Since(began))
		}
		if err := r.ra.Send(within(t), []byte("two")); err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
		if n := r.ra.Confirmed(); n != 2 {
			t.Errorf("unasked: %d confirmed", n)
		}
		r.lose()
		if err := r.ra.Send(within(t), []byte("three")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.ra.Confirm(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("detached: %v", err)
		}
		r.ra.End(messages.ErrUnreachable)
		var doubt *messages.DoubtError
		if err := r.ra.Confirm(within(t)); !errors.As(err, &doubt) || doubt.Confirmed != 2 || doubt.InDoubt != 1 ||
			!errors.Is(err, messages.ErrUnreachable) || !errors.Is(err, messages.ErrInDoubt) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("over: %v", err)
		}
	})
}

// TestResumableClose: what a closed stream had sent arrives, and the other side's sends fail.
func TestResumableClose(t *testing.T) {
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("detached %v", detached), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1<<20)
				if detached {
					r.lose()
				}
				for _, side := range []*lasting{r.ra, r.rb} {
					if err := side.Send(within(t), []byte("last")); err != nil {
						t.Fatal(err)
					}
				}
				r.ra.Close()
				if detached {
					r.channel()
					r.attach()
				}
				if message, err := r.rb.Receive(within(t)); string(message) != "last" {
					t.Errorf("received %q, %v", message, err)
				}
				if _, err := r.rb.Receive(within(t)); !errors.Is(err, io.EOF) {
					t.Errorf("after the last: %v", err)
				}
				synctest.Wait()
				if err := r.rb.Send(within(t), []byte("x")); !errors.Is(err, messages.ErrClosed) || !netio.IsRemote(err) {
					t.Errorf("send to who closed: %v", err)
				}
				if _, err := r.ra.Receive(within(t)); !errors.Is(err, messages.ErrClosed) {
					t.Errorf("receive after close: %v", err)
				}
				if err := r.ra.Confirm(within(t)); err != nil {
					t.Error(err)
				}
				<-r.ra.Ended()
				<-r.rb.Ended()
			})
		})
	}
}

// TestResumableReset: the other side gets why.
func TestResumableReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		if err := r.rb.Send(within(t), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := r.rb.Confirm(within(t)); err != nil {
			t.Fatal(err)
		}
		r.ra.Reset(messages.ErrReset)
		if _, err := r.rb.Receive(within(t)); !errors.Is(err, messages.ErrReset) || !netio.IsRemote(err) {
			t.Errorf("receive: %v", err)
		}
		if err := r.rb.Send(within(t), nil); !errors.Is(err, messages.ErrReset) {
			t.Errorf("send: %v", err)
		}
		if _, err := r.ra.Receive(within(t)); !errors.Is(err, messages.ErrReset) {
			t.Errorf("receive at who reset: %v", err)
		}
		<-r.rb.Ended()
		if len(r.rb.detached) > 0 {
			t.Errorf("detached: %v", <-r.rb.detached)
		}
	})
}

// TestResumableSupersedes: a later attempt takes the stream over from one whose
// channel is not known to be lost; a late earlier one does not.
func TestResumableSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		ctx := within(t)
		again := newLasting(r.a, 'a', 1<<20) // the opener's side, as if it had lost the channel
		var attempts []*conecv1.Resume
		for range 2 {
			out, err := r.ca.OpenFor(ctx, &conecv1.OpenStream{}, again.Resumable, false)
			if err != nil {
				t.Fatal(err)
			}
			in, err := r.cb.AcceptStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			open, err := in.AwaitOpen(ctx)
			if err != nil {
				t.Fatal(err)
			}
			attempts = append(attempts, open.GetResume())
			if len(attempts) == 1 {
				out.Reset(messages.ErrCanceled)
				continue
			}
			if err := in.AcceptFor(r.rb.Resumable, open.GetResume()); err != nil {
				t.Fatal(err)
			}
			if err := out.AwaitAnswer(ctx); err != nil {
				t.Fatal(err)
			}
			if err := in.AcceptFor(r.rb.Resumable, attempts[0]); !errors.Is(err, messages.ErrCanceled) {
				t.Errorf("an overtaken attempt: %v", err)
			}
			other := proto.CloneOf(attempts[1])
			other.Attempt, other.Incarnation = 9, bytes.Repeat([]byte{'z'}, netio.IDSize)
			if err := in.AcceptFor(r.rb.Resumable, other); !errors.Is(err, messages.ErrNoSuchStream) {
				t.Errorf("another process: %v", err)
			}
		}
		if err := r.rb.Send(ctx, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if message, err := again.Receive(ctx); string(message) != "x" {
			t.Errorf("received %q, %v", message, err)
		}
		if why := <-r.ra.detached; why == nil {
			t.Error("detached without a reason")
		}
	})
}

// TestResumableHostile: who breaks the rules of resumable streams loses the stream,
// and only that.
func TestResumableHostile(t *testing.T) {
	field := func(number protowire.Number, body []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), body)
	}
	frame := func(number protowire.Number, message proto.Message) []byte {
		body, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		return field(number, body)
	}
	opened := func(incarnation int, received uint64) []byte {
		return frame(2, &conecv1.StreamOpened{Incarnation: bytes.Repeat([]byte{'h'}, incarnation), Received: received})
	}
	good := opened(netio.IDSize, 0)
	tests := []struct {
		name string
		says []byte
		want error
	}{
		{"knows no resumable streams", opened(0, 0), messages.ErrVersion},
		{"short name", opened(3, 0), messages.ErrProtocol},
		{"has what was never sent", opened(netio.IDSize, 3), messages.ErrProtocol},
		{"acknowledges what was never sent", append(good, frame(5, &conecv1.StreamAck{Received: 3})...), messages.ErrProtocol},
		{"no acknowledgment", append(good, field(5, []byte{8})...), messages.ErrProtocol},
		{"long acknowledgment", append(good, field(5, make([]byte, 100))...), messages.ErrProtocol},
		{"ends too early", append(good, frame(6, &conecv1.StreamEnd{Messages: 1})...), messages.ErrProtocol},
		{"ends twice", append(append(good, frame(6, &conecv1.StreamEnd{})...), frame(6, &conecv1.StreamEnd{})...), messages.ErrProtocol},
		{"sends after the end", append(append(good, frame(6, &conecv1.StreamEnd{})...), field(4, []byte("x"))...), messages.ErrProtocol},
		{"unknown frame", append(good, field(7, nil)...), messages.ErrProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
				b := newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
				joinPorts(a.port, a.link, b.port, b.link)
				listener, err := b.transport.Listen(bareTLS(t, b.id, messages.ALPNChannel), switchQUIC)
				if err != nil {
					t.Fatal(err)
				}
				ca, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
				if err != nil {
					t.Fatal(err)
				}
				peer, err := listener.Accept(within(t))
				if err != nil {
					t.Fatal(err)
				}
				ra := newLasting(a, 'a', 1<<20)
				out, err := ca.OpenFor(within(t), &conecv1.OpenStream{}, ra.Resumable, false)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := peer.AcceptStream(within(t))
				if err != nil {
					t.Fatal(err)
				}
				if _, err = theirs.Write(test.says); err != nil {
					t.Fatal(err)
				}
				if err = out.AwaitAnswer(within(t)); err == nil {
					_, err = ra.Receive(within(t))
					for err == nil || errors.Is(err, io.EOF) {
						if err = ra.Send(within(t), []byte("x")); err == nil {
							err = ra.Confirm(within(t))
						}
					}
				}
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if ca.Err() != nil {
					t.Errorf("the channel ended: %v", ca.Err())
				}
			})
		})
	}
}
