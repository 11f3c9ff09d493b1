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

// Memory of the queues of what goes to peers.
var (
	outgoingRooms rooms[*outgoing]
	sentRooms     rooms[sentFrame]
)

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
