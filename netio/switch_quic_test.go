package netio_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/netio"
)

// switchTLS makes TLS configurations for the two ends of a QUIC connection.
func switchTLS(tb testing.TB) (accepting, dialing *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"peer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	accepting = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"test"},
	}
	return accepting, &tls.Config{RootCAs: roots, ServerName: "peer", NextProtos: []string{"test"}}
}

var switchQUIC = &quic.Config{InitialPacketSize: 1200, MaxIdleTimeout: 10 * time.Second, EnableDatagrams: true}

// quicStream connects two packet conns with QUIC and opens one stream from the first to the second.
func quicStream(tb testing.TB, from, to net.PacketConn, addr net.Addr) (*quic.SendStream, *quic.ReceiveStream) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	accepting, dialing := switchTLS(tb)
	dialer, acceptor := &quic.Transport{Conn: from}, &quic.Transport{Conn: to}
	tb.Cleanup(func() {
		_ = dialer.Close()
		_ = acceptor.Close()
	})
	listener, err := acceptor.Listen(accepting, switchQUIC)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := dialer.Dial(ctx, addr, dialing, switchQUIC)
	if err != nil {
		tb.Fatal(err)
	}
	in, err := listener.Accept(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := out.OpenUniStream()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.Write([]byte{1}); err != nil {
		tb.Fatal(err)
	}
	r, err := in.AcceptUniStream(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		tb.Fatal(err)
	}
	return s, r
}

// loopbackAny is an address at which the system chooses the port.
var loopbackAny = netip.MustParseAddrPort("127.0.0.1:0")

func listenLoopback(tb testing.TB) *netio.UDPLink {
	tb.Helper()
	link, err := netio.ListenUDP(loopbackAny)
	if err != nil {
		tb.Fatal(err)
	}
	return link
}

// newSwitch makes a switch that is closed when the test ends.
func newSwitch(tb testing.TB, cfg netio.SwitchConfig, links ...netio.Link) *netio.Switch {
	tb.Helper()
	s, err := netio.NewSwitch(cfg, links...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func openPort(tb testing.TB, s *netio.Switch) *netio.Port {
	tb.Helper()
	p, err := s.OpenPort()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// directPorts connects the ports of two switches, one link each, without a coordinator.
func directPorts(tb testing.TB) (a, b *netio.Switch, pa, pb *netio.Port) {
	tb.Helper()
	la, lb := listenLoopback(tb), listenLoopback(tb)
	a, b = newSwitch(tb, netio.SwitchConfig{}, la), newSwitch(tb, netio.SwitchConfig{}, lb)
	pa, pb = openPort(tb, a), openPort(tb, b)
	joinPorts(pa, la, pb, lb)
	return a, b, pa, pb
}

// joinPorts lets two ports exchange direct packets.
func joinPorts(pa *netio.Port, la netio.Link, pb *netio.Port, lb netio.Link) {
	pa.SetPeerTag(pb.Tag())
	pb.SetPeerTag(pa.Tag())
	pa.Allow(la, lb.LocalAddr())
	pb.Allow(lb, la.LocalAddr())
	pa.SetPath(netio.Path{Link: la, To: lb.LocalAddr()})
	pb.SetPath(netio.Path{Link: lb, To: la.LocalAddr()})
}

// relayedPorts connects the ports of two switches through a third, which relays.
func relayedPorts(tb testing.TB) (a, b *netio.Switch, relay *netio.Relay, pa, pb *netio.Port) {
	tb.Helper()
	relay = netio.NewRelay(netio.RelayConfig{})
	middle := listenLoopback(tb)
	newSwitch(tb, netio.SwitchConfig{AcceptRaw: true, Relay: relay}, middle)
	client := func(id uint64) (*netio.Switch, *netio.Port) {
		key := [32]byte{byte(id)}
		if err := relay.AddClient(id, key); err != nil {
			tb.Fatal(err)
		}
		bound := make(chan netio.BoundFrame, 1)
		link := listenLoopback(tb)
		s := newSwitch(tb, netio.SwitchConfig{
			OnBound: func(b netio.BoundFrame, _ netio.Link, _ netip.AddrPort) { bound <- b },
		}, netio.Link(link))
		s.AllowRaw(middle.LocalAddr())
		s.SetBindKey(id, key)
		if err := s.Send(nil, middle.LocalAddr(), netio.EncodeBind(nil, id, 1, key)); err != nil {
			tb.Fatal(err)
		}
		awaitSwitch(tb, func() bool { _, ok := relay.Bound(id); return ok })
		return s, openPort(tb, s)
	}
	a, pa = client(1)
	b, pb = client(2)
	ra, rb, err := relay.AddRoute(1, 2)
	if err != nil {
		tb.Fatal(err)
	}
	pa.SetRoute(ra)
	pb.SetRoute(rb)
	pa.SetPath(netio.Path{To: middle.LocalAddr(), Relayed: true})
	pb.SetPath(netio.Path{To: middle.LocalAddr(), Relayed: true})
	return a, b, relay, pa, pb
}

// awaitSwitch waits for something that other goroutines do with real sockets, which no channel tells us.
func awaitSwitch(tb testing.TB, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if done() {
			return
		}
		<-tick.C
	}
	tb.Fatal("waited for 5 seconds")
}

// transferHash sends n random bytes and compares what arrives.
func transferHash(t *testing.T, s *quic.SendStream, r *quic.ReceiveStream, n int) {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = s.Write(data)
		_ = s.Close()
	}()
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want, have := sha256.Sum256(data), sha256.Sum256(got)
	if !bytes.Equal(want[:], have[:]) {
		t.Fatalf("got %d bytes that are not the %d sent", len(got), n)
	}
}

func TestQUICDirect(t *testing.T) {
	a, b, pa, pb := directPorts(t)
	s, r := quicStream(t, a, b, pa.Addr())
	transferHash(t, s, r, 10<<20)
	out, in := pa.Stats(), pb.Stats()
	if out.DirectOut.Bytes < 10<<20 || in.DirectIn.Bytes < 10<<20 || in.LastDirect.IsZero() {
		t.Errorf("sent %+v, received %+v", out, in)
	}
	if out.RelayedOut.Packets != 0 || in.RelayedIn.Packets != 0 {
		t.Errorf("direct channel was relayed: %+v", out)
	}
	if out.LargestOut <= 1200 {
		t.Errorf("largest packet %d: path MTU discovery is off", out.LargestOut)
	}
	if d := b.Stats().Dropped; d != (netio.Drops{}) {
		t.Errorf("dropped %+v", d)
	}
}

func TestQUICRelayed(t *testing.T) {
	a, b, relay, pa, pb := relayedPorts(t)
	s, r := quicStream(t, a, b, pa.Addr())
	transferHash(t, s, r, 10<<20)
	if got := pb.Stats().RelayedIn.Bytes; got < 10<<20 {
		t.Errorf("relayed %d bytes", got)
	}
	if st := relay.Stats(); st.Forwarded.Bytes < 10<<20 || st.Binds != 2 {
		t.Errorf("relay %+v", st)
	}
}

func TestQUICMovesUnderLoad(t *testing.T) {
	a, b, _, pa, pb := relayedPorts(t)
	s, r := quicStream(t, a, b, pa.Addr())
	la, lb := a.Links()[0], b.Links()[0]
	pathA, pathB := pa.Path(), pb.Path()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if i%2 == 0 {
				joinPorts(pa, la, pb, lb)
			} else {
				pa.SetPath(pathA)
				pb.SetPath(pathB)
			}
		}
	}()
	transferHash(t, s, r, 10<<20)
	close(stop)
	<-stopped
	if in := pb.Stats(); in.DirectIn.Packets == 0 || in.RelayedIn.Packets == 0 {
		t.Errorf("not both paths were used: %+v", in)
	}
}

// TestQUICRaw has the home channel's kind of connection: real addresses.
func TestQUICRaw(t *testing.T) {
	la, lb := listenLoopback(t), listenLoopback(t)
	a, b := newSwitch(t, netio.SwitchConfig{}, la), newSwitch(t, netio.SwitchConfig{AcceptRaw: true}, lb)
	a.AllowRaw(lb.LocalAddr())
	s, r := quicStream(t, a, b, net.UDPAddrFromAddrPort(lb.LocalAddr()))
	transferHash(t, s, r, 10<<20)
	if least, most := netio.FirstPacket, 1452; b.TakeLargestRaw() <= least || a.TakeLargestRaw() > most {
		t.Errorf("QUIC's path MTU discovery is not seen, or wrong")
	}
}

// TestQUICSecondLink adds a link while QUIC reads the first one itself, and moves the channel to it.
func TestQUICSecondLink(t *testing.T) {
	a, b, pa, pb := directPorts(t)
	s, r := quicStream(t, a, b, pa.Addr())
	la, lb := listenLoopback(t), listenLoopback(t)
	a.AddLink(la)
	b.AddLink(lb)
	oldA, oldB := a.Links()[0], b.Links()[0]
	joinPorts(pa, la, pb, lb)
	a.RemoveLink(oldA)
	b.RemoveLink(oldB)
	transferHash(t, s, r, 10<<20)
	if len(a.Links()) != 1 || len(b.Links()) != 1 {
		t.Errorf("links %v and %v", a.Links(), b.Links())
	}
}
