package actors

import "sync/atomic"

// inward is how much a peer has in this system. Shared by its lanes that come in.
type inward struct {
	waiting atomic.Int64 // cost of its messages in mailboxes
	watched atomic.Int64 // actors that it watches
}
