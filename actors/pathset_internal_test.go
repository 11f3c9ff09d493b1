package actors

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
)

// track runs a pathSet over fake paths with a fake clock, in steps of a
// millisecond, as [paths] does: it looks when told to, and after each answer.
type track struct {
	*testing.T
	set   pathSet
	began time.Time
	now   time.Time
	next  time.Time // when to look again
	paths map[netip.AddrPort]*fakePath
	back  []pong

	sending bool      // packets go out all the time, directly if so chosen
	relayed time.Time // when the peer was last heard over the relay
	heard   time.Time // when the peer was last heard directly
	sent    []sentPing
}

// fakePath is what really is behind an address.
type fakePath struct {
	roundTrip time.Duration
	probes    bool // probes are answered
	data      bool // the peer is heard from there, if it is chosen and we send
}

type pong struct {
	at   time.Time
	from netip.AddrPort
	tx   uint64
}

type sentPing struct {
	after time.Duration
	to    netip.AddrPort
}

func newTrack(t *testing.T) *track {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &track{
		T: t, set: pathSet{allowRelay: true, allowDirect: true}, began: now, now: now, next: now,
		paths: map[netip.AddrPort]*fakePath{},
	}
}

func at(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 4000)
}

// path makes an address work, with 40 milliseconds there and back.
func (k *track) path(n int) *fakePath {
	k.paths[at(n)] = &fakePath{roundTrip: 40 * time.Millisecond, probes: true, data: true}
	return k.paths[at(n)]
}

func (p *fakePath) die() { p.probes, p.data = false, false }

// run lets time pass.
func (k *track) run(d time.Duration) {
	for end := k.now.Add(d); k.now.Before(end); k.now = k.now.Add(time.Millisecond) {
		for len(k.back) > 0 && !k.back[0].at.After(k.now) {
			if p := k.paths[k.back[0].from]; p != nil && p.probes {
				k.set.answer(k.now, nil, k.back[0].from, k.back[0].tx)
				k.next = k.now
			}
			k.back = k.back[1:]
		}
		if addr, _ := k.set.choice(); addr.IsValid() && k.sending && k.paths[addr] != nil && k.paths[addr].data {
			k.heard = k.now
		}
		if !k.now.Before(k.next) {
			k.look()
		}
	}
}

func (k *track) look() {
	addr, _ := k.set.choice()
	pings, again := k.set.look(k.now, heard{last: k.heard, relayed: k.relayed, sending: k.sending && addr.IsValid()})
	if again < time.Millisecond || again > tick {
		k.Fatalf("look again after %v", again)
	}
	k.next = k.now.Add(again)
	for _, ping := range pings {
		k.sent = append(k.sent, sentPing{k.now.Sub(k.began), ping.to})
		if p := k.paths[ping.to]; p != nil {
			k.back = append(k.back, pong{k.now.Add(p.roundTrip), ping.to, ping.tx})
			slices.SortStableFunc(k.back, func(a, b pong) int { return a.at.Compare(b.at) })
		}
	}
}

// until runs until the choice is the address of that number (0: the relay) and returns how long that took.
func (k *track) until(n int, limit time.Duration) time.Duration {
	k.Helper()
	began := k.now
	for !k.chose(n) {
		if k.now.Sub(began) > limit {
			addr, relayed := k.set.choice()
			k.Fatalf("choice is %v, relayed %v after %v, want %d", addr, relayed, limit, n)
		}
		k.run(time.Millisecond)
	}
	return k.now.Sub(began)
}

func (k *track) chose(n int) bool {
	addr, relayed := k.set.choice()
	if n == 0 {
		return relayed
	}
	return addr == at(n)
}

// stays runs and fails if the choice changes.
func (k *track) stays(n int, d time.Duration) {
	k.Helper()
	for end := k.now.Add(d); k.now.Before(end); {
		if k.run(time.Millisecond); !k.chose(n) {
			addr, relayed := k.set.choice()
			k.Fatalf("choice became %v, relayed %v, want %d", addr, relayed, n)
		}
	}
}

// pings returns when an address was probed since an instant.
func (k *track) pings(n int, since time.Time) (after []time.Duration) {
	for _, s := range k.sent {
		if s.to == at(n) && s.after >= since.Sub(k.began) {
			after = append(after, s.after-since.Sub(k.began))
		}
	}
	return after
}

// direct is a track that has come to use a path.
func direct(t *testing.T, sending bool) (*track, *fakePath) {
	t.Helper()
	k := newTrack(t)
	k.sending = sending
	p := k.path(1)
	k.set.offer(k.now, []netip.AddrPort{at(1)})
	if took := k.until(1, time.Second); took > 2*p.roundTrip+5*time.Millisecond {
		t.Errorf("direct after %v", took)
	}
	return k, p
}

func TestPathSetPunches(t *testing.T) {
	k := newTrack(t)
	k.set.offer(k.now, []netip.AddrPort{at(1)})
	k.run(30 * time.Second)
	ms := time.Millisecond
	round := []time.Duration{0, 33 * ms, 66 * ms, 133 * ms, 266 * ms, 533 * ms, 1066 * ms, 2136 * ms, 4136 * ms}
	want := slices.Clone(round)
	for _, after := range round {
		want = append(want, after+14136*ms)
	}
	want = append(want, 28272*ms, 28305*ms, 28338*ms, 28405*ms, 28538*ms, 28805*ms, 29338*ms)
	if got := k.pings(1, k.began); !slices.Equal(got, want) {
		t.Errorf("pings after %v\nwant %v", got, want)
	}
	if !k.chose(0) {
		t.Error("left the relay without an answer")
	}
	k.path(1) // a ping of the peer comes from there, in the pause: it is asked at once
	k.run(5 * time.Second)
	k.set.seen(k.now, nil, at(1))
	k.next = k.now
	if took := k.until(1, time.Second); took > 90*ms {
		t.Errorf("direct %v after the peer was heard", took)
	}
}

func TestPathSetNeedsTwoAnswers(t *testing.T) {
	k := newTrack(t)
	k.set.offer(k.now, []netip.AddrPort{at(1), at(2)})
	pings, _ := k.set.look(k.now, heard{})
	if len(pings) != 2 {
		t.Fatalf("%d pings", len(pings))
	}
	for name, ok := range map[string]bool{
		"wrong address": k.set.answer(k.now, nil, at(2), pings[0].tx),
		"unknown":       k.set.answer(k.now, nil, at(1), 99),
		"stranger":      k.set.answer(k.now, nil, at(3), pings[0].tx),
	} {
		if ok {
			t.Errorf("%s counts as an answer", name)
		}
	}
	if !k.set.answer(k.now, nil, at(1), pings[0].tx) || k.set.answer(k.now, nil, at(1), pings[0].tx) {
		t.Error("an answer counts once")
	}
	if !k.chose(0) {
		t.Error("direct after one answer: the peer may not take our packets yet")
	}
	again, _ := k.set.look(k.now, heard{})
	if len(again) != 1 || again[0].to != at(1) || !k.set.answer(k.now, nil, at(1), again[0].tx) || !k.chose(1) {
		t.Errorf("not direct after two answers, pings %v", again)
	}
}

func TestPathSetNoticesDeath(t *testing.T) {
	tests := []struct {
		name      string
		roundTrip time.Duration
		sending   bool
		probes    bool // still answered when the path dies
		data      bool // still heard
		most      time.Duration
	}{
		{"while sending", 40 * time.Millisecond, true, false, false, 800 * time.Millisecond},
		{"while sending far away", 200 * time.Millisecond, true, false, false, time.Second},
		{"idle", 40 * time.Millisecond, false, false, false, 6 * time.Second},
		{"only probes get lost", 40 * time.Millisecond, true, false, true, 0},
		{"only data gets lost", 40 * time.Millisecond, true, true, false, 0},
		{"alive and idle", 40 * time.Millisecond, false, true, true, 0},
		{"alive and far away", 1500 * time.Millisecond, true, true, true, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for phase := range 20 {
				k, p := direct(t, test.sending)
				p.roundTrip = test.roundTrip
				k.run(20*time.Second + time.Duration(phase)*101*time.Millisecond)
				p.probes, p.data = test.probes, test.data
				if test.most == 0 {
					k.stays(1, 20*time.Second)
					continue
				}
				if took := k.until(0, 10*time.Second); took > test.most {
					t.Errorf("phase %d: noticed after %v", phase, took)
				}
			}
		})
	}
}

// TestPathSetLateAnswer sends now and then over a path with a long round trip: the
// silence before an answer is not the path's fault.
func TestPathSetLateAnswer(t *testing.T) {
	for _, roundTrip := range []time.Duration{100, 600, 1500} {
		k := newTrack(t)
		p := k.path(1)
		p.roundTrip = roundTrip * time.Millisecond
		k.set.offer(k.now, []netip.AddrPort{at(1)})
		k.until(1, 10*time.Second)
		for i := range 100 {
			k.sending, p.data = true, false
			k.run(10 * time.Millisecond) // a message goes out
			k.sending = false
			k.stays(1, p.roundTrip)
			k.heard = k.now // its acknowledgment comes
			k.stays(1, time.Duration(i)*53*time.Millisecond)
		}
	}
}

func TestPathSetHoldsDown(t *testing.T) {
	k, p := direct(t, true)
	k.run(3 * time.Second)
	p.die()
	k.until(0, time.Second)
	p.probes, p.data = true, true
	if took := k.until(1, 10*time.Second); took < holdDown-time.Millisecond || took > holdDown+tick {
		t.Errorf("back after %v", took)
	}
}

// TestPathSetFollowsPeer has a path on which only we are not heard.
func TestPathSetFollowsPeer(t *testing.T) {
	k, p := direct(t, true)
	k.run(7 * time.Second)
	p.probes = false // what the peer sends arrives
	died := k.now
	for range 5 { // the peer is in doubt and probes
		k.set.seen(k.now, nil, at(1))
		k.next = k.now
		k.stays(1, probeUrgent)
	}
	if got := k.pings(1, died); len(got) < 2 || got[0] > 200*time.Millisecond {
		t.Errorf("pings after %v, though the peer is in doubt", got)
	}
	p.data = false
	k.relayed = k.now // now it has left
	k.next = k.now
	if took := k.until(0, time.Second); took > 10*time.Millisecond {
		t.Errorf("followed after %v", took)
	}
}

// TestPathSetPressedEndlessly has two sides that are both pressed: they calm down.
func TestPathSetPressedEndlessly(t *testing.T) {
	k, _ := direct(t, false)
	k.run(7 * time.Second)
	began := k.now
	k.set.seen(k.now, nil, at(1))
	for range 100 { // each of our probes makes the peer probe
		before := len(k.sent)
		k.set.seen(k.now, nil, at(1))
		k.next = k.now
		k.run(41 * time.Millisecond)
		if len(k.sent) == before {
			k.run(500 * time.Millisecond)
		}
	}
	if got := len(k.pings(1, began)); got > 15+int(k.now.Sub(began)/time.Second) {
		t.Errorf("%d pings in %v", got, k.now.Sub(began))
	}
}

func TestPathSetFollowsNewAddress(t *testing.T) {
	k, p := direct(t, true)
	k.run(7 * time.Second)
	p.probes = false // what we send to the old address is lost; what we hear comes from the new one
	k.path(2)
	k.set.seen(k.now, nil, at(2))
	k.next = k.now
	if took := k.until(2, time.Second); took > 350*time.Millisecond {
		t.Errorf("moved after %v", took)
	}
	k.stays(2, 10*time.Second)
}

// TestPathSetOthersAreOld kills two paths at once: the second is not believed in.
func TestPathSetOthersAreOld(t *testing.T) {
	k, p := direct(t, true)
	q := k.path(2)
	k.set.seen(k.now, nil, at(2))
	k.run(20 * time.Second)
	p.die()
	q.die()
	k.until(0, time.Second)
	k.stays(0, 5*time.Second)
}

func TestPathSetMovesToFaster(t *testing.T) {
	for _, test := range []struct {
		roundTrip time.Duration
		want      int
	}{{34 * time.Millisecond, 2}, {36 * time.Millisecond, 1}, {40 * time.Millisecond, 1}, {2 * time.Millisecond, 2}} {
		k, _ := direct(t, true)
		k.path(2).roundTrip = test.roundTrip
		k.set.seen(k.now, nil, at(2))
		k.run(2 * time.Second)
		k.stays(test.want, 20*time.Second)
	}
}

func TestPathSetModes(t *testing.T) {
	k := newTrack(t)
	k.set.allowDirect = false
	k.path(1)
	k.set.offer(k.now, []netip.AddrPort{at(1)})
	k.set.seen(k.now, nil, at(1))
	k.run(10 * time.Second)
	if !k.chose(0) || len(k.sent) > 0 {
		t.Errorf("relay only: %d pings", len(k.sent))
	}
	k, p := direct(t, true)
	k.set.allowRelay = false
	p.die()
	k.run(2 * time.Second)
	if addr, relayed := k.set.choice(); addr.IsValid() || relayed {
		t.Errorf("direct only, without a path: %v, relayed %v", addr, relayed)
	}
	p.probes, p.data = true, true
	k.until(1, 15*time.Second)
}

func TestPathSetOffers(t *testing.T) {
	k, _ := direct(t, true)
	k.set.seen(k.now, nil, at(7))
	many := []netip.AddrPort{{}, netip.AddrPortFrom(at(1).Addr(), 0)}
	for n := range 2 * maxCandidates {
		many = append(many, at(100+n))
	}
	k.set.offer(k.now, many)
	if got := len(k.set.candidates); got != maxCandidates {
		t.Errorf("%d candidates", got)
	}
	if k.set.find(at(1)) == nil || k.set.find(at(7)) == nil || k.set.find(netip.AddrPort{}) != nil {
		t.Error("the path in use or a seen one is gone, or an invalid one there")
	}
	k.set.offer(k.now, []netip.AddrPort{at(100)})
	if got := len(k.set.candidates); got != 3 { // 1 in use, 7 seen, 100
		t.Errorf("%d candidates after the offer was replaced", got)
	}
}

// TestPathSetRandom changes paths at random. What must hold, holds at each instant;
// in the end everything works, or nothing does.
func TestPathSetRandom(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			k := newTrack(t)
			const addrs = 6
			for n := 1; n <= addrs; n++ {
				k.path(n).roundTrip = time.Duration(1+random.IntN(150)) * time.Millisecond
			}
			for range 200 {
				k.randomly(random, 1+random.IntN(addrs))
				k.run(time.Duration(random.IntN(400)) * time.Millisecond)
				k.invariants()
			}
			k.sending, k.relayed = true, time.Time{}
			for _, p := range k.paths {
				p.die()
			}
			k.until(0, 2500*time.Millisecond) // twice, if another path has answered just before
			k.stays(0, time.Second)
			for n := 1; n <= addrs; n++ {
				k.paths[at(n)].probes, k.paths[at(n)].data = true, true
				k.set.seen(k.now, nil, at(n))
			}
			k.run(roundPause + 5*time.Second)
			if k.chose(0) {
				t.Error("relayed though all paths work")
			}
		})
	}
}

// randomly does one thing to the path of an address.
func (k *track) randomly(random *rand.Rand, n int) {
	p := k.paths[at(n)]
	switch random.IntN(9) {
	case 0:
		k.set.offer(k.now, []netip.AddrPort{at(n), at(1 + random.IntN(6))})
	case 1, 2:
		k.set.seen(k.now, nil, at(n))
	case 3:
		p.die()
	case 4:
		p.probes, p.data = true, true
	case 5:
		p.probes, p.data = random.IntN(2) == 0, random.IntN(2) == 0
	case 6:
		k.sending = !k.sending
	case 7:
		k.relayed = k.now
	case 8:
		if k.set.answer(k.now, nil, at(n), k.set.nextTx+1+random.Uint64N(9)) {
			k.Fatal("an answer to what was never asked")
		}
	}
	k.next = k.now
}

func (k *track) invariants() {
	k.Helper()
	if c := k.set.current; c != nil {
		if !slices.Contains(k.set.candidates, c) || !c.proven() || c.held(k.now) {
			k.Fatalf("after %v: chose %+v", k.now.Sub(k.began), c)
		}
	}
	for _, c := range k.set.candidates {
		if len(c.sent) > 128 {
			k.Fatalf("%d probes remembered", len(c.sent))
		}
	}
	// No address gets more than a punching round, or urgent probes, and some answers' worth.
	const most = 40
	if recent := slices.DeleteFunc(slices.Clone(k.sent), func(s sentPing) bool {
		return s.after < k.now.Sub(k.began)-time.Second
	}); len(recent) > most*len(k.set.candidates) {
		k.Fatalf("%d probes in a second to %d candidates", len(recent), len(k.set.candidates))
	}
}

// TestPathSetSpreads has an address that was seen before it was offered, as a probe may be faster, tried over a link that comes later.
func TestPathSetSpreads(t *testing.T) {
	k := newTrack(t)
	k.set.seen(k.now, nil, at(1))
	k.set.seen(k.now, nil, at(2))
	k.set.offer(k.now, []netip.AddrPort{at(1)})
	link := &struct{ netio.Link }{}
	k.set.useLinks(k.now, []netio.Link{link}, linkUse{})
	if k.set.findOn(link, at(1)) == nil || k.set.findOn(link, at(2)) != nil {
		t.Errorf("over the new link %v is tried, want %v only", k.set.candidates, at(1))
	}
}
