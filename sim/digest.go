package sim

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"
)

// digest remembers enough of the packets of a run to find the first one that
// another run does not have. It keeps them by line: packets of two lines in the
// same instant have no order. Only the network's lock guards it.
type digest struct {
	lines map[digestKey]*[]printed
	addrs map[netip.AddrPort]uint32
	names []netip.AddrPort // by number

	looked    time.Duration   // on the real clock, when all programs waited last…
	computed  time.Duration   // …and how long this process had computed then
	disturbed time.Duration   // when the run was first disturbed; negative if it was not
	lasted    time.Duration   // how long nobody waited then
	long      []time.Duration // instants at which locks may have gone out of turn, the first maxLong
}

// patience is how long Go lets goroutines run in one time slice, less some
// inaccuracy, before it lets others run in between (forcePreemptNS in
// runtime/proc.go). The network begins a slice with each of its events. What
// happens until the next takes much less, unless something else has the processor:
// then the order of what happens at one instant may change.
const patience = 8 * time.Millisecond

// stolen is how long something else may have the processor without that changing anything: who waits for a lock
// for a millisecond of real time gets it before others (sync.Mutex), who then wait themselves.
const stolen = time.Millisecond / 2

// Who waits for a lock for a millisecond of real time gets it before others (sync.Mutex). Where a processor computes for so
// long at one instant, that may happen in one run and not in another, though nothing else has the processor.
const (
	starving = time.Millisecond
	lateBy   = time.Second // by when it shows on a line, if it does
	maxLong  = 100_000
)

// look is called at each instant at which all programs wait, once at its beginning
// and, what happened in between does not count, at its end.
func (d *digest) look(at time.Duration, begins bool) {
	now, computed := realClock(), computed()
	took := now - d.looked
	if begins && d.disturbed < 0 && d.looked != 0 && (took > patience || computed > 0 && took-(computed-d.computed) > stolen) {
		d.disturbed, d.lasted = at, took
	}
	if begins && d.looked != 0 && took > starving && len(d.long) < maxLong {
		d.long = append(d.long, at)
	}
	d.looked, d.computed = now, computed
}

// digestKey is one direction of one line.
type digestKey struct {
	line string
	up   bool
}

// printed is the fingerprint of one packet.
type printed struct {
	at       time.Duration
	sums     [2]uint32 // of the payload
	from, to uint32    // numbers of addresses
	size     uint16
	kind     byte // first byte
	fate     Fate
}

func newDigest() *digest {
	return &digest{lines: map[digestKey]*[]printed{}, addrs: map[netip.AddrPort]uint32{}, disturbed: -1}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// see takes a packet. It is for [Network.Watch].
func (d *digest) see(s Sight) {
	key := digestKey{s.Line, s.Up}
	list := d.lines[key]
	if list == nil {
		list = &[]printed{}
		d.lines[key] = list
	}
	p := printed{at: s.At, from: d.number(s.From), to: d.number(s.To), size: uint16(len(s.Payload)), fate: s.Fate}
	if len(s.Payload) > 0 {
		p.kind = s.Payload[0]
		p.sums = [2]uint32{crc32.ChecksumIEEE(s.Payload), crc32.Checksum(s.Payload, castagnoli)}
	}
	*list = append(*list, p)
}

func (d *digest) number(addr netip.AddrPort) uint32 {
	number, ok := d.addrs[addr]
	if !ok {
		number = uint32(len(d.names))
		d.addrs[addr], d.names = number, append(d.names, addr)
	}
	return number
}

func (d *digest) packets() (n int) {
	for _, list := range d.lines {
		n += len(*list)
	}
	return n
}

// difference is the first packet that is not the same in two runs.
type difference struct {
	at   time.Duration
	text string // empty if all are
}

// compare looks for the first difference to another run.
func (d *digest) compare(other *digest) difference {
	var all []difference
	for _, key := range d.keys(other) {
		if found := d.compareOn(key, other); found.text != "" {
			all = append(all, found)
		}
	}
	if len(all) == 0 {
		return difference{}
	}
	first := slices.MinFunc(all, func(a, b difference) int { return cmp.Compare(a.at, b.at) })
	first.text = fmt.Sprintf("after %v %s (on %d directions of lines in all)", first.at, first.text, len(all))
	return first
}

// disturbedBy says what may have changed the order of what happened until an instant; empty if nothing.
func (d *digest) disturbedBy(at time.Duration) string {
	if d.disturbed >= 0 && d.disturbed <= at {
		return fmt.Sprintf("the machine had something else to do for %v", d.lasted)
	}
	after, _ := slices.BinarySearch(d.long, at+1)
	if after > 0 && at-d.long[after-1] <= lateBy {
		return fmt.Sprintf("%v was computed for longer than %v, so that locks may have gone out of turn", d.long[after-1], starving)
	}
	return ""
}

// keys returns the lines of both runs, in order.
func (d *digest) keys(other *digest) []digestKey {
	var keys []digestKey
	for key := range d.lines {
		keys = append(keys, key)
	}
	for key := range other.lines {
		if d.lines[key] == nil {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b digestKey) int { return cmp.Or(cmp.Compare(a.line, b.line), compareBool(a.up, b.up)) })
	return keys
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (d *digest) compareOn(key digestKey, other *digest) difference {
	mine, others := d.list(key), other.list(key)
	direction := "down"
	if key.up {
		direction = "up"
	}
	for i := range max(len(mine), len(others)) {
		switch {
		case i >= len(others):
			return difference{mine[i].at, fmt.Sprintf("on line %s %s: only the first has packet %d, %s",
				key.line, direction, i+1, d.tell(mine[i]))}
		case i >= len(mine):
			return difference{others[i].at, fmt.Sprintf("on line %s %s: only the second has packet %d, %s",
				key.line, direction, i+1, other.tell(others[i]))}
		case !d.same(mine[i], other, others[i]):
			return difference{min(mine[i].at, others[i].at), fmt.Sprintf("on line %s %s: packet %d is %s, then %s",
				key.line, direction, i+1, d.tell(mine[i]), other.tell(others[i]))}
		}
	}
	return difference{}
}

func (d *digest) list(key digestKey) []printed {
	if list := d.lines[key]; list != nil {
		return *list
	}
	return nil
}

func (d *digest) same(mine printed, other *digest, its printed) bool {
	if d.names[mine.from] != other.names[its.from] || d.names[mine.to] != other.names[its.to] {
		return false
	}
	mine.from, mine.to, its.from, its.to = 0, 0, 0, 0
	return mine == its
}

func (d *digest) tell(p printed) string {
	return fmt.Sprintf("[%v %v > %v, %d bytes, first %#02x, sum %08x%08x, %v]",
		p.at, d.names[p.from], d.names[p.to], p.size, p.kind, p.sums[0], p.sums[1], p.fate)
}
