//go:build !linux

package netio

import "time"

// watchHost calls hint, by one goroutine, when the network has changed, until end is called.
func watchHost(hint func(Hint)) (end func(), err error) { return pollHost(hint) }

// bootClock is a clock that goes on while the host sleeps; where the monotonic one stands still then, it is one that may
// be set, and setting it ahead looks like sleep.
func bootClock() func() time.Duration {
	began := time.Now()
	return func() time.Duration {
		now := time.Now()
		return max(now.Sub(began), now.Round(0).Sub(began.Round(0)))
	}
}
