package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// DefaultPort is the coordinator's UDP port where Config.Coordinator has none.
const DefaultPort = 1719

// Config says who a client is and where it attaches. Name and Coordinator are
// needed; other zero fields mean the defaults. It is not modified.
type Config struct {
	// Name is the client's name; see [messages.CheckName] for what it may be.
	Name string
	// Coordinator is the coordinator's address, "host" or "host:port". The host
	// must be in its certificate, unless Fingerprint is set.
	Coordinator string
	// Fingerprint pins the coordinator's certificate, or the authority that
	// issued it for the host in Coordinator: "sha256:" and 64 hex digits. If
	// empty, Roots decide.
	Fingerprint string
	// Roots are the authorities to trust for the coordinator's certificate. If
	// nil, the system's.
	Roots *x509.CertPool
	// Identity is the client's certificate and key; the certificate must be for
	// Name. If nil, a key and a self-signed certificate are made that last as
	// long as the process. A client that keeps its key takes its name over at
	// once when it comes back after a crash; another has to wait until the
	// coordinator has noticed.
	Identity *netio.Identity
	// IdentityFile is a PEM file with the key, and the certificate chain if there is one,
	// in place of Identity. If it is not there, it is made, with mode 0600; if others than
	// its owner may read it, it is not taken ([netio.OpenIdentityFile]).
	IdentityFile string

	// PeerRoots are the authorities that must vouch for peers; their certificates must be
	// for their names. If nil, those that the coordinator names, if it names any: that
	// protects from peers, not from the coordinator.
	PeerRoots *x509.CertPool
	// Peers are fingerprints of the certificates or the keys of peers, by name. A peer that
	// is in it must have that one, whatever the coordinator says. [Client.ExpectPeer] adds to
	// them.
	Peers map[string]string
	// KnownPeers is a file that remembers the keys of peers that are not in Peers: the first
	// one that a peer proves is written down, another one is refused from then on. Each line
	// is a name and a fingerprint; who removes one lets the peer have a new key. At most 1
	// MiB, about 8,000 peers. If empty, none are remembered.
	KnownPeers string
	// Revoked are fingerprints of certificates or keys that are not trusted any more: of
	// peers, of the coordinator, or of authorities between them and the roots.
	// [Client.SetRevoked] changes them.
	Revoked []string

	// JoinToken is shown to the coordinator, whose policy may ask for one: at most
	// [messages.MaxToken] bytes. It is a secret. If empty, none is.
	JoinToken string

	// Bind is the local UDP address, "host:port". If empty, all addresses of both
	// families and a free port.
	Bind string

	// TCPAddr is where the coordinator takes TCP, "host:port". A client whose network
	// blocks UDP attaches over TLS and TCP, and moves to UDP as soon as that works. If
	// empty, Coordinator; "none" is UDP only, and so is empty with Link but without Dial.
	TCPAddr string
	// Proxy is an HTTP proxy for TCP, "http://user:password@host:port"; it must allow
	// CONNECT to TCPAddr. If empty, the environment decides, by HTTPS_PROXY and
	// NO_PROXY (see [net/http.ProxyFromEnvironment]); "none" is no proxy.
	Proxy string
	// Dial opens TCP connections, also those to a proxy. If nil, net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Link replaces the UDP socket at Bind. For simulators. If it is a
	// [netio.Watcher], it is the client's unless Watcher is set.
	Link netio.Link
	// OpenLink opens further links. For simulators. If nil, UDP sockets, and none if Link is
	// set.
	OpenLink func() (netio.Link, error)
	// Links are interfaces of this host, such as "wlan0", that get a UDP socket of their own,
	// beside the one at Bind, whose packets go where the system's routes say. Direct paths
	// are looked for over each, all are kept warm with a probe every 5 seconds, and a channel
	// may choose among them ([LinkChoice]). An interface that is not there is waited for, and
	// one that comes back is used again. At most 8. Linux before 5.7 needs CAP_NET_RAW for it.
	Links []string
	// OpenLinkOn opens a link on an interface. For simulators. If nil, UDP sockets.
	OpenLinkOn func(name string) (netio.Link, error)
	// Watcher notices that the host's network changes. If nil, a
	// [netio.HostWatcher] that the clients of a process share.
	Watcher netio.Watcher

	// NotAccepting refuses channels that others open. The client can still open
	// them, and peers can open streams on those.
	NotAccepting bool
	// Metadata is what the client publishes about itself to those that watch it: at most 64
	// keys, and 1,024 bytes of keys and values. [Client.SetMetadata] changes it.
	Metadata map[string]string
	// RelayOnly keeps all channels on the relay: no addresses are shown to peers
	// and none of theirs is probed, whoever opened the channel.
	RelayOnly bool

	// NoPortSearch searches no ports. Otherwise, where one of two clients is behind a NAT
	// that shows it to each under another port, and no direct path was found, that one
	// opens 256 sockets for up to 15 seconds and the other sends up to 2,048 probes of 56
	// bytes to random ports of its address, 200 a second; once an hour for each peer.
	NoPortSearch bool

	// NoPortMapping asks no gateway for a port. Otherwise, where this host has private IPv4
	// addresses only and the coordinator sees the client under another, its UDP port is mapped
	// at the default gateway by PCP, NAT-PMP or UPnP, for an hour at a time, and offered to
	// peers. It is asked again after half of that, when the network has changed or was gone, but
	// not within 5 seconds; after a failure in 10 minutes, later in up to 80. An attempt takes up
	// to 10 seconds, in which nothing waits for it. Close has the mapping deleted, and waits up
	// to half a second for that. A client with RelayOnly asks for none.
	NoPortMapping bool
	// PortMapper asks the gateway. For simulators. If nil, a [portmap.Mapper], and none if Link
	// is set.
	PortMapper PortMapper

	// MaxMessage is the largest message in bytes, sent or received. If zero, 16 MiB.
	MaxMessage int
	// MaxChannels is how many channels there may be, whoever opened them, until
	// those that peers open are refused; this client may open more, up to twice as
	// many in all. If zero, 1,024.
	MaxChannels int
	// MaxStreams is how many streams a peer may have open on a channel. If zero,
	// 1,024.
	MaxStreams int
	// PeerMemory is how many bytes one peer can make this client hold, on all its
	// channels together. A fourth is for what streams may receive at first, 64 KiB
	// each: a stream for which that is not left is refused with [messages.ErrLimit].
	// A fourth is for streams that are read fast, one for large messages, and one for
	// what resumable streams keep until the peer has it: senders wait for what is not
	// left there. QUIC holds up to 16 MiB beside it for each channel, while packets are
	// missing. If zero, 256 MiB, or 4 times MaxMessage if that is more; else at least 4
	// times MaxMessage.
	PeerMemory int
	// Backlog is how many streams may wait for AcceptStream; more are refused
	// with [messages.ErrBusy]. If zero, 256.
	Backlog int
	// KeepAlive is how often an idle connection sends a packet. If zero, 5
	// seconds towards the coordinator and 10 towards peers; if negative, never.
	KeepAlive time.Duration
	// IdleTimeout is how long nothing may be heard before a connection is given
	// up. If zero, 15 seconds for the coordinator and 30 for peers.
	IdleTimeout time.Duration
	// OpenTimeout limits the time to connect to a peer. If zero, 15 seconds.
	OpenTimeout time.Duration

	// MaxResumable is how many resumable streams peers may have open to this
	// client; more are refused with [messages.ErrLimit]. If zero, 1,024; if
	// negative, none.
	MaxResumable int
	// ResumeBuffer is how many bytes of messages a resumable stream keeps until
	// the peer has them, not counting one that is larger; Send blocks beyond. If
	// zero, 4 MiB.
	ResumeBuffer int
	// ResumeWait is how long a resumable stream may be without a channel until it
	// is given up. If zero, 2 minutes.
	ResumeWait time.Duration

	// Authorize decides what peers may do: an error refuses it, with its text as the reason.
	// It is asked for each channel that a peer opens, before the peer hears anything of this
	// client (but not while this client opens one to that peer itself), for each stream, before Admit, and for each way to exported actors. It is called
	// by several goroutines, and may block: the peer waits, for about 10 seconds at most.
	// Then, or when the client ends, ctx does. If nil, all is allowed.
	Authorize func(ctx context.Context, request Request) error
	// Admit decides about the streams that peers open: an error refuses one, with
	// its text as the reason. It is called by several goroutines; while it blocks,
	// the opener waits. If nil, all are admitted.
	Admit func(Offer) error

	// Codecs encode actor messages that are neither protobuf messages nor a []byte; the
	// peer needs those of the same names.
	Codecs []actors.Codec
	// ActorLimits limit what waits for actors of peers, and of them.
	ActorLimits actors.RemoteLimits

	// KeyLog receives TLS secrets (SSLKEYLOGFILE), for debugging: whoever has
	// them reads the traffic. If nil, none.
	KeyLog io.Writer
	// Logger receives logs. If nil, nothing is logged.
	Logger *slog.Logger
	// OnEvent is told what happens to the client, one event after the other. It
	// may block; while it does, up to 256 events wait, then the newest are lost.
	// It must not call Close or Abort, which wait until it has returned.
	OnEvent func(Event)
	// Now is the wall clock for checks of certificates. If nil, time.Now.
	Now func() time.Time
}

// Format implements [fmt.Formatter]: the join token and the proxy's password are not shown.
func (c Config) Format(f fmt.State, verb rune) {
	type plain Config
	if c.JoinToken != "" {
		c.JoinToken = "hidden"
	}
	switch proxy, err := parseProxy(c.Proxy); {
	case err == nil:
		c.Proxy = proxy.Redacted()
	case c.Proxy != "" && c.Proxy != none: // it is wrong, and may have one all the same
		c.Proxy = "hidden"
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), plain(c))
}

// LogValue implements [slog.LogValuer], likewise.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%+v", c)) }

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	if c == nil {
		return errors.New("Name and Coordinator are needed")
	}
	var errs []error
	if err := messages.CheckName(c.Name); err != nil {
		errs = append(errs, fmt.Errorf("Name: %w", err))
	}
	if _, _, err := splitHostPort(c.Coordinator); err != nil {
		errs = append(errs, fmt.Errorf("Coordinator: %w", err))
	}
	if c.Fingerprint != "" {
		if err := netio.CheckFingerprint(c.Fingerprint); err != nil {
			errs = append(errs, fmt.Errorf("Fingerprint: %w", err))
		}
	}
	if len(c.JoinToken) > messages.MaxToken {
		errs = append(errs, fmt.Errorf("JoinToken has %d bytes: want at most %d", len(c.JoinToken), messages.MaxToken))
	}
	if c.Bind != "" {
		if _, _, err := net.SplitHostPort(c.Bind); err != nil {
			errs = append(errs, fmt.Errorf("Bind: %w: want host:port, such as \"0.0.0.0:0\"", err))
		}
	}
	if c.TCPAddr != "" && c.TCPAddr != none {
		if _, _, err := splitHostPort(c.TCPAddr); err != nil {
			errs = append(errs, fmt.Errorf("TCPAddr: %w", err))
		}
	}
	if c.Proxy != "" && c.Proxy != none {
		if _, err := parseProxy(c.Proxy); err != nil {
			errs = append(errs, fmt.Errorf("Proxy: %w", err))
		}
	}
	if _, err := messages.ToLabels(c.Metadata); err != nil {
		errs = append(errs, fmt.Errorf("Metadata: %w", err))
	}
	errs = append(errs, c.linkErrors()...)
	errs = append(errs, c.trustErrors()...)
	if least := 4 * cmp.Or(c.MaxMessage, netio.DefaultMaxMessage); c.PeerMemory > 0 && c.PeerMemory < least {
		errs = append(errs, fmt.Errorf("PeerMemory is %d: want 0 for the default, or at least 4 times MaxMessage, %d", c.PeerMemory, least))
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"MaxMessage", int64(c.MaxMessage)},
		{"MaxChannels", int64(c.MaxChannels)},
		{"MaxStreams", int64(c.MaxStreams)},
		{"PeerMemory", int64(c.PeerMemory)},
		{"Backlog", int64(c.Backlog)},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"OpenTimeout", int64(c.OpenTimeout)},
		{"ResumeBuffer", int64(c.ResumeBuffer)},
		{"ResumeWait", int64(c.ResumeWait)},
		{"ActorLimits.OpenWait", int64(c.ActorLimits.OpenWait)},
		{"ActorLimits.TargetQueue", int64(c.ActorLimits.TargetQueue)},
		{"ActorLimits.PeerQueue", int64(c.ActorLimits.PeerQueue)},
		{"ActorLimits.PeerMailboxes", int64(c.ActorLimits.PeerMailboxes)},
		{"ActorLimits.PeerWatches", int64(c.ActorLimits.PeerWatches)},
	} {
		if field.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d: want 0 for the default, or more", field.name, field.value))
		}
	}
	return errors.Join(errs...)
}

// trustErrors reports what is wrong with who the client is and whom it trusts.
func (c *Config) trustErrors() (errs []error) {
	if c.Identity != nil && c.IdentityFile != "" {
		errs = append(errs, errors.New("Identity and IdentityFile: give one of them"))
	}
	if c.Identity != nil && c.Name != "" {
		if err := checkIdentity(c.Identity, c.Name); err != nil {
			errs = append(errs, fmt.Errorf("Identity: %w", err))
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(c.Peers)) {
		err := messages.CheckName(peer)
		if err == nil {
			err = netio.CheckFingerprint(c.Peers[peer])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("Peers: %q: %w", messages.Clip(peer, messages.MaxName), err))
		}
	}
	if _, err := netio.NewRevoked(c.Revoked); err != nil {
		errs = append(errs, fmt.Errorf("Revoked: %w", err))
	}
	return errs
}

// splitHostPort splits the coordinator's address; the port may be missing.
func splitHostPort(addr string) (host string, port uint16, err error) {
	if addr == "" {
		return "", 0, errors.New("is empty: want host or host:port")
	}
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		var missing *net.AddrError
		if errors.As(err, &missing) && missing.Err == "missing port in address" {
			return strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"), DefaultPort, nil
		}
		return "", 0, err
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || number == 0 || host == "" {
		return "", 0, fmt.Errorf("%q: want host:port with a port from 1 to 65535", addr)
	}
	return host, uint16(number), nil
}

func (c *Config) withDefaults() Config {
	config := *c
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.MaxChannels == 0 {
		config.MaxChannels = 1024
	}
	if config.Backlog == 0 {
		config.Backlog = 256
	}
	if config.MaxResumable == 0 {
		config.MaxResumable = 1024
	}
	if config.ResumeBuffer == 0 {
		config.ResumeBuffer = 4 << 20
	}
	if config.ResumeWait == 0 {
		config.ResumeWait = 2 * time.Minute
	}
	if config.Bind == "" {
		config.Bind = ":0"
	}
	if config.OpenLinkOn == nil {
		config.OpenLinkOn = func(name string) (netio.Link, error) { return netio.ListenUDPOn(name) }
	}
	config.TCPAddr = c.tcpAddr()
	return config
}

// tcpAddr is where to dial TCP, "host:port" or "none".
func (c *Config) tcpAddr() string {
	addr := c.TCPAddr
	switch {
	case addr == none, addr == "" && c.Link != nil && c.Dial == nil:
		return none
	case addr == "":
		addr = c.Coordinator
	}
	host, port, err := splitHostPort(addr)
	if err != nil {
		return none // Validate has said so
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
