package sim

// RealClock is for benchmarks, Computed for tests that measure.
var (
	RealClock = realClock
	Computed  = computed
)

// RaceEnabled tells that goroutines run in any order.
const RaceEnabled = raceEnabled
