package netio

import (
	"fmt"

	"github.com/conec-go/conec/messages"
)

// ledger keeps the frames of one direction of a resumable stream from the first
// that the other side may lack to the last that was sent, and knows up to where
// they were handed out for writing. Frames are numbered from 0 by their order;
// the end of the direction is the last. It is a plain value: its owner locks.
//
// Frames stay in the chunks that they are written from. So keeping one costs no
// copy, and a chunk is let go when all its frames are acknowledged.
type ledger struct {
	buffers *bufferPool
	largest int // bytes of a chunk, unless one frame needs more

	chunks []chunk
	next   uint64 // number of the next frame
	acked  uint64 // frames that the other side has
	bytes  int    // in all chunks
	size   int    // bytes of the next chunk

	at      int    // chunk that is to be handed out next
	offset  int    // bytes of it that were
	handed  uint64 // frames that were handed out
	waiting int    // bytes that were not
	writing int    // chunk that is being written and must stay, -1 if none is
}

// chunk is a run of whole frames.
type chunk struct {
	frames []byte
	first  uint64 // number of the first
	count  uint64
	used   func() // told that the memory is not needed any more, if it was given; else nil
}

// gift is a message in memory that the stream may keep instead of a copy. Its zero value is none.
type gift struct {
	buffer []byte // ends with the message, before which there are at least [GiveRoom] bytes that are free
	used   func() // called when the memory is not needed any more
}

// GiveRoom is how many bytes have to be free before a message whose memory is given to a stream.
const GiveRoom = maxFrameHeader

func newLedger(buffers *bufferPool, keep int) ledger {
	return ledger{buffers: buffers, largest: min(max(keep/8, smallBuffer), largeBuffer), size: smallBuffer, writing: -1}
}

// add appends a frame. body is copied.
func (l *ledger) add(field int, body []byte) {
	size := frameSize(len(body))
	last := len(l.chunks) - 1
	if last < 0 || cap(l.chunks[last].frames)-len(l.chunks[last].frames) < size {
		l.chunks = append(l.chunks, chunk{frames: l.buffers.get(max(size, min(l.size, l.largest))), first: l.next})
		last++
		if l.size = mediumBuffer; last > 1 { // much is on its way
			l.size = largeBuffer
		}
	}
	c := &l.chunks[last]
	c.frames = appendFrame(c.frames, field, body)
	l.added(c, size)
}

// give appends a frame with a message, which is not copied.
func (l *ledger) give(g gift, message []byte) {
	size := frameSize(len(message))
	frame := g.buffer[len(g.buffer)-size:]
	appendFrameHeader(frame[:0], fieldMessages, len(message))
	l.chunks = append(l.chunks, chunk{frames: frame[:size:size], first: l.next, used: g.used})
	l.added(&l.chunks[len(l.chunks)-1], size)
}

// added counts a frame of a chunk.
func (l *ledger) added(c *chunk, size int) {
	c.count++
	l.next++
	l.bytes += size
	l.waiting += size
}

// letGo gives the memory of a chunk back.
func (l *ledger) letGo(c *chunk) {
	if c.used != nil {
		c.used()
	} else {
		l.buffers.put(c.frames)
	}
	*c = chunk{}
}

// peek returns frames that are to be handed out next; nil if there are none.
func (l *ledger) peek() []byte {
	if l.waiting == 0 {
		return nil
	}
	if l.offset == len(l.chunks[l.at].frames) {
		l.at, l.offset = l.at+1, 0
	}
	return l.chunks[l.at].frames[l.offset:]
}

// take hands out the first n bytes, which are whole frames, of what peek returned,
// for writing. They stay as they are until wrote is called, whatever is
// acknowledged meanwhile.
func (l *ledger) take(n int) []byte {
	c := l.chunks[l.at]
	frames := c.frames[l.offset : l.offset+n]
	if l.offset += n; l.offset == len(c.frames) {
		l.handed = c.first + c.count
	} else {
		for rest := frames; len(rest) > 0; l.handed++ {
			header, _, _ := parseFrameHeader(rest) // our own
			rest = rest[header.size+header.body:]
		}
	}
	l.waiting -= n
	l.writing = l.at
	return frames
}

// wrote says that what take handed out is no longer read.
func (l *ledger) wrote() {
	l.writing = -1
	l.free()
}

// ack lets go of the first n frames: the other side has them.
func (l *ledger) ack(n uint64) error {
	if n > l.handed {
		return fmt.Errorf("%w: %d messages acknowledged, %d sent", messages.ErrProtocol, n, l.handed)
	}
	if n > l.acked {
		l.acked = n
		l.free()
	}
	return nil
}

// check says why what the other side has can not be the first n frames.
func (l *ledger) check(n uint64) error {
	if n < l.acked || n > l.next {
		return fmt.Errorf("%w: %d messages received, of %d to %d", messages.ErrProtocol, n, l.acked, l.next)
	}
	return nil
}

// rewind has everything handed out again that comes after the first n frames,
// which the other side has; check has allowed n.
func (l *ledger) rewind(n uint64) {
	l.acked, l.handed = n, n
	l.free()
	l.at, l.offset, l.waiting = 0, 0, 0
	for i, c := range l.chunks {
		l.waiting += len(c.frames)
		if c.first >= n || c.first+c.count < n {
			continue
		}
		l.at = i
		for number := c.first; number < n; number++ {
			header, _, _ := parseFrameHeader(c.frames[l.offset:]) // our own
			l.offset += header.size + header.body
		}
		l.waiting = len(c.frames) - l.offset
	}
}

// free lets go of chunks from the front. The last one stays if it is small.
func (l *ledger) free() {
	gone := 0
	for gone < len(l.chunks) && gone != l.writing {
		c := l.chunks[gone]
		if c.first+c.count > l.acked {
			break
		}
		l.bytes -= len(c.frames)
		if gone == len(l.chunks)-1 && cap(c.frames) <= smallBuffer && c.used == nil {
			l.chunks[gone] = chunk{frames: c.frames[:0], first: l.next}
			l.offset = 0
			break
		}
		l.letGo(&l.chunks[gone])
		gone++
	}
	if gone == 0 {
		return
	}
	kept := copy(l.chunks, l.chunks[gone:])
	clear(l.chunks[kept:])
	l.chunks = l.chunks[:kept]
	if l.writing >= 0 {
		l.writing -= gone
	}
	if l.at -= gone; l.at < 0 {
		l.at, l.offset = 0, 0
	}
	if kept == 0 {
		l.size = smallBuffer
	}
}

// clear forgets everything that is not being written.
func (l *ledger) clear() {
	for i := range l.chunks {
		if i != l.writing {
			l.letGo(&l.chunks[i])
		}
	}
	l.chunks, l.bytes, l.waiting, l.at, l.offset, l.writing = nil, 0, 0, 0, 0, -1
}
