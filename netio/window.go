package netio

import (
	"fmt"
	"runtime"

	"github.com/conec-go/conec/messages"
)

// Sizes in bytes of windows.
const (
	baseWindow = 64 << 10 // what every direction of a stream begins with, as both sides know
	mostWindow = 6 << 20  // of a stream that is read fast, unless one message is larger
)

// receiveWindow is what the receiver of one direction of a stream lets its sender
// send: it has told it a limit, in bytes of messages frames since the QUIC stream
// began. It moves the limit as the program uses up what came. The window grows while
// the program keeps up; what it has grown by it gives back, as it is used, when others
// want it. For a frame that is larger, the receiver takes what is missing, and gives
// it back when the frame was used up. While a stream waits for that it holds none of
// it, so that streams do not wait for each other.
//
//	what happens      does
//	use               moves the limit, after a fourth of the window or if that serves the sender
//	want              grows if the program keeps up; takes, or claims, what a large frame needs
//	granted           takes what was claimed
//	close             keeps what is unread in the budget, until it is used up
//
// A plain value, under the lock of what it belongs to. Without a holding there are no
// limits: everything may come.
type receiveWindow struct {
	*holding

	come  uint64 // bytes that have come
	used  int64  // bytes that were used up: of those that came, or before the first
	limit uint64 // what the sender was told

	grew   int64  // used when it grew last
	wanted int    // size of the frame that the sender could not send last
	needs  uint64 // limit that it needs for that
	claim  *claim // for what is missing
	more   func() // called when a claim is granted
	over   bool   // nothing more may come
	forgot bool   // who forgets the window gives back what it holds
}

// holding is what a window has of a budget: what may be on its way or unread.
type holding struct {
	budget       *budget
	begun, grown int // bytes
	large        int // and for the frame that the sender waits for, or that it was served
}

// open takes the part of a budget that every stream needs, and up to most bytes if they
// are not scarce. It returns false if the budget has no room for another stream.
func (w *receiveWindow) open(b *budget, most int) bool {
	if b == nil {
		return true
	}
	if !b.begin.reserve(baseWindow) {
		return false
	}
	w.holding = &holding{budget: b, begun: baseWindow}
	w.limit = baseWindow
	if more := most - baseWindow; more > 0 && !b.grow.tight() && b.grow.reserve(more) {
		w.grown = more
	}
	return true
}

// size is how many bytes may be on their way or unread.
func (h *holding) size() int { return h.begun + h.grown + h.large }

// giveBack gives n bytes back to the budget: those for large frames first.
func (h *holding) giveBack(n int) {
	for _, of := range []struct {
		has  *int
		part *part
	}{{&h.large, &h.budget.large}, {&h.grown, &h.budget.grow}, {&h.begun, &h.budget.begin}} {
		back := min(n, *of.has)
		*of.has -= back
		of.part.release(back)
		n -= back
	}
}

// atLeast is for who drops what it has no room for: it tries to have n bytes, and
// returns how many there are.
func (h *holding) atLeast(n int) int {
	for h.size() < n && !h.budget.grow.tight() && h.budget.grow.reserve(memoryStep) {
		h.grown += memoryStep
	}
	return h.size()
}

// start returns the limit that the sender is to be told with the first frame.
func (w *receiveWindow) start() uint64 {
	if w.holding != nil {
		w.limit = max(w.limit, uint64(w.size()))
	}
	return w.limit
}

// again begins anew for another QUIC stream, while unread bytes of the one before wait.
// It returns the limit that the sender is to be told.
func (w *receiveWindow) again(unread int) uint64 {
	w.come, w.used, w.grew, w.needs = 0, -int64(unread), -int64(unread), 0
	w.limit = 0
	if w.holding != nil {
		w.limit = uint64(max(w.size()-unread, 0))
	}
	return w.limit
}

// allows reports why n more bytes must not come.
func (w *receiveWindow) allows(n int) error {
	if w.holding != nil && !w.over && w.come+uint64(n) > w.limit {
		return fmt.Errorf("%w: %d bytes more than the other side may send", messages.ErrProtocol, w.come+uint64(n)-w.limit)
	}
	return nil
}

// room is by how much the limit can be moved without anything for large frames.
func (w *receiveWindow) room() int { return int(w.used) + w.begun + w.grown - int(w.limit) }

// waits reports whether the sender waits for a higher limit.
func (w *receiveWindow) waits() bool { return w.needs > w.limit }

// use counts n bytes as used up. It returns true if the sender is to be told so.
func (w *receiveWindow) use(n int) (tell bool) {
	switch {
	case w.holding == nil:
		return false
	case w.over:
		w.giveBack(min(n, w.size()))
		return false
	}
	w.used += int64(n)
	enough := w.room() >= (w.begun+w.grown)/4
	if !enough && !w.waits() && w.large == 0 {
		return false // by far the most
	}
	w.settle()
	w.ask()
	tell = w.serve()
	return w.move() || tell
}

// move moves the limit if that is worth telling the sender.
func (w *receiveWindow) move() (tell bool) {
	if w.room() < (w.begun+w.grown)/4 {
		return false
	}
	w.limit += uint64(w.room())
	return true
}

// settle gives back what is not needed any more.
func (w *receiveWindow) settle() {
	if spare := int(w.used) + w.size() - int(w.limit); w.large > 0 && spare > 0 && w.claim == nil && !w.isFor() {
		w.giveBack(min(w.large, spare))
	}
	if back := min(w.room(), w.grown); back > 0 && !w.waits() && w.large == 0 && w.budget.grow.tight() {
		w.giveBack(back)
	}
}

// isFor reports whether what is held for large frames is what the sender waits for.
func (w *receiveWindow) isFor() bool { return w.waits() && w.begun+w.grown+w.large >= w.wanted }

// serve moves the limit if the sender waits for that and it is enough. It returns
// true if the sender is to be told.
func (w *receiveWindow) serve() (tell bool) {
	if !w.waits() || int(w.used)+w.size() < int(w.needs) {
		return false
	}
	w.limit = max(w.needs, w.limit+uint64(max(w.room(), 0)))
	return true
}

// want hears that the sender, which has sent put bytes, can not send a frame of n
// bytes yet. unread is how much waits for the program; more is called later if there
// is more memory. It returns true if the sender is to be told the limit.
func (w *receiveWindow) want(put uint64, n, unread int, more func()) (tell bool) {
	if w.holding == nil || w.over {
		return false
	}
	size := w.begun + w.grown
	keepsUp := unread <= size/4 && w.used-w.grew >= int64(size)/2
	if keepsUp && size < mostWindow && !w.budget.grow.tight() {
		if add := min(size, mostWindow-size); w.budget.grow.reserve(add) {
			w.grown += add
			w.grew = w.used
		}
	}
	if put+uint64(n) <= w.limit { // it has not heard
		w.move()
		return true
	}
	w.needs, w.wanted, w.more = put+uint64(n), n, more
	w.ask()
	return w.serve()
}

// ask claims what is missing for the frame that the sender waits for, unless something
// is held for the one before.
func (w *receiveWindow) ask() {
	missing := w.wanted - w.begun - w.grown
	if !w.waits() || missing <= 0 {
		return
	}
	if w.claim != nil && w.claim.size < missing && w.budget.large.cancel(w.claim) {
		w.claim = nil
	}
	if w.large > 0 && !w.isFor() {
		w.settle()
	}
	if w.claim != nil || w.large > 0 {
		return
	}
	if w.claim = w.budget.large.claim(missing, w.more); w.claim == nil {
		w.large = missing
	}
}

// granted takes over what was claimed. It returns true if the sender is to be told.
func (w *receiveWindow) granted() (tell bool) {
	n := w.claim.size
	w.claim = nil
	if w.over || !w.waits() || n < w.wanted-w.begun-w.grown {
		w.budget.large.release(n)
		if !w.over {
			w.ask()
			tell = w.serve()
		}
		return tell
	}
	w.large += n
	return w.serve()
}

// close lets nothing more come, and keeps unread bytes of the budget until they are
// used up.
func (w *receiveWindow) close(unread int) {
	if w.holding == nil {
		return
	}
	w.over = true
	if w.claim != nil && w.budget.large.cancel(w.claim) {
		w.claim = nil
	}
	if size := w.size(); unread < size {
		w.giveBack(size - unread)
	}
}

// closeFor is close for the owner of the window: when that is forgotten, nobody will
// use up anything.
func closeFor[T any](owner *T, w *receiveWindow, unread int) {
	w.close(unread)
	if w.holding != nil && w.size() > 0 && !w.forgot {
		w.forgot = true
		runtime.AddCleanup(owner, (*holding).forget, w.holding)
	}
}

// forget gives everything back from the goroutine of the collector.
func (h *holding) forget() {
	h.budget.begin.forgotten.Add(int64(h.begun))
	h.budget.grow.forgotten.Add(int64(h.grown))
	h.budget.large.forgotten.Add(int64(h.large))
}
