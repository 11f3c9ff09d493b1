package actors

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Limits of a channel actor.
const (
	maxPendingOpens  = 1024             // streams that wait for the channel to connect
	defaultUpTimeout = 15 * time.Second // to connect, and to find a direct path if only those are allowed
	channelRestarts  = 10               // failures in a row until a channel is given up
	closeWait        = 2 * time.Second  // from the end of a drain until the peer has closed the connection
)

// ChannelConfig is what all channels of a client share.
type ChannelConfig struct {
	// Transport connects them.
	Transport *netio.Transport
	// Check is asked about a peer that has proven to own its certificate, before anything is
	// said to it: an error ends the channel, and the peer is told only that it is not trusted.
	// It is called by the channel's pump and may block. May be nil.
	Check func(peer string, certificate *x509.Certificate) error
	// Relay returns the path to the relay now; the zero path if there is none.
	Relay func() netio.Path
	// DoubtRelay is told that the relay may not know where this client is: it is silent
	// while a channel sends over it, or a channel has just lost its direct path. It must
	// not block. May be nil.
	DoubtRelay func()
	// Addrs returns the addresses at which this client might be reached.
	Addrs func() []netip.AddrPort
	// Kinds says where each of these comes from. May be nil.
	Kinds func([]netip.AddrPort) []conecv1.AddressKind
	// Varies reports whether this client is behind a NAT that shows it to each under
	// another port. May be nil.
	Varies func() bool
	// Search asks whether ports may be searched, or guessed, for a direct path to a peer now. If
	// so, done must be called once that is over. It must not block. If nil, never.
	Search func(peer string) (done func(), ok bool)
	// Links returns the client's links beside the first one. It must not block. If nil, there
	// are none.
	Links func() []OwnLink
	// OpenLink opens one more link of this client, with another port. May block.
	OpenLink func() (netio.Link, error)
	// Observe has tell called with the address under which the coordinator sees a link, if it
	// answers; it is called again for a link that was not. tell must not block. If nil, nobody
	// can say.
	Observe func(link netio.Link, tell func(netip.AddrPort))
	// Offer is given each stream that a peer opens; it calls Accept on it, or
	// returns why not. It must not block.
	Offer func(Incoming) error
	// UpTimeout limits the time to connect. If zero, 15 seconds.
	UpTimeout time.Duration
	// RelayOnly keeps every channel on the relay, whatever its own mode.
	RelayOnly bool

	strangers strangers
}

// Channel is the part of a channel that outlives its actor's restarts and may be
// asked without a message. Safe for concurrent use.
type Channel struct {
	// Peer is the name of the other side.
	Peer string
	// Purpose is what the channel is for.
	Purpose string
	// Mode says which paths it may take.
	Mode conecv1.Mode
	// Shared tells whether streams to the peer may share it.
	Shared bool
	// Accepted tells whether the other side, or the coordinator, opened it.
	Accepted bool

	pid      atomic.Pointer[actor.PID]
	conn     atomic.Pointer[netio.Conn]
	failures atomic.Int32
	wasUp    atomic.Bool
	ending   atomic.Bool
	reason   atomic.Int32 // a conecv1.PathReason
	over     atomic.Pointer[ChannelResult]
	links    atomic.Pointer[LinkChoice] // nil: all alike
}

// WasUp reports whether the channel has ever been connected.
func (c *Channel) WasUp() bool { return c.wasUp.Load() }

// Draining reports whether the channel takes no new streams because it is ending.
func (c *Channel) Draining() bool { return c.ending.Load() }

// Over returns what the channel's actor would tell a caller who comes when it has
// already stopped, nil if it has not ended by itself.
func (c *Channel) Over() *ChannelResult { return c.over.Load() }

// PID returns the channel's actor, nil before it has started.
func (c *Channel) PID() *actor.PID { return c.pid.Load() }

// Conn returns the connection, nil while there is none.
func (c *Channel) Conn() *netio.Conn { return c.conn.Load() }

// Reason says why the channel takes the path that it takes.
func (c *Channel) Reason() conecv1.PathReason { return conecv1.PathReason(c.reason.Load()) }

// Messages of callers to a channel actor.
type (
	// OpenStream asks for a stream; the answer is a [*StreamResult].
	OpenStream struct {
		// ID identifies the request in [CancelStream].
		ID uint64
		// Open says what the stream is for.
		Open *conecv1.OpenStream
		// Early has the answer come without that of the other side: messages may travel with
		// the opening. A refusal is then the error of the stream.
		Early bool
		// Resumable is what the stream is to carry; nil if it is a stream of its own.
		Resumable *netio.Resumable
	}
	// CancelStream says that nobody wants the stream any more.
	CancelStream struct {
		// ID is the request's.
		ID uint64
	}
	// ChannelAsked is the parent's word that the coordinator was asked for an introduction just
	// now. The channel dials, though it does not know whom yet. It comes again if that
	// coordinator was lost.
	ChannelAsked struct{}
	// ChannelAnswered tells the parent that the peer which it was asked for has accepted.
	ChannelAnswered struct{}
	// AwaitUp asks for a [*ChannelResult] once the channel is connected.
	AwaitUp struct{}
	// AddrsChanged has the channel offer the client's addresses again, and use the links that
	// there are.
	AddrsChanged struct {
		// Moved tells that the host's network has changed: paths are to be probed.
		Moved bool
	}
	// DrainChannel ends the channel in order; the answer is a [*ChannelResult]
	// once the other side has read everything.
	DrainChannel struct{}
	// Ping asks for the round trip to the peer; the answer is a [*PingResult].
	Ping struct {
		// ID identifies the ping in [CancelPing], and is not used again.
		ID uint64
	}
	// CancelPing says that nobody waits for the answer any more.
	CancelPing struct {
		// ID is the ping's.
		ID uint64
	}
	// PingResult answers [Ping].
	PingResult struct {
		// RTT is how long question and answer took.
		RTT time.Duration
		// Relayed tells whether the peer's packets take the relay.
		Relayed bool
		// Err is why there is no answer, nil if there is one.
		Err error
		// Remote tells whether the other side decided it.
		Remote bool
	}
	// ChannelResult answers [AwaitUp] and [DrainChannel].
	ChannelResult struct {
		// Err is nil if it is done.
		Err error
		// Remote tells whether the other side decided it.
		Remote bool
	}
)

// ChannelSpec says what a channel actor is to connect. It is all that a restart
// keeps, together with the mailbox.
type ChannelSpec struct {
	// Channel is the shared part.
	Channel *Channel
	// Config is shared by all channels of a client. Nil for home channels.
	Config *ChannelConfig
	// Home makes the connection of a home channel; it blocks. Nil for others.
	Home func(ctx context.Context) (*netio.Conn, error)
	// HomeDialed tells whether Home dials: then this side opens the control
	// stream, and a failure restarts the channel.
	HomeDialed bool
	// Offer is given each stream that the other side of a home channel opens, like
	// that of [ChannelConfig]. If nil, it opens none.
	Offer func(Incoming) error
	// Introduction is what an accepted channel starts with. Nil for channels
	// that this side opens: they ask their parent to be introduced.
	Introduction *conecv1.Introduction
}

// ChannelProps makes the props of a channel actor. Its parent receives
// ChannelUp, ChannelLost and PathChosen; from a home channel also every Control
// message, and from others OpenChannel, PassPacket and AnswerOffer for the coordinator,
// and ChannelAnswered.
func ChannelProps(sys *System, spec ChannelSpec) *actor.Props {
	return sys.Props(func() actor.Actor {
		return &channel{
			sys: sys, spec: spec, shared: spec.Channel,
			streams: map[string]*netio.Stream{}, requests: map[uint64]*actor.PID{}, asked: map[string]uint64{},
		}
	})
}
