package netio

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// flow is one stream in a model: a sender with frames, a receiver with a window, and what is on its way between them. What
// the receiver tells and what the sender asks for travels apart from the frames.
type flow struct {
	w           receiveWindow
	frames      []int // that the sender has yet to send
	limit, put  uint64
	asked       uint64
	data        []int                  // on its way
	wants       []struct{ put, n int } // on their way
	grants      []uint64               // on their way
	unread      []int
	neverRead   bool
	read, total int
}

func (f *flow) unreadBytes() (sum int) {
	for _, n := range f.unread {
		sum += n
	}
	return sum
}

// step does one thing at random. It returns false if the stream has nothing to do.
func (f *flow) step(t *testing.T, random *rand.Rand) bool {
	t.Helper()
	tell := func(yes bool) {
		if yes {
			f.grants = append(f.grants, f.w.limit)
		}
	}
	var can []func()
	if len(f.frames) > 0 && f.put+uint64(f.frames[0]) <= f.limit {
		can = append(can, func() {
			f.put += uint64(f.frames[0])
			f.data = append(f.data, f.frames[0])
			f.frames = f.frames[1:]
		})
	} else if len(f.frames) > 0 && f.asked != f.put+1 {
		can = append(can, func() {
			f.asked = f.put + 1
			f.wants = append(f.wants, struct{ put, n int }{int(f.put), f.frames[0]})
		})
	}
	if len(f.data) > 0 {
		can = append(can, func() {
			if err := f.w.allows(f.data[0]); err != nil {
				t.Fatal(err)
			}
			f.w.come += uint64(f.data[0])
			f.unread = append(f.unread, f.data[0])
			f.data = f.data[1:]
		})
	}
	if len(f.wants) > 0 {
		can = append(can, func() {
			want := f.wants[0]
			f.wants = f.wants[1:]
			tell(f.w.want(uint64(want.put), want.n, f.unreadBytes(), func() {}))
		})
	}
	if len(f.grants) > 0 {
		can = append(can, func() {
			f.limit = max(f.limit, f.grants[0])
			f.grants = f.grants[1:]
		})
	}
	if len(f.unread) > 0 && !f.neverRead {
		can = append(can, func() {
			f.read++
			n := f.unread[0]
			f.unread = f.unread[1:]
			tell(f.w.use(n))
		})
	}
	if f.w.claim != nil && !slices.Contains(f.w.budget.large.claims, f.w.claim) { // it was granted
		can = append(can, func() { tell(f.w.granted()) })
	}
	if len(can) == 0 {
		return false
	}
	can[random.IntN(len(can))]()
	return true
}

// TestWindow lets streams share a budget in a model, some of which nobody reads: the others get everything through, whatever
// the order in which things arrive, nobody holds more than it has of the budget, and in the end all of it is given back.
func TestWindow(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := newBudget(8 << 20)
		flows := make([]*flow, 1+random.IntN(12))
		for i := range flows {
			f := &flow{w: receiveWindow{}, limit: baseWindow, neverRead: i > 0 && random.IntN(3) == 0}
			if !f.w.open(b, 256<<10) {
				t.Fatal("no memory")
			}
			f.limit = f.w.start()
			for range random.IntN(200) {
				size := random.IntN(3000)
				switch random.IntN(20) {
				case 0:
					size = random.IntN(100_000)
				case 1, 2:
					if !f.neverRead { // or it would keep what others wait for
						size = random.IntN(3 << 19)
					}
				}
				f.frames = append(f.frames, size+1)
			}
			f.total = len(f.frames)
			flows[i] = f
		}
		for busy := true; busy; {
			busy = false
			for _, f := range flows {
				for range 1 + random.IntN(20) {
					busy = f.step(t, random) || busy
				}
				if unread := f.unreadBytes(); unread > f.w.size() {
					t.Fatalf("seed %d: %d bytes are unread, %d reserved", seed, unread, f.w.size())
				}
			}
			var begun, grown, large int
			for _, f := range flows {
				begun, grown, large = begun+f.w.begun, grown+f.w.grown, large+f.w.large
				if f.w.claim != nil && !slices.Contains(b.large.claims, f.w.claim) {
					large += f.w.claim.size
				}
			}
			for _, p := range []struct {
				sum int
				of  *part
			}{{begun, &b.begin}, {grown, &b.grow}, {large, &b.large}} {
				if p.sum != p.of.used || p.of.used > p.of.limit {
					t.Fatalf("seed %d: %d bytes in windows, %d of %d used", seed, p.sum, p.of.used, p.of.limit)
				}
			}
		}
		for i, f := range flows {
			if !f.neverRead && f.read != f.total {
				t.Fatalf("seed %d: stream %d stalled after %d of %d: %+v, limit %d, put %d", seed, i, f.read, f.total, f.w, f.limit, f.put)
			}
			f.w.close(f.unreadBytes())
			for _, n := range f.unread {
				f.w.use(n)
			}
		}
		if left := b.begin.used + b.grow.used + b.large.used; left != 0 || len(b.large.claims) > 0 {
			t.Fatalf("seed %d: %d bytes and %d claims are left", seed, left, len(b.large.claims))
		}
	}
}

// TestWindowGrows: a window grows while what comes is read, and not otherwise.
func TestWindowGrows(t *testing.T) {
	for _, reads := range []bool{true, false} {
		var w receiveWindow
		w.open(newBudget(64<<20), baseWindow)
		const size = 1000
		w.start()
		for range 40 { // round trips
			for w.come+size <= w.limit {
				w.come += size
			}
			for reads && w.used < int64(w.come) {
				w.use(size)
			}
			w.want(w.come, size, int(int64(w.come)-w.used), nil)
		}
		if grown := w.size() == mostWindow; grown != reads {
			t.Errorf("reads %v: the window is %d", reads, w.size())
		}
	}
}

// TestPart: claims are served in their order, as soon as there is enough.
func TestPart(t *testing.T) {
	p := &part{limit: 100}
	if !p.reserve(80) || p.reserve(21) {
		t.Error("more than there is, or less")
	}
	served := make(chan int, 3)
	var claims []*claim
	for i, size := range []int{20, 30, 1} {
		c := p.claim(size, func() { served <- i })
		claims = append(claims, c)
		if now := c == nil; now != (i == 0) {
			t.Fatalf("claim %d of %d: served at once is %v", i, size, now)
		}
	}
	p.release(20)
	if p.reserve(1) {
		t.Error("took what others wait for")
	}
	if !p.cancel(claims[1]) {
		t.Error("a claim that waits could not be canceled")
	}
	if got := <-served; got != 2 {
		t.Errorf("claim %d was served", got)
	}
	if p.cancel(claims[2]) {
		t.Error("a claim that was served could be canceled")
	}
	if p.used != 81 {
		t.Errorf("%d used", p.used)
	}
}

// TestMemory: a journal takes memory in steps, gives back what it does not need, and waits if there is none.
func TestMemory(t *testing.T) {
	p := &part{limit: 4 * memoryStep}
	freed := make(chan struct{}, 1)
	m, other := memory{from: p}, memory{from: p, freed: func() { freed <- struct{}{} }}
	if !m.has(3*memoryStep) || m.held != 3*memoryStep {
		t.Fatalf("held %d", m.held)
	}
	if !other.has(1) || other.has(memoryStep+1) {
		t.Error("more than there is")
	}
	m.trim(0, true)
	<-freed
	other.granted(false)
	if other.held != 2*memoryStep || p.used != other.held {
		t.Errorf("held %d, used %d", other.held, p.used)
	}
	if other.trim(1, false); p.used != 2*memoryStep {
		t.Errorf("used %d", p.used)
	}
	if other.trim(0, false); p.used != 0 {
		t.Errorf("used %d for nothing", p.used)
	}
}
