package actors

import "sync/atomic"

// RemoteStats count what a system exchanged with those of peers, since it began.
type RemoteStats struct {
	// Received is how many messages of peers were given to actors.
	Received uint64
	// Refused is how many frames of peers were not: what they name is not exported or
	// not there, a mailbox is full, a type is not known.
	Refused uint64
	// Undelivered is how many messages to peers were taken and not delivered, InDoubt
	// how many more may have been.
	Undelivered, InDoubt uint64
	// Overflows is how many were not taken because too much waited.
	Overflows uint64
}

type remoteStats struct {
	received, refused, undelivered, inDoubt, overflows atomic.Uint64
	lanes                                              atomic.Uint64 // that were ever made
}

func (s *remoteStats) lost(inDoubt bool) {
	if inDoubt {
		s.inDoubt.Add(1)
	} else {
		s.undelivered.Add(1)
	}
}

// RemoteStats returns the counters.
func (r *Remote) RemoteStats() RemoteStats {
	return RemoteStats{
		Received: r.stats.received.Load(), Refused: r.stats.refused.Load(), Undelivered: r.stats.undelivered.Load(),
		InDoubt: r.stats.inDoubt.Load(), Overflows: r.stats.overflows.Load(),
	}
}
