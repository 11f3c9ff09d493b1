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
	own     []byte // what buffer is, unless the body is large
	cost    int    // of the frame
}

// headRoom is how many bytes are left free before a body, so that the rest of its
// frame fits there.
const headRoom = 64

// keepBuffer is the size in bytes of the largest buffer that stays with an outgoing message.
const keepBuffer = 6 << 10

// Memory of the queues of what goes to peers.
var (
	outgoingRooms rooms[*outgoing]
	sentRooms     rooms[sentFrame]
)

var outgoings = sync.Pool{New: func() any { return &outgoing{own: make([]byte, headRoom, 4*headRoom)} }}

// newOutgoing returns an empty message.
func newOutgoing(pid *actor.PID) *outgoing {
	out := outgoings.Get().(*outgoing) //nolint:forcetypeassert // there is nothing else in it
	out.pid, out.buffer = pid, out.own
	return out
}

// isAlone reports whether a message goes in no batch with others.
func (o *outgoing) isAlone() bool { return len(o.buffer) >= batchedFrame }

// isLarge reports whether it takes the bulk lane.
func (o *outgoing) isLarge() bool { return len(o.buffer) > largeMessage }

// free gives a message back. Nobody may have it any more.
func (o *outgoing) free() {
	own := o.own
	if n := cap(o.buffer); n > cap(own) && n <= keepBuffer {
		own = o.buffer[:headRoom]
	} else if n > keepBuffer {
		bodies.give(o.buffer)
	}
	*o = outgoing{own: own}
	outgoings.Put(o)
}

// bodies is memory for large bodies that is used again, in sizes that double.
var bodies bodyPool

type bodyPool [8]sync.Pool // of *[]byte

// bodySize is how large the memory of a class is: a round size, and what goes with it.
func bodySize(class int) int { return 8<<10<<class + 1<<10 }

// grow returns b with room for a body of size bytes more.
func (p *bodyPool) grow(b []byte, size int) []byte {
	size += len(b)
	if size <= keepBuffer {
		return b // append does it
	}
	for class := range p {
		if size > bodySize(class) {
			continue
		}
		if kept, ok := p[class].Get().(*[]byte); ok {
			return append(*kept, b...)
		}
		size = bodySize(class)
		break
	}
	return append(make([]byte, 0, size), b...)
}

// give takes memory that nobody has any more.
func (p *bodyPool) give(b []byte) {
	for class := range p {
		if cap(b) == bodySize(class) {
			kept := b[:0]
			p[class].Put(&kept)
			return
		}
	}
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
