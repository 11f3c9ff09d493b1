package netio

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/conec-go/conec/messages"
)

// Sizes in bytes of the chunks that frames are read into. A chunk starts small
// and doubles while reads fill it, so that an idle stream holds little.
const (
	minChunk = 512
	maxChunk = 32 << 10
)

// inbox is the receiving half of a stream. One pump reads the QUIC stream into
// chunks and hands over runs of whole frames; receivers cut messages out of
// them, or the pump does, for who takes all. The pump always reads but while that is
// at work: what may come is what the window has granted, so that a stream which
// nobody reads stops its own sender, and neither QUIC nor anybody else.
//
// What the pump alone owns comes first; the rest is under mu.
type inbox struct {
	raw     io.Reader
	buffers *bufferPool // nil: no memory is used again
	maxBody int         // bytes of the largest message
	pace    *pace       // of the connection; nil: there is none
	bulk    bool        // the stream gives way

	news  func(body []byte) error // takes what comes instead of receivers, and blocks the pump; nil: nobody does
	first func(field int, body []byte) error

	chunk      []byte // being filled
	start, end int    // unparsed bytes in chunk
	began      bool   // the first frame was seen, where one is expected
	peek       bool   // a large message may follow: read no more than its start into chunk
	largest    int    // size of the largest message that came whole

	mu      sync.Mutex
	current run    // frames being cut up, from the front
	runs    []run  // further runs of whole frames
	bytes   int    // size of current and runs
	err     error  // why receiving is over, once current and runs are used up
	readers int    // receivers that wait
	taker   *taker // takes all messages instead; nil: nobody does
	total   uint64 // messages received by the user
	come    uint64 // messages that came
	part    uint64 // bytes of one that is not whole, of a bulk stream
	units   uint64 // that came, as the sender of a bulk stream was told last
	window  receiveWindow
	lasting bool   // this is the queue of a resumable stream
	from    *inbox // of its present attachment
	tell    func() // has the sender told what it may send; nil: nobody to tell

	early  wantedFrame            // that came before intake was set
	intake atomic.Pointer[intake] // set if a resumable stream gets what comes, instead of receivers of this one

	reuse atomic.Bool   // the memory of large messages can be used again
	ready chan struct{} // tells one waiting receiver to look again
	over  chan struct{} // closed when err is set
}

// run is a run of whole frames, handed from the pump to the receivers.
type run struct {
	frames  []byte
	whole   []byte // the pool's buffer that holds the one frame; nil if it is not the pool's
	counted bool   // its bytes were counted as they came
}

// newInbox returns an inbox that the caller starts with go pump. If first is not
// nil, the first frame goes to it and not to receivers.
func newInbox(raw io.Reader, maxBody int, first func(field int, body []byte) error) *inbox {
	return &inbox{
		raw: raw, maxBody: maxBody, first: first, began: first == nil,
		ready: make(chan struct{}, 1), over: make(chan struct{}),
	}
}

// signal puts a token into a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pump reads until the stream ends or fails, and returns why. It blocks on the
// QUIC stream on behalf of the receivers.
func (i *inbox) pump() error { return i.finish(i.read()) }

// read does so, and returns the error as QUIC gave it.
func (i *inbox) read() error {
	size := minChunk
	i.chunk = make([]byte, size)
	for {
		if i.peek && len(i.chunk)-i.end < minChunk {
			i.nextChunk(size)
		}
		space := i.chunk[i.end:]
		if i.peek {
			space = space[:minChunk]
		}
		n, err := i.raw.Read(space)
		i.end += n
		i.peek = false
		if parseErr := i.parse(); parseErr != nil {
			return parseErr
		}
		if i.bulk {
			i.queue().partly(i, i.end-i.start)
		}
		if err != nil {
			switch {
			case !errors.Is(err, io.EOF):
			case i.start != i.end:
				err = fmt.Errorf("%w: stream ends inside a frame", messages.ErrProtocol)
			case !i.began:
				err = fmt.Errorf("%w: stream ends before its first frame", messages.ErrProtocol)
			}
			return err
		}
		if i.end == len(i.chunk) {
			if i.start == 0 || n > len(i.chunk)/2 {
				size = min(2*size, maxChunk)
			}
			i.nextChunk(size)
		}
	}
}

// nextChunk starts a chunk with the part of a frame that the last one ends with.
func (i *inbox) nextChunk(size int) {
	rest := i.chunk[i.start:i.end]
	chunk := make([]byte, max(size, 2*len(rest)))
	i.end = copy(chunk, rest)
	i.start = 0
	i.chunk = chunk
}

// parse hands over the whole frames in chunk, also those before a bad one. A
// large message whose start is there is read directly into its own memory.
func (i *inbox) parse() error {
	at, count := i.start, uint64(0)
	for {
		header, complete, err := parseFrameHeader(i.chunk[at:i.end])
		if complete {
			err = i.check(header)
		}
		if err != nil {
			if left := i.deliver(run{frames: i.chunk[i.start:at:at]}, count); left != nil {
				return left
			}
			return err
		}
		if !complete {
			break
		}
		size := header.size + header.body
		if at+size > i.end {
			if i.began && i.news == nil && size > len(i.chunk)/2 && size > maxChunk/4 {
				if err := i.deliver(run{frames: i.chunk[i.start:at:at]}, count); err != nil {
					return err
				}
				return i.large(at, header)
			}
			break
		}
		if !i.began || header.field != fieldMessages || i.news != nil {
			if err := i.deliver(run{frames: i.chunk[i.start:at:at]}, count); err != nil {
				return err
			}
			if err := i.control(header.field, i.chunk[at+header.size:at+size]); err != nil {
				return err
			}
			i.start, count = at+size, 0
		} else {
			count++
		}
		at += size
	}
	err := i.deliver(run{frames: i.chunk[i.start:at:at]}, count)
	i.start = at
	return err
}

// control acts on a whole frame that is for no receiver.
func (i *inbox) control(field int, body []byte) error {
	switch {
	case !i.began:
		i.began = true
		return i.first(field, body)
	case i.news != nil:
		return i.news(body)
	}
	return i.intake.Load().control(i, field, body)
}

// check refuses a frame that may not come now.
func (i *inbox) check(header frameHeader) error {
	limit := i.maxBody
	if i.news != nil {
		limit = maxNews
	}
	if !i.began {
		limit = maxFirstFrame
	} else if header.field != fieldMessages {
		if i.intake.Load() != nil && (header.field == fieldAck || header.field == fieldEnd) {
			if header.body <= maxAckFrame {
				return nil
			}
		}
		return fmt.Errorf("%w: unexpected frame %d", messages.ErrProtocol, header.field)
	}
	if header.body > limit {
		return fmt.Errorf("%w: frame of %d bytes, limit %d", messages.ErrTooLarge, header.body, limit)
	}
	return nil
}

// large reads the rest of a message that begins at chunk[at] into its own
// memory, which grows with what arrives: a length alone gets no more memory than
// a message that came whole before it, or one chunk.
func (i *inbox) large(at int, header frameHeader) error {
	size := header.size + header.body
	queue := i.queue()
	if err := queue.allows(i, size); err != nil {
		return err
	}
	r := run{counted: true}
	if queue.reuse.Load() && size <= min(largeBuffer, max(i.largest, maxChunk)) {
		r.whole = i.buffers.get(size)[:size]
		r.frames = r.whole
	} else {
		r.frames = make([]byte, min(size, max(i.largest, maxChunk, 2*(i.end-at))))
	}
	have := copy(r.frames, i.chunk[at:i.end])
	i.start, i.end, i.peek = at, at, true
	err := queue.arrived(i, have)
	for have < size && err == nil {
		if have == len(r.frames) {
			grown := make([]byte, min(size, 2*len(r.frames)))
			copy(grown, r.frames)
			r.frames = grown
		}
		var n int
		n, err = i.raw.Read(r.frames[have:])
		have += n
		if left := queue.arrived(i, n); left != nil {
			err = left
		}
	}
	if have < size {
		i.buffers.put(r.whole)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: stream ends inside a message", messages.ErrProtocol)
		}
		return err
	}
	i.largest = max(i.largest, size)
	return i.deliver(r, 1)
}

// queue is the inbox whose messages are received: this one, unless a resumable stream
// is attached.
func (i *inbox) queue() *inbox {
	if k := i.intake.Load(); k != nil {
		return k.queue
	}
	return i
}

// allows reports why a message of size bytes must not come. from is the inbox that
// reads, i the one that has its messages received.
func (i *inbox) allows(from *inbox, size int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lasting && i.from != from {
		return errLeft
	}
	return i.window.allows(size)
}

// arrived counts a part of a message that came, for [inbox.allows].
func (i *inbox) arrived(from *inbox, n int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lasting && i.from != from {
		return errLeft
	}
	i.count(n)
	return nil
}

// partly notes how many bytes of a message have come that is not whole, of a bulk
// stream. They are no part of what came, but its sender waits to hear of them.
func (i *inbox) partly(from *inbox, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.lasting || i.from == from {
		i.part = uint64(n)
		i.tellUnits()
	}
}

// tellUnits has the sender of a bulk stream told of each unit that has come. Called
// with mu held.
func (i *inbox) tellUnits() {
	if units := (i.window.come + i.part) / paceUnit; units != i.units {
		i.units = units
		i.tell()
	}
}

// count counts bytes that came. Called with mu held.
func (i *inbox) count(n int) {
	i.window.come += uint64(n)
	if i.bulk {
		i.part = 0
		i.tellUnits()
	} else if i.pace != nil {
		i.pace.touch()
	}
}

// deliver hands a run of count whole messages to the receivers. An error says
// that no more are wanted.
func (i *inbox) deliver(run run, count uint64) error {
	if len(run.frames) == 0 {
		return nil
	}
	if to := i.intake.Load(); to != nil {
		return to.deliver(i, run, count)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		return nil
	}
	return i.put(run, count)
}

// put queues a run for the receivers. An error says that it may not come. Called
// with mu held.
func (i *inbox) put(run run, count uint64) error {
	size := len(run.frames)
	if !run.counted {
		if err := i.window.allows(size); err != nil {
			return err
		}
		i.count(size)
	}
	i.runs = append(i.runs, run)
	i.bytes += size
	i.come += count
	if i.readers > 0 {
		signal(i.ready)
	}
	return nil
}

// wanted hears that the sender, which has sent put bytes, has a frame of n bytes
// that it may not send yet.
func (i *inbox) wanted(put uint64, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.window.want(put, n, i.bytes, i.claimed) {
		i.tell()
	}
}

// claimed hears that the window has grown.
func (i *inbox) claimed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.window.granted() {
		i.tell()
	}
}

// grant returns what the sender is to be told.
func (i *inbox) grant() grant {
	i.mu.Lock()
	defer i.mu.Unlock()
	return grant{limit: i.window.limit, come: i.window.come + i.part, messages: i.come}
}

// finish records why receiving is over: messages that wait can still be
// received, then every receive returns the error. It returns the error in force.
func (i *inbox) finish(err error) error {
	if !errors.Is(err, io.EOF) {
		err = fromQUIC(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
		close(i.over)
	}
	closeFor(i, &i.window, i.bytes)
	signal(i.ready)
	i.hand() // not a message: if there are any, somebody is about it
	return i.err
}

// discard drops what waits and ends receiving with err. If something was
// dropped, the other side's end is not what the receivers see.
func (i *inbox) discard(err error) {
	_ = i.finish(err)
	i.mu.Lock()
	if i.bytes > 0 {
		i.err = err
	}
	i.current, i.runs, i.bytes = run{}, nil, 0
	i.window.close(0)
	i.mu.Unlock()
}

// reason returns why receiving is over, nil while it is not.
func (i *inbox) reason() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}
