package actors

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// What travels on a lane (docs/protocol.md, section 8): frames from the side that
// opened it, one or more in a message of the stream, and records the other way. A frame begins with its kind and flags; names of actors and types are
// told once and then called by their number.

// Kinds of frames.
const (
	frameTell    = 1 // a message for an actor
	frameWatch   = 2 // the end of an actor is to be told
	frameUnwatch = 3
	frameStop    = 4 // an actor is to stop, which the sender had spawned
	frameFlush   = 5 // what was handled is to be told at once
	kindMask     = 0x0f
)

// Flags of frames.
const (
	flagSender  = 0x10 // there is a sender
	flagHeaders = 0x20 // there are headers
	flagFlush   = 0x40 // what was handled is to be told at once
	flagRequest = 0x80 // target and sender have request numbers
)

// Limits of what one frame names.
const (
	maxID      = 1 << 10 // bytes of an actor's id, or of a type's name
	maxHeaders = 64      // headers of a message
	maxHeader  = 8 << 10 // bytes of all of them
)

// Sizes of the tables of names, of each lane and direction. What does not fit takes
// the place of what is there.
const (
	maxTargets = 1 << 14
	maxSenders = 1 << 14
	maxTypes   = 1 << 10
)

// frame is what one side says about an actor of the other.
type frame struct {
	kind          byte
	flush         bool
	target        string
	targetRequest uint32
	sender        string // empty: none; at the side that sends, its id here
	senderRequest uint32
	signed        bool   // sender is what the peer is to know it by, and no id
	typ           string // of a tell
	headers       map[string]string
}

// messageCost is what a message counts beside its size.
const messageCost = 64

// cost is what a frame with a body of this size counts: both sides must agree.
func (f *frame) cost(body int) int {
	if len(f.headers) > 0 {
		for key, value := range f.headers {
			body += len(key) + len(value)
		}
	}
	return body + messageCost
}

// names are the names of one kind that were told on a lane, by number: one table at
// each side, which are the same after the same frames.
type names struct {
	limit  int
	byName map[string]uint32 // at the side that tells
	list   []string
	next   uint32 // whose place the next new name takes once the list is full
	last   uint32 // where to look first
}

// find returns the number of a name, at the side that tells.
func (n *names) find(name string) (number uint32, ok bool) {
	if n.last < uint32(len(n.list)) && n.list[n.last] == name {
		return n.last, true
	}
	if number, ok = n.byName[name]; ok {
		n.last = number
	}
	return number, ok
}

// put gives a name the next number.
func (n *names) put(name string) (number uint32) {
	if len(n.list) < n.limit {
		n.list = append(n.list, name)
		return uint32(len(n.list) - 1)
	}
	number = n.next
	delete(n.byName, n.list[number])
	n.list[number] = name
	n.next = (n.next + 1) % uint32(n.limit)
	return number
}

// append appends a name: its number, doubled, and if it is new 1 more and the name, as
// say has it, if that is not nil.
func (n *names) append(b []byte, name string, say func(string) string) []byte {
	if number, ok := n.find(name); ok {
		return binary.AppendUvarint(b, uint64(number)<<1)
	}
	if n.byName == nil {
		n.byName = map[string]uint32{}
	}
	number := n.put(name)
	n.byName[name], n.last = number, number
	b = binary.AppendUvarint(b, uint64(number)<<1|1)
	if say != nil {
		name = say(name)
	}
	return appendText(b, name)
}

// cut takes a name off the front of b, and its number.
func (n *names) cut(b []byte) (name string, number uint32, rest []byte, ok bool) {
	ref, rest, ok := cutUvarint(b)
	switch {
	case !ok || ref>>1 >= uint64(n.limit):
		return "", 0, nil, false
	case ref&1 == 0:
		if ref>>1 >= uint64(len(n.list)) {
			return "", 0, nil, false
		}
		return n.list[ref>>1], uint32(ref >> 1), rest, true
	}
	name, rest, ok = cutText(rest, maxID)
	if !ok || n.put(name) != uint32(ref>>1) {
		return "", 0, nil, false
	}
	return name, uint32(ref >> 1), rest, true
}

// tables are the names of a lane.
type tables struct {
	targets, senders, types names
	passes                  *passes // for senders, at the side that sends
}

func newTables(passes *passes) tables {
	return tables{
		targets: names{limit: maxTargets}, senders: names{limit: maxSenders}, types: names{limit: maxTypes}, passes: passes,
	}
}

// appendFrame appends a frame but for its body, which follows.
func (t *tables) appendFrame(b []byte, f *frame) []byte {
	head := f.kind
	if f.sender != "" {
		head |= flagSender
	}
	if len(f.headers) > 0 {
		head |= flagHeaders
	}
	if f.flush {
		head |= flagFlush
	}
	if f.targetRequest != 0 || f.senderRequest != 0 {
		head |= flagRequest
	}
	b = append(b, head)
	if f.kind == frameFlush {
		return b
	}
	b = t.targets.append(b, f.target, nil)
	if head&flagRequest != 0 {
		b = binary.AppendUvarint(b, uint64(f.targetRequest))
	}
	if f.kind != frameTell {
		return b
	}
	if head&flagSender != 0 {
		say := t.passes.here
		if f.signed || f.sender == asksID {
			say = nil
		}
		b = t.senders.append(b, f.sender, say)
		if head&flagRequest != 0 {
			b = binary.AppendUvarint(b, uint64(f.senderRequest))
		}
	}
	b = t.types.append(b, f.typ, nil)
	if head&flagHeaders != 0 {
		b = binary.AppendUvarint(b, uint64(len(f.headers)))
		for _, key := range slices.Sorted(maps.Keys(f.headers)) { // nothing shows the order of a map
			b = appendText(appendText(b, key), f.headers[key])
		}
	}
	return b
}

// parseFrame parses a frame. The body is that of a tell; of a stop, whether it waits for its
// turn. It is not copied. number is that of the target.
func (t *tables) parseFrame(b []byte) (f frame, number uint32, body []byte, err error) {
	bad := func(what string) (frame, uint32, []byte, error) {
		return frame{}, 0, nil, fmt.Errorf("%w: %s of an actor frame", messages.ErrProtocol, what)
	}
	if len(b) == 0 {
		return bad("no kind")
	}
	head := b[0]
	f.kind, f.flush = head&kindMask, head&flagFlush != 0
	if b = b[1:]; f.kind == frameFlush {
		return f, 0, nil, nil
	}
	if f.kind < frameTell || f.kind >= frameFlush {
		return bad("unknown kind")
	}
	var ok bool
	if f.target, number, b, ok = t.targets.cut(b); !ok || f.target == "" {
		return bad("target")
	}
	if head&flagRequest != 0 {
		if f.targetRequest, b, ok = cutUint32(b); !ok {
			return bad("target's request")
		}
	}
	if f.kind != frameTell {
		return f, number, b, nil
	}
	if head&flagSender != 0 {
		if f.sender, _, b, ok = t.senders.cut(b); !ok || f.sender == "" {
			return bad("sender")
		}
		if head&flagRequest != 0 {
			if f.senderRequest, b, ok = cutUint32(b); !ok {
				return bad("sender's request")
			}
		}
	}
	if f.typ, _, b, ok = t.types.cut(b); !ok {
		return bad("type")
	}
	if head&flagHeaders != 0 {
		if f.headers, b, ok = cutHeaders(b); !ok {
			return bad("headers")
		}
	}
	return f, number, b, nil
}

func cutHeaders(b []byte) (headers map[string]string, rest []byte, ok bool) {
	count, b, ok := cutUvarint(b)
	if !ok || count > maxHeaders {
		return nil, nil, false
	}
	headers = make(map[string]string, count)
	for size := 0; count > 0; count-- {
		var key, value string
		if key, b, ok = cutText(b, maxHeader); !ok {
			return nil, nil, false
		}
		if value, b, ok = cutText(b, maxHeader); !ok {
			return nil, nil, false
		}
		if size += len(key) + len(value); size > maxHeader {
			return nil, nil, false
		}
		headers[key] = value
	}
	return headers, b, true
}

// checkHeaders says why headers can not be sent.
func checkHeaders(headers map[string]string) error {
	size := 0
	for key, value := range headers {
		size += len(key) + len(value)
	}
	if len(headers) > maxHeaders || size > maxHeader {
		return fmt.Errorf("%w: %d headers of %d bytes, at most %d and %d", messages.ErrLimit, len(headers), size, maxHeaders, maxHeader)
	}
	return nil
}

// Kinds of records.
const (
	recordHandled    = 1 // how many frames were handled
	recordGranted    = 2 // what may be sent to a target
	recordRefused    = 3 // a frame that was not delivered, and why
	recordTerminated = 4 // a target that is watched has ended
)

// record is what the side that accepted a lane says about frames.
type record struct {
	kind   byte
	number uint64 // frames handled; of a grant, the target's number; of a refusal, the frame's
	limit  uint64 // of a grant
	code   conecv1.Code
	text   string // reason; of an end, the target
	why    actor.TerminatedReason
}

func appendRecord(b []byte, r record) []byte {
	b = append(b, r.kind)
	switch r.kind {
	case recordHandled:
		b = binary.AppendUvarint(b, r.number)
	case recordGranted:
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.number), r.limit)
	case recordRefused:
		b = appendText(binary.AppendUvarint(binary.AppendUvarint(b, r.number), uint64(r.code)), messages.Clip(r.text, messages.MaxReason))
	case recordTerminated:
		b = binary.AppendUvarint(appendText(b, r.text), uint64(r.why))
	}
	return b
}

// cutRecord takes a record off the front of b.
func cutRecord(b []byte) (r record, rest []byte, err error) {
	bad := fmt.Errorf("%w: record about actor frames", messages.ErrProtocol)
	if len(b) == 0 {
		return r, nil, bad
	}
	r.kind, b = b[0], b[1:]
	var ok bool
	switch r.kind {
	case recordHandled:
		r.number, b, ok = cutUvarint(b)
	case recordGranted:
		if r.number, b, ok = cutUvarint(b); ok {
			r.limit, b, ok = cutUvarint(b)
		}
	case recordRefused:
		if r.number, b, ok = cutUvarint(b); ok {
			if r.code, b, ok = cutEnum[conecv1.Code](b); ok {
				r.text, b, ok = cutText(b, messages.MaxReason)
			}
		}
	case recordTerminated:
		if r.text, b, ok = cutText(b, maxID); ok {
			r.why, b, ok = cutEnum[actor.TerminatedReason](b)
		}
	}
	if !ok {
		return r, nil, bad
	}
	return r, b, nil
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func cutText(b []byte, limit int) (text string, rest []byte, ok bool) {
	size, b, ok := cutUvarint(b)
	if !ok || size > uint64(limit) || size > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:size]), b[size:], true
}

func cutUvarint(b []byte) (value uint64, rest []byte, ok bool) {
	value, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return value, b[n:], true
}

func cutUint32(b []byte) (value uint32, rest []byte, ok bool) {
	wide, rest, ok := cutUvarint(b)
	if wide > math.MaxUint32 {
		return 0, nil, false
	}
	return uint32(wide), rest, ok
}

// cutEnum takes a value of an enumeration, known here or not, off the front of b.
func cutEnum[E ~int32](b []byte) (value E, rest []byte, ok bool) {
	wide, rest, ok := cutUvarint(b)
	if wide > math.MaxInt32 {
		return 0, nil, false
	}
	return E(wide), rest, ok
}
