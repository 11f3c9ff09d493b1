package coord

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/conec-go/conec/messages"
)

// events are the numbers of a group's entries that are no messages for the program: by
// them it is known how many messages lie between two entries.
//
// Nothing is locked with mu held: the feed notes a number while it is locked itself.
type events struct {
	mu       sync.Mutex
	numbers  []uint64 // ascending
	forgot   uint64   // below this one, numbers were forgotten
	unpruned int      // that were noted since
	noted    uint64   // ever
}

// note adds the number of the latest entry. The feed calls it, in their order.
func (e *events) note(number uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.numbers = append(e.numbers, number)
	e.unpruned++
	e.noted++
}

// many reports whether it is time to forget some.
func (e *events) many() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unpruned >= eventsUnpruned
}

// prune forgets numbers that are long before the first entry that is kept.
func (e *events) prune(first uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unpruned = 0
	if old := e.below(first); old > eventsRemembered {
		e.forgot = e.numbers[old-eventsRemembered]
		e.numbers = slices.Clone(e.numbers[old-eventsRemembered:])
	}
}

func (e *events) below(number uint64) int {
	return sort.Search(len(e.numbers), func(i int) bool { return e.numbers[i] >= number })
}

// messages returns how many messages there are from one entry to another.
func (e *events) messages(from, to uint64) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from < e.forgot {
		return 0, fmt.Errorf("%w: too far behind to say by how much", messages.ErrLimit)
	}
	return to - from - uint64(e.below(to)-e.below(from)), nil
}

// allMessages returns how many messages there have been before an entry that is the next.
func (e *events) allMessages(next uint64) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return next - e.noted
}

// before returns the entry with which so many messages before an entry begin, as far as
// they are kept.
func (e *events) before(at, count, first uint64) uint64 {
	if count == 0 {
		return at
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	from, last := at, e.below(at)
	for from > first && count > 0 {
		from--
		if last > 0 && e.numbers[last-1] == from {
			last--
		} else {
			count--
		}
	}
	return from
}
