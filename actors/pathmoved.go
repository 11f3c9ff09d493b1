package actors

import "time"

// The part of a path set that knows that this host, or the peer's, has moved.

// moved notes that this host's network has changed: every path has to answer again. What died before may live now, and
// answers to former probes may have gone to an address that is no more.
func (p *pathSet) moved(now time.Time) {
	p.movedAt = now
	for _, c := range p.candidates {
		clear(c.sent)
		c.asked, c.dead, c.due, c.triggered = time.Time{}, time.Time{}, now, 0
		if c.answered.IsZero() {
			c.round = 0
		}
	}
}

// shaken reports whether the path in use has not answered since this host moved, and the relay can take its place.
func (p *pathSet) shaken() bool {
	return p.allowRelay && p.current != nil && p.current.answered.Before(p.movedAt)
}

// peerMoved has the path in use probed now: a peer that now comes from elsewhere may still be heard on it, but not hear.
func (p *pathSet) peerMoved(now time.Time) {
	if c := p.current; c != nil && c.asked.IsZero() {
		c.due = now
	}
}
