package sim

import "time"

// expiring is a map whose entries die when they were not touched for a lifetime.
// All entries have the same lifetime and time does not go back, so a list in the
// order of the last touch is sorted by when they die: the dead are found at
// its end, and each entry is buried once, whatever happened to it before. Nothing
// depends on the order of a map.
type expiring[K comparable, V any] struct {
	lifetime       time.Duration
	entries        map[K]*entry[K, V]
	oldest, newest *entry[K, V]
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	touched      time.Duration
	older, newer *entry[K, V]
}

func newExpiring[K comparable, V any](lifetime time.Duration) expiring[K, V] {
	return expiring[K, V]{lifetime: lifetime, entries: map[K]*entry[K, V]{}}
}

// get returns an entry, nil if there is none. It must have been buried before
// now, as only that tells who is dead.
func (x *expiring[K, V]) get(key K) *entry[K, V] { return x.entries[key] }

func (x *expiring[K, V]) size() int { return len(x.entries) }

// add adds an entry whose key there is not yet.
func (x *expiring[K, V]) add(now time.Duration, key K, value V) *entry[K, V] {
	e := &entry[K, V]{key: key, value: value}
	x.entries[key] = e
	x.append(e, now)
	return e
}

// touch has an entry live as if it were new.
func (x *expiring[K, V]) touch(now time.Duration, e *entry[K, V]) {
	if e == x.newest {
		e.touched = now
		return
	}
	x.unlink(e)
	x.append(e, now)
}

// bury removes one dead entry and returns it; nil if there is none.
func (x *expiring[K, V]) bury(now time.Duration) *entry[K, V] {
	e := x.oldest
	if e == nil || now-e.touched < x.lifetime {
		return nil
	}
	x.unlink(e)
	delete(x.entries, e.key)
	return e
}

func (x *expiring[K, V]) append(e *entry[K, V], now time.Duration) {
	e.touched, e.older, e.newer = now, x.newest, nil
	if x.newest == nil {
		x.oldest = e
	} else {
		x.newest.newer = e
	}
	x.newest = e
}

func (x *expiring[K, V]) unlink(e *entry[K, V]) {
	if e.older == nil {
		x.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		x.newest = e.older
	} else {
		e.newer.older = e.older
	}
}
