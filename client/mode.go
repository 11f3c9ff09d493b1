package client

import "strconv"

// Mode says which paths a channel may take.
type Mode int

// The modes of channels.
const (
	// Automatic starts on the coordinator's relay, moves to a direct path when
	// there is one, and back when that fails.
	Automatic Mode = iota
	// DirectOnly carries user data over direct paths only; opening fails with
	// [messages.ErrUnreachable] if there is none in time.
	DirectOnly
	// RelayOnly carries user data over the relay only, and shows no addresses to
	// the peer.
	RelayOnly
)

// String returns "automatic", "direct only" or "relay only".
func (m Mode) String() string {
	switch m {
	case Automatic:
		return "automatic"
	case DirectOnly:
		return "direct only"
	case RelayOnly:
		return "relay only"
	}
	return "mode " + strconv.Itoa(int(m))
}
