package topology

import (
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// Limits of a file.
const (
	maxFile     = 1 << 20 // bytes
	maxHosts    = 5_000
	maxGateways = 5_000
	maxFlows    = 20_000
	maxFaults   = 10_000
	maxDuration = 24 * time.Hour
	maxSettle   = time.Hour
	maxMessage  = 16 << 20 // bytes, the default of client.Config.MaxMessage
)

// Names that the file's own must not be.
const (
	internet    = "internet"
	coordinator = "coordinator"
	all         = "all"
)

// Topology is what a file says, with all names resolved and groups spread out.
type Topology struct {
	// About is what the file says it is for.
	About string
	// Seed is the file's; zero if it gives none.
	Seed uint64
	// Duration is how long traffic and faults last, Settle how long what is under
	// way may then take to arrive.
	Duration, Settle time.Duration
	// Coordinator is where clients attach.
	Coordinator Coordinator
	// Gateways, outer ones first.
	Gateways []Gateway
	// Hosts, each with a client of its name.
	Hosts []Host
	// Traffic between them.
	Traffic []Traffic
	// Faults that strike.
	Faults []Fault
	// Expect is what must have held.
	Expect []Expectation
}

// Coordinator is the coordinator's host.
type Coordinator struct {
	Line      sim.Line
	RelayRate int64 // of coord.Limits
}

// Gateway is a router with a network behind it.
type Gateway struct {
	Name string
	At   string // a gateway's name, or "internet"
	NAT  sim.NAT
	Line sim.Line
}

// Host is a machine with a client.
type Host struct {
	Name      string
	At        string // a gateway's name, or "internet"
	Line      sim.Line
	Start     time.Duration
	IPv6      bool
	RelayOnly bool
}

// Kind is a kind of traffic.
type Kind string

// The kinds of traffic.
const (
	Messages Kind = "messages" // at a rate, one way
	Requests Kind = "requests" // at a rate, each answered
	Transfer Kind = "transfer" // a number of bytes, once
)

// Traffic is what goes between pairs of clients. Each pair has a stream.
type Traffic struct {
	Name        string
	Kind        Kind
	From, To    []string // hosts
	Peers       int      // how many receivers are drawn for each sender; zero: all
	Mode        client.Mode
	Start, Stop time.Duration
	Rate        float64 // messages or requests per second, each pair
	Size        int     // of a message or request in bytes
	Reply       int     // bytes of an answer
	Bytes       int64   // of a transfer
}

// Pair is a sender and a receiver.
type Pair struct{ From, To string }

// Span is a time from Least to Most.
type Span struct{ Least, Most time.Duration }

// Act is what a fault does.
type Act string

// The acts. Those with a time to end in Fault.For are taken back then.
const (
	Cut        Act = "cut"         // drop packets one way
	Block      Act = "block"       // drop packets both ways
	Partition  Act = "partition"   // drop packets between groups
	SetLine    Act = "line"        // change lines
	Crash      Act = "crash"       // silent at once; taken back: a new life
	Stop       Act = "stop"        // in order; taken back: a new life
	Start      Act = "start"       // a new life for what crashed or stopped
	Move       Act = "move"        // to another place
	Reboot     Act = "reboot"      // a gateway forgets its mappings
	Pause      Act = "pause"       // asleep
	Skew       Act = "skew"        // a wall clock that is wrong
	UDPBlocked Act = "udp-blocked" // a gateway passes no UDP
)

// Fault is something that happens to the network or to programs.
type Fault struct {
	Act Act
	At  time.Duration // if Random is zero
	For Span          // if zero, it is not taken back

	// Random is how often per second it strikes between From and Until, each
	// time one victim.
	Random      float64
	From, Until time.Duration

	Hosts  []string   // victims; gateways for Reboot and UDPBlocked; the senders of Cut and Block
	To     []string   // of Cut and Block
	Groups [][]string // of Partition
	Line   *sim.Line  // of SetLine and Move
	Place  []string   // of Move
	By     time.Duration
}
