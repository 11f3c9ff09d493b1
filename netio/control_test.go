package netio_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// controls opens the control stream of a connection that a dialed; the first message has come.
func controls(t *testing.T, a, b *netio.Conn) (dialed, accepted *netio.Control) {
	t.Helper()
	dialed, err := a.OpenControl(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err = dialed.Send(attach(0)); err != nil {
		t.Fatal(err)
	}
	if accepted, err = b.AcceptControl(within(t)); err != nil {
		t.Fatal(err)
	}
	if got, err := accepted.Receive(); err != nil || !proto.Equal(got, attach(0)) {
		t.Fatal(got, err)
	}
	return dialed, accepted
}

// attachSized is a control message whose body has so many bytes.
func attachSized(t *testing.T, size int) *conecv1.Control {
	t.Helper()
	for n := size; n >= 0; n-- {
		message := &conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: strings.Repeat("x", n)}}}
		if proto.Size(message) == size {
			return message
		}
	}
	t.Fatal("no message has", size, "bytes")
	return nil
}

func TestControlSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := home(t, nil, nil)
		dialed, accepted := controls(t, a, b)
		sizes := []int{2, 5, 255, 256, 257, 1000, 1024, 5000, 64 << 10, 10, 64 << 10, 2}
		for _, way := range [][2]*netio.Control{{dialed, accepted}, {accepted, dialed}} {
			for _, size := range sizes {
				want := attachSized(t, size)
				if err := way[0].Send(want); err != nil {
					t.Fatal(size, err)
				}
				if got, err := way[1].Receive(); err != nil || !proto.Equal(got, want) {
					t.Errorf("message of %d bytes: %v", size, err)
				}
			}
			if err := way[0].Send(attachSized(t, 64<<10+1)); !errors.Is(err, messages.ErrTooLarge) {
				t.Errorf("one byte too large: %v", err)
			}
			if err := way[0].Send(attach(1)); err != nil {
				t.Error(err)
			}
			if got, err := way[1].Receive(); err != nil || !proto.Equal(got, attach(1)) {
				t.Error(got, err)
			}
		}
		if err := dialed.Send(&conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: "\xff"}}}); err == nil {
			t.Error("sent what protobuf can not say")
		}
	})
}

// TestControlUnread sends to a peer that does not read: Send says so, does not block, and what it took arrives.
func TestControlUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := home(t, nil, nil)
		dialed, accepted := controls(t, a, b)
		sent := 0
		for range 3 { // the later rounds find it full
			for {
				err := dialed.Send(attachSized(t, 10_000+sent))
				if errors.Is(err, messages.ErrLimit) {
					break
				}
				if err != nil || sent > 1000 {
					t.Fatal(sent, err)
				}
				sent++
			}
			settle()
		}
		for i := range sent {
			if got, err := accepted.Receive(); err != nil || proto.Size(got) != 10_000+i {
				t.Fatalf("message %d of %d: %d bytes, %v", i, sent, proto.Size(got), err)
			}
		}
		settle()
		if err := dialed.Send(attach(7)); err != nil {
			t.Error(err)
		}
		if got, err := accepted.Receive(); err != nil || !proto.Equal(got, attach(7)) {
			t.Error(got, err)
		}
	})
}

func TestControlConcurrentSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 8, 100
		a, b := home(t, nil, nil)
		dialed, accepted := controls(t, a, b)
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				for i := range each {
					if err := dialed.Send(attach(s*each + i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		last := [senders]int{}
		for n := range senders * each {
			got, err := accepted.Receive()
			if err != nil {
				t.Fatal(n, err)
			}
			var i int
			if _, err := fmt.Sscanf(got.GetAttach().GetName(), "message %d", &i); err != nil {
				t.Fatal(err)
			}
			if i%each != last[i/each] {
				t.Errorf("sender %d: message %d, want %d", i/each, i%each, last[i/each])
			}
			last[i/each]++
		}
		sending.Wait()
	})
}

func TestControlEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := home(t, nil, nil)
		dialed, accepted := controls(t, a, b)
		received := make(chan error, 2)
		for _, control := range []*netio.Control{dialed, accepted} {
			go func() {
				_, err := control.Receive()
				received <- err
			}()
		}
		a.Close(fmt.Errorf("%w: bye", messages.ErrClosed))
		remote := 0
		for range 2 {
			err := <-received
			if !errors.Is(err, messages.ErrClosed) || errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if netio.IsRemote(err) {
				remote++
			}
		}
		if remote != 1 {
			t.Errorf("%d ends think that it was the other one", remote)
		}
		for range 2 { // the first may be queued before the pump sees the end
			settle()
			if err := accepted.Send(attach(1)); err != nil && !errors.Is(err, messages.ErrClosed) {
				t.Error(err)
			}
		}
		if err := accepted.Send(attach(1)); !errors.Is(err, messages.ErrClosed) || !netio.IsRemote(err) {
			t.Errorf("send: %v", err)
		}
	})
}
