package policy

import (
	"crypto/x509"
	"net/netip"
)

// Subject is a client that wants something, or that somebody wants something of. Its
// name is proven: the certificate is for it, and the client holds the key.
type Subject struct {
	// Name is the client's name.
	Name string
	// Certificate is what the client presented.
	Certificate *x509.Certificate
	// Addr is where the coordinator sees the client.
	Addr netip.AddrPort
}

// Policy decides what clients may do. Each method returns nil to allow something, or
// why not: the client is told that text, so it should say no more than it may know.
// Methods must not block, and give the same answer while nothing has changed.
type Policy interface {
	// Attach decides whether a client may attach.
	Attach(who *Subject) error
	// See decides whether a client may know that another is there.
	See(who, whom *Subject) error
	// Open decides whether a client may open channels to another.
	Open(who, whom *Subject) error
	// Relay decides whether two clients that share a channel may use the relay.
	Relay(who, whom *Subject) error
	// Join decides whether a client may join a group, and with create, bring it to life.
	Join(who *Subject, group string, create bool) error
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

// Join implements [Policy].
func (AllowAll) Join(*Subject, string, bool) error { return nil }
