package netio

import (
	"math/rand/v2"
	"testing"
)

// TestNumbers compares the window with a set, for random numbers around the highest.
func TestNumbers(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		n := numbers{span: 256}
		seen := map[uint64]bool{}
		next, count := uint64(0), uint64(0)
		for range 5000 {
			number := next + random.Uint64N(40)
			if back := random.Uint64N(300); random.IntN(3) == 0 {
				number -= min(number, back)
			}
			if random.IntN(500) == 0 {
				number += 1000
			}
			old := number+256 < max(next, number+1)
			want := !seen[number] && !old
			if got := n.add(number); got != want {
				t.Fatalf("seed %d: add(%d) is %v with %d the next", seed, number, got, next)
			}
			if want {
				seen[number] = true
				count++
				next = max(next, number+1)
			}
			if n.missing() != next-count {
				t.Fatalf("seed %d: %d missing, want %d", seed, n.missing(), next-count)
			}
			for at := n.floor; at > 0 && at+256 > next; at-- {
				if !seen[at-1] && at-1+256 >= next {
					t.Fatalf("seed %d: %d is below the floor %d and has not come", seed, at-1, n.floor)
				}
			}
			if n.floor < next && seen[n.floor] {
				t.Fatalf("seed %d: the floor %d has come", seed, n.floor)
			}
		}
	}
}
