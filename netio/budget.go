package netio

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// budget is the memory that one peer can make this side hold, on all of its
// channels. A fourth is for each use, so that however much there is of one, there is
// room for the others. All of the peer's streams share it.
type budget struct {
	begin part // what every direction of a stream begins with
	grow  part // what windows have grown by
	large part // windows for messages that are larger than these
	keep  part // what is kept until the peer has acknowledged it
	users int  // connections and resumable streams; under mu of the transport
}

func newBudget(limit int) *budget {
	return &budget{begin: part{limit: limit / 4}, grow: part{limit: limit / 4}, large: part{limit: limit / 4}, keep: part{limit: limit / 4}}
}

// part is a number of bytes that are shared. Its mutex may be taken with any other
// lock of this package held, and no other is wanted while it is.
type part struct {
	limit     int
	forgotten atomic.Int64 // bytes whose holders are gone; they are given back with the next call

	mu     sync.Mutex
	used   int
	claims []*claim // in the order in which they were made
}

// claim is for bytes that were not there when they were wanted.
type claim struct {
	size    int
	granted func() // called without locks
}

// reserve takes n bytes if they are there and nobody waits for them.
func (p *part) reserve(n int) bool {
	p.lock()
	defer p.mu.Unlock()
	if len(p.claims) > 0 || p.used+n > p.limit {
		return false
	}
	p.used += n
	return true
}

// lock takes the mutex, and what was forgotten back.
func (p *part) lock() {
	p.mu.Lock()
	if p.forgotten.Load() != 0 {
		p.used -= int(p.forgotten.Swap(0))
		p.serve()
	}
}

// claim takes n bytes as soon as they are there and all claims before are served.
// It returns nil if that is now; else it calls granted when it is.
func (p *part) claim(n int, granted func()) *claim {
	p.lock()
	defer p.mu.Unlock()
	if len(p.claims) == 0 && p.used+n <= p.limit {
		p.used += n
		return nil
	}
	c := &claim{n, granted}
	p.claims = append(p.claims, c)
	return c
}

// cancel takes a claim back. If it was granted meanwhile, it returns false: the
// bytes are the caller's.
func (p *part) cancel(c *claim) bool {
	p.lock()
	defer p.mu.Unlock()
	at := slices.Index(p.claims, c)
	if at < 0 {
		return false
	}
	p.claims = slices.Delete(p.claims, at, at+1)
	p.serve()
	return true
}

// release gives n bytes back.
func (p *part) release(n int) {
	if n == 0 {
		return
	}
	p.lock()
	defer p.mu.Unlock()
	p.used -= n
	p.serve()
}

// serve grants the claims that it can, each in a goroutine of its own: the caller
// may hold its locks. Called with mu held.
func (p *part) serve() {
	for len(p.claims) > 0 && p.used+p.claims[0].size <= p.limit {
		c := p.claims[0]
		p.claims = slices.Delete(p.claims, 0, 1)
		p.used += c.size
		go c.granted()
	}
}

// tight reports whether who does not need all that it has should give some back.
func (p *part) tight() bool {
	p.lock()
	defer p.mu.Unlock()
	return len(p.claims) > 0 || p.used > p.limit-p.limit/4
}

// budgetFor returns the budget of a peer, which lasts until done was called as
// often.
func (t *Transport) budgetFor(peer string) (b *budget, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b = t.budgets[peer]; b == nil {
		if len(t.budgets) >= t.manyBudgets { // what was still in use when its users left may not be now
			maps.DeleteFunc(t.budgets, func(_ string, b *budget) bool { return b.users == 0 && b.isUnused() })
			t.manyBudgets = max(minBudgets, 2*len(t.budgets))
		}
		b = newBudget(t.config.PeerMemory)
		t.budgets[peer] = b
	}
	b.users++
	return b, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if b.users--; b.users == 0 && b.isUnused() {
			delete(t.budgets, peer)
		}
	}
}

// minBudgets is how many budgets there are at least until those of peers that have
// left are looked through.
const minBudgets = 64

// isUnused reports whether nothing is held. Messages that were not received are, also
// when their streams are over.
func (b *budget) isUnused() bool {
	for _, p := range []*part{&b.begin, &b.grow, &b.large, &b.keep} {
		p.lock()
		used := p.used
		p.mu.Unlock()
		if used != 0 {
			return false
		}
	}
	return true
}

// memory is the part of a budget that a journal has for what it keeps. It comes and
// goes in steps. A plain value, under the lock of what it belongs to.
type memory struct {
	from  *part  // nil: without limit
	freed func() // called when there is what was missing
	held  int
	claim *claim
}

// memoryStep is how many bytes of a budget are taken or given back at a time.
const memoryStep = 64 << 10

// has reports whether there is memory for n bytes in all. If not, freed is called
// when there may be.
func (m *memory) has(n int) bool {
	for m.from != nil && m.held < n {
		if m.claim == nil {
			m.claim = m.from.claim(memoryStep, m.freed)
		}
		if m.claim != nil {
			return false
		}
		m.held += memoryStep
	}
	return true
}

// granted takes over what was claimed, or gives it back if it is not wanted.
func (m *memory) granted(over bool) {
	if m.claim = nil; over {
		m.from.release(memoryStep)
		return
	}
	m.held += memoryStep
}

// trim gives back what is not needed for n bytes; all of it if no more is sent.
func (m *memory) trim(n int, over bool) {
	if m.from == nil {
		return
	}
	if over && m.claim != nil && m.from.cancel(m.claim) {
		m.claim = nil
	}
	spare := 2 * memoryStep
	if over {
		n = 0
	}
	if n == 0 || m.held > n+memoryStep && m.from.tight() {
		spare = 0
	}
	if m.held > n+spare {
		back := m.held - n - spare
		back -= back % memoryStep
		m.held -= back
		m.from.release(back)
	}
}
