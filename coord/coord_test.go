package coord_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

// start runs a coordinator as long as the test.
func start(t *testing.T, config *coord.Config) *coord.Coordinator {
	t.Helper()
	c, err := coord.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// leavesNothing fails the test if a goroutine remains when all coordinators that
// it starts from here on are closed.
func leavesNothing(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.After(10 * time.Second)
		for left := goroutines(); left != ""; left = goroutines() {
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				t.Fatalf("goroutines remain:\n%s", left)
			}
		}
	})
}

// goroutines returns the stacks of goroutines of ours and of QUIC's, but for those
// that run tests.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var left []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		ours := strings.Contains(stack, "conec-go/conec") || strings.Contains(stack, "quic-go")
		if ours && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// Without a configuration there are a port, a certificate and its fingerprint.
func TestStart(t *testing.T) {
	leavesNothing(t)
	c := start(t, &coord.Config{Addr: "127.0.0.1:0"})
	if !c.Addr().IsValid() || c.Addr().Port() == 0 {
		t.Errorf("address %v", c.Addr())
	}
	if !strings.HasPrefix(c.Fingerprint(), "sha256:") {
		t.Errorf("fingerprint %q", c.Fingerprint())
	}
	if stats := c.Stats(); stats.Connections+stats.Attached+stats.Refused+stats.Channels+stats.Pending+stats.Introductions != 0 {
		t.Errorf("a fresh coordinator has %+v", stats)
	}
	other := start(t, &coord.Config{Addr: "127.0.0.1:0"})
	if other.Fingerprint() == c.Fingerprint() {
		t.Error("two coordinators made the same certificate")
	}
}

// The address is said as it was given, and nothing is left of what has failed.
func TestStartFails(t *testing.T) {
	leavesNothing(t)
	c := start(t, &coord.Config{Addr: "127.0.0.1:0"})
	for _, addr := range []string{c.Addr().String(), "192.0.2.1:0", "no.such.host.invalid:0"} {
		_, err := coord.Start(t.Context(), &coord.Config{Addr: addr})
		if err == nil || !strings.HasPrefix(err.Error(), "listen on "+addr) {
			t.Errorf("start on %s: %v", addr, err)
		}
	}
}

// What is asked of a coordinator that is closed, is an error that says so.
func TestClosed(t *testing.T) {
	leavesNothing(t)
	c := start(t, &coord.Config{Addr: "127.0.0.1:0"})
	if err := c.Introduce(t.Context(), "alice", "bob", ""); !errors.Is(err, messages.ErrNoSuchPeer) {
		t.Errorf("introduce nobody: %v", err)
	}
	for range 2 {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := c.Introduce(t.Context(), "alice", "bob", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("introduce after close: %v, want closed", err)
	}
	if _, err := c.Usage(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("usage after close: %v, want closed", err)
	}
	_ = c.Stats()
	start(t, &coord.Config{Addr: c.Addr().String()}) // the port is free again
}

// TCP has the number of the UDP port, unless that is not wanted; one that is taken is said.
func TestTCPPort(t *testing.T) {
	leavesNothing(t)
	c := start(t, &coord.Config{Addr: "127.0.0.1:0"})
	if c.TCPAddr() != c.Addr() {
		t.Errorf("TCP on %v, UDP on %v", c.TCPAddr(), c.Addr())
	}
	if c := start(t, &coord.Config{Addr: "127.0.0.1:0", TCPAddr: "none"}); c.TCPAddr().IsValid() {
		t.Errorf("TCP on %v, want none", c.TCPAddr())
	}
	if c := start(t, &coord.Config{Addr: "127.0.0.1:0", TCPAddr: "127.0.0.1:0"}); !c.TCPAddr().IsValid() || c.TCPAddr() == c.Addr() {
		t.Errorf("TCP on %v, UDP on %v, want a port of its own", c.TCPAddr(), c.Addr())
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = coord.Start(t.Context(), &coord.Config{Addr: addr})
	if err == nil || !strings.HasPrefix(err.Error(), "listen on "+addr+`: TCP, for clients whose network blocks UDP (TCPAddr can name another address, or "none"): `) {
		t.Errorf("error %v, want that TCP can not have the port", err)
	}
	start(t, &coord.Config{Addr: addr, TCPAddr: "none"}) // nothing was left open
}
