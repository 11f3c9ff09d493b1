package netio

// pool lets bytes pass at a rate and shares that evenly among those who want it, without a queue: what it grants is
// granted at once, and owed. All who owe pay it off together, in equal parts, as fast as the rate allows; who owes little
// is soon done and leaves its part to the others. So each gets what it asks for, up to one limit that is the same for all
// (max-min fairness), and what one does not use the others may. The debts are what would wait in a fair queue (the fluid
// model of A. Demers, S. Keshav, S. Shenker, Analysis and Simulation of a Fair Queueing Algorithm, 1989), and the
// level is its virtual time.
//
// It is plain state without a lock or clock; [fairness] runs it.
type pool struct {
	level float64  // bytes that each who owes has paid since the start
	owed  float64  // bytes, by all together
	owing []*share // a heap: who is done first is first
}

// share is what one who passes bytes through a pool owes there.
type share struct {
	due   float64 // the pool's level at which nothing is owed any more
	place int     // in pool.owing, from 1; 0 if nothing is owed
}

// owes is how many bytes are to be paid.
func (p *pool) owes(s *share) float64 {
	if s.place == 0 {
		return 0
	}
	return s.due - p.level
}

// pay pays so many bytes of what is owed, in equal parts. What nobody owes is lost.
func (p *pool) pay(bytes float64) {
	for len(p.owing) > 0 {
		first, all := p.owing[0], float64(len(p.owing))
		if part := bytes / all; first.due-p.level > part {
			p.level += part
			p.owed -= bytes
			return
		}
		paid := (first.due - p.level) * all
		bytes -= paid
		p.owed -= paid
		p.level = first.due
		p.remove()
	}
	p.owed = 0 // rounding leaves crumbs
}

// charge adds to what is owed.
func (p *pool) charge(s *share, bytes float64) {
	p.owed += bytes
	if s.place > 0 {
		s.due += bytes
		p.down(s.place - 1)
		return
	}
	s.due = p.level + bytes
	p.owing = append(p.owing, s)
	s.place = len(p.owing)
	for at := s.place - 1; at > 0; {
		parent := (at - 1) / 2
		if p.owing[parent].due <= s.due {
			break
		}
		p.swap(at, parent)
		at = parent
	}
}

// remove takes the first off the heap.
func (p *pool) remove() {
	last := p.owing[len(p.owing)-1]
	p.owing[0].place = 0
	p.owing[len(p.owing)-1] = nil
	p.owing = p.owing[:len(p.owing)-1]
	if len(p.owing) > 0 {
		p.owing[0], last.place = last, 1
		p.down(0)
	}
}

// down moves one that owes more than before to its place in the heap.
func (p *pool) down(at int) {
	for {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(p.owing); child++ {
			if p.owing[child].due < p.owing[least].due {
				least = child
			}
		}
		if least == at {
			return
		}
		p.swap(at, least)
		at = least
	}
}

func (p *pool) swap(a, b int) {
	p.owing[a], p.owing[b] = p.owing[b], p.owing[a]
	p.owing[a].place, p.owing[b].place = a+1, b+1
}

// room is how much of n bytes may pass, in whole segments, given what is owed at each level, from the whole pool to the
// one who asks. Nobody may owe more than is then left of the burst: so whoever comes late finds room, however much those
// before him owe (A. Choudhury, E. Hahne, Dynamic Queue Length Thresholds, 1998). Who owes nothing may send one segment
// in any case.
func room(n, segment int, burst int64, owed ...float64) int {
	left := float64(burst)
	for _, bytes := range owed {
		left -= bytes
	}
	left /= float64(len(owed)) // granting adds to each of them
	if left >= float64(n) {
		return n
	}
	granted := max(0, int(left)) / segment * segment
	if granted == 0 && owed[len(owed)-1] == 0 {
		granted = min(n, segment)
	}
	return granted
}
