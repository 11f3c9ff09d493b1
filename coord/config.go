package coord

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/netio"
)

// DefaultPort is the UDP port of a coordinator.
const DefaultPort = 1719

// none in TCPAddr turns TCP off.
const none = "none"

// Config says how a coordinator runs. A nil *Config and zero fields mean the
// defaults. It is not modified.
type Config struct {
	// Addr is the UDP address to listen on, "host:port". If empty, ":1719". Port
	// 0 picks a free one; [Coordinator.Addr] tells which.
	Addr string
	// Alternate is a second UDP address, at which clients find out what kind of NAT they
	// are behind: whether it shows them to everybody under one address. If empty, that of
	// Addr with the next port, or none if that is in use; "none" is none.
	Alternate string
	// Link and AlternateLink replace the UDP sockets at Addr and Alternate. For
	// simulators; with Link alone there is no other.
	Link, AlternateLink netio.Link
	// TCPAddr is the address for clients whose network blocks UDP, "host:port"; they
	// come over TLS with the coordinator's certificate. If empty, that of UDP, with the
	// same port number; if that can not be had, Start fails. "none" is UDP only, and so is
	// empty with Link but without Listener.
	TCPAddr string
	// Listener replaces the TCP listener at TCPAddr. For simulators.
	Listener net.Listener
	// Identity is the coordinator's certificate and key. If nil, a development
	// authority and a certificate for "localhost" are made that last as long as
	// the process; clients pin it by [Coordinator.Fingerprint].
	Identity *netio.Identity
	// ClientRoots are the authorities that must vouch for clients. If nil, a
	// client may present any certificate, and a name belongs to the key that
	// attached with it first, for as long as it stays attached.
	ClientRoots *x509.CertPool
	// Revoked are fingerprints of certificates or keys ([Identity] of clients, or of
	// authorities between them and ClientRoots) that are refused, whoever vouches for
	// them. [Coordinator.SetRevoked] changes them.
	Revoked []string
	// StatelessRetry makes clients prove their address before any state is kept
	// for them, at the cost of one round trip.
	StatelessRetry bool
	// KeepAlive is how often an idle client is sent a packet. If zero, 5
	// seconds; if negative, never.
	KeepAlive time.Duration
	// IdleTimeout is how long nothing may be heard from a client before it is
	// detached. If zero, 15 seconds.
	IdleTimeout time.Duration
	// KeyLog receives TLS secrets (SSLKEYLOGFILE). If nil, none. Channels between
	// clients have keys of their own, which never come here.
	KeyLog io.Writer
	// Policy decides what clients may do, until [Coordinator.SetPolicy] sets another. If
	// nil, [policy.AllowAll].
	Policy policy.Policy
	// Limits bound what clients can make the coordinator hold.
	Limits Limits
	// Logger receives logs. If nil, nothing is logged.
	Logger *slog.Logger
	// Meters gets metrics (OpenTelemetry): how many clients, channels and groups there are,
	// what the relay forwards and drops. If nil, none. Package coord/admin serves them.
	Meters metric.MeterProvider
	// Now is the wall clock for checks of certificates. If nil, time.Now.
	Now func() time.Time
}

// Limits of a coordinator. A zero field means its default.
type Limits struct {
	// Clients is how many may be attached. If zero, 10,000.
	Clients int
	// ChannelsPerClient is how many introduced channels a client may have. If
	// zero, 1,024.
	ChannelsPerClient int
	// PendingPerClient is how many introductions of a client may wait for an
	// answer. If zero, 64.
	PendingPerClient int
	// OpenRate is how many channels and introductions of others a client may ask for,
	// per second; five times as many at once. If zero, 200.
	OpenRate int
	// JoinRate is how many groups a client may join, come back to or ask about, per second;
	// five times as many at once. If zero, 50.
	JoinRate int
	// Bans is how many bans [Coordinator.Ban] may impose, until one ends or is lifted. If
	// zero, 1,000.
	Bans int
	// WatchesPerClient is how many watches of peers a client may have; more are refused. If
	// zero, 16. Each takes a bit for every client that is there, beside 200 bytes.
	WatchesPerClient int
	// RelayRate limits what one end of a channel may send over the relay, in
	// bytes per second. If zero, it is not limited.
	RelayRate int64
	// RelayClientRate limits what a client may send over the relay on all its
	// channels, and as much what it may be sent, in bytes per second. Its channels
	// share it evenly, and what one does not use the others may. If zero, it is not
	// limited.
	RelayClientRate int64
	// RelayTotalRate limits what all clients together may send over the relay, in
	// bytes per second. Clients share it evenly, and their channels the part of
	// each. If zero, it is not limited.
	RelayTotalRate int64
	// StreamsPerClient is how many streams a client may have open on its home channel:
	// one for each group that it is in. If zero, 128.
	StreamsPerClient int
	// MemoryPerClient is how many bytes of what a client says may wait for the
	// coordinator. A client that sends to n groups needs 256 KiB for each. If zero, 32 MiB.
	MemoryPerClient int
	// Groups is how many groups there may be. If zero, 1,000.
	Groups int
	// GroupsPerClient is how many of them a client may have made. If zero, 64.
	GroupsPerClient int
	// MembersPerGroup is how many members a group may have. If zero, 1,000.
	MembersPerGroup int
	// GroupMessage is the size in bytes of the largest message to a group. If zero, 1 MiB.
	GroupMessage int
	// GroupKeep is how many bytes a group may keep for slow and returning members and as
	// history; who makes it says how many it does. If zero, 16 MiB.
	GroupKeep int
	// GroupMemory is how many bytes all groups together may keep. If zero, 256 MiB.
	GroupMemory int
	// AttachTimeout is how long a connected client may take to say who it is. If
	// zero, 10 seconds.
	AttachTimeout time.Duration
	// AnswerTimeout is how long a client may take to answer an offer. If zero,
	// 10 seconds.
	AnswerTimeout time.Duration
	// RestoreTimeout is how long a channel waits for both its clients to be
	// back. If zero, 2 minutes.
	RestoreTimeout time.Duration
}

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, field := range []struct{ name, value string }{{"Addr", c.Addr}, {"Alternate", c.Alternate}} {
		if field.value == "" || field.name == "Alternate" && field.value == none {
			continue
		}
		if _, port, err := net.SplitHostPort(field.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: want host:port, such as \":%d\"", field.name, err, DefaultPort))
		} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			errs = append(errs, fmt.Errorf("%s: port %q: want a number from 0 to 65535", field.name, port))
		}
	}
	if _, err := netio.NewRevoked(c.Revoked); err != nil {
		errs = append(errs, fmt.Errorf("Revoked: %w", err))
	}
	if c.TCPAddr != "" && c.TCPAddr != none {
		if _, err := net.ResolveTCPAddr("tcp", c.TCPAddr); err != nil {
			errs = append(errs, fmt.Errorf("TCPAddr: %w: want host:port, or \"none\"", err))
		}
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"Limits.Clients", int64(c.Limits.Clients)},
		{"Limits.ChannelsPerClient", int64(c.Limits.ChannelsPerClient)},
		{"Limits.PendingPerClient", int64(c.Limits.PendingPerClient)},
		{"Limits.StreamsPerClient", int64(c.Limits.StreamsPerClient)},
		{"Limits.MemoryPerClient", int64(c.Limits.MemoryPerClient)},
		{"Limits.Groups", int64(c.Limits.Groups)},
		{"Limits.GroupsPerClient", int64(c.Limits.GroupsPerClient)},
		{"Limits.MembersPerGroup", int64(c.Limits.MembersPerGroup)},
		{"Limits.GroupMessage", int64(c.Limits.GroupMessage)},
		{"Limits.GroupKeep", int64(c.Limits.GroupKeep)},
		{"Limits.GroupMemory", int64(c.Limits.GroupMemory)},
		{"Limits.OpenRate", int64(c.Limits.OpenRate)},
		{"Limits.JoinRate", int64(c.Limits.JoinRate)},
		{"Limits.Bans", int64(c.Limits.Bans)},
		{"Limits.WatchesPerClient", int64(c.Limits.WatchesPerClient)},
		{"Limits.RelayRate", c.Limits.RelayRate},
		{"Limits.RelayClientRate", c.Limits.RelayClientRate},
		{"Limits.RelayTotalRate", c.Limits.RelayTotalRate},
		{"Limits.AttachTimeout", int64(c.Limits.AttachTimeout)},
		{"Limits.AnswerTimeout", int64(c.Limits.AnswerTimeout)},
		{"Limits.RestoreTimeout", int64(c.Limits.RestoreTimeout)},
	} {
		if field.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d: want 0 for the default, or more", field.name, field.value))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) withDefaults() Config {
	var config Config
	if c != nil {
		config = *c
	}
	if config.Addr == "" {
		config.Addr = ":" + strconv.Itoa(DefaultPort)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Policy == nil {
		config.Policy = policy.AllowAll{}
	}
	config.Limits = config.Limits.withDefaults()
	return config
}

func (l Limits) withDefaults() Limits {
	defaultTo := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	defaultTo(&l.Clients, 10_000)
	defaultTo(&l.ChannelsPerClient, 1024)
	defaultTo(&l.PendingPerClient, 64)
	defaultTo(&l.StreamsPerClient, 128)
	defaultTo(&l.MemoryPerClient, 32<<20)
	defaultTo(&l.Groups, 1000)
	defaultTo(&l.GroupsPerClient, 64)
	defaultTo(&l.MembersPerGroup, 1000)
	defaultTo(&l.GroupMessage, 1<<20)
	defaultTo(&l.GroupKeep, 16<<20)
	defaultTo(&l.GroupMemory, 256<<20)
	defaultTo(&l.OpenRate, 200)
	defaultTo(&l.JoinRate, 50)
	defaultTo(&l.Bans, 1000)
	defaultTo(&l.WatchesPerClient, 16)
	defaultTime := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	defaultTime(&l.AttachTimeout, 10*time.Second)
	defaultTime(&l.AnswerTimeout, 10*time.Second)
	defaultTime(&l.RestoreTimeout, 2*time.Minute)
	return l
}

// resolve makes a local address to bind to.
func resolve(addr string) (netip.AddrPort, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if udp.IP == nil {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(udp.Port)), nil
	}
	bound := udp.AddrPort()
	return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()), nil
}

// connections is how many home channels there may be: with some room for takeovers.
func (l Limits) connections() int { return l.Clients + l.Clients/10 + 1 }
