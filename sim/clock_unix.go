//go:build unix

package sim

import (
	"syscall"
	"time"
)

// realClock returns a time that goes on while a bubble's clock stands still; zero
// where nothing tells it.
func realClock() time.Duration {
	var now syscall.Timeval
	if syscall.Gettimeofday(&now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// computed returns for how long this process has had a processor; zero where nothing tells it.
func computed() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
