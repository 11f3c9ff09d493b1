package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// NAT is how a [Gateway] translates and filters, in the terms of RFC 4787. The
// zero NAT is that of [FullCone].
type NAT struct {
	// Mapping is which packets of one inside socket leave by the same mapping
	// (RFC 4787, section 4.1).
	Mapping Dependence
	// Filtering is who may send to a mapping (RFC 4787, section 5): anybody, the
	// addresses that were sent to through this mapping, or those with their port.
	Filtering Dependence
	// Ports is which outside port a new mapping gets, 1024 to 65535.
	Ports PortPolicy
	// Timeout is how long a mapping, or an opening in its filter, lives without
	// packets. If zero, 2 minutes (RFC 4787, REQ-5); many routers have 30 seconds.
	Timeout time.Duration
	// OutboundRefresh has only what goes out keep mappings and openings alive, as
	// RFC 4787, REQ-6 allows; else both directions do.
	OutboundRefresh bool
	// Hairpin has the gateway deliver what is sent inside to one of its own
	// mappings, with the sender's mapping as source (RFC 4787, REQ-9).
	Hairpin bool
	// EarlyTakes has a packet from outside that nothing asked for occupy its pair
	// of remote address and outside port, for 30 seconds after the last such
	// packet: what is sent from that port to that remote in this time leaves from
	// another port. Linux without an input filter does that: the packet is for the
	// router itself, and its connection tracking knows the pair from then on. Other
	// flows that there are keep their port.
	EarlyTakes bool
	// NoUDP drops all UDP.
	NoUDP bool
	// Routed translates nothing: a firewall. IPv6 is always routed. Mapping, Ports
	// and EarlyTakes say nothing about what is routed; an inside socket that has
	// sent something is open to whom Filtering says.
	Routed bool
	// Limit is how many mappings there may be, and how many openings, and how many
	// early pairs. If zero, 16,384; at most 64,512, the number of ports. A packet
	// that would need one more is [Exhausted]; an early pair more is forgotten.
	Limit int
	// Inside is the network inside. If zero, 192.168.1.0/24, as at many homes: the
	// same behind each gateway. That of a carrier is 100.64.0.0/10 (RFC 6598).
	Inside netip.Prefix
}

// FullCone is a NAT whose mappings are open to everybody.
func FullCone() NAT { return NAT{} }

// AddressRestricted is a NAT whose mappings are open to the addresses that were
// sent to.
func AddressRestricted() NAT { return NAT{Filtering: AddressDependent} }

// PortRestricted is a NAT whose mappings are open to the addresses and ports that
// were sent to: the usual router at home.
func PortRestricted() NAT { return NAT{Filtering: AddressAndPortDependent} }

// Symmetric is a NAT with a mapping, at a random port, for each remote address and
// port.
func Symmetric() NAT {
	return NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Ports: RandomPorts}
}

// OpenMasquerade is Linux that masquerades and filters nothing that is addressed
// to itself, as on many hosts of virtual machines and containers. It preserves
// ports, so to probes it looks like [PortRestricted], but whose packets come early
// finds another port than announced; see EarlyTakes.
func OpenMasquerade() NAT {
	return NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, EarlyTakes: true}
}

// Firewall is a router that translates nothing and lets in only answers.
func Firewall() NAT { return NAT{Routed: true, Filtering: AddressAndPortDependent} }

// Validate reports everything that is wrong with a NAT.
func (n NAT) Validate() error {
	var errs []error
	for _, field := range []struct {
		name  string
		value interface{ MarshalText() ([]byte, error) }
	}{
		{"Mapping", n.Mapping},
		{"Filtering", n.Filtering},
		{"Ports", n.Ports},
	} {
		if _, err := field.value.MarshalText(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field.name, err))
		}
	}
	wrong := func(field, what string) { errs = append(errs, fmt.Errorf("%s is %s", field, what)) }
	if n.Timeout < 0 {
		wrong("Timeout", fmt.Sprintf("%s: want 0 for %s, or more", n.Timeout, defaultTimeout))
	}
	if n.Limit < 0 || n.Limit > ports {
		wrong("Limit", fmt.Sprintf("%d: want 0 for %d, or 1 to %d", n.Limit, defaultLimit, ports))
	}
	switch {
	case n.Inside == netip.Prefix{}:
	case !n.Inside.IsValid() || !n.Inside.Addr().Is4():
		wrong("Inside", fmt.Sprintf("%s: want an IPv4 network, such as %s", n.Inside, defaultInside))
	case n.Inside != n.Inside.Masked():
		wrong("Inside", fmt.Sprintf("%s: want the network's address, %s", n.Inside, n.Inside.Masked()))
	case n.Inside.Bits() > 30:
		wrong("Inside", fmt.Sprintf("%s: want room for the gateway and a host, a /30 or larger", n.Inside))
	}
	return errors.Join(errs...)
}

const (
	defaultTimeout = 2 * time.Minute
	defaultLimit   = 16_384
)

var defaultInside = netip.MustParsePrefix("192.168.1.0/24")

func (n NAT) withDefaults() NAT {
	if n.Timeout == 0 {
		n.Timeout = defaultTimeout
	}
	if n.Limit == 0 {
		n.Limit = defaultLimit
	}
	if n.Inside == (netip.Prefix{}) {
		n.Inside = defaultInside
	}
	return n
}

// Dependence is how much of a remote's address makes a difference. As text it is
// one of the words of RFC 4787, such as "address-dependent".
type Dependence uint8

// The dependences.
const (
	EndpointIndependent     Dependence = iota // all remotes are the same
	AddressDependent                          // all ports of a remote address are the same
	AddressAndPortDependent                   // each port of each address is another remote
)

var dependences = []string{"endpoint-independent", "address-dependent", "address-and-port-dependent"}

func (d Dependence) String() string { return word(dependences, uint8(d), "dependence") }

// MarshalText returns the word for it.
func (d Dependence) MarshalText() ([]byte, error) {
	return marshalWord(dependences, uint8(d), "dependence")
}

// UnmarshalText understands the words that MarshalText returns.
func (d *Dependence) UnmarshalText(text []byte) error {
	i, err := unmarshalWord(dependences, text, "dependence")
	if err == nil {
		*d = Dependence(i)
	}
	return err
}

// of returns the part of a remote address that makes a difference.
func (d Dependence) of(remote netip.AddrPort) netip.AddrPort {
	switch d {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	default:
		return remote
	}
}

// PortPolicy is which outside port a new mapping gets (RFC 4787, section 4.2). As
// text it is "preserve", "sequential" or "random".
type PortPolicy uint8

// The port policies.
const (
	// PreservePorts gives the inside socket's port; if that is taken or under 1024,
	// the next free one. Where mapping and filtering are both address and port
	// dependent, that is what Linux does: mappings to different remotes share a port;
	// preferred is that of the socket's last mapping, then that of the socket; if the
	// same remote has both, another one is picked at random.
	PreservePorts PortPolicy = iota
	// SequentialPorts counts up from a random start; taken ones are skipped.
	SequentialPorts
	// RandomPorts picks any free port.
	RandomPorts
)

var portPolicies = []string{"preserve", "sequential", "random"}

func (p PortPolicy) String() string { return word(portPolicies, uint8(p), "port policy") }

// MarshalText returns the word for it.
func (p PortPolicy) MarshalText() ([]byte, error) {
	return marshalWord(portPolicies, uint8(p), "port policy")
}

// UnmarshalText understands the words that MarshalText returns.
func (p *PortPolicy) UnmarshalText(text []byte) error {
	i, err := unmarshalWord(portPolicies, text, "port policy")
	if err == nil {
		*p = PortPolicy(i)
	}
	return err
}

func word(words []string, i uint8, what string) string {
	if int(i) < len(words) {
		return words[i]
	}
	return fmt.Sprintf("%s %d", what, i)
}

func marshalWord(words []string, i uint8, what string) ([]byte, error) {
	if int(i) < len(words) {
		return []byte(words[i]), nil
	}
	return nil, fmt.Errorf("%s %d: want one of %s", what, i, strings.Join(words, ", "))
}

func unmarshalWord(words []string, text []byte, what string) (int, error) {
	if i := slices.Index(words, string(text)); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s %q: want one of %s", what, text, strings.Join(words, ", "))
}
