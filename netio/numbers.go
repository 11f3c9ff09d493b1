package netio

// numbers knows which messages of a direction have come. It remembers the last
// span below the highest; what is older counts as having come. Its zero value
// with a span is ready.
type numbers struct {
	span  uint64   // a power of two, at least 64
	bits  []uint64 // as many as are needed from floor to next: a power of two
	next  uint64   // one more than the highest
	floor uint64   // all below have come, or are too old to know
	count uint64   // how many came
}

// add takes a message's number, and reports whether it came for the first time.
func (n *numbers) add(number uint64) bool {
	switch {
	case number < n.floor:
		return false
	case number >= n.next:
		n.advance(number)
	case n.has(number):
		return false
	}
	n.set(number)
	n.count++
	for n.floor < n.next && n.has(n.floor) {
		n.floor++
	}
	return true
}

// advance makes number the highest, and forgets what is a span below it.
func (n *numbers) advance(number uint64) {
	former := n.next
	n.next = number + 1
	if n.next > n.span {
		n.floor = max(n.floor, n.next-n.span)
	}
	if size := n.size(); n.next-n.floor > size {
		n.grow(former)
		return
	}
	if former = max(former, n.floor); n.next-former >= n.size() {
		clear(n.bits)
		return
	}
	for at := former; at < n.next; at++ {
		n.bits[at%n.size()/64] &^= 1 << (at % 64)
	}
}

func (n *numbers) size() uint64 { return uint64(len(n.bits)) * 64 }

// grow makes room for the numbers from floor to next, of which those below former are
// known.
func (n *numbers) grow(former uint64) {
	old := *n
	size := max(n.size(), 64)
	for size < n.next-n.floor {
		size *= 2
	}
	n.bits = make([]uint64, min(size, n.span)/64)
	for at := n.floor; at < former; at++ {
		if old.has(at) {
			n.set(at)
		}
	}
}

func (n *numbers) set(number uint64) {
	at := number % n.size()
	n.bits[at/64] |= 1 << (at % 64)
}

func (n *numbers) has(number uint64) bool {
	at := number % n.size()
	return n.bits[at/64]&(1<<(at%64)) != 0
}

// missing returns how many below the highest have not come.
func (n *numbers) missing() uint64 { return n.next - n.count }
