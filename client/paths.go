package client

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// PathReport says why a channel takes its path: what was tried, and what happened.
// The addresses are the peer's: do not show them to others.
type PathReport struct {
	// Path is the one in use.
	Path
	// At is when all of this was so.
	At time.Time
	// Since is when the path came into use; zero while the channel is not connected.
	Since time.Time
	// Sent is how many packets QUIC has sent since then, and Lost how many of these
	// it takes for lost.
	Sent, Lost uint64

	// MaxPacket is the size in bytes of the largest packets that QUIC sends now: it
	// searches for what the path carries, up to 1,452, while there is traffic. 5 bytes
	// of the switch, and 28 or 48 of UDP and IP, go around each.
	MaxPacket int
	// ProbeSize is the size in bytes of our probes of the path in use, if that is direct:
	// that of QUIC's largest packets, which it has to carry. Otherwise it is that of all
	// probes, 1,205.
	ProbeSize int
	// Heard tells whether the peer has said where it can be reached, and Offered how
	// many addresses that were.
	Heard   bool
	Offered int
	// Died is when a direct path in use last died, zero if none has, and DiedAt which
	// one.
	Died   time.Time
	DiedAt netip.AddrPort
	// Candidates are the addresses at which the peer might be reached, in the order
	// in which they came; at most 32.
	Candidates []Candidate

	mode string // why only the relay is allowed, if so
}

// Candidate is an address at which a peer might be reached directly, and what
// happened there.
type Candidate struct {
	// Addr is the address.
	Addr netip.AddrPort
	// Link is the one of Config.Links by which it is reached; empty if it is none of these.
	Link string
	// Kind says where it comes from, as the peer says.
	Kind CandidateKind
	// State says what became of it.
	State CandidateState
	// Probes were sent there in all, and Answers came.
	Probes, Answers int
	// RTT is the round trip of the last answer; zero if there is none.
	RTT time.Duration
	// Answered is when that came, and Heard when the peer's last probe did; zero if
	// never.
	Answered, Heard time.Time
	// Died is when it last stopped answering; zero if it never did.
	Died time.Time
	// Largest is the size in bytes of the largest probe that was answered.
	Largest int
	// Unsent says why the last probe could not be sent; empty if it was.
	Unsent string
}

// CandidateKind says where a candidate comes from. Kinds may be added.
type CandidateKind int

// The kinds of candidates.
const (
	KindUnknown   CandidateKind = iota // offered by the peer, which does not say more
	KindInterface                      // an interface of the peer's host has it
	KindObserved                       // the peer's coordinator sees it: the outside of a NAT
	KindReflexive                      // the peer does not offer it, but its probes come from there
	KindMapped                         // the peer's gateway has mapped it to the peer, which asked for that
)

var candidateKinds = [...]string{KindUnknown: "offered", KindInterface: "interface", KindObserved: "observed", KindReflexive: "reflexive", KindMapped: "mapped"}

// String returns a word, such as "observed".
func (k CandidateKind) String() string {
	if k < 0 || int(k) >= len(candidateKinds) {
		return "kind " + strconv.Itoa(int(k))
	}
	return candidateKinds[k]
}

// MarshalText returns the same.
func (k CandidateKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func kindOf(c *conecv1.PathCandidate) CandidateKind {
	switch {
	case c.GetReflexive():
		return KindReflexive
	case c.GetKind() == conecv1.AddressKind_ADDRESS_KIND_INTERFACE:
		return KindInterface
	case c.GetKind() == conecv1.AddressKind_ADDRESS_KIND_OBSERVED:
		return KindObserved
	case c.GetKind() == conecv1.AddressKind_ADDRESS_KIND_MAPPED:
		return KindMapped
	}
	return KindUnknown
}

// CandidateState says what became of a candidate. States may be added.
type CandidateState int

// The states. Numbers are those of the protobuf messages between actors.
const (
	CandidateNew      CandidateState = iota // not probed yet
	CandidateInUse                          // the path in use
	CandidateSpare                          // answers, and is not in use
	CandidateProving                        // has answered, but not often or not lately enough
	CandidateHeldDown                       // answers, but died less than 3 seconds ago
	CandidateDead                           // answered once, and does not any more
	CandidateSilent                         // never answered
	CandidateOneWay                         // the peer's probes come from there, ours are not answered
	CandidateUnsent                         // nothing could be sent there
)

var candidateStates = [...]string{
	CandidateNew: "new", CandidateInUse: "in use", CandidateSpare: "spare", CandidateProving: "proving", CandidateHeldDown: "held down",
	CandidateDead: "dead", CandidateSilent: "silent", CandidateOneWay: "one way", CandidateUnsent: "unsent",
}

// String returns a word or two, such as "held down".
func (s CandidateState) String() string {
	if s < 0 || int(s) >= len(candidateStates) {
		return "state " + strconv.Itoa(int(s))
	}
	return candidateStates[s]
}

// MarshalText returns a name for programs, such as "held_down".
func (s CandidateState) MarshalText() ([]byte, error) {
	return []byte(strings.ReplaceAll(s.String(), " ", "_")), nil
}

// Paths says which candidates were tried, what happened to each, and why the path
// in use was chosen. It asks an actor, and blocks until that answers or ctx ends.
// Errors: [messages.ErrClosed] if the channel is over. While it is not connected,
// the report says only that.
func (ch *Channel) Paths(ctx context.Context) (*PathReport, error) {
	said, err := actors.Ask[*conecv1.PathsDescribed](ctx, ch.cl.sys, ch.ref.pid, &conecv1.DescribePaths{})
	if err == nil && ch.ref.Over() != nil {
		err = messages.ErrClosed
	}
	if err != nil {
		return nil, ch.cl.opError(ctx, "describe paths", ch.ref.Peer, err)
	}
	report := &PathReport{
		Path: ch.Path(), At: time.Now(), Since: instant(said.GetSince()), Sent: said.GetSent(), Lost: said.GetLost(),
		ProbeSize: int(said.GetProbeSize()), Heard: said.GetHeard(), Offered: int(said.GetOffered()), Died: instant(said.GetDied()),
		mode: ch.onlyRelay(),
	}
	report.Relayed, report.Reason = said.GetRelayed(), PathReason(said.GetReason()) // both of one instant
	report.Remote, _ = netip.ParseAddrPort(said.GetRemote())                        // empty: none
	if conn := ch.ref.Conn(); conn != nil {
		report.MaxPacket = conn.MaxPacket()
	}
	report.DiedAt, _ = netip.ParseAddrPort(said.GetDiedAt()) // empty: none
	for _, c := range said.GetCandidates() {
		addr, err := netip.ParseAddrPort(c.GetAddress())
		if err != nil {
			return nil, ch.cl.opError(ctx, "describe paths", ch.ref.Peer, err)
		}
		report.Candidates = append(report.Candidates, Candidate{
			Addr: addr, Link: c.GetLink(), Kind: kindOf(c), State: CandidateState(c.GetState()),
			Probes: int(c.GetProbes()), Answers: int(c.GetAnswers()), RTT: c.GetRtt().AsDuration(),
			Answered: instant(c.GetAnswered()), Heard: instant(c.GetHeard()), Died: instant(c.GetDied()),
			Largest: int(c.GetLargest()), Unsent: c.GetUnsent(),
		})
	}
	return report, nil
}

// instant is a time of a message, zero if there is none.
func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// onlyRelay says who wants only the relay.
func (ch *Channel) onlyRelay() string {
	switch {
	case ch.cl.config.RelayOnly:
		return "this client is configured to use only the relay"
	case ch.ref.Accepted:
		return "the peer opened the channel for the relay only"
	}
	return "the channel was opened for the relay only"
}

// Loss is the part of packets sent on the path in use that were lost, 0 to 1.
func (r *PathReport) Loss() float64 {
	if r.Sent == 0 {
		return 0
	}
	return min(float64(r.Lost)/float64(r.Sent), 1)
}

// Why says why the path is what it is, with figures: "no candidate answers: 3
// tried, 27 probes". It names no addresses but that of a path that died.
func (r *PathReport) Why() string {
	probes := 0
	for _, c := range r.Candidates {
		probes += c.Probes
	}
	tried := fmt.Sprintf("%s tried, %s", count(len(r.Candidates), "candidate"), count(probes, "probe"))
	switch r.Reason {
	case ReasonRelayOnly:
		return r.mode
	case ReasonSearching:
		return r.Reason.String() + ": " + tried + ", no answer yet"
	case ReasonDied:
		return fmt.Sprintf("the direct path %v died %s ago, and nothing has answered since: %s", r.DiedAt, ago(r.At, r.Died), tried)
	case ReasonHeldDown:
		return fmt.Sprintf("the direct path died %s ago; it answers, but has to wait 3 s", ago(r.At, r.Died))
	case ReasonNoAnswer:
		return "no candidate answers: " + tried
	case ReasonOneWay:
		return fmt.Sprintf("%v; they have %d bytes", r.Reason, r.ProbeSize)
	case ReasonUnsent:
		return fmt.Sprintf("%v: %s", r.Reason, r.Candidates[0].Unsent)
	default:
		return r.Reason.String()
	}
}

// String is the report for people, several lines: the path, why, and a line for each
// candidate.
func (r *PathReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n%s\n", r.Path, r.Why())
	for _, c := range r.Candidates {
		fmt.Fprintf(&b, "  %v: %s\n", c.Addr, c.describe(r.At))
	}
	return b.String()
}

// describe says what happened at a candidate.
func (c *Candidate) describe(now time.Time) string {
	kind := c.Kind.String()
	if c.Link != "" {
		kind += " on " + c.Link
	}
	parts := []string{c.State.String(), kind, fmt.Sprintf("%s, %s", count(c.Probes, "probe"), count(c.Answers, "answer"))}
	if c.Answers > 0 {
		parts = append(parts, fmt.Sprintf("the last %s ago after %v", ago(now, c.Answered), c.RTT.Round(10*time.Microsecond)))
	}
	if !c.Died.IsZero() {
		parts = append(parts, "died "+ago(now, c.Died)+" ago")
	}
	if !c.Heard.IsZero() {
		parts = append(parts, "probe of the peer "+ago(now, c.Heard)+" ago")
	}
	if c.Unsent != "" {
		parts = append(parts, "not sent: "+c.Unsent)
	}
	return strings.Join(parts, ", ")
}

// count is "1 probe" or "2 probes".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// ago says how long before now something was.
func ago(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
