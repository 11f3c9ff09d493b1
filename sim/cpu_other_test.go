//go:build !unix

package sim_test

import "time"

// cpuTime is zero where nothing tells it.
func cpuTime() time.Duration { return 0 }
