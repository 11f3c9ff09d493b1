package netio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// HeaderSize is how many bytes the switch puts before each packet of a channel.
const HeaderSize = headerSize

// Conn is one QUIC connection: a home channel or a channel between two clients.
// All methods may be called from any goroutine.
type Conn struct {
	raw       *quic.Conn
	transport *Transport
	port      *Port
	remote    netip.AddrPort
	carriers  *carriers
	epochs    *epochs // nil unless this side dialed a channel
	tls       tls.ConnectionState
	vouched   []*x509.Certificate // of a client that has connected to a coordinator
}

// newConn wraps a connection to a peer, or a home channel if that is empty.
func (t *Transport) newConn(raw *quic.Conn, port *Port, peer string) *Conn {
	// Once an epoch begins, quic-go must not be asked for these any more: it is a data race.
	c := &Conn{raw: raw, transport: t, port: port, remote: addrPort(raw.RemoteAddr()), tls: raw.ConnectionState().TLS}
	if peer == "" {
		c.carriers = newCarriers(raw, newBudget(t.config.PeerMemory))
		return c
	}
	budget, done := t.budgetFor(peer)
	c.carriers = newCarriers(raw, budget)
	c.OnDone(done)
	return c
}

// Port returns the channel's place at the switch, nil for a home channel.
func (c *Conn) Port() *Port { return c.port }

// Remote returns the address that the other side of a home channel connected
// from or was dialed at.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Certificate returns the certificate that the other side proved to own.
func (c *Conn) Certificate() *x509.Certificate {
	return c.tls.PeerCertificates[0]
}

// Chain returns the certificates that the other side presented, leaf first.
func (c *Conn) Chain() []*x509.Certificate { return c.tls.PeerCertificates }

// Vouched returns the chain from a client's certificate to the authority that vouches for
// it, or what it presented if its coordinator asks for none; nil at a client.
func (c *Conn) Vouched() []*x509.Certificate { return c.vouched }

// ExportKey derives a key that only the two ends know (RFC 8446 section 7.5).
func (c *Conn) ExportKey(label string) (key [32]byte, err error) {
	material, err := c.tls.ExportKeyingMaterial("EXPORTER-conec-"+label, nil, len(key))
	if err != nil {
		return key, err
	}
	return [32]byte(material), nil
}

// RTT returns the smoothed round-trip time, zero before the first measurement.
func (c *Conn) RTT() time.Duration { return c.raw.ConnectionStats().SmoothedRTT }

// PacketCount is what QUIC has sent on a connection so far.
type PacketCount struct {
	Sent uint64
	Lost uint64 // of these; it shrinks when one that counted as lost comes after all
}

// PacketCount counts what was sent so far, whatever path it took.
func (c *Conn) PacketCount() PacketCount {
	stats := c.raw.ConnectionStats()
	return PacketCount{Sent: stats.PacketsSent, Lost: stats.PacketsLost}
}

// datagramHead is what quic-go takes off a packet when it says how large a datagram
// may be: type, longest connection id, tag.
const datagramHead = 1 + 20 + 16

// MaxPacket returns the size in bytes of the largest packets that QUIC sends now, as
// far as it has searched for what the path carries (RFC 8899); 0 for a home channel.
func (c *Conn) MaxPacket() int {
	if c.carriers.takesDatagrams() != nil {
		return 0
	}
	return c.carriers.maxDatagram() + datagramHead
}

// OpenControl opens the control stream. For the side that dialed, first of all.
func (c *Conn) OpenControl(ctx context.Context) (*Control, error) {
	raw, err := c.raw.OpenStreamSync(ctx)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	raw.SetPriority(urgencyControl, true)
	return newControl(raw, &c.transport.buffers), nil
}

// AcceptControl waits for the control stream, which is there once the other side
// has said something on it. For the side that accepted, first of all.
func (c *Conn) AcceptControl(ctx context.Context) (*Control, error) {
	raw, err := c.raw.AcceptStream(ctx)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	raw.SetPriority(urgencyControl, true)
	return newControl(raw, &c.transport.buffers), nil
}

// OpenStream opens a data stream. It blocks while the other side's limit of
// streams is reached, until ctx ends; AwaitAnswer then tells whether it accepts.
func (c *Conn) OpenStream(ctx context.Context, open *conecv1.OpenStream) (*Stream, error) {
	raw, err := c.raw.OpenStreamSync(ctx)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	stream := c.newStream(raw)
	begin := func(body []byte) error { return stream.out.begin(fieldOpen, body) }
	if err := stream.startOpener(open, begin); err != nil {
		stream.Reset(err)
		return nil, err
	}
	return stream, nil
}

// AcceptStream returns the next data stream that the other side opened. It blocks
// until there is one or ctx ends; AwaitOpen then tells what it is for.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	raw, err := c.raw.AcceptStream(ctx)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	stream := c.newStream(raw)
	stream.startAcceptor()
	return stream, nil
}

// Close ends the connection at once and tells the other side why.
func (c *Conn) Close(why error) {
	_, reason := messages.ToCode(why)
	_ = c.raw.CloseWithError(quic.ApplicationErrorCode(quicCode(why)), reason) // always nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.raw.Context().Done() }

// OnDone calls f in a goroutine of its own once the connection has ended.
func (c *Conn) OnDone(f func()) { context.AfterFunc(c.raw.Context(), f) }

// Err returns why the connection ended, nil while it has not.
func (c *Conn) Err() error {
	if c.raw.Context().Err() == nil {
		return nil
	}
	return fromQUIC(context.Cause(c.raw.Context()))
}
