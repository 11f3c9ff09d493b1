package actors

import (
	"math/rand/v2"
	"testing"
)

// A ring is a queue whatever its length was before, and memory that is used again is empty.
func TestRing(t *testing.T) {
	var memory rooms[int]
	for seed := range uint64(50) {
		source := rand.New(rand.NewPCG(seed, 1))
		var q ring[int]
		var want []int
		for step := range 20000 {
			grows := source.IntN(5000)
			switch n := source.IntN(10); {
			case n < 5 && len(want) < grows:
				q.push(&memory, step+1)
				want = append(want, step+1)
			case n == 5 && len(want) < grows:
				q.pushFirst(&memory, step+1)
				want = append([]int{step + 1}, want...)
			case n == 6 && len(want) > 0:
				if got := q.popLast(&memory); got != want[len(want)-1] {
					t.Fatalf("seed %d: %d at the end, want %d", seed, got, want[len(want)-1])
				}
				want = want[:len(want)-1]
			case step%4000 > 3000 && len(want) > 0 || len(want) > grows:
				if got := q.pop(&memory); got != want[0] {
					t.Fatalf("seed %d: %d at the front, want %d", seed, got, want[0])
				}
				want = want[1:]
			}
			if q.len() != len(want) || len(want) > 0 && *q.at(len(want) / 2) != want[len(want)/2] {
				t.Fatalf("seed %d: not the same", seed)
			}
			if len(want) == 0 && len(q.slots) > keepRing {
				t.Fatalf("an empty ring has room for %d", len(q.slots))
			}
		}
		list := memory.take(1 << 10)
		for i, element := range list[:cap(list)] {
			if element != 0 {
				t.Fatalf("element %d of new memory is %d", i, element)
			}
		}
	}
}

// A list keeps its elements when it grows, and its former memory is given away empty.
func TestRooms(t *testing.T) {
	var memory rooms[int]
	var list []int
	for i := range 100_000 {
		list = memory.push(list, i+1)
		if size := cap(list); size > max(firstRoom, 4*len(list)) {
			t.Fatalf("room for %d of %d", size, len(list))
		}
	}
	for i, element := range list {
		if element != i+1 {
			t.Fatalf("element %d is %d", i, element)
		}
	}
	for size := firstRoom; size < 1<<20; size *= 2 {
		if list := memory.take(size); cap(list) != size || len(list) != 0 {
			t.Errorf("took %d of %d, want %d", len(list), cap(list), size)
		} else if list = list[:size]; list[0] != 0 || list[size-1] != 0 {
			t.Errorf("memory for %d is not empty", size)
		}
	}
}
