package netio

// numbers knows which messages of a direction have come. It remembers the last
// span below the highest; what is older counts as having come. Its zero value
// with a span is ready.
type numbers struct {
	span  uint64 // a power of two, at least 64
	bits  []uint64
	next  uint64 // one more than the highest
	floor uint64 // all below have come, or are too old to know
	count uint64 // how many came
}

// add takes a message's number, and reports whether it came for the first time.
func (n *numbers) add(number uint64) bool {
	if n.bits == nil {
		n.bits = make([]uint64, n.span/64)
	}
	switch {
	case number < n.floor:
		return false
	case number >= n.next:
		n.advance(number)
	case n.has(number):
		return false
	}
	at := number % n.span
	n.bits[at/64] |= 1 << (at % 64)
	n.count++
	for n.floor < n.next && n.has(n.floor) {
		n.floor++
	}
	return true
}

// advance makes number the highest, and forgets what is a span below it.
func (n *numbers) advance(number uint64) {
	if number-n.next >= n.span {
		clear(n.bits)
	} else {
		for at := n.next; at <= number; at++ {
			n.bits[at%n.span/64] &^= 1 << (at % 64)
		}
	}
	n.next = number + 1
	if n.next > n.span {
		n.floor = max(n.floor, n.next-n.span)
	}
}

func (n *numbers) has(number uint64) bool {
	at := number % n.span
	return n.bits[at/64]&(1<<(at%64)) != 0
}

// missing returns how many below the highest have not come.
func (n *numbers) missing() uint64 { return n.next - n.count }
