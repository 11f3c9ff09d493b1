package netio

import (
	"fmt"

	"github.com/conec-go/conec/messages"
)

// Sizes in bytes of windows.
const (
	baseWindow = 64 << 10 // what every direction of a stream begins with, as both sides know
	mostWindow = 6 << 20  // of a stream that is read fast, unless one message is larger
)

// receiveWindow is what the receiver of one direction of a stream lets its sender
// send: it has told it a limit, in bytes of messages frames since the QUIC stream
// began. It moves the limit as the program uses up what came. A window grows while
// the program keeps up, and for large messages, as the budget of the peer allows; it
// gives that back when others want it. With a nil budget there is none: everything
// may come.
//
// A plain value, under the lock of what it belongs to.
type receiveWindow struct {
	budget *budget
	most   int // what it may grow to at the beginning

	begun, grown int // bytes of the budget: what may be on its way or unread
	large        int // and for the frame that the sender waits for

	come  uint64 // bytes that have come
	used  int64  // bytes that were used up: of those that came, or before the first
	limit uint64 // what the sender was told

	grew  int64  // used when it grew last
	needs uint64 // limit that the sender needs for a frame that it could not send
	claim *claim // for it
	over  bool   // nothing more may come
}

// open begins: it returns false if the budget has no room for another stream.
func (w *receiveWindow) open() bool {
	if w.budget == nil {
		return true
	}
	if !w.budget.begin.reserve(baseWindow) {
		return false
	}
	w.begun, w.limit = baseWindow, baseWindow
	if more := w.most - baseWindow; more > 0 && !w.budget.grow.tight() && w.budget.grow.reserve(more) {
		w.grown = more
	}
	return true
}

// size is how many bytes may be on their way or unread.
func (w *receiveWindow) size() int { return w.begun + w.grown + w.large }

// again begins anew for another QUIC stream, while unread bytes of the one before
// wait. It returns the limit that the sender is to be told.
func (w *receiveWindow) again(unread int) uint64 {
	w.come, w.used, w.grew, w.needs = 0, -int64(unread), -int64(unread), 0
	w.limit = uint64(max(w.size()-unread, baseWindow))
	return w.limit
}

// start returns the limit that the sender is to be told with the first frame.
func (w *receiveWindow) start() uint64 {
	w.limit = max(w.limit, uint64(w.size()))
	return w.limit
}

// allows reports why n more bytes must not come.
func (w *receiveWindow) allows(n int) error {
	if w.budget != nil && !w.over && w.come+uint64(n) > w.limit {
		return fmt.Errorf("%w: %d bytes more than the other side may send", messages.ErrProtocol, w.come+uint64(n)-w.limit)
	}
	return nil
}

// use counts n bytes as used up. It returns true if the sender is to be told so.
func (w *receiveWindow) use(n int) (tell bool) {
	switch {
	case w.budget == nil:
		return false
	case w.over:
		w.giveBack(min(n, w.size()))
		return false
	}
	w.used += int64(n)
	if w.needs <= w.limit && w.large == 0 && w.room() < (w.begun+w.grown)/4 {
		return false // by far the most
	}
	if w.needs <= w.limit { // the sender waits for nothing
		w.giveBack(min(w.large, int(w.used)+w.size()-int(w.limit)))
		if back := min(w.room(), w.grown); back > 0 && w.large == 0 && w.budget.grow.tight() {
			w.giveBack(back)
		}
	}
	if tell = w.serve(); w.room() >= (w.begun+w.grown)/4 {
		w.limit += uint64(w.room())
		tell = true
	}
	return tell
}

// hold is for who drops what it has no room for: it tries to grow to n bytes, and
// returns how many there are.
func (w *receiveWindow) hold(n int) int {
	for w.size() < n && !w.budget.grow.tight() && w.budget.grow.reserve(memoryStep) {
		w.grown += memoryStep
	}
	return w.size()
}

// giveBack gives n bytes back to the budget: those for large messages first.
func (w *receiveWindow) giveBack(n int) {
	for _, of := range []struct {
		has  *int
		part *part
	}{{&w.large, &w.budget.large}, {&w.grown, &w.budget.grow}, {&w.begun, &w.budget.begin}} {
		back := min(n, *of.has)
		*of.has -= back
		of.part.release(back)
		n -= back
	}
}

// room is by how much the limit can be moved.
func (w *receiveWindow) room() int {
	return int(w.used) + w.begun + w.grown - int(w.limit)
}

// serve moves the limit if the sender waits for that and it is enough. It returns
// true if the sender is to be told.
func (w *receiveWindow) serve() (tell bool) {
	if w.needs <= w.limit || int(w.used)+w.size() < int(w.needs) {
		return false
	}
	w.limit = max(w.needs, w.limit+uint64(max(w.room(), 0)))
	return true
}

// want hears that the sender, which has sent put bytes, can not send a frame of n
// bytes yet. unread is how much waits for the program; more is called later if the
// window has grown. It returns true if the sender is to be told a new limit.
func (w *receiveWindow) want(put uint64, n, unread int, more func()) (tell bool) {
	if w.budget == nil || w.over {
		return false
	}
	w.needs = put + uint64(n)
	size := w.begun + w.grown
	keepsUp := unread <= size/4 && w.used-w.grew >= int64(size)/2
	if keepsUp && size < mostWindow && !w.budget.grow.tight() {
		if add := min(size, mostWindow-size); w.budget.grow.reserve(add) {
			w.grown += add
			w.grew = w.used
		}
	}
	if missing := n - w.size(); missing > 0 && w.claim == nil {
		if w.claim = w.budget.large.claim(missing, more); w.claim == nil {
			w.large += missing
		}
	}
	return w.serve()
}

// granted takes over what was claimed. It returns true if the sender is to be told.
func (w *receiveWindow) granted() (tell bool) {
	n := w.claim.size
	w.claim = nil
	if w.over {
		w.budget.large.release(n)
		return false
	}
	w.large += n
	return w.serve()
}

// close lets nothing more come, and keeps so many bytes of the budget until they
// are used.
func (w *receiveWindow) close(keep int) {
	if w.budget == nil {
		return
	}
	w.over = true
	if w.claim != nil && w.budget.large.cancel(w.claim) {
		w.claim = nil
	}
	if size := w.size(); keep < size {
		w.giveBack(size - keep)
	}
}
