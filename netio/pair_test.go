package netio_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// within limits a test: in a bubble the time is virtual, so that it costs nothing.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// end is one client: a transport, its identity and a port for a channel.
type end struct {
	*netio.Transport
	id   *netio.Identity
	link netio.Link
	port *netio.Port
}

func newIdentity(tb testing.TB, name string) *netio.Identity {
	tb.Helper()
	id, err := netio.NewIdentity(name, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// newEnd makes a client that is closed when the test ends.
func newEnd(tb testing.TB, link netio.Link, id *netio.Identity, config *netio.Config) *end {
	tb.Helper()
	sw := newSwitch(tb, netio.SwitchConfig{}, link)
	transport, err := netio.NewTransport(sw, id, false, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = transport.Close() })
	return &end{Transport: transport, id: id, link: link, port: openPort(tb, sw)}
}

// newEnds makes two clients whose ports are connected by fake links.
func newEnds(t *testing.T, configA, configB *netio.Config) (a, b *end) {
	t.Helper()
	var n fakeNet
	a = newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), configA)
	b = newEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"), configB)
	joinPorts(a.port, a.link, b.port, b.link)
	return a, b
}

// expect lets from dial.
func (e *end) expect(from *end) func(context.Context) (*netio.Conn, error) {
	return e.Expect(e.port, "peer", from.id.Chain()[0])
}

// connect makes a channel that a dialed.
func connect(tb testing.TB, a, b *end) (ca, cb *netio.Conn) {
	tb.Helper()
	await := b.expect(a)
	ca, err := a.DialChannel(within(tb), a.port, "bob", b.id.Chain()[0])
	if err != nil {
		tb.Fatal(err)
	}
	if cb, err = await(within(tb)); err != nil {
		tb.Fatal(err)
	}
	return ca, cb
}

// connectEnds makes two clients and a channel between them.
func connectEnds(t *testing.T, configA, configB *netio.Config) (ca, cb *netio.Conn) {
	t.Helper()
	a, b := newEnds(t, configA, configB)
	return connect(t, a, b)
}

// openStream opens a stream from one end of a channel and accepts it at the other.
func openStream(tb testing.TB, from, to *netio.Conn) (out, in *netio.Stream) {
	tb.Helper()
	return openStreamAs(tb, from, to, &conecv1.OpenStream{Purpose: "test"})
}

// openStreamAs is openStream with more to say about the stream.
func openStreamAs(tb testing.TB, from, to *netio.Conn, open *conecv1.OpenStream) (out, in *netio.Stream) {
	tb.Helper()
	return openStreamIn(within(tb), tb, from, to, open)
}

// openStreamIn is openStreamAs with a context, of which there need not be one for each stream.
func openStreamIn(ctx context.Context, tb testing.TB, from, to *netio.Conn, open *conecv1.OpenStream) (out, in *netio.Stream) {
	tb.Helper()
	out, err := from.OpenStream(ctx, open)
	if err != nil {
		tb.Fatal(err)
	}
	if in, err = to.AcceptStream(ctx); err != nil {
		tb.Fatal(err)
	}
	if got, err := in.AwaitOpen(ctx); err != nil || !proto.Equal(got, open) {
		tb.Fatal(got, err)
	}
	if err = in.Accept(); err != nil {
		tb.Fatal(err)
	}
	if err = out.AwaitAnswer(ctx); err != nil {
		tb.Fatal(err)
	}
	return out, in
}

// bareTLS makes the TLS configuration of a peer that is no conec program, but has the identity of one.
func bareTLS(tb testing.TB, id *netio.Identity, alpn string) *tls.Config {
	tb.Helper()
	certificate, key, err := id.PEM()
	if err != nil {
		tb.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, ServerName: "conec", ClientAuth: tls.RequireAnyClientCert,
	}
}

// bareEnd is a client with bare quic-go on its switch.
type bareEnd struct {
	transport *quic.Transport
	id        *netio.Identity
	link      netio.Link
	port      *netio.Port
}

func newBareEnd(t *testing.T, link netio.Link, id *netio.Identity) *bareEnd {
	t.Helper()
	sw := newSwitch(t, netio.SwitchConfig{AcceptRaw: true}, link)
	b := &bareEnd{transport: &quic.Transport{Conn: sw}, id: id, link: link, port: openPort(t, sw)}
	t.Cleanup(func() { _ = b.transport.Close() })
	return b
}

// bareDialed makes a channel between conec and bare quic-go, which dialed.
func bareDialed(t *testing.T, config *netio.Config) (*netio.Conn, *quic.Conn) {
	t.Helper()
	var n fakeNet
	a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), config)
	b := newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
	joinPorts(a.port, a.link, b.port, b.link)
	await := a.Expect(a.port, "bob", b.id.Chain()[0])
	bare, err := b.transport.Dial(within(t), b.port.Addr(), bareTLS(t, b.id, messages.ALPNChannel), switchQUIC)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := await(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return conn, bare
}

// bareAccepted makes a channel between conec, which dialed, and bare quic-go.
func bareAccepted(t *testing.T, config *netio.Config) (*netio.Conn, *quic.Conn) {
	t.Helper()
	_, conn, bare := bareAcceptedFrom(t, config)
	return conn, bare
}

// bareAcceptedFrom is bareAccepted with the client that dialed.
func bareAcceptedFrom(t *testing.T, config *netio.Config) (*end, *netio.Conn, *quic.Conn) {
	t.Helper()
	var n fakeNet
	a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), config)
	b := newBareEnd(t, n.link("10.0.0.2:2"), newIdentity(t, "bob"))
	joinPorts(a.port, a.link, b.port, b.link)
	listener, err := b.transport.Listen(bareTLS(t, b.id, messages.ALPNChannel), switchQUIC)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
	if err != nil {
		t.Fatal(err)
	}
	bare, err := listener.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return a, conn, bare
}

// newCoordinator makes a transport that accepts home channels, and closes it when the test ends.
func newCoordinator(t *testing.T, link netio.Link, id *netio.Identity, config *netio.Config) *netio.Transport {
	t.Helper()
	transport, err := netio.NewTransport(newSwitch(t, netio.SwitchConfig{AcceptRaw: true}, link), id, true, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// noGoroutines fails the test if any goroutine of this package or of QUIC is left when everything is closed. Bubbles
// find that out themselves.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left string
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = ""
		for i, stack := range strings.Split(string(stacks), "\n\n") {
			if i > 0 && (strings.Contains(stack, "quic-go") || strings.Contains(stack, "conec/netio.")) {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return
		}
		<-tick.C
	}
	t.Error("goroutines are left:\n" + left)
}

// wireFrame makes a frame by hand.
func wireFrame(field, length int, body string) []byte {
	b := []byte{byte(field<<3 | 2)}
	for ; length >= 0x80; length >>= 7 {
		b = append(b, byte(length)|0x80)
	}
	return append(append(b, byte(length)), body...)
}

// udpAddr is where a link can be dialed with raw QUIC.
func udpAddr(link netio.Link) *net.UDPAddr { return net.UDPAddrFromAddrPort(link.LocalAddr()) }

// numbered returns messages that say which they are.
func numbered(i int) []byte { return fmt.Appendf(nil, "message %d", i) }

var strangers = netip.MustParseAddrPort("10.9.9.9:9")

// settle lets everything in a bubble happen that still will, keepalives aside.
func settle() {
	<-time.After(3 * time.Second)
	synctest.Wait()
}
