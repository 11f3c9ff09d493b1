package sim

// RealClock is for benchmarks, Computed for tests that measure.
var (
	RealClock = realClock
	Computed  = computed
)
