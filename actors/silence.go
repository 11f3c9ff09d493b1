package actors

import "time"

// silence notices that something is sent and nothing heard.
type silence struct {
	looked time.Time // when it was last told
	since  time.Time // since when we have been sending without hearing anything; zero if not
}

// hear takes when something was last heard, and whether something was sent since
// the last call. It returns for how long only we have been speaking.
func (s *silence) hear(now, last time.Time, sending bool) time.Duration {
	before := s.looked
	s.looked = now
	if last.After(s.since) {
		s.since = time.Time{}
	}
	if s.since.IsZero() && sending {
		s.since = latest(last, before)
	}
	if s.since.IsZero() {
		return 0
	}
	return now.Sub(s.since)
}
