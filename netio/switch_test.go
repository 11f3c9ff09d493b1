package netio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/conec-go/conec/netio"
)

// frame is a datagram with a header: kind 32 relay, 33 direct.
func frame(kind byte, number uint32, packet string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, number)
	return append(b, packet...)
}

var (
	coordinatorAddr = netip.MustParseAddrPort("10.0.0.1:1719")
	strangerAddr    = netip.MustParseAddrPort("10.0.0.9:9")
	peerAddr        = netip.MustParseAddrPort("10.0.0.2:2")
)

func TestSwitchAccepts(t *testing.T) {
	const packet = "@packet" // '@' is 64, the lowest byte of QUIC
	type drops = netio.Drops
	tests := []struct {
		name string
		from netip.AddrPort
		data func(tag uint32) []byte
		got  string // "" nothing, "port" or the address
		drop drops
	}{
		{"raw from coordinator", coordinatorAddr, func(uint32) []byte { return []byte(packet) }, "10.0.0.1", drops{}},
		{"raw from stranger", strangerAddr, func(uint32) []byte { return []byte(packet) }, "", drops{Unproven: 1}},
		{"raw from peer", peerAddr, func(uint32) []byte { return []byte(packet) }, "", drops{Unproven: 1}},
		{"direct from peer", peerAddr, func(tag uint32) []byte { return frame(33, tag, packet) }, "port", drops{}},
		{"direct from stranger", strangerAddr, func(tag uint32) []byte { return frame(33, tag, packet) }, "", drops{Unproven: 1}},
		{"direct from coordinator", coordinatorAddr, func(tag uint32) []byte { return frame(33, tag, packet) }, "", drops{Unproven: 1}},
		{"direct with wrong tag", peerAddr, func(tag uint32) []byte { return frame(33, tag+1, packet) }, "", drops{Unknown: 1}},
		{"direct with our route", peerAddr, func(uint32) []byte { return frame(33, 7, packet) }, "", drops{Unknown: 1}},
		{"relay from coordinator", coordinatorAddr, func(uint32) []byte { return frame(32, 7, packet) }, "port", drops{}},
		{"relay from peer", peerAddr, func(uint32) []byte { return frame(32, 7, packet) }, "", drops{Unproven: 1}},
		{"relay with wrong route", coordinatorAddr, func(uint32) []byte { return frame(32, 8, packet) }, "", drops{Unknown: 1}},
		{"relay with our tag", coordinatorAddr, func(tag uint32) []byte { return frame(32, tag, packet) }, "", drops{Unknown: 1}},
		{"empty direct", peerAddr, func(tag uint32) []byte { return frame(33, tag, "") }, "", drops{Malformed: 1}},
		{"short direct", peerAddr, func(uint32) []byte { return []byte{33, 1} }, "", drops{Malformed: 1}},
		{"direct with frame inside", peerAddr, func(tag uint32) []byte { return frame(33, tag, "\x21abc") }, "", drops{UnknownType: 1}},
		{"STUN", coordinatorAddr, func(uint32) []byte { return []byte{0, 1, 0, 0} }, "", drops{UnknownType: 1}},
		{"type 63", coordinatorAddr, func(uint32) []byte { return []byte("?abc") }, "", drops{UnknownType: 1}},
		{"bind at a client", coordinatorAddr, func(uint32) []byte { return netio.EncodeBind(nil, 1, 1, [32]byte{}) }, "", drops{UnknownType: 1}},
		{"bound without key", coordinatorAddr, func(uint32) []byte { return slices.Concat([]byte{35}, make([]byte, 50)) }, "", drops{Unknown: 1}},
		{"bound from stranger", strangerAddr, func(uint32) []byte { return slices.Concat([]byte{35}, make([]byte, 50)) }, "", drops{Unproven: 1}},
		{"short probe", peerAddr, func(uint32) []byte { return []byte{36} }, "", drops{Malformed: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n fakeNet
				link := n.link("10.0.0.3:3")
				s := newSwitch(t, netio.SwitchConfig{}, link)
				s.AllowRaw(coordinatorAddr)
				p := openPort(t, s)
				p.SetRoute(7)
				p.Allow(link, peerAddr)
				r := read(s)
				link.deliver(test.from, test.data(p.Tag()))
				var want []string
				switch test.got {
				case "":
				case "port":
					want = []string{p.Addr().IP.String() + " " + packet}
				default:
					want = []string{test.got + " " + packet}
				}
				if got := r.take(); !slices.Equal(got, want) {
					t.Errorf("QUIC got %q, want %q", got, want)
				}
				if got := s.Stats().Dropped; got != test.drop {
					t.Errorf("dropped %+v, want %+v", got, test.drop)
				}
			})
		})
	}
}

// TestSwitchMixedBatch has datagrams of all kinds in one batch, as GRO may deliver them.
func TestSwitchMixedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link := n.link("10.0.0.3:3")
		s := newSwitch(t, netio.SwitchConfig{}, link)
		s.AllowRaw(coordinatorAddr)
		p, q := openPort(t, s), openPort(t, s)
		p.SetRoute(7)
		q.SetRoute(8)
		q.Allow(link, coordinatorAddr)
		r := read(s)
		link.deliver(coordinatorAddr,
			[]byte("@home......"),
			frame(32, 7, "@to p1"),
			frame(32, 7, "@to p2"),
			frame(32, 8, "@to q1"),
			frame(33, q.Tag(), "@to q2"),
			frame(33, p.Tag(), "@never"),
			[]byte("?..........")[:11],
			frame(32, 7, "@to p3"),
			frame(32, 8, "@q3"))
		pa, qa := p.Addr().IP.String(), q.Addr().IP.String()
		want := []string{
			"10.0.0.1 @home......", pa + " @to p1", pa + " @to p2", qa + " @to q1", qa + " @to q2",
			pa + " @to p3", qa + " @q3",
		}
		if got := r.take(); !slices.Equal(got, want) {
			t.Errorf("QUIC got  %q\nwant %q", got, want)
		}
		if got, want := s.Stats().Dropped, (netio.Drops{Unproven: 1, UnknownType: 1}); got != want {
			t.Errorf("dropped %+v, want %+v", got, want)
		}
		if got, want := s.Stats().In, (netio.Traffic{Packets: 9, Bytes: 8*11 + 8}); got != want {
			t.Errorf("in %+v, want %+v", got, want)
		}
		if got := p.Stats(); got.RelayedIn != (netio.Traffic{Packets: 3, Bytes: 18}) || got.DirectIn != (netio.Traffic{}) {
			t.Errorf("p %+v", got)
		}
		if got := q.Stats(); got.RelayedIn != (netio.Traffic{Packets: 2, Bytes: 9}) || got.DirectIn != (netio.Traffic{Packets: 1, Bytes: 6}) {
			t.Errorf("q %+v", got)
		}
	})
}

func TestSwitchWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link, peer, coordinator := n.link("10.0.0.3:3"), n.link(peerAddr.String()), n.link(coordinatorAddr.String())
		s := newSwitch(t, netio.SwitchConfig{}, link)
		p := openPort(t, s)
		p.SetRoute(7)
		send := func() {
			if _, err := s.WriteTo([]byte("@hi"), p.Addr()); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(l *fakeLink, want []byte) {
			t.Helper()
			var got []byte
			select {
			case b := <-l.in:
				got = b.Buf[:b.N]
			default:
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v got %q, want %q", l.addr, got, want)
			}
		}
		send() // no path yet
		p.SetPath(netio.Path{Link: link, To: peerAddr})
		send() // no tag yet
		expect(peer, nil)
		p.SetPeerTag(9)
		send()
		expect(peer, frame(33, 9, "@hi"))
		p.SetPath(netio.Path{To: coordinatorAddr, Relayed: true})
		expect(coordinator, frame(32, 7, "@hi")) // again, as nothing was heard since
		p.SetPath(netio.Path{To: coordinatorAddr, Relayed: true})
		expect(coordinator, nil) // no change
		send()
		expect(coordinator, frame(32, 7, "@hi"))
		expect(peer, nil)
		p.SetPath(netio.Path{})
		send()
		expect(coordinator, nil)
		if got, want := s.Stats().Dropped, (netio.Drops{NoPath: 3}); got != want {
			t.Errorf("dropped %+v, want %+v", got, want)
		}
		if _, err := s.WriteTo([]byte("@raw"), net.UDPAddrFromAddrPort(coordinatorAddr)); err != nil {
			t.Fatal(err)
		}
		expect(coordinator, []byte("@raw"))
		p.SetPath(netio.Path{Link: link, To: peerAddr})
		expect(peer, frame(33, 9, "@hi")) // what found no path
		p.Close()
		p.Close()
		send()
		expect(peer, nil)
		if st := p.Stats(); st.DirectOut.Packets != 1 || st.RelayedOut.Bytes != 3 || st.LargestOut != 3 {
			t.Errorf("stats %+v", st)
		}
	})
}

// TestSwitchWriteError has a link that fails: QUIC must not notice, the owner must.
func TestSwitchWriteError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link := n.link("10.0.0.3:3")
		var told []error
		s := newSwitch(t, netio.SwitchConfig{
			OnWriteError: func(_ netio.Link, _ netip.AddrPort, err error) { told = append(told, err) },
		}, link)
		r := read(s)
		_ = link.Close()
		synctest.Wait()
		if _, err := s.WriteTo([]byte("@hi"), net.UDPAddrFromAddrPort(coordinatorAddr)); err != nil {
			t.Errorf("QUIC sees %v", err)
		}
		if len(told) != 1 || s.Stats().Dropped.WriteError != 1 {
			t.Errorf("told %v, dropped %+v", told, s.Stats().Dropped)
		}
		select {
		case <-r.done:
			t.Error("the dead link ended QUIC's read")
		default:
		}
		other := n.link("10.0.0.4:4")
		s.AllowRaw(coordinatorAddr)
		s.AddLink(other)
		other.deliver(coordinatorAddr, []byte("@again"))
		if got := r.take(); !slices.Equal(got, []string{"10.0.0.1 @again"}) {
			t.Errorf("got %q over the new link", got)
		}
	})
}

// stubbornLink fails every write in the same way.
type stubbornLink struct {
	*fakeLink
	err error
}

func (l stubbornLink) Write(netip.AddrPort, netio.Packets, bool) error { return l.err }

// TestSwitchHarmlessWriteErrors has errors that say nothing about the link.
func TestSwitchHarmlessWriteErrors(t *testing.T) {
	for err, want := range map[error]netio.Drops{
		syscall.EMSGSIZE:    {TooLarge: 1},
		syscall.EAGAIN:      {Full: 1},
		syscall.ENETUNREACH: {WriteError: 1},
	} {
		var n fakeNet
		told := false
		s := newSwitch(t, netio.SwitchConfig{
			OnWriteError: func(netio.Link, netip.AddrPort, error) { told = true },
		}, stubbornLink{n.link("10.0.0.3:3"), err})
		if _, err := s.WriteTo([]byte("@hi"), net.UDPAddrFromAddrPort(coordinatorAddr)); err != nil {
			t.Errorf("QUIC sees %v", err)
		}
		if got := s.Stats().Dropped; got != want || told != (want.WriteError != 0) {
			t.Errorf("%v: dropped %+v, told %v", err, got, told)
		}
	}
}

func TestSwitchReadDeadline(t *testing.T) {
	kernel := func(t *testing.T) {
		t.Helper()
		s := newSwitch(t, netio.SwitchConfig{}, listenLoopback(t))
		deadlines(t, s)
	}
	t.Run("socket", kernel)
	t.Run("two sockets", func(t *testing.T) {
		deadlines(t, newSwitch(t, netio.SwitchConfig{}, listenLoopback(t), listenLoopback(t)))
	})
	t.Run("fake link", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var n fakeNet
			deadlines(t, newSwitch(t, netio.SwitchConfig{}, n.link("10.0.0.3:3")))
		})
	})
}

func deadlines(t *testing.T, s *netio.Switch) {
	t.Helper()
	result := make(chan error)
	read := func() {
		_, _, err := s.ReadFrom(make([]byte, 10))
		result <- err
	}
	for range 3 {
		go read()
		_ = s.SetReadDeadline(time.Now())
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read ended with %v", err)
		}
		_ = s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		go read()
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read ended with %v", err)
		}
		_ = s.SetReadDeadline(time.Time{})
	}
	go read()
	_ = s.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read ended with %v after Close", err)
	}
	if _, err := s.WriteTo([]byte("@"), net.UDPAddrFromAddrPort(coordinatorAddr)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write ended with %v after Close", err)
	}
	if _, err := s.OpenPort(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("OpenPort after Close: %v", err)
	}
	_ = s.Close()
}

// TestSwitchAddLinkWhileReading wakes a reader that reads its only socket itself.
func TestSwitchAddLinkWhileReading(t *testing.T) {
	first, second := listenLoopback(t), listenLoopback(t)
	s := newSwitch(t, netio.SwitchConfig{AcceptRaw: true}, first)
	got := make(chan string)
	go func() {
		b := make([]byte, 100)
		for {
			n, _, err := s.ReadFrom(b)
			if err != nil {
				close(got)
				return
			}
			got <- string(b[:n])
		}
	}()
	conn := listenLoopback(t)
	defer func() { _ = conn.Close() }()
	say := func(l netio.Link, text string) {
		t.Helper()
		if err := conn.Write(l.LocalAddr(), netio.Packets{Data: []byte(text)}, true); err != nil {
			t.Fatal(err)
		}
		if have := <-got; have != text {
			t.Fatalf("got %q, want %q", have, text)
		}
	}
	say(first, "@alone")
	s.AddLink(second)
	say(second, "@second")
	say(first, "@first")
	// An answer leaves through the link on which the other side was heard last.
	if _, err := s.WriteTo([]byte("@answer"), net.UDPAddrFromAddrPort(conn.LocalAddr())); err != nil {
		t.Fatal(err)
	}
	var b netio.Batch
	if err := conn.Read(&b); err != nil || b.From != first.LocalAddr() {
		t.Errorf("answer came from %v (%v), want %v", b.From, err, first.LocalAddr())
	}
	s.RemoveLink(first)
	say(second, "@still")
	_ = s.Close()
	for range got {
	}
}

func TestSwitchLimits(t *testing.T) {
	var n fakeNet
	s := newSwitch(t, netio.SwitchConfig{MaxPorts: 3}, n.link("10.0.0.3:3"))
	ports := []*netio.Port{openPort(t, s), openPort(t, s), openPort(t, s)}
	if _, err := s.OpenPort(); !errors.Is(err, netio.ErrTooMany) {
		t.Errorf("fourth port: %v", err)
	}
	ports[0].Close()
	openPort(t, s)
	if ports[1].Tag() == ports[2].Tag() || ports[1].Addr().IP.Equal(ports[2].Addr().IP) {
		t.Error("two ports are the same")
	}
}

func TestPortSourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link := n.link("10.0.0.3:3")
		s := newSwitch(t, netio.SwitchConfig{}, link)
		p, r := openPort(t, s), read(s)
		addr := func(i int) netip.AddrPort { return netip.AddrPortFrom(peerAddr.Addr(), uint16(i+1)) }
		for i := range netio.MaxSources + 1 {
			p.Allow(link, addr(i))
		}
		link.deliver(addr(0), frame(33, p.Tag(), "@oldest"))
		link.deliver(addr(1), frame(33, p.Tag(), "@second"))
		p.Disallow(link, addr(2))
		link.deliver(addr(2), frame(33, p.Tag(), "@third"))
		want := []string{p.Addr().IP.String() + " @second"}
		if got := r.take(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestSwitchNoise sends random bytes: nothing may get through to QUIC.
func TestSwitchNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link := n.link("10.0.0.3:3")
		s := newSwitch(t, netio.SwitchConfig{}, link)
		s.AllowRaw(coordinatorAddr)
		p := openPort(t, s)
		p.SetRoute(7)
		p.SetProbeKeys([32]byte{1}, [32]byte{2}, func(netio.Probe) { t.Error("noise was a probe") })
		r := read(s)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 2000 {
			b := make([]byte, 1+random.IntN(200))
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			b[0] = 30 + byte(i%40)
			if i%3 == 0 && len(b) > 5 {
				binary.BigEndian.PutUint32(b[1:], p.Tag())
			}
			link.deliver(strangerAddr, b)
			if i%512 == 0 {
				synctest.Wait()
			}
		}
		if got := r.take(); len(got) != 0 {
			t.Errorf("QUIC got %q", got)
		}
		if st := s.Stats(); st.In.Packets != 2000 || st.Out.Packets != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestSwitchReadsNothingOnEmptyBuffers(t *testing.T) {
	var n fakeNet
	s := newSwitch(t, netio.SwitchConfig{}, n.link("10.0.0.3:3"))
	if got, err := s.ReadBatch([]ipv4.Message{}, 0); got != 0 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}

// TestQUICInBubble runs QUIC over links that are no sockets, on virtual time, and leaves no goroutine behind.
func TestQUICInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		la, lb := n.link("10.0.0.3:3"), n.link("10.0.0.4:4")
		a, b := newSwitch(t, netio.SwitchConfig{}, la), newSwitch(t, netio.SwitchConfig{}, lb)
		pa, pb := openPort(t, a), openPort(t, b)
		joinPorts(pa, la, pb, lb)
		s, r := quicStream(t, a, b, pa.Addr())
		transferHash(t, s, r, 1<<20)
		if st := pa.Stats(); st.LargestOut <= 1200 {
			t.Errorf("largest packet %d: path MTU discovery is off", st.LargestOut)
		}
	})
}
