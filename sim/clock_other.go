//go:build !unix

package sim

import "time"

// realClock returns a time that goes on while a bubble's clock stands still; zero
// where nothing tells it.
func realClock() time.Duration { return 0 }

// computed returns for how long this process has had a processor; zero where nothing tells it.
func computed() time.Duration { return 0 }
