package messages_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

func TestEveryCodeHasAnErrorAndBack(t *testing.T) {
	for number := range conecv1.Code_name {
		code := conecv1.Code(number)
		if code == conecv1.Code_CODE_UNSPECIFIED {
			continue
		}
		err := messages.FromCode(code, "")
		if _, ok := errors.AsType[*messages.CodeError](err); ok {
			t.Errorf("%v has no sentinel", code)
			continue
		}
		if back, reason := messages.ToCode(err); back != code || reason != "" {
			t.Errorf("%v → %v → %v %q", code, err, back, reason)
		}
		wrapped := fmt.Errorf("here: %w", err)
		if back, reason := messages.ToCode(wrapped); back != code || !strings.Contains(reason, "here") {
			t.Errorf("wrapped %v → %v %q", code, back, reason)
		}
		withText := messages.FromCode(code, "because")
		if !errors.Is(withText, err) {
			t.Errorf("%v with text does not match %v", code, err)
		}
		if back, reason := messages.ToCode(withText); back != code || reason != "because" {
			t.Errorf("%v with text → %v %q", code, back, reason)
		}
	}
}

func TestUnknownCodeKeepsItsText(t *testing.T) {
	err := messages.FromCode(conecv1.Code(9999), "moon phase")
	if got := err.Error(); !strings.Contains(got, "9999") || !strings.Contains(got, "moon phase") {
		t.Errorf("text is %q", got)
	}
	if code, reason := messages.ToCode(err); code != 9999 || reason != "moon phase" {
		t.Errorf("ToCode gives %v %q", code, reason)
	}
}

func TestBroaderMatches(t *testing.T) {
	tests := []struct {
		err, broad error
	}{
		{messages.ErrClosed, net.ErrClosed},
		{messages.ErrSuperseded, net.ErrClosed},
		{messages.ErrShutdown, net.ErrClosed},
		{messages.ErrReset, net.ErrClosed},
		{messages.ErrTimeout, context.DeadlineExceeded},
		{messages.ErrCanceled, context.Canceled},
		{messages.FromCode(conecv1.Code_CODE_RESET, "x"), net.ErrClosed},
		{&messages.OpError{Op: "send", Err: messages.ErrClosed}, net.ErrClosed},
	}
	for _, test := range tests {
		if !errors.Is(test.err, test.broad) {
			t.Errorf("%v does not match %v", test.err, test.broad)
		}
	}
	if errors.Is(messages.ErrNoSuchPeer, net.ErrClosed) {
		t.Error("ErrNoSuchPeer matches net.ErrClosed")
	}
}

func TestToCodeOfForeignErrors(t *testing.T) {
	tests := []struct {
		err  error
		want conecv1.Code
	}{
		{nil, conecv1.Code_CODE_UNSPECIFIED},
		{context.Canceled, conecv1.Code_CODE_CANCELED},
		{context.DeadlineExceeded, conecv1.Code_CODE_TIMEOUT},
		{net.ErrClosed, conecv1.Code_CODE_CLOSED},
		{errors.New("disk on fire"), conecv1.Code_CODE_INTERNAL},
	}
	for _, test := range tests {
		if code, _ := messages.ToCode(test.err); code != test.want {
			t.Errorf("ToCode(%v) = %v, want %v", test.err, code, test.want)
		}
	}
}

func TestOpErrorText(t *testing.T) {
	err := &messages.OpError{Op: "open stream", Peer: "bob", Err: messages.ErrNoSuchPeer}
	if got, want := err.Error(), `open stream to "bob": no such peer`; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "alice", "a1", "web-1.example_x.net", strings.Repeat("x", 63)} {
		if err := messages.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "Alice", "-a", "a-", "a b", "ä", "a/b", "а", "a\x00", strings.Repeat("x", 64)} {
		if err := messages.CheckName(bad); !errors.Is(err, messages.ErrNameInvalid) {
			t.Errorf("%q: %v, want ErrNameInvalid", bad, err)
		}
	}
}

func TestClipKeepsCharactersWhole(t *testing.T) {
	if got := messages.Clip("aé", 2); got != "a" {
		t.Errorf("got %q", got)
	}
}

func FuzzToAddrPort(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint32(1719))
	f.Add([]byte{}, uint32(0))
	f.Add(make([]byte, 16), uint32(70_000))
	f.Fuzz(func(t *testing.T, ip []byte, port uint32) {
		addr, err := messages.ToAddrPort(&conecv1.Address{Ip: ip, Port: port})
		if err != nil {
			if !errors.Is(err, messages.ErrProtocol) {
				t.Errorf("error is %v", err)
			}
			return
		}
		if back, err := messages.ToAddrPort(messages.FromAddrPort(addr)); err != nil || back != addr {
			t.Errorf("%v becomes %v, %v", addr, back, err)
		}
	})
}
