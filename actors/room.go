package actors

import (
	"math/bits"
	"sync"
)

// Sizes of the memory of queues, in elements. Each is four times the one before.
const (
	firstRoom  = 4
	pooledRoom = 256 // from here on it is used again
	roomSizes  = 5   // that are pooled
)

// rooms lends the memory of long queues of one type: who has emptied a queue gives its memory back, who needs more room
// takes what others gave. So a queue that is idle holds little, and one that fills and empties all the time costs no
// allocation. The collector takes what nobody wants (package sync, Pool). Its zero value is ready. Safe for concurrent use.
type rooms[T any] struct {
	pools [roomSizes]sync.Pool // of *[]T that are empty and zero, by size
}

// push appends an element to a list.
func (r *rooms[T]) push(list []T, element T) []T {
	if len(list) == cap(list) {
		list = r.grown(list)
	}
	return append(list, element)
}

// grown returns a list with more room for what is in one that is full.
func (r *rooms[T]) grown(list []T) []T {
	bigger := append(r.take(max(firstRoom, 4*cap(list))), list...)
	clear(list)
	r.give(list)
	return bigger
}

// take returns an empty list with room for size elements.
func (r *rooms[T]) take(size int) []T {
	if pool := r.pool(size); pool != nil {
		if kept, ok := pool.Get().(*[]T); ok {
			return *kept
		}
	}
	return make([]T, 0, size)
}

// give takes the memory of a list, whose elements are zero.
func (r *rooms[T]) give(list []T) {
	if pool := r.pool(cap(list)); pool != nil {
		kept := list[:0]
		pool.Put(&kept)
	}
}

// pool returns where memory of a size is kept, nil if it is not.
func (r *rooms[T]) pool(size int) *sync.Pool {
	class := (bits.Len(uint(size)) - bits.Len(pooledRoom)) / 2
	if size < pooledRoom || class >= roomSizes || size != pooledRoom<<(2*class) {
		return nil
	}
	return &r.pools[class]
}

// ring is a queue.
type ring[T any] struct {
	slots   []T // as many as it has room for: a power of two
	head, n int
}

// keepRing is the size up to which an empty ring keeps its memory.
const keepRing = 64

func (q *ring[T]) len() int { return q.n }

// at returns the element that i others are before.
func (q *ring[T]) at(i int) *T { return &q.slots[(q.head+i)&(len(q.slots)-1)] }

func (q *ring[T]) push(r *rooms[T], element T) {
	q.makeRoom(r)
	q.n++
	*q.at(q.n - 1) = element
}

func (q *ring[T]) pushFirst(r *rooms[T], element T) {
	q.makeRoom(r)
	q.head = (q.head - 1) & (len(q.slots) - 1)
	q.n++
	*q.at(0) = element
}

func (q *ring[T]) makeRoom(r *rooms[T]) {
	if q.n < len(q.slots) {
		return
	}
	bigger := r.take(max(firstRoom, 4*q.n))
	bigger = append(append(bigger, q.slots[q.head:]...), q.slots[:q.head]...)
	clear(q.slots)
	r.give(q.slots)
	q.slots, q.head = bigger[:cap(bigger)], 0
}

// pop removes the first element.
func (q *ring[T]) pop(r *rooms[T]) T {
	var none T
	first := *q.at(0)
	*q.at(0) = none
	q.head = (q.head + 1) & (len(q.slots) - 1)
	q.n--
	q.trim(r)
	return first
}

// popLast removes the last element.
func (q *ring[T]) popLast(r *rooms[T]) T {
	var none T
	last := *q.at(q.n - 1)
	*q.at(q.n - 1) = none
	q.n--
	q.trim(r)
	return last
}

// trim gives the memory of an empty ring back if it is much.
func (q *ring[T]) trim(r *rooms[T]) {
	if q.n == 0 && len(q.slots) > keepRing {
		r.give(q.slots)
		*q = ring[T]{}
	}
}
