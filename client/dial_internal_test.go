package client

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

func TestLookup(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, test := range map[string]struct {
		host  string
		local netip.Addr
		want  netip.Addr // invalid if it can not be reached
	}{
		"IPv4":                   {"192.0.2.1", netip.IPv4Unspecified(), v4},
		"IPv4 in IPv6":           {"::ffff:192.0.2.1", netip.IPv4Unspecified(), v4},
		"IPv4 from both":         {"192.0.2.1", netip.IPv6Unspecified(), v4},
		"IPv6 from both":         {"2001:db8::1", netip.IPv6Unspecified(), v6},
		"IPv6 from IPv6":         {"2001:db8::1", netip.IPv6Loopback(), v6},
		"IPv6 from IPv4":         {"2001:db8::1", netip.IPv4Unspecified(), netip.Addr{}},
		"IPv4 from IPv6 address": {"192.0.2.1", netip.IPv6Loopback(), netip.Addr{}},
	} {
		t.Run(name, func(t *testing.T) {
			addrs, err := lookup(t.Context(), test.host, 7, test.local)
			if !test.want.IsValid() {
				if err == nil {
					t.Errorf("found %v", addrs)
				}
				return
			}
			if err != nil || !slices.Equal(addrs, []netip.AddrPort{netip.AddrPortFrom(test.want, 7)}) {
				t.Errorf("found %v, %v, want %v", addrs, err, test.want)
			}
		})
	}
}

// dialed is what a test's dial does for one address.
type dialed struct {
	after time.Duration
	conn  *netio.Conn
	err   error
}

func TestDialFirst(t *testing.T) {
	first, second := &netio.Conn{}, &netio.Conn{}
	broken := errors.New("broken")
	const never = time.Hour
	for name, test := range map[string]struct {
		dials []dialed
		want  *netio.Conn
		after time.Duration
		begun int // addresses that were tried
	}{
		"one":                      {[]dialed{{time.Second, first, nil}}, first, time.Second, 1},
		"first is fast":            {[]dialed{{100 * time.Millisecond, first, nil}, {0, second, nil}}, first, 100 * time.Millisecond, 1},
		"first is slow":            {[]dialed{{never, nil, nil}, {100 * time.Millisecond, second, nil}}, second, 350 * time.Millisecond, 2},
		"first fails":              {[]dialed{{10 * time.Millisecond, nil, broken}, {10 * time.Millisecond, second, nil}}, second, 20 * time.Millisecond, 2},
		"two are slow":             {[]dialed{{never, nil, nil}, {never, nil, nil}, {0, second, nil}}, second, 500 * time.Millisecond, 3},
		"first is slow, and first": {[]dialed{{300 * time.Millisecond, first, nil}, {never, nil, nil}}, first, 300 * time.Millisecond, 2},
		"all fail":                 {[]dialed{{time.Second, nil, broken}, {time.Second, nil, broken}}, nil, 1250 * time.Millisecond, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addrs := make([]netip.AddrPort, len(test.dials))
				for i := range addrs {
					addrs[i] = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i))
				}
				var begun atomic.Int32
				start := time.Now()
				conn, err := dialFirst(t.Context(), addrs, func(ctx context.Context, addr netip.AddrPort) (*netio.Conn, error) {
					begun.Add(1)
					d := test.dials[addr.Port()]
					select {
					case <-time.After(d.after):
						return d.conn, d.err
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
				if conn != test.want || (err == nil) != (test.want != nil) {
					t.Errorf("got %p, %v, want %p", conn, err, test.want)
				}
				if test.want == nil && !errors.Is(err, broken) {
					t.Errorf("%v does not tell why", err)
				}
				if took := time.Since(start); took != test.after || int(begun.Load()) != test.begun {
					t.Errorf("took %v and %d tries, want %v and %d", took, begun.Load(), test.after, test.begun)
				}
			})
		})
	}
}

// Canceled, it waits for its goroutines and begins no more.
func TestDialFirstCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var begun atomic.Int32
		addrs := make([]netip.AddrPort, 5)
		_, err := dialFirst(ctx, addrs, func(ctx context.Context, _ netip.AddrPort) (*netio.Conn, error) {
			begun.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || begun.Load() != 2 {
			t.Errorf("%v after %d tries, want deadline exceeded after 2", err, begun.Load())
		}
	})
}

func TestSplitHostPort(t *testing.T) {
	for addr, want := range map[string]struct {
		host string
		port uint16
	}{
		"example.net":        {"example.net", DefaultPort},
		"example.net:7":      {"example.net", 7},
		"192.0.2.1":          {"192.0.2.1", DefaultPort},
		"[2001:db8::1]:7":    {"2001:db8::1", 7},
		"[2001:db8::1]":      {"2001:db8::1", DefaultPort},
		"":                   {},
		":7":                 {},
		"example.net:0":      {},
		"example.net:65536":  {},
		"example.net:":       {},
		"2001:db8::1":        {},
		"[2001:db8::1":       {},
		"example.net:7:8":    {},
		"example.net:minus1": {},
	} {
		host, port, err := splitHostPort(addr)
		if host != want.host || port != want.port || (err == nil) != (want.host != "") {
			t.Errorf("%q is %q, %d, %v, want %q, %d", addr, host, port, err, want.host, want.port)
		}
	}
}

func TestPlainErrors(t *testing.T) {
	if got := plain(messages.ErrReset); !errors.Is(got, messages.ErrReset) {
		t.Errorf("plain of a local error is %v", got)
	}
}
