//go:build !race

package topology_test

const raceEnabled = false // the race detector shuffles goroutines on purpose
