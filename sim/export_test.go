package sim

// RealClock is for benchmarks.
var RealClock = realClock
