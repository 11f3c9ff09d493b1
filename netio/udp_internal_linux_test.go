package netio

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func udpPair(t *testing.T, addr string) (a, b *UDPLink) {
	t.Helper()
	for _, l := range []**UDPLink{&a, &b} {
		var err error
		if *l, err = ListenUDP(netip.MustParseAddrPort(addr)); err != nil {
			t.Skipf("this host cannot: %v", err)
		}
		t.Cleanup(func() { _ = (*l).Close() })
	}
	_ = b.SetReadDeadline(time.Now().Add(5 * time.Second))
	return a, b
}

// TestUDPLinkCoalesces is about speed: one write of many datagrams is one read of all of them.
func TestUDPLinkCoalesces(t *testing.T) {
	a, b := udpPair(t, "127.0.0.1:0")
	if a.sock.noGSO.Load() {
		t.Skip("no UDP_SEGMENT")
	}
	if err := a.Write(b.LocalAddr(), Packets{Header: []byte("12345"), Data: make([]byte, 12000), Segment: 1200}, true); err != nil {
		t.Fatal(err)
	}
	var got Batch
	if err := b.Read(&got); err != nil {
		t.Fatal(err)
	}
	if got.N != 10*1205 || got.Segment != 1205 {
		t.Errorf("read %d bytes in segments of %d", got.N, got.Segment)
	}
}

// TestUDPLinkWithoutGSO has a kernel that refused segmentation.
func TestUDPLinkWithoutGSO(t *testing.T) {
	a, b := udpPair(t, "127.0.0.1:0")
	a.sock.noGSO.Store(true)
	if err := a.Write(b.LocalAddr(), Packets{Header: []byte("12345"), Data: make([]byte, 3000), Segment: 1200}, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1205, 1205, 605} {
		var got Batch
		if err := b.Read(&got); err != nil || got.N != want {
			t.Fatalf("read %d bytes, %v, want %d", got.N, err, want)
		}
	}
}

func TestUDPLinkECNAndLocal(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		a, b := udpPair(t, "[::]:0")
		to := netip.AddrPortFrom(netip.MustParseAddr(addr), b.LocalAddr().Port())
		for ecn := range uint8(4) {
			p := Packets{Data: make([]byte, 200), Segment: 100, ECN: ecn, Local: to.Addr()}
			if err := a.Write(to, p, true); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 200; {
				var got Batch
				if err := b.Read(&got); err != nil {
					t.Fatal(err)
				}
				if got.ECN != ecn || got.Local != to.Addr() {
					t.Errorf("%v: ECN %d, want %d; local %v", addr, got.ECN, ecn, got.Local)
				}
				n += got.N
			}
		}
	}
	// On Linux every address in 127.0.0.0/8 is local, so that a socket can be asked to use one of them.
	a, b := udpPair(t, "0.0.0.0:0")
	local := netip.MustParseAddr("127.0.0.77")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.78"), b.LocalAddr().Port())
	if err := a.Write(to, Packets{Data: []byte("hi"), Local: local}, true); err != nil {
		t.Fatal(err)
	}
	var got Batch
	if err := b.Read(&got); err != nil || got.From.Addr() != local || got.Local != to.Addr() {
		t.Errorf("from %v to %v, %v", got.From, got.Local, err)
	}
}

// TestSwitchAnswersFromTheSameAddress is about hosts with several addresses: an answer must come from where the question went.
func TestSwitchAnswersFromTheSameAddress(t *testing.T) {
	link, err := ListenUDP(netip.MustParseAddrPort("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSwitch(SwitchConfig{AcceptRaw: true}, link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	asks, _ := udpPair(t, "127.0.0.1:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.78"), link.LocalAddr().Port())
	if err := asks.Write(to, Packets{Data: []byte("@hi")}, true); err != nil {
		t.Fatal(err)
	}
	_, from, err := s.ReadFrom(make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteTo([]byte("@answer"), from); err != nil {
		t.Fatal(err)
	}
	_ = asks.SetReadDeadline(time.Now().Add(5 * time.Second))
	var got Batch
	if err := asks.Read(&got); err != nil || got.From != to {
		t.Errorf("answer from %v, %v, want %v", got.From, err, to)
	}
}

func TestParseOOB(t *testing.T) {
	var w udpWriter
	w.name.Family = unix.AF_INET6
	w.name.Addr[0] = 0xfd
	w.appendECN(2)
	copy(w.appendControl(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20), "address")
	w.appendControl(unix.SOL_UDP, unix.UDP_SEGMENT, 2)[1] = 4
	if segment, ecn := parseOOB(w.oob[:w.oobLen]); segment != 1024 || ecn != 2 {
		t.Errorf("segment %d, ECN %d", segment, ecn)
	}
	if segment, ecn := parseOOB(ecnControl(3)); segment != 0 || ecn != 3 {
		t.Errorf("segment %d, ECN %d", segment, ecn)
	}
	one := make([]byte, unix.CmsgSpace(1))
	putControl(one, unix.IPPROTO_IP, unix.IP_TOS, 1)[0] = 0xff
	if _, ecn := parseOOB(one); ecn != 3 {
		t.Errorf("ECN %d of a one-byte TOS", ecn)
	}
}

// TestSwitchECN follows the ECN bits from a link to QUIC and from QUIC to a link.
func TestSwitchECN(t *testing.T) {
	a, b := udpPair(t, "127.0.0.1:0")
	s, err := NewSwitch(SwitchConfig{AcceptRaw: true}, b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	p, err := s.OpenPort()
	if err != nil {
		t.Fatal(err)
	}
	p.SetPeerTag(1)
	p.SetPath(Path{Link: b, To: a.LocalAddr()})
	_ = a.SetReadDeadline(time.Now().Add(5 * time.Second))
	for _, ecn := range []uint8{1, 2, 0, 3} {
		if err := a.Write(b.LocalAddr(), Packets{Data: []byte("@hi"), ECN: ecn}, true); err != nil {
			t.Fatal(err)
		}
		ms := emptyMessages(1)
		if _, err := s.ReadBatch(ms, 0); err != nil {
			t.Fatal(err)
		}
		if _, got := parseOOB(ms[0].OOB[:ms[0].NN]); got != ecn || (ecn == 0) != (ms[0].NN == 0) {
			t.Errorf("QUIC got ECN %d in %d bytes, want %d", got, ms[0].NN, ecn)
		}
		var oob []byte
		if ecn != 0 {
			oob = ecnControl(ecn)
		}
		if _, _, err := s.WriteMsgUDP([]byte("@hi"), oob, p.Addr()); err != nil {
			t.Fatal(err)
		}
		var got Batch
		if err := a.Read(&got); err != nil || got.ECN != ecn {
			t.Errorf("the link got ECN %d, want %d (%v)", got.ECN, ecn, err)
		}
	}
}

func FuzzParseOOB(f *testing.F) {
	f.Add(ecnControl(1))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, oob []byte) {
		if segment, ecn := parseOOB(oob); segment < 0 || segment > 1<<16 || ecn > 3 {
			t.Errorf("segment %d, ECN %d", segment, ecn)
		}
	})
}
