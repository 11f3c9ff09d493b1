package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// outgoing is a message on its way to a peer. It is used again once it was handed to a
// stream or given up.
type outgoing struct {
	pid     *actor.PID // as its sender named it
	message any        // as its sender gave it: what a dead letter shows; nil if it is none of the program's
	confirm func(error)
	frame   frame
	buffer  []byte // headRoom bytes, and the body
	cost    int    // of the frame
}

// headRoom is how many bytes are left free before a body, so that the rest of its
// frame fits there.
const headRoom = 64

// keepBuffer is the size in bytes of the largest buffer that is used again.
const keepBuffer = 128 << 10

var outgoings = sync.Pool{New: func() any { return &outgoing{buffer: make([]byte, headRoom, 4*headRoom)} }}

// newOutgoing returns an empty message.
func newOutgoing(pid *actor.PID) *outgoing {
	out := outgoings.Get().(*outgoing) //nolint:forcetypeassert // there is nothing else in it
	out.pid = pid
	return out
}

// free gives a message back. Nobody may have it any more.
func (o *outgoing) free() {
	if cap(o.buffer) > keepBuffer {
		return
	}
	*o = outgoing{buffer: o.buffer[:headRoom]}
	outgoings.Put(o)
}

// about makes it a frame about its target that is no message.
func (o *outgoing) about(kind byte, body string) {
	o.frame = frame{kind: kind, target: o.pid.GetId()}
	o.buffer = append(o.buffer, body...)
	o.cost = messageCost
}

// sent is what is remembered of it until the peer has handled it.
func (o *outgoing) sent() sentFrame {
	return sentFrame{pid: o.pid, message: o.message, confirm: o.confirm}
}

// outgoingQueue is a queue of messages: a ring that grows, and is let go of when it is
// empty.
type outgoingQueue struct {
	ring    []*outgoing
	head, n int
}

func (q *outgoingQueue) len() int { return q.n }

func (q *outgoingQueue) first() *outgoing { return q.ring[q.head] }

func (q *outgoingQueue) grow() {
	if q.n == len(q.ring) {
		bigger := make([]*outgoing, max(8, 2*q.n))
		copy(bigger[copy(bigger, q.ring[q.head:]):], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
}

func (q *outgoingQueue) pushFirst(out *outgoing) {
	q.grow()
	q.head = (q.head - 1) & (len(q.ring) - 1)
	q.ring[q.head] = out
	q.n++
}

func (q *outgoingQueue) push(out *outgoing) {
	q.grow()
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = out // its length is a power of two
	q.n++
}

func (q *outgoingQueue) pop() *outgoing {
	out := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	if q.n--; q.n == 0 && len(q.ring) > 1024 {
		*q = outgoingQueue{}
	}
	return out
}
