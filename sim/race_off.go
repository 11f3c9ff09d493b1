//go:build !race

package sim

// raceEnabled tells that the race detector is on, which shuffles goroutines.
const raceEnabled = false
