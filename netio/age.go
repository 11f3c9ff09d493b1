package netio

import "time"

// drift is how far two clocks may run apart: 1 part in 10,000, which is more than
// clocks of computers do.
const drift = 10_000

// age tells how old messages are that carry the time of a clock somewhere else.
// Of all messages, the fastest gives the difference of the clocks plus the time
// that it took, which is taken to be half of the smallest round trip. Its zero
// value is ready.
type age struct {
	known bool
	least time.Duration // of arrived minus sent, as far as the clocks have not drifted
	at    time.Duration // when least was looked at
}

// of returns the age of a message that was sent at sent, by the other clock, and
// has arrived at arrived, by this one.
func (a *age) of(sent, arrived, roundTrip time.Duration) time.Duration {
	took := arrived - sent
	if a.known {
		took0 := a.least + (arrived-a.at)/drift
		a.least = min(took0, took)
	} else {
		a.known, a.least = true, took
	}
	a.at = arrived
	return took - a.least + roundTrip/2
}
