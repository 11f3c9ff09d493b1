package actors

import (
	"net/netip"
	"time"

	"github.com/conec-go/conec/netio"
)

// A NAT whose mappings depend on the destination shows a client under a port that
// nobody has been told. If the other side's NAT is easier, the two find each other by a
// birthday search: the one behind the hard NAT sends from many sockets to the other,
// which has as many ports opened for it, and the other probes random ports. With 256
// sockets, 1,024 probes find one with a probability of 98 %, 2,048 with 99.97 %
// (1 - (1 - 256/64,512)^n).

// Limits of guessing.
const (
	guessLimit = 2048 // probes of one search
	guessEach  = 5 * time.Millisecond
	guessWait  = 2 * time.Second // for the answer to the last one
	guessNear  = 32              // first ports next to the one that was seen: some NATs count up
	guessFirst = 1024            // the lowest port that a NAT gives away
	guessPorts = 1<<16 - guessFirst
	guessSize  = netio.MinProbe
)

// guesses is a search by the side behind the easier NAT. It is plain state.
type guesses struct {
	addr   netip.Addr // of the peer's NAT
	near   uint32     // the port under which the coordinator sees the peer
	offset uint32     // of the first random port
	step   uint32     // between random ports; odd, and no multiple of 3 or 7, so that none comes twice
	made   int
	due    time.Time
	sent   map[uint64]netip.AddrPort
}

// startGuessing begins a search for the peer, which the coordinator sees at addr.
func (p *pathSet) startGuessing(now time.Time, addr netip.AddrPort, random uint64) {
	step := uint32(random>>32)%guessPorts | 1
	for step%3 == 0 || step%7 == 0 {
		step += 2
	}
	p.guesses = &guesses{
		addr: addr.Addr(), near: uint32(addr.Port()), offset: uint32(random) % guessPorts, step: step,
		due: now, sent: map[uint64]netip.AddrPort{},
	}
}

// port returns the port of a guess.
func (g *guesses) port(guess int) uint16 {
	if guess < guessNear {
		return uint16(guessFirst + (g.near-guessFirst+1+uint32(guess))%guessPorts)
	}
	return uint16(guessFirst + (uint64(g.offset)+uint64(guess-guessNear)*uint64(g.step))%guessPorts)
}

// guess returns the probes that are due, and when to look again.
func (p *pathSet) guess(now time.Time) (pings []ping, again time.Duration) {
	g := p.guesses
	if g == nil {
		return nil, tick
	}
	if p.current != nil || g.made == guessLimit && now.Sub(g.due) > guessWait {
		p.guesses = nil // found, or given up
		return nil, tick
	}
	if g.made < guessLimit && now.Sub(g.due) > tick {
		g.due = now // the rate is kept, not made up for
	}
	for ; g.made < guessLimit && !now.Before(g.due); g.made++ {
		p.nextTx++
		to := netip.AddrPortFrom(g.addr, g.port(g.made))
		g.sent[p.nextTx] = to
		pings = append(pings, ping{to: to, tx: p.nextTx, size: guessSize})
		g.due = g.due.Add(guessEach)
	}
	if g.made == guessLimit {
		return pings, tick
	}
	return pings, max(g.due.Sub(now), guessEach)
}

// guessed takes the answer to a guess: there the peer is. It returns false for an
// answer to nothing.
func (p *pathSet) guessed(now time.Time, from netip.AddrPort, tx uint64) bool {
	if p.guesses == nil || p.guesses.sent[tx] != from || !from.IsValid() {
		return false
	}
	delete(p.guesses.sent, tx)
	if p.find(from) == nil {
		p.add(now, nil, from, true)
	}
	return true
}
