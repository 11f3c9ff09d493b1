package client

import "strconv"

// PathReason says why a channel takes the path that it takes. Reasons may be added.
type PathReason int

// The reasons. Numbers are those of the protobuf messages between actors.
const (
	// ReasonUnknown is that of a channel that is not connected.
	ReasonUnknown PathReason = iota

	// ReasonOnlyDirect is a direct path while no other direct path answers.
	ReasonOnlyDirect
	// ReasonFastest is a direct path while no other direct path is faster.
	ReasonFastest
	// ReasonSmallGain is a direct path while another is faster, but not by enough
	// to move: 5 milliseconds and a tenth.
	ReasonSmallGain

	// The others say why there is no direct path.

	// ReasonRelayOnly is the wish of the channel's mode, or of the client's
	// configuration.
	ReasonRelayOnly
	// ReasonAwaitsOffer is that the peer has not said yet where it can be reached.
	ReasonAwaitsOffer
	// ReasonNothingOffered is that the peer says that only the relay reaches it:
	// its client is configured so.
	ReasonNothingOffered
	// ReasonSearching is that candidates are probed, for less than 5 seconds, and
	// have not answered.
	ReasonSearching
	// ReasonProving is that a candidate has answered, and has to once more.
	ReasonProving
	// ReasonDied is that the direct path died, and no candidate has answered since.
	ReasonDied
	// ReasonHeldDown is that a path which died answers again, but died less than 3
	// seconds ago.
	ReasonHeldDown
	// ReasonNoAnswer is that no candidate answers.
	ReasonNoAnswer
	// ReasonOneWay is that the peer's probes arrive from a candidate that does not
	// answer ours.
	ReasonOneWay
	// ReasonUnsent is that this host can not send anything to any candidate.
	ReasonUnsent

	// ReasonPreferredLink is a direct path over the link that the program prefers, while
	// another is faster.
	ReasonPreferredLink
	// ReasonNoLink is that the only link which the program allows is not there.
	ReasonNoLink
)

// reasons are the texts and the names of reasons, by their numbers.
var reasons = [...]struct{ name, text string }{
	ReasonUnknown:        {"unknown", "not connected"},
	ReasonOnlyDirect:     {"only_direct", "the only direct path that answers"},
	ReasonFastest:        {"fastest", "the fastest direct path"},
	ReasonSmallGain:      {"small_gain", "another direct path is faster, but not by enough to move"},
	ReasonRelayOnly:      {"relay_only", "only the relay is allowed"},
	ReasonAwaitsOffer:    {"awaits_offer", "the peer has not said yet where it can be reached"},
	ReasonNothingOffered: {"nothing_offered", "the peer offers no addresses: it allows only the relay"},
	ReasonSearching:      {"searching", "looking for a direct path"},
	ReasonProving:        {"proving", "a direct path has answered, waiting for the second answer"},
	ReasonDied:           {"died", "the direct path died"},
	ReasonHeldDown:       {"held_down", "the direct path answers again, but died too recently to be used"},
	ReasonNoAnswer:       {"no_answer", "no candidate answers"},
	ReasonOneWay:         {"one_way", "the peer's probes arrive, ours are not answered"},
	ReasonUnsent:         {"unsent", "this host can not send to any address of the peer"},
	ReasonPreferredLink:  {"preferred_link", "over the link that is preferred; another direct path is faster"},
	ReasonNoLink:         {"no_link", "the only link that is allowed is not there"},
}

// String says it in words, without figures: "no candidate answers".
func (r PathReason) String() string {
	if r < 0 || int(r) >= len(reasons) {
		return "reason " + strconv.Itoa(int(r))
	}
	return reasons[r].text
}

// MarshalText returns a name for programs: "no_answer".
func (r PathReason) MarshalText() ([]byte, error) {
	if r < 0 || int(r) >= len(reasons) {
		return []byte("reason_" + strconv.Itoa(int(r))), nil
	}
	return []byte(reasons[r].name), nil
}
