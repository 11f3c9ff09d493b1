package netio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/messages"
)

// Config says how connections behave. A nil *Config and zero fields mean the
// defaults.
type Config struct {
	// Limits bound each stream.
	Limits Limits
	// MaxStreams is how many streams the other side may have open on a channel, or a
	// client on its home channel, at the same time. If zero, 1,024.
	MaxStreams int
	// PeerMemory is how many bytes one peer can make this side hold, on all of its
	// channels, and the other side of a home channel on that. A fourth is for what streams may receive at first, 64 KiB each: a
	// stream for which that is not left is refused. A fourth is for streams that are
	// read fast, one for large messages, and one for what resumable streams keep until
	// the peer has it; what is not left there is waited for. QUIC holds up to 16 MiB
	// beside it for each channel, while packets are missing. If zero, 256 MiB, or 4
	// times MaxMessage if that is more; else at least that, or large messages can not
	// come.
	PeerMemory int
	// KeepAlive is how often an idle connection sends a packet. If zero, 5
	// seconds on home channels, 10 on others; if negative, never.
	KeepAlive time.Duration
	// IdleTimeout is how long nothing may be heard before a connection is given
	// up. If zero, 15 seconds on home channels, 30 on others.
	IdleTimeout time.Duration
	// HandshakeTimeout limits the time to connect. If zero, 10 seconds.
	HandshakeTimeout time.Duration
	// KeyLog receives TLS secrets in NSS format (SSLKEYLOGFILE), for debugging
	// with Wireshark: whoever has them reads the traffic. If nil, none.
	KeyLog io.Writer
	// StatelessRetry makes who connects prove its address first, at the cost of
	// one round trip (RFC 9000 section 8.1.2). For coordinators.
	StatelessRetry bool
	// ClientRoots are the authorities that clients of a coordinator must be
	// vouched for by. If nil, a client may present any certificate, and a name
	// belongs to whoever attached with it first.
	ClientRoots *x509.CertPool
	// Now is the wall clock for checks of certificates. If nil, time.Now.
	Now func() time.Time
}

func (c *Config) withDefaults() Config {
	var config Config
	if c != nil {
		config = *c
	}
	config.Limits = config.Limits.withDefaults()
	if config.MaxStreams == 0 {
		config.MaxStreams = 1024
	}
	if config.PeerMemory == 0 {
		config.PeerMemory = max(256<<20, 4*config.Limits.MaxMessage)
	}
	if config.HandshakeTimeout == 0 {
		config.HandshakeTimeout = 10 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return config
}

// FirstPacket is the size in bytes of QUIC's first packets: it fits every path that QUIC may use.
const FirstPacket = 1200

// QUIC flow control, in bytes.
const (
	streamWindow     = 1 << 20   // of a stream, at first
	maxStreamWindow  = 8 << 20   // of a stream
	channelWindow    = 16 << 20  // of a channel: all streams are always read
	homeWindow       = 512 << 10 // of a stream of a home channel, at first
	maxHomeWindow    = 4 << 20   // of a stream of a home channel, and of all
	expectedChannels = 1         // connections that wait for each port's acceptor
)

// Transport makes connections over a [Switch]: it dials and listens on the same
// sockets. All methods may be called from any goroutine.
type Transport struct {
	config  Config
	who     identities
	sw      *Switch
	quic    *quic.Transport
	later   [marks - 1]*quic.Transport // of later epochs, nil until there is one
	buffers bufferPool
	home    chan *Conn // accepted home channels

	mu       sync.Mutex
	expected map[netip.AddrPort]*expected
	budgets  map[string]*budget // by peer

	manyBudgets int // at which they are looked through
	closed      bool

	coordinator bool
	listening   sync.Once
	listener    *quic.Listener // nil if there is none
	listenErr   error
	accepting   sync.WaitGroup
	closing     chan struct{} // closed when Close begins
}

// errNotExpected is told to a peer that connects where nobody waits for it.
var errNotExpected = fmt.Errorf("%w: nobody expects a channel on this port", messages.ErrRefused)

// expected is a port that waits for its peer to dial.
type expected struct {
	port        *Port
	peer        string
	certificate []byte
	conns       chan *Conn
}

// NewTransport makes a transport. A coordinator's accepts home channels from
// everybody; a client's accepts channels on the ports that Expect names. The transport owns the switch from now on.
func NewTransport(sw *Switch, identity *Identity, coordinator bool, config *Config) (*Transport, error) {
	key, err := identity.resetKey()
	if err != nil {
		return nil, err
	}
	resetKey := quic.StatelessResetKey(key)
	t := &Transport{
		config: config.withDefaults(), sw: sw,
		quic:     &quic.Transport{Conn: sw, StatelessResetKey: &resetKey},
		home:     make(chan *Conn),
		expected: map[netip.AddrPort]*expected{}, budgets: map[string]*budget{}, coordinator: coordinator,
		closing: make(chan struct{}),
	}
	t.who.set(identity)
	if !coordinator {
		return t, nil
	}
	if t.config.StatelessRetry {
		t.quic.VerifySourceAddress = func(net.Addr) bool { return true }
	}
	if err := t.listen(); err != nil {
		return nil, err
	}
	return t, nil
}

// listen starts to accept connections. A client does so when it first expects
// one: quic-go's listener takes 100 KB.
func (t *Transport) listen() error {
	t.listening.Do(func() {
		tlsConfig, quicConfig := t.channelServer(), t.channelConfig()
		if t.coordinator {
			tlsConfig, quicConfig = t.homeServer(), t.homeConfig(int64(t.config.MaxStreams)+1)
		}
		if t.listener, t.listenErr = t.quic.Listen(tlsConfig, quicConfig); t.listenErr == nil {
			t.accepting.Go(t.accept)
		}
	})
	return t.listenErr
}

// Switch returns the switch under the transport.
func (t *Transport) Switch() *Switch { return t.sw }

// Now returns the wall clock's time.
func (t *Transport) Now() time.Time { return t.config.Now() }

// baseTLS is what all connections have in common. as is who we are to the other side.
func (t *Transport) baseTLS(alpn string, as func() *Identity) *tls.Config {
	return &tls.Config{
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &as().certificate, nil },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &as().certificate, nil },
		NextProtos:             []string{alpn},
		MinVersion:             tls.VersionTLS13,
		KeyLogWriter:           t.config.KeyLog,
		Time:                   t.config.Now,
		SessionTicketsDisabled: true, // a resumed session shows no certificate to check
	}
}

func (t *Transport) homeServer() *tls.Config {
	config := t.baseTLS(messages.ALPNHome, t.Identity)
	config.ClientAuth = tls.RequireAnyClientCert
	return config // accept checks the certificate
}

// channelServer picks the TLS configuration by the port that a packet came to:
// each port expects one peer.
func (t *Transport) channelServer() *tls.Config {
	config := t.baseTLS(messages.ALPNChannel, t.Identity)
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		peer := t.lookup(hello.Conn.RemoteAddr())
		if peer == nil {
			return nil, errNotExpected
		}
		pinned := t.baseTLS(messages.ALPNChannel, peer.port.identityOr(t))
		pinned.ClientAuth = tls.RequireAnyClientCert
		pinned.VerifyConnection = verifyPinned(peer.peer, peer.certificate, t.config.Now)
		return pinned, nil
	}
	return config
}

func (t *Transport) lookup(addr net.Addr) *expected {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.expected[addrPort(addr)]
}

func addrPort(addr net.Addr) netip.AddrPort {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return udp.AddrPort()
}

func orDefault(value, otherwise time.Duration) time.Duration {
	switch {
	case value == 0:
		return otherwise
	case value < 0:
		return 0
	}
	return value
}

// homeConfig lets the client open streams, and each side one for credit. The coordinator finds out how large its packets
// may be; its clients watch whether they stay so ([Switch.TakeLargestRaw]), since QUIC does not.
func (t *Transport) homeConfig(incoming int64) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           t.config.HandshakeTimeout,
		MaxIdleTimeout:                 orDefault(t.config.IdleTimeout, 15*time.Second),
		KeepAlivePeriod:                orDefault(t.config.KeepAlive, 5*time.Second),
		InitialStreamReceiveWindow:     homeWindow,
		MaxStreamReceiveWindow:         maxHomeWindow,
		InitialConnectionReceiveWindow: 2 * homeWindow,
		MaxConnectionReceiveWindow:     maxHomeWindow,
		MaxIncomingStreams:             incoming,
		MaxIncomingUniStreams:          1,
		InitialPacketSize:              FirstPacket,
		DisablePathMTUDiscovery:        incoming < 0, // clients say little
	}
}

// channelConfig does not limit streams by their number: what may come on each is a
// matter of its credit.
func (t *Transport) channelConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           t.config.HandshakeTimeout,
		MaxIdleTimeout:                 orDefault(t.config.IdleTimeout, 30*time.Second),
		KeepAlivePeriod:                orDefault(t.config.KeepAlive, 10*time.Second),
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: channelWindow,
		MaxConnectionReceiveWindow:     channelWindow,
		MaxIncomingStreams:             int64(t.config.MaxStreams) + 1,
		MaxIncomingUniStreams:          int64(t.config.MaxStreams) + 2, // for credit and for the turn of datagrams
		EnableDatagrams:                true,
		InitialPacketSize:              FirstPacket,
	}
}

// Coordinator says how a client knows its coordinator.
type Coordinator struct {
	// Host is the name that the certificate must be for, unless Fingerprint is its.
	Host string
	// Fingerprint, if not empty, is that of the coordinator's certificate or of
	// the authority that issued it (see [HasFingerprint]).
	Fingerprint string
	// Roots are the authorities to trust. If nil, the system's.
	Roots *x509.CertPool
	// Revoked are certificates that are not trusted any more.
	Revoked Revoked
}

// DialHome connects to a coordinator. It blocks until the handshake is done or
// ctx ends.
func (t *Transport) DialHome(ctx context.Context, addr netip.AddrPort, coordinator Coordinator) (*Conn, error) {
	t.sw.AllowRaw(addr)
	config := t.baseTLS(messages.ALPNHome, t.Identity)
	config.ServerName = coordinator.Host
	config.InsecureSkipVerify = true // VerifyConnection checks instead, pinned certificates too
	config.VerifyConnection = verifyCoordinator(coordinator, t.config.Now)
	raw, err := t.quic.Dial(ctx, net.UDPAddrFromAddrPort(addr), config, t.homeConfig(-1))
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	return t.newConn(raw, nil, ""), nil
}

// DialChannel connects to the peer behind port, which must present exactly
// certificate. It blocks until the handshake is done or ctx ends.
func (t *Transport) DialChannel(ctx context.Context, port *Port, peer string, certificate []byte) (*Conn, error) {
	return t.dial(ctx, port, peer, t.channelConfig(), verifyPinned(peer, certificate, t.config.Now))
}

func (t *Transport) dial(ctx context.Context, port *Port, peer string, quicConfig *quic.Config, verify func(tls.ConnectionState) error) (*Conn, error) {
	config := t.baseTLS(messages.ALPNChannel, port.identityOr(t))
	config.ServerName = "conec"
	config.InsecureSkipVerify = true // VerifyConnection compares with the introduced certificate instead
	config.VerifyConnection = verify
	raw, err := t.quic.Dial(ctx, port.Addr(), config, quicConfig)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	conn := t.newConn(raw, port, peer)
	conn.epochs = &epochs{}
	return conn, nil
}

// Expect lets the peer behind port dial; it must present exactly certificate.
// The returned function waits for it: it blocks until the handshake is done or
// ctx ends, and may be called once.
func (t *Transport) Expect(port *Port, peer string, certificate []byte) func(ctx context.Context) (*Conn, error) {
	if err := t.listen(); err != nil {
		return func(context.Context) (*Conn, error) { return nil, err }
	}
	addr := port.Addr().AddrPort()
	waiting := &expected{port: port, peer: peer, certificate: certificate, conns: make(chan *Conn, expectedChannels)}
	t.mu.Lock()
	t.expected[addr] = waiting
	t.mu.Unlock()
	return func(ctx context.Context) (*Conn, error) {
		defer t.forget(addr, waiting)
		select {
		case conn := <-waiting.conns:
			return conn, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.closing:
			return nil, messages.ErrClosed
		}
	}
}

// forget ends an expectation. A connection that came and was not taken is closed.
func (t *Transport) forget(addr netip.AddrPort, waiting *expected) {
	t.mu.Lock()
	if t.expected[addr] == waiting {
		delete(t.expected, addr)
	}
	t.mu.Unlock() // give sends with mu held, so nothing comes from now on
	select {
	case conn := <-waiting.conns:
		conn.Close(errNotExpected)
	default:
	}
}

// AcceptHome returns the next home channel. It blocks until there is one, ctx
// ends, or the transport is closed.
func (t *Transport) AcceptHome(ctx context.Context) (*Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case conn := <-t.home:
		return conn, nil
	case <-t.closing:
		return nil, messages.ErrClosed
	}
}

// accept hands accepted connections to who expects them.
func (t *Transport) accept() {
	for {
		raw, err := t.listener.Accept(context.Background())
		if err != nil {
			return
		}
		if !t.coordinator {
			t.give(raw)
			continue
		}
		conn := t.newConn(raw, nil, "")
		// After the handshake, because a TLS alert can not say why.
		if conn.vouched, err = VerifyClient(conn.tls.PeerCertificates, t.config.ClientRoots, t.config.Now()); err != nil {
			conn.Close(err)
			continue
		}
		select {
		case t.home <- conn:
		case <-t.closing:
			return
		}
	}
}

// give hands a channel to the port that expects it. A second one is refused, and
// one that nobody expects any more: the wait may end during the handshake.
func (t *Transport) give(raw *quic.Conn) {
	waiting := t.lookup(raw.RemoteAddr())
	if waiting == nil {
		t.newConn(raw, nil, "").Close(errNotExpected)
		return
	}
	conn, why := t.newConn(raw, waiting.port, waiting.peer), errNotExpected
	t.mu.Lock()
	if t.expected[addrPort(raw.RemoteAddr())] == waiting {
		select {
		case waiting.conns <- conn:
			why = nil
		default:
			why = fmt.Errorf("%w: the channel is connected already", messages.ErrRefused)
		}
	}
	t.mu.Unlock()
	if why != nil {
		conn.Close(why)
	}
}

// Close ends every connection at once, then the switch and its links, and waits
// until all goroutines of the transport have ended.
func (t *Transport) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		t.accepting.Wait()
		return nil
	}
	close(t.closing)
	t.listening.Do(func() { t.listenErr = messages.ErrClosed }) // never again
	var err error
	if t.listener != nil {
		err = t.listener.Close()
	}
	for _, later := range t.later {
		if later != nil {
			err = errors.Join(err, later.Close())
		}
	}
	err = errors.Join(err, t.quic.Close(), t.sw.Close())
	t.accepting.Wait()
	return err
}
