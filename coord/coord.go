package coord

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Coordinator is a running coordinator. All methods may be called from any
// goroutine.
type Coordinator struct {
	config    Config
	sys       *actors.System
	transport *netio.Transport
	relay     *netio.Relay
	link      netio.Link
	alternate netio.Link         // nil: none
	tcp       *netio.TCPListener // nil if there is none
	pid       *actor.PID
	counters  *counters
	tickets   atomic.Uint64 // of introductions by the program

	unmeter func() error // ends the metrics

	close  sync.Once
	closed error
}

// Start runs a coordinator until [Coordinator.Close]. ctx limits the start only;
// the coordinator's goroutines have its pprof labels.
// It fails if the configuration is wrong or the address is in use.
func Start(ctx context.Context, config *Config) (*Coordinator, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("coordinator config: %w", err)
	}
	c := &Coordinator{config: config.withDefaults(), counters: &counters{}, unmeter: func() error { return nil }}
	identity, err := c.identify()
	if err != nil {
		return nil, err
	}
	if err := c.listen(identity); err != nil {
		return nil, err
	}
	c.sys = actors.NewSystem(&actors.SystemConfig{Name: "conec", Logger: c.config.Logger, Label: actors.LabelOf(ctx)})
	c.pid, err = c.sys.Spawn(c.props(), "coordinator")
	if err != nil {
		return nil, errors.Join(err, c.transport.Close(), c.sys.Close(ctx))
	}
	unmeter, err := c.meter()
	if err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	c.unmeter = unmeter
	c.config.Logger.Info("coordinator started", "addr", c.Addr().String(), "fingerprint", c.Fingerprint())
	return c, nil
}

// identify makes a development identity if there is no other.
func (c *Coordinator) identify() (*netio.Identity, error) {
	if c.config.Identity != nil {
		return c.config.Identity, nil
	}
	now := c.config.Now()
	authority, err := netio.NewAuthority("conec development authority", now)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return authority.Issue("localhost", now)
}

func (c *Coordinator) listen(identity *netio.Identity) error {
	listener, err := c.open()
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.config.Addr, err)
	}
	if err := c.listenAlternate(); err != nil {
		return errors.Join(err, c.link.Close(), closeListener(listener))
	}
	links := []netio.Link{c.link}
	if c.alternate != nil {
		links = append(links, c.alternate)
	}
	c.relay = netio.NewRelay(netio.RelayConfig{
		RoutesPerClient: c.config.Limits.ChannelsPerClient + c.config.Limits.PendingPerClient,
		BytesPerSecond:  c.config.Limits.RelayRate, MaxClients: c.config.Limits.Clients + 1,
		ClientBytesPerSecond: c.config.Limits.RelayClientRate, TotalBytesPerSecond: c.config.Limits.RelayTotalRate,
	})
	sw, err := netio.NewSwitch(netio.SwitchConfig{AcceptRaw: true, Relay: c.relay}, links...)
	if err != nil {
		for _, link := range links {
			_ = link.Close()
		}
		return errors.Join(fmt.Errorf("listen on %s: %w", c.config.Addr, err), closeListener(listener))
	}
	c.transport, err = netio.NewTransport(sw, identity, true, &netio.Config{
		KeepAlive: c.config.KeepAlive, IdleTimeout: c.config.IdleTimeout, KeyLog: c.config.KeyLog,
		StatelessRetry: c.config.StatelessRetry, ClientRoots: c.config.ClientRoots, Now: c.config.Now,
		MaxStreams: c.config.Limits.StreamsPerClient, PeerMemory: c.config.Limits.MemoryPerClient,
		Limits: netio.Limits{MaxMessage: c.config.Limits.GroupMessage},
	})
	if err != nil {
		return errors.Join(err, sw.Close(), closeListener(listener))
	}
	if listener != nil {
		c.tcp = c.transport.ListenTCP(listener, c.config.Limits.connections())
	}
	return nil
}

func (c *Coordinator) props() *actor.Props {
	return c.sys.Props(func() actor.Actor {
		return &coordinator{sys: c.sys, config: &c.config, transport: c.transport, relay: c.relay, counters: c.counters, alternate: c.alternatePort()}
	}, actor.WithSupervisor(actors.Never()))
}

// homeProps makes the props of the home channel on an accepted connection. offer is
// given the streams that the client opens.
func homeProps(sys *actors.System, conn *netio.Conn, offer func(actors.Incoming) error) *actor.Props {
	peer, _ := netio.CertificateName(conn.Certificate()) // for logs; attaching says what is wrong with it
	return actors.ChannelProps(sys, actors.ChannelSpec{
		Channel: &actors.Channel{Peer: peer, Accepted: true},
		Home:    func(context.Context) (*netio.Conn, error) { return conn, nil },
		Offer:   offer,
	})
}

// TCPAddr returns the address for clients whose network blocks UDP, invalid if there is
// none.
func (c *Coordinator) TCPAddr() netip.AddrPort {
	if c.tcp == nil {
		return netip.AddrPort{}
	}
	return c.tcp.LocalAddr()
}

// Addr returns the UDP address that the coordinator listens on.
func (c *Coordinator) Addr() netip.AddrPort { return c.link.LocalAddr() }

// Fingerprint returns the fingerprint of the coordinator's certificate, for
// clients to pin.
func (c *Coordinator) Fingerprint() string {
	return netio.Fingerprint(c.transport.Identity().Chain()[0])
}

// AuthorityFingerprint returns the fingerprint of the authority that issued the
// coordinator's certificate, or of the certificate if it has none. Who pins the
// authority does not notice a new certificate, but has to dial a host that the
// certificate is for.
func (c *Coordinator) AuthorityFingerprint() string {
	chain := c.transport.Identity().Chain()
	return netio.Fingerprint(chain[len(chain)-1])
}

// Introduce hands two attached clients a channel to each other, as if each had
// accepted it. It blocks until both have, one refuses, or ctx ends. Errors:
// [messages.ErrNoSuchPeer], [messages.ErrNotAccepting], [messages.ErrLimit], a
// client's reason to refuse.
func (c *Coordinator) Introduce(ctx context.Context, a, b, purpose string) error {
	if len(purpose) > messages.MaxPurpose {
		return fmt.Errorf("introduce: %w: purpose of %d bytes, limit %d", messages.ErrLimit, len(purpose), messages.MaxPurpose)
	}
	ticket := c.tickets.Add(1)
	result, err := actors.Ask[*introduceResult](ctx, c.sys, c.pid, introduce{ticket, a, b, purpose, conecv1.Mode_MODE_UNSPECIFIED})
	if err != nil {
		c.sys.Root.Send(c.pid, cancelIntroduce{ticket})
		return fmt.Errorf("introduce %q to %q: %w", a, b, err)
	}
	var named *messages.OpError
	if result.err == nil || errors.As(result.err, &named) {
		return result.err
	}
	return fmt.Errorf("introduce %q to %q: %w", a, b, result.err)
}

// Stats is what a coordinator has and has done.
type Stats struct {
	// Connections counts home channels, attached or not yet.
	Connections int
	// Attached counts attached clients.
	Attached int
	// Refused counts connections that were turned away since the start.
	Refused int
	// Channels counts the introduced channels.
	Channels int
	// Pending counts the introductions that wait for an answer.
	Pending int
	// Introductions counts offers made since the start.
	Introductions int
	// Groups counts the groups.
	Groups int
	// Draining tells that clients are sent away, and none is taken ([Coordinator.Drain]).
	Draining bool
	// Relay is what the relay did.
	Relay netio.RelayStats
	// Switch is what came in and went out.
	Switch netio.SwitchStats
	// TCP is what came over TCP; it is in Switch, too.
	TCP netio.TCPStats
}

// Stats returns the counters of now.
func (c *Coordinator) Stats() Stats {
	stats := Stats{
		Connections: int(c.counters.connections.Load()), Attached: int(c.counters.attached.Load()),
		Refused: int(c.counters.refused.Load()), Channels: int(c.counters.channels.Load()), Pending: int(c.counters.pending.Load()),
		Introductions: int(c.counters.introductions.Load()), Groups: int(c.counters.groups.Load()),
		Draining: c.counters.draining.Load(),
		Relay:    c.relay.Stats(), Switch: c.transport.Switch().Stats(),
	}
	if c.tcp != nil {
		stats.TCP = c.tcp.Stats()
	}
	return stats
}

// Close tells all clients that the coordinator is shutting down, and stops it.
// It blocks until everything has ended or ctx ends. Direct channels between
// clients go on; clients attach again when a coordinator is back.
func (c *Coordinator) Close(ctx context.Context) error {
	c.close.Do(func() {
		c.closed = errors.Join(c.unmeter(), c.sys.Close(ctx), c.transport.Close())
	})
	return c.closed
}
