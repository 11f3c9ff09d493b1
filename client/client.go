package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Client is attached to a coordinator under a name. All methods may be called
// from any goroutine.
type Client struct {
	config      Config
	trust       *trust
	link        netio.Link // UDP
	way         *way
	transport   *netio.Transport
	sys         *actors.System
	pid         *actor.PID
	channels    actors.ChannelConfig
	incarnation []byte
	remote      *actors.Remote
	incoming    *incoming
	resumptions *resumptions
	events      *events
	searches    searches
	turned      turned
	monitor     *netio.Monitor // nil if nothing is watched
	mapper      PortMapper     // nil: no port is mapped
	shared      shared
	watches     watches
	metadata    atomic.Pointer[conecv1.SetMetadata]
	metadataSet atomic.Bool // the actor is about to look at it
	request     atomic.Uint64
	life        actors.Life
	cutting     atomic.Bool // all channels are being ended at once

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// Connect attaches to a coordinator. It blocks until the coordinator has granted
// the name and relays to this client, refuses, or ctx ends. Errors:
// [messages.ErrNameTaken], [messages.ErrNameMismatch], [messages.ErrUntrusted],
// [messages.ErrVersion], [messages.ErrLimit], [messages.ErrUnreachable],
// [messages.ErrForbidden], [messages.ErrBanned].
//
// Once attached, the client attaches again by itself when it loses the
// coordinator, until [Client.Close]; Config.OnEvent hears of it. One that was kicked,
// banned or is not allowed any more waits before each attempt: 5 seconds at first, up to
// 5 minutes later. The client's goroutines have the pprof labels of ctx.
func Connect(ctx context.Context, config *Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("client config: %w", err)
	}
	cl := &Client{config: config.withDefaults(), closed: make(chan struct{}), life: actors.Begin()}
	cl.metadata.Store(config.published())
	if err := cl.start(actors.LabelOf(ctx)); err != nil {
		return nil, err
	}
	result, err := actors.Ask[*attachResult](ctx, cl.sys, cl.pid, awaitAttached{})
	remote := false
	if err == nil && result.err != nil {
		err, remote = result.err, result.remote
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		cl.Abort()
		return nil, &messages.OpError{Op: "attach", Peer: cl.config.Coordinator, Remote: remote, Err: err}
	}
	return cl, nil
}

// start makes everything that lasts as long as the client. label is for goroutines.
func (cl *Client) start(label func()) error {
	identity, err := cl.config.identify()
	if err != nil {
		return err
	}
	cl.trust = newTrust(&cl.config, func(hash []byte) bool { return cl.transport.Was(hash) != nil })
	cl.incarnation = newIncarnation(cl.config.Now())
	cl.sys = actors.NewSystem(&actors.SystemConfig{
		Name: actors.Address(cl.config.Name, cl.incarnation), Logger: cl.config.Logger, Label: label,
	})
	if err := cl.listen(identity); err != nil {
		return errors.Join(err, cl.sys.Close(context.Background()))
	}
	cl.incoming = newIncoming(cl.config.Backlog)
	cl.resumptions = newResumptions(cl)
	cl.events = newEvents(cl.config.OnEvent)
	cl.remote = actors.NewRemote(cl.sys, &actors.RemoteConfig{
		Name: cl.config.Name, Open: cl.openLane, MaxMessage: cl.config.MaxMessage, Codecs: cl.config.Codecs,
		Limits: cl.config.ActorLimits, Sight: cl.sight,
	})
	if err := cl.acceptLanes(); err != nil {
		cl.Abort()
		return err
	}
	cl.channels = actors.ChannelConfig{
		Transport: cl.transport, Check: cl.checkPeer, Relay: cl.relayPath, Addrs: cl.candidates, Kinds: cl.kinds, Offer: cl.offer,
		UpTimeout: cl.config.OpenTimeout, RelayOnly: cl.config.RelayOnly, DoubtRelay: cl.doubtRelay,
		Varies: func() bool { return cl.NAT().Mapping == EndpointDependent }, OpenLink: cl.openLink, Links: cl.linksOf,
		Observe: func(link netio.Link, tell func(netip.AddrPort)) { cl.sys.Root.Send(cl.pid, observeLink{link, tell}) },
	}
	if !cl.config.NoPortSearch && (cl.config.Link == nil || cl.config.OpenLink != nil) {
		cl.channels.Search = cl.searches.begin
	}
	cl.mapper = cl.config.chooseMapper()
	pid, err := cl.sys.Spawn(cl.sys.Props(func() actor.Actor { return &clientActor{cl: cl} },
		actor.WithSupervisor(&actors.Backoff{Max: retryAtLeast, MaxRestarts: -1})), "conec.client")
	if err != nil {
		cl.Abort()
		return err
	}
	cl.pid = pid
	cl.shared.pid.Store(pid)
	if err := cl.watch(); err != nil {
		cl.Abort()
		return err
	}
	return nil
}

func (cl *Client) listen(identity *netio.Identity) error {
	cl.link = cl.config.Link
	if cl.link == nil {
		addr, err := net.ResolveUDPAddr("udp", cl.config.Bind)
		if err != nil {
			return fmt.Errorf("bind to %s: %w", cl.config.Bind, err)
		}
		local := netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(addr.Port))
		if addr.IP != nil {
			local = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))
		}
		if cl.link, err = netio.ListenUDP(local); err != nil {
			return fmt.Errorf("bind to %s: %w", cl.config.Bind, err)
		}
	}
	root := cl.sys.Root
	sw, err := netio.NewSwitch(netio.SwitchConfig{
		MaxPorts: 4 * cl.config.MaxChannels,
		OnBound: func(frame netio.BoundFrame, link netio.Link, from netip.AddrPort) {
			if pid := cl.shared.pid.Load(); pid != nil {
				root.Send(pid, boundHeard{frame, link, from})
			}
		},
		OnUnknown: func(id, sequence uint64) {
			if pid := cl.shared.pid.Load(); pid != nil {
				root.Send(pid, notKnown{id, sequence})
			}
		},
	}, cl.link)
	if err != nil {
		return errors.Join(err, cl.link.Close())
	}
	cl.way = newWay(sw, cl.link)
	cl.transport, err = netio.NewTransport(sw, identity, false, &netio.Config{
		Limits:     netio.Limits{MaxMessage: cl.config.MaxMessage},
		MaxStreams: cl.config.MaxStreams, PeerMemory: cl.config.PeerMemory, KeepAlive: cl.config.KeepAlive, IdleTimeout: cl.config.IdleTimeout,
		KeyLog: cl.config.KeyLog, Now: cl.config.Now,
	})
	if err != nil {
		return errors.Join(err, sw.Close())
	}
	return nil
}

// offer takes a stream that a peer opened: actor messages go to the actor system,
// the others wait for AcceptStream.
func (cl *Client) offer(in actors.Incoming) error {
	to := cl.incoming.queue(in.Purpose)
	if err := cl.admit(in, to); err != nil {
		return err
	}
	switch {
	case in.Resume != nil:
		return cl.resumptions.accept(in, to)
	case in.Purpose == actors.RemotePurpose:
		return fmt.Errorf("%w: actor messages travel on resumable streams", messages.ErrProtocol)
	}
	return cl.incoming.offer(in, nil, to)
}

// relayPath returns where the relay is, the zero path before the first attachment.
func (cl *Client) relayPath() netio.Path {
	if path := cl.shared.relay.Load(); path != nil {
		return *path
	}
	return netio.Path{}
}

// doubtRelay has the relay asked whether it still knows where this client is.
func (cl *Client) doubtRelay() {
	if pid := cl.shared.pid.Load(); pid != nil {
		cl.sys.Root.Send(pid, relayDoubted{})
	}
}

// candidates returns the addresses at which peers might reach this client: the
// one that the coordinator sees first, then one at the gateway.
func (cl *Client) candidates() []netip.AddrPort {
	var all []netip.AddrPort
	if observed := cl.shared.observed.Load(); observed != nil {
		all = append(all, *observed)
	}
	own := cl.link.Addrs()
	all = append(all, cl.mappedAddr(own))
	for _, other := range cl.ownLinks() {
		all = append(append(all, other.observed), other.Link.Addrs()...)
	}
	all = append(all, own...)
	var once []netip.AddrPort
	for _, addr := range all {
		if addr.IsValid() && !slices.Contains(once, addr) {
			once = append(once, addr)
		}
	}
	return once
}

// Name returns the client's name.
func (cl *Client) Name() string { return cl.config.Name }

// Fingerprint returns the fingerprint of the client's certificate.
func (cl *Client) Fingerprint() string { return netio.Fingerprint(cl.transport.Identity().Chain()[0]) }

// KeyFingerprint returns the fingerprint of the client's key, which stays the same when the
// certificate is renewed for it.
func (cl *Client) KeyFingerprint() string {
	return netio.KeyFingerprint(cl.transport.Identity().Certificate())
}

// Actors returns the client's actor system and its way to those of peers.
func (cl *Client) Actors() *Actors { return &Actors{System: cl.sys, Remote: cl.remote, cl: cl} }

// Actors is an actor system whose actors can send to those of other clients:
//
//	sys := cl.Actors()
//	sys.Root.Send(sys.PID("bob", "greeter"), &Hello{})
type Actors struct {
	*actors.System
	*actors.Remote
	cl *Client
}

// LocalAddr returns the address of the client's UDP socket.
func (cl *Client) LocalAddr() netip.AddrPort { return cl.link.LocalAddr() }

// ChannelOptions say what a channel is to be. A nil *ChannelOptions and zero
// fields mean the defaults.
type ChannelOptions struct {
	// Purpose is shown to the peer; at most [messages.MaxPurpose] bytes.
	Purpose string
	// Mode says which paths the channel may take.
	Mode Mode
	// Links says which links of this client its direct packets take.
	Links LinkChoice
}

// OpenChannel opens a channel of the caller's own to a peer: OpenStream of the
// client does not put streams on it. It blocks until the channel is connected,
// the peer or the coordinator refuses, or ctx ends. Errors:
// [messages.ErrNoSuchPeer], [messages.ErrNotAccepting], [messages.ErrRefused],
// [messages.ErrLimit], [messages.ErrUnreachable], [messages.ErrTimeout],
// [messages.ErrForbidden]. Where the coordinator's policy keeps the two off the relay,
// the channel takes direct paths only, as in mode DirectOnly, whatever the mode.
//
// A channel that fails is connected again by its supervisor, with growing
// pauses; it ends for good when the peer closes it or stays away.
func (cl *Client) OpenChannel(ctx context.Context, peer string, options *ChannelOptions) (*Channel, error) {
	if options == nil {
		options = &ChannelOptions{}
	}
	if err := options.Links.check(cl.config.Links); err != nil {
		return nil, cl.opError(ctx, "open channel", peer, err)
	}
	ref, err := cl.find(ctx, findChannel{
		peer: peer, purpose: options.Purpose, mode: conecv1.Mode(options.Mode), links: actors.LinkChoice(options.Links), fresh: true,
	})
	if err == nil {
		err = cl.awaitUp(ctx, ref)
	}
	if err != nil {
		return nil, cl.opError(ctx, "open channel", peer, err)
	}
	return &Channel{cl: cl, ref: ref}, nil
}

// find asks for a channel to a peer; it may not be connected yet.
func (cl *Client) find(ctx context.Context, want findChannel) (*channelRef, error) {
	if err := messages.CheckName(want.peer); err != nil {
		return nil, err
	}
	if err := checkPurpose(want.purpose); err != nil {
		return nil, err
	}
	if cl.config.RelayOnly {
		if want.mode == conecv1.Mode(DirectOnly) {
			return nil, fmt.Errorf("%w: this client uses the relay only", messages.ErrRefused)
		}
		want.mode = conecv1.Mode(RelayOnly)
	}
	want.ticket = cl.request.Add(1)
	result, err := actors.Ask[*channelResult](ctx, cl.sys, cl.pid, want)
	if err != nil {
		cl.sys.Root.Send(cl.pid, forgetFind{want.ticket})
		return nil, err
	}
	return result.ref, result.err
}

// awaitUp blocks until a fresh channel is connected. If ctx ends, nobody wants it.
func (cl *Client) awaitUp(ctx context.Context, ref *channelRef) error {
	result, err := actors.Ask[*actors.ChannelResult](ctx, cl.sys, ref.pid, actors.AwaitUp{})
	if over := ref.Over(); over != nil && errors.Is(err, actors.ErrDeadLetter) {
		return asRemote(over.Err, over.Remote) // it was faster than we
	}
	if err != nil {
		cl.sys.Root.Send(cl.pid, dropChannel{ref.pid})
		return err
	}
	return asRemote(result.Err, result.Remote)
}

// AcceptChannel returns the next channel that a peer opened, or that the
// coordinator's program handed to this client. It blocks until there is one, ctx
// ends or the client is closed. Channels work whether they are accepted or not:
// their streams come from AcceptStream.
func (cl *Client) AcceptChannel(ctx context.Context) (*Channel, error) {
	ref, err := cl.incoming.acceptChannel(ctx)
	if err != nil {
		return nil, cl.opError(ctx, "accept channel", "", err)
	}
	return &Channel{cl: cl, ref: ref}, nil
}

// StreamOptions say what a stream is to be. A nil *StreamOptions and zero fields
// mean the defaults.
type StreamOptions struct {
	// Purpose tells the peer what the stream is for; at most
	// [messages.MaxPurpose] bytes. Purposes that begin with "conec." are reserved.
	Purpose string
	// Mode says which paths the stream's channel may take. Streams to a peer in
	// the same mode share a channel.
	Mode Mode
	// Resumable makes a stream that outlives its channel: when that is lost, the
	// stream is attached again to the same or another one to the peer, and no
	// message is lost or comes twice while both clients live. See docs/streams.md
	// for what it promises and Config for its limits. A peer that can not or will
	// not have it refuses the stream.
	Resumable bool

	// Early has OpenStream not wait for the peer's answer: what is sent at once, up to
	// 64 KiB, travels with the opening, a round trip sooner. A refusal is then the error of
	// Send and Receive. For streams that are ordered and have no deadline.
	Early bool

	// Delivery is what is promised of the stream's messages, in both directions. A
	// peer that can not or will not have it refuses the stream. What is not ordered
	// can not be resumable. See docs/delivery.md.
	Delivery Delivery
	// Deadline is how old a message may get, from Send until Receive; older ones are
	// given up. Stream.SendWithin sets a shorter one. At most 24 hours; not for
	// resumable streams. If zero, any age. The age is measured across two clocks:
	// docs/delivery.md says how well.
	Deadline time.Duration
	// Copies sends every message of a sequenced or lossy stream twice; the peer
	// drops the second.
	Copies bool
	// CopyAfter is how long after a message its copy is sent, if there are copies;
	// at most 10 seconds. If zero, 20 milliseconds.
	CopyAfter time.Duration
	// OneWay makes a stream on which only the opener sends: its Receive and the
	// peer's Send find that direction ended.
	OneWay bool
	// Urgency says what goes first on the channel, in both directions.
	Urgency Urgency
}

// OpenStream opens a stream to a peer, on the channel that is there or on a new
// one. It blocks until the peer's client has accepted the stream, refuses, or
// ctx ends; with StreamOptions.Early, until the channel is connected. Errors: those of OpenChannel, and [messages.ErrBusy].
func (cl *Client) OpenStream(ctx context.Context, peer string, options *StreamOptions) (*Stream, error) {
	if options == nil {
		options = &StreamOptions{}
	}
	terms, err := options.terms()
	if err != nil { // before a channel is opened for it
		return nil, cl.opError(ctx, "open stream", peer, err)
	}
	var r *resumable
	if options.Resumable {
		if r, err = cl.resumptions.open(peer, terms, options.Mode); err != nil {
			return nil, cl.opError(ctx, "open stream", peer, err)
		}
	}
	const tries = 3 // a channel that is found may just be ending
	for try := 1; ; try++ {
		ref, err := cl.find(ctx, findChannel{peer: peer, mode: conecv1.Mode(options.Mode)})
		if err == nil {
			var stream *Stream
			if stream, err = cl.openOn(ctx, ref, terms, r, options.Early); err == nil {
				return stream, nil
			}
		}
		ending := errors.Is(err, messages.ErrClosed) || errors.Is(err, actors.ErrDeadLetter) ||
			errors.Is(err, messages.ErrCanceled) && errors.As(err, new(remoteError)) // the peer has taken back the one that it opened
		if !ending || try == tries || ctx.Err() != nil || cl.isClosed() {
			r.giveUp()
			return nil, cl.opError(ctx, "open stream", peer, err)
		}
	}
}

func checkPurpose(purpose string) error {
	if len(purpose) > messages.MaxPurpose {
		return fmt.Errorf("%w: purpose of %d bytes, at most %d", messages.ErrLimit, len(purpose), messages.MaxPurpose)
	}
	return nil
}

// openOn opens a stream on a channel: r, if that is not nil. If early is set, it does
// not wait for the peer's answer.
func (cl *Client) openOn(ctx context.Context, ref *channelRef, terms *conecv1.OpenStream, r *resumable, early bool) (*Stream, error) {
	stream := &Stream{resumable: r, peer: ref.Peer, terms: terms, channel: &Channel{cl: cl, ref: ref}}
	if r != nil {
		if err := r.attach(ctx, ref, early, r.giveUp); err != nil { // before the peer hears of a mere detachment
			return nil, err
		}
		r.settle()
		stream.raw = r
		return stream, nil
	}
	raw, err := cl.openRaw(ctx, ref, actors.OpenStream{Open: terms, Early: early}, func() {})
	if err != nil {
		return nil, err
	}
	stream.raw = raw
	return stream, nil
}

// AcceptStream returns the next stream that a peer opened, on any channel, with a
// purpose that no [Listener] takes. It blocks until there is one, ctx ends or the
// client is closed. The peer's name is authenticated by the channel.
func (cl *Client) AcceptStream(ctx context.Context) (*Stream, error) {
	return cl.acceptStream(ctx, cl.incoming.rest, nil)
}

func (cl *Client) acceptStream(ctx context.Context, q *streamQueue, of *channelRef) (*Stream, error) {
	var only *actors.Channel
	if of != nil {
		only = of.Channel
	}
	in, err := cl.incoming.acceptStream(ctx, q, only)
	if err != nil {
		return nil, cl.opError(ctx, "accept stream", "", err)
	}
	return cl.incomingStream(in), nil
}

func (cl *Client) isClosed() bool {
	select {
	case <-cl.closed:
		return true
	default:
		return false
	}
}
