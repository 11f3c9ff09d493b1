package netio_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// collect reads until it has n datagrams and returns them and the number of batches.
func collect(t *testing.T, l *netio.UDPLink, n int) (got [][]byte, batches []netio.Batch) {
	t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	for len(got) < n {
		var b netio.Batch
		if err := l.Read(&b); err != nil {
			t.Fatalf("after %d datagrams: %v", len(got), err)
		}
		for off := 0; off < b.N; off += b.Segment {
			got = append(got, b.Buf[off:min(off+b.Segment, b.N)])
		}
		batches = append(batches, b)
	}
	return got, batches
}

func TestUDPLinkSegments(t *testing.T) {
	header := []byte("head:")
	tests := []struct {
		name          string
		size, segment int
		header        []byte
		want          int
	}{
		{"one", 100, 0, nil, 1},
		{"one with header", 100, 0, header, 1},
		{"segment larger than data", 100, 200, header, 1},
		{"equal", 4800, 1200, nil, 4},
		{"equal with header", 4800, 1200, header, 4},
		{"short last", 5000, 1200, header, 5},
		{"more than 64", 10000, 100, header, 100},
		{"more than 64 KiB", 100_000, 1400, header, 72},
		{"empty", 0, 0, header, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := listenLoopback(t), listenLoopback(t)
			defer func() { _, _ = a.Close(), b.Close() }()
			data := make([]byte, test.size)
			for i := range data {
				data[i] = byte(i / 7)
			}
			p := netio.Packets{Header: test.header, Data: data, Segment: test.segment, ECN: 2}
			if err := a.Write(b.LocalAddr(), p, true); err != nil {
				t.Fatal(err)
			}
			got, batches := collect(t, b, test.want)
			var joined []byte
			for i, d := range got {
				rest, ok := bytes.CutPrefix(d, test.header)
				if !ok {
					t.Fatalf("datagram %d has no header: %q", i, d[:min(10, len(d))])
				}
				if test.segment > 0 && i < len(got)-1 && len(rest) != test.segment {
					t.Errorf("datagram %d has %d bytes", i, len(rest))
				}
				joined = append(joined, rest...)
			}
			if !bytes.Equal(joined, data) {
				t.Errorf("%d datagrams with %d bytes, not what was sent", len(got), len(joined))
			}
			if batches[0].From != a.LocalAddr() {
				t.Errorf("from %v, want %v", batches[0].From, a.LocalAddr())
			}
		})
	}
}

func TestListenUDP(t *testing.T) {
	tests := []struct {
		addr  string
		is4   bool
		reach string
	}{
		{"127.0.0.1:0", true, "127.0.0.1"},
		{"0.0.0.0:0", true, "127.0.0.1"},
		{"[::]:0", false, "127.0.0.1"},
		{"[::]:0", false, "::1"},
		{"[::1]:0", false, "::1"},
	}
	for _, test := range tests {
		t.Run(test.addr+" "+test.reach, func(t *testing.T) {
			l, err := netio.ListenUDP(netip.MustParseAddrPort(test.addr))
			if err != nil {
				t.Skipf("this host cannot: %v", err)
			}
			if l.LocalAddr().Addr().Is4() != test.is4 || l.LocalAddr().Port() == 0 {
				t.Errorf("bound to %v", l.LocalAddr())
			}
			to := netip.AddrPortFrom(netip.MustParseAddr(test.reach), l.LocalAddr().Port())
			if err := l.Write(to, netio.Packets{Data: []byte("hi"), ECN: 1}, true); err != nil {
				t.Fatal(err)
			}
			got, batches := collect(t, l, 1)
			if string(got[0]) != "hi" || batches[0].From != to {
				t.Errorf("got %q from %v, want it from %v", got[0], batches[0].From, to)
			}
			if len(l.Addrs()) == 0 || len(l.Addrs()) > netio.MaxAddrs {
				t.Errorf("reachable at %v", l.Addrs())
			}
			_ = l.Close()
			_ = l.Close()
			if err := l.Read(&netio.Batch{}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
			if err := l.Write(to, netio.Packets{Data: []byte("hi")}, true); err == nil {
				t.Error("write after Close")
			}
		})
	}
	if _, err := netio.ListenUDP(netip.MustParseAddrPort("192.0.2.1:1")); err == nil {
		t.Error("listened on somebody else's address")
	}
	l, err := netio.ListenUDP(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// A link on an interface has its addresses.
func TestListenUDPOn(t *testing.T) {
	name := ""
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, ifi := range interfaces {
		if ifi.Flags&net.FlagLoopback != 0 && ifi.Flags&net.FlagUp != 0 {
			name = ifi.Name
		}
	}
	if name == "" {
		t.Skip("there is no loopback interface that is up")
	}
	a, err := netio.ListenUDPOn(name)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := listenLoopback(t)
	defer func() { _, _ = a.Close(), b.Close() }()
	addrs := a.Addrs()
	if len(addrs) == 0 || addrs[0].Port() != a.LocalAddr().Port() {
		t.Fatalf("addresses %v of a socket at %v", addrs, a.LocalAddr())
	}
	for _, addr := range addrs {
		if !addr.Addr().IsLoopback() {
			t.Errorf("%v is no address of %s", addr, name)
		}
	}
	if err := a.Write(b.LocalAddr(), netio.Packets{Data: []byte("hello")}, true); err != nil {
		t.Fatal(err)
	}
	got, batches := collect(t, b, 1)
	if string(got[0]) != "hello" || batches[0].From.Port() != a.LocalAddr().Port() {
		t.Errorf("got %q from %v", got[0], batches[0].From)
	}
	if _, err := netio.ListenUDPOn("no such interface"); err == nil {
		t.Error("a link on an interface that is not there")
	}
}

func TestUDPLinkReadEnds(t *testing.T) {
	l := listenLoopback(t)
	ended := make(chan error)
	go func() { ended <- l.Read(&netio.Batch{}) }()
	_ = l.SetReadDeadline(time.Now())
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	_ = l.SetReadDeadline(time.Time{})
	go func() { ended <- l.Read(&netio.Batch{}) }()
	_ = l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("close: %v", err)
	}
}

// TestUDPLinkTooLarge sends more than fits one datagram: an error, and the link lives on.
func TestUDPLinkTooLarge(t *testing.T) {
	a, b := listenLoopback(t), listenLoopback(t)
	defer func() { _, _ = a.Close(), b.Close() }()
	if err := a.Write(b.LocalAddr(), netio.Packets{Data: make([]byte, 70_000)}, false); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("error %v", err)
	}
	if err := a.Write(netip.MustParseAddrPort("[::1]:1"), netio.Packets{Data: []byte("hi")}, false); err == nil {
		t.Error("no error for the wrong family")
	}
	if err := a.Write(b.LocalAddr(), netio.Packets{Data: []byte("hi")}, false); err != nil {
		t.Error(err)
	}
	collect(t, b, 1)
}
