package actors

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// The part of a path set that explains: it counts what happens, and decides nothing.

// When what is worth telling.
const (
	searchTime = 5 * time.Second         // after a candidate came: a punching round takes 4.1 seconds
	heardTime  = roundPause + searchTime // after a ping of the peer: it pings in rounds, too
	unheeded   = 4                       // probes without an answer, though the peer's come
)

// account is what a path set remembers for explanations.
type account struct {
	heard   bool           // the peer has offered addresses, or none
	offered int            // how many
	died    time.Time      // when a path in use was last given up; zero if none was
	diedAt  netip.AddrPort // which
}

// tally is what a candidate remembers for explanations.
type tally struct {
	since      time.Time // when it became a candidate
	offered    bool      // by the peer, now
	kind       conecv1.AddressKind
	probes     uint64        // sent in all
	answers    uint64        // to these
	unanswered int           // probes since the last answer
	rtt        time.Duration // of the last answer
	answered   time.Time     // when the last answer came; zero if none did
	largest    int           // bytes of the largest probe that was answered
	unsent     string        // why the last probe could not be sent; empty if it was
}

// noteOffer takes that the peer offered addresses, which are candidates now.
func (p *pathSet) noteOffer(addrs []netip.AddrPort) {
	p.account.heard, p.account.offered = true, len(addrs)
	for _, c := range p.candidates {
		c.tally.offered = slices.Contains(addrs, c.addr)
	}
}

// noteKinds takes where the peer has these addresses from.
func (p *pathSet) noteKinds(kinds map[netip.AddrPort]conecv1.AddressKind) {
	for _, c := range p.candidates {
		c.tally.kind = kinds[c.addr]
	}
}

// noteProbe takes that one is about to be sent.
func (t *tally) noteProbe() {
	t.probes++
	t.unanswered++
	t.unsent = ""
}

// noteAnswer takes the answer to a probe of size bytes.
func (t *tally) noteAnswer(now time.Time, rtt time.Duration, size int) {
	t.answers++
	t.unanswered = 0
	t.rtt, t.answered, t.largest = rtt, now, max(t.largest, size)
}

// noteUnsent takes that a probe could not be sent.
func (p *pathSet) noteUnsent(link netio.Link, to netip.AddrPort, err error) {
	if c := p.findOn(link, to); c != nil {
		c.tally.unsent = err.Error()
	}
}

// reason says why the choice is what it is.
func (p *pathSet) reason(now time.Time) conecv1.PathReason {
	switch {
	case p.current != nil:
		return p.reasonDirect()
	case !p.allowDirect:
		return conecv1.PathReason_PATH_REASON_RELAY_ONLY
	case p.use.only && p.use.prefer == nil:
		return conecv1.PathReason_PATH_REASON_NO_LINK
	case len(p.candidates) == 0 && !p.account.heard:
		return conecv1.PathReason_PATH_REASON_AWAITS_OFFER
	case len(p.candidates) == 0:
		return conecv1.PathReason_PATH_REASON_NOTHING_OFFERED
	}
	var states [conecv1.CandidateState_CANDIDATE_STATE_UNSENT + 1]int // by state
	searching, allowed := false, 0
	for _, c := range p.candidates {
		if !p.may(c) {
			continue
		}
		allowed++
		states[p.state(now, c)]++
		searching = searching || now.Sub(c.tally.since) < searchTime
	}
	for _, row := range []struct {
		holds  bool
		reason conecv1.PathReason
	}{ // what is nearest to a direct path, or tells most of why there is none, comes first
		{states[conecv1.CandidateState_CANDIDATE_STATE_PROVING] > 0, conecv1.PathReason_PATH_REASON_PROVING},
		{states[conecv1.CandidateState_CANDIDATE_STATE_HELD_DOWN] > 0, conecv1.PathReason_PATH_REASON_HELD_DOWN},
		{states[conecv1.CandidateState_CANDIDATE_STATE_ONE_WAY] > 0, conecv1.PathReason_PATH_REASON_ONE_WAY},
		{states[conecv1.CandidateState_CANDIDATE_STATE_UNSENT] == allowed, conecv1.PathReason_PATH_REASON_UNSENT},
		{!p.account.died.IsZero(), conecv1.PathReason_PATH_REASON_DIED},
		{searching, conecv1.PathReason_PATH_REASON_SEARCHING},
	} {
		if row.holds {
			return row.reason
		}
	}
	return conecv1.PathReason_PATH_REASON_NO_ANSWER
}

// reasonDirect says why the direct path in use is that one.
func (p *pathSet) reasonDirect() conecv1.PathReason {
	reason := conecv1.PathReason_PATH_REASON_ONLY_DIRECT
	for _, c := range p.candidates {
		switch {
		case c == p.current || !c.proven():
		case c.rtt >= p.current.rtt:
			reason = conecv1.PathReason_PATH_REASON_FASTEST
		case p.prefers(p.current) && !p.prefers(c):
			return conecv1.PathReason_PATH_REASON_PREFERRED_LINK
		default:
			return conecv1.PathReason_PATH_REASON_SMALL_GAIN
		}
	}
	return reason
}

// state says what became of a candidate.
func (p *pathSet) state(now time.Time, c *candidate) conecv1.CandidateState {
	t := &c.tally
	heard := c.pinged.After(c.dead) && now.Sub(c.pinged) < heardTime && t.unanswered >= unheeded
	switch {
	case c == p.current:
		return conecv1.CandidateState_CANDIDATE_STATE_IN_USE
	case c.answers > 0 && c.held(now):
		return conecv1.CandidateState_CANDIDATE_STATE_HELD_DOWN
	case c.proven() && p.current != nil:
		return conecv1.CandidateState_CANDIDATE_STATE_SPARE
	case c.answers > 0: // also what has answered often, but not just now
		return conecv1.CandidateState_CANDIDATE_STATE_PROVING
	case t.unsent != "":
		return conecv1.CandidateState_CANDIDATE_STATE_UNSENT
	case t.probes == 0:
		return conecv1.CandidateState_CANDIDATE_STATE_UNSPECIFIED
	case heard:
		return conecv1.CandidateState_CANDIDATE_STATE_ONE_WAY
	case t.answers > 0:
		return conecv1.CandidateState_CANDIDATE_STATE_DEAD
	}
	return conecv1.CandidateState_CANDIDATE_STATE_SILENT
}

// describe says all of that, but what is known of the path in use as a whole.
func (p *pathSet) describe(now time.Time) *conecv1.PathsDescribed {
	described := &conecv1.PathsDescribed{
		Reason: p.reason(now), ProbeSize: uint32(p.probeSize(p.current)),
		Heard: p.account.heard, Offered: uint32(p.account.offered), Died: stamp(p.account.died),
	}
	if p.account.diedAt.IsValid() {
		described.DiedAt = p.account.diedAt.String()
	}
	for _, c := range p.candidates {
		t := &c.tally
		candidate := &conecv1.PathCandidate{
			Address: c.addr.String(), Kind: t.kind, Reflexive: !t.offered, State: p.state(now, c), Probes: t.probes, Answers: t.answers,
			Answered: stamp(t.answered), Heard: stamp(c.pinged), Died: stamp(c.dead), Largest: uint32(t.largest), Unsent: t.unsent,
			Link: p.names[c.link],
		}
		if t.answers > 0 {
			candidate.Rtt = durationpb.New(t.rtt)
		}
		described.Candidates = append(described.Candidates, candidate)
	}
	return described
}

// stamp is a time in a message, nil if it is zero.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
