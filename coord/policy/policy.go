package policy

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// Subject is a client that wants something, or that somebody wants something of. Its
// name is proven: the certificate is for it, and the client holds the key.
type Subject struct {
	// Name is the client's name.
	Name string
	// Certificate is what the client presented.
	Certificate *x509.Certificate
	// Intermediates are the certificates that it presented with it, without proof.
	Intermediates []*x509.Certificate
	// Token is the join token that it presented, empty if there is none. It is a
	// secret: it belongs into no log and no error.
	Token string
	// Addr is where the coordinator sees the client.
	Addr netip.AddrPort
	// Now is when the coordinator asks, by its wall clock; for [Policy] Attach only.
	Now time.Time
}

// Policy decides what clients may do. Each method but Limits returns nil to allow
// something, or why not: the client is told that text, so it should say no more than
// it may know. An error that matches no error of package messages reaches the client
// as [messages.ErrForbidden] with its text.
//
// Methods must not block, and give the same answer while nothing has changed: a
// coordinator asks again when it is given another policy, and for each thing that
// goes on from before.
type Policy interface {
	// Attach decides whether a client may attach.
	Attach(who *Subject) error
	// See decides whether a client may know that another is there. To one that may
	// not, the other is not there.
	See(who, whom *Subject) error
	// Open decides whether a client may open channels to another that it may see.
	Open(who, whom *Subject) error
	// Relay decides whether a channel that a client opens to another may use the relay.
	Relay(who, whom *Subject) error
	// Introduce decides whether a client may hand two others, that it may see, a channel
	// to each other. Neither has to be allowed to open one. Both orders mean the same.
	Introduce(who, one, other *Subject) error
	// Join decides whether a client may join a group, and with create, bring it to life.
	Join(who *Subject, group string, create bool) error
	// Limits bounds what a client can make the coordinator do.
	Limits(who *Subject) Limits
}

// Limits of one client. A policy can only lower what the coordinator's configuration
// allows: a zero field leaves it at that.
type Limits struct {
	// Channels is how many introduced channels the client may have.
	Channels int
	// Pending is how many of its introductions may wait for an answer.
	Pending int
	// Opens is how many channels and introductions it may ask for, per second; five
	// times as many at once.
	Opens int
	// Joins is how many groups it may join, come back to or ask about, per second; five
	// times as many at once.
	Joins int
	// RelayRate is how much it may send over the relay on all its channels, and as much
	// what it may be sent, in bytes per second.
	RelayRate int64
	// Clients is how many clients of the same Class may be attached: the next is refused.
	// Who is attached when the policy changes stays.
	Clients int
	// Class says who counts together. A rule of [Rules] is a class.
	Class string
}

// AllowAll is the policy that allows everything.
type AllowAll struct{}

// Attach implements [Policy].
func (AllowAll) Attach(*Subject) error { return nil }

// See implements [Policy].
func (AllowAll) See(_, _ *Subject) error { return nil }

// Open implements [Policy].
func (AllowAll) Open(_, _ *Subject) error { return nil }

// Relay implements [Policy].
func (AllowAll) Relay(_, _ *Subject) error { return nil }

// Introduce implements [Policy].
func (AllowAll) Introduce(_, _, _ *Subject) error { return nil }

// Join implements [Policy].
func (AllowAll) Join(*Subject, string, bool) error { return nil }

// Limits implements [Policy].
func (AllowAll) Limits(*Subject) Limits { return Limits{} }
