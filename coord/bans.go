package coord

import (
	"fmt"
	"slices"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
)

// banList is who is kept away, the oldest ban first. It is plain state without a clock; the
// coordinator actor has it.
type banList struct{ bans []policy.Ban }

// same tells whether two bans keep the same away: the later one replaces the other.
func same(a, b policy.Ban) bool { return a.Name == b.Name && a.Key == b.Key && a.Addr == b.Addr }

// impose adds a ban, or changes one. Those that are over make room.
func (l *banList) impose(now time.Time, b policy.Ban, limit int) error {
	l.expire(now)
	if i := slices.IndexFunc(l.bans, func(other policy.Ban) bool { return same(b, other) }); i >= 0 {
		l.bans[i] = b
		return nil
	}
	if len(l.bans) >= limit {
		return fmt.Errorf("%w: %d bans", messages.ErrLimit, len(l.bans))
	}
	l.bans = append(l.bans, b)
	return nil
}

// lift takes a ban back, and tells whether there was one.
func (l *banList) lift(now time.Time, b policy.Ban) bool {
	l.expire(now)
	before := len(l.bans)
	l.bans = slices.DeleteFunc(l.bans, func(other policy.Ban) bool { return same(b, other) })
	return len(l.bans) < before
}

func (l *banList) expire(now time.Time) {
	l.bans = slices.DeleteFunc(l.bans, func(b policy.Ban) bool { return b.Over(now) })
}

// check tells why a client is kept away, if it is.
func (l *banList) check(who *policy.Subject) error {
	for _, b := range l.bans {
		if b.Fits(who) {
			return b.Err()
		}
	}
	return nil
}
