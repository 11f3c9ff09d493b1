package netio

import (
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Feed is a sequence of messages that many streams send, each at its own pace, out of
// the same memory: a message is framed and copied once, when it is added. The last so
// many bytes are kept, for streams that are slow and for those that begin to follow
// later. A stream that was left behind goes on with the oldest message that is kept.
//
// All methods may be called from any goroutine.
type Feed struct {
	limit int
	waits bool

	mu       sync.Mutex
	segments []*segment // oldest first
	next     uint64     // number of the next message
	bytes    int        // in all segments
	follows  map[*follower]struct{}
	idle     []*follower // those that have sent everything
	space    turns       // senders that wait for the slowest
	over     error       // why nothing more is added
}

// segment is some whole frames. Its memory is written once, and never moves: who has
// taken some of it may read that without a lock, for as long as it likes.
type segment struct {
	first  uint64 // number of its first message
	frames []byte
	ends   []int // where each message ends in frames
}

// feedOver is how many times its limit a feed that waits may keep, because of what was added
// without waiting. Beyond, the slowest is left behind all the same.
const feedOver = 2

// feedSegment is how many bytes a segment has, unless one message needs more.
const feedSegment = 64 << 10

// NewFeed makes a feed that keeps limit bytes, and at least one message. If it waits,
// nothing is added while the slowest of those that follow needs the oldest; else they
// are left behind.
func NewFeed(limit int, waits bool) *Feed {
	return &Feed{limit: limit, waits: waits, follows: map[*follower]struct{}{}}
}

// Range returns the numbers of the oldest message that is kept and of the next one that
// will be added. They count from 0.
func (f *Feed) Range() (first, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first(), f.next
}

func (f *Feed) first() uint64 {
	if len(f.segments) == 0 {
		return f.next
	}
	return f.segments[0].first
}

// Add adds a message, which is head and then body, and returns its number. In a feed
// that waits it blocks while there is no room, until ctx ends: then nothing was added. note
// is told the number before any stream can have sent the message, or miss it, and in the
// order of the numbers; it must not block, nor use the feed, and may be nil.
func (f *Feed) Add(ctx context.Context, head, body []byte, note func(number uint64)) (number uint64, err error) {
	size := frameSize(len(head) + len(body))
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.space) > 0 || !f.fits(size) {
		if err := f.space.await(ctx, &f.mu, func() bool { return f.fits(size) }, func() bool { return f.over != nil }); err != nil {
			return 0, err
		}
	}
	return f.add(head, body, size, note)
}

// TryAdd is Add, but does not block: where Add would, it adds the message all the same.
// It is for what is rare and small.
func (f *Feed) TryAdd(head, body []byte, note func(number uint64)) (number uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(head, body, frameSize(len(head)+len(body)), note)
}

// fits reports whether a frame of size bytes may be added now. Called with mu held.
func (f *Feed) fits(size int) bool {
	return !f.waits || f.over != nil || f.bytes == 0 || f.bytes+size <= f.limit || !f.isNeeded(f.segments[0])
}

// isNeeded reports whether somebody has yet to send something of a segment.
func (f *Feed) isNeeded(s *segment) bool {
	end := s.first + uint64(len(s.ends))
	for follower := range f.follows {
		if follower.next < end {
			return true
		}
	}
	return false
}

func (f *Feed) add(head, body []byte, size int, note func(number uint64)) (uint64, error) {
	if f.over != nil {
		return 0, f.over
	}
	for len(f.segments) > 0 && f.bytes+size > f.limit && (!f.waits || f.bytes+size > feedOver*f.limit || !f.isNeeded(f.segments[0])) {
		f.bytes -= len(f.segments[0].frames)
		f.segments[0] = nil
		f.segments = f.segments[1:]
	}
	last := f.last(size)
	last.frames = append(last.frames, fieldMessages<<3|byte(protowire.BytesType))
	last.frames = binary.AppendUvarint(last.frames, uint64(len(head)+len(body)))
	last.frames = append(append(last.frames, head...), body...)
	last.ends = append(last.ends, len(last.frames))
	f.bytes += size
	f.next++
	for _, follower := range f.idle {
		follower.idle = false
		go follower.stream.out.run()
	}
	f.idle = f.idle[:0]
	if note != nil {
		note(f.next - 1)
	}
	return f.next - 1, nil
}

// last returns the segment that has room for a frame of size bytes.
func (f *Feed) last(size int) *segment {
	if n := len(f.segments); n > 0 {
		if last := f.segments[n-1]; cap(last.frames)-len(last.frames) >= size {
			return last
		}
	}
	s := &segment{first: f.next, frames: make([]byte, 0, max(size, min(feedSegment, f.limit/4)))}
	f.segments = append(f.segments, s)
	return s
}

// Close lets nothing more be added: that fails with why.
func (f *Feed) Close(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = why
	f.space.wake()
}

// follower is a stream that sends a feed.
type follower struct {
	feed   *Feed
	stream *Stream
	gap    func(from, to uint64) ([]byte, error)

	next uint64   // number of the message that it sends next
	at   *segment // that has it; nil: to be looked for
	idle bool     // it is on the feed's list
}

// Follow has a stream send a feed from a message on, which must be kept or be the next.
// What is sent otherwise goes before what has not been sent of the feed. When the stream
// was left behind, gap is told the first message that it misses and the one that it goes on
// with, and returns a message to send in their place, or why the stream is to be reset. gap must not block,
// nor use the stream.
func (s *Stream) Follow(f *Feed, from uint64, gap func(from, to uint64) ([]byte, error)) error {
	follower := &follower{feed: f, stream: s, gap: gap, next: from}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if err := s.out.over(); err != nil {
		return err
	}
	f.mu.Lock()
	f.follows[follower] = struct{}{}
	f.mu.Unlock()
	s.out.feed = follower
	s.out.startPump()
	return nil
}

// take returns whole frames to send next, as credit allows; none if there are none now, or
// if the stream was left behind: then to is the message that it goes on with, and from the
// one that it should have. Called with mu of the outbox held.
func (w *follower) take(c *credit) (frames []byte, from, to uint64) {
	f := w.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if from, to = w.next, f.first(); from < to {
		w.next, w.at = to, nil
		return nil, from, to
	}
	if w.next == f.next {
		if !w.idle {
			w.idle = true
			f.idle = append(f.idle, w)
		}
		return nil, 0, 0
	}
	if w.at == nil || w.next >= w.at.first+uint64(len(w.at.ends)) {
		after := sort.Search(len(f.segments), func(i int) bool { return f.segments[i].first > w.next })
		w.at = f.segments[after-1]
	}
	done := int(w.next - w.at.first)
	start := 0
	if done > 0 {
		start = w.at.ends[done-1]
	}
	n := c.cut(w.at.frames[start:len(w.at.frames):len(w.at.frames)])
	if n == 0 {
		return nil, 0, 0 // granted runs the pump again
	}
	w.next = w.at.first + uint64(sort.SearchInts(w.at.ends, start+n)) + 1
	if len(f.space) > 0 {
		f.space.wake()
	}
	return w.at.frames[start : start+n : start+n], 0, 0
}

// leave ends following.
func (w *follower) leave() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	delete(w.feed.follows, w)
	w.feed.idle = slices.DeleteFunc(w.feed.idle, func(other *follower) bool { return other == w })
	w.feed.space.wake()
}

// run runs the pump, in the caller's goroutine, if it does not run already.
func (o *outbox) run() {
	o.mu.Lock()
	if o.pumping {
		o.mu.Unlock()
		return
	}
	o.pumping = true
	o.mu.Unlock()
	o.pump()
}

// follow returns what is to be written of a feed; nil if nothing may be. Called with mu
// held.
func (o *outbox) follow() []byte {
	before := o.feed.next
	frames, from, to := o.feed.take(&o.credit)
	if from == to {
		o.total += o.feed.next - before
		o.credit.put += uint64(len(frames))
		return frames
	}
	instead, err := o.feed.gap(from, to)
	if err != nil {
		o.fail(err)
		go o.feed.stream.Reset(err)
		return nil
	}
	o.waiting = appendFrame(o.room(frameSize(len(instead))), fieldMessages, instead)
	o.total++
	return nil
}
