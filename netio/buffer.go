package netio

import "sync"

// Sizes of buffers in bytes.
const (
	smallBuffer = 256 // may stay with an idle stream
	largeBuffer = 256<<10 + maxFrameHeader
)

// bufferPool keeps buffers between bursts. Its zero value is ready. Safe for
// concurrent use.
type bufferPool struct {
	medium, large sync.Pool // of *[]byte
}

const mediumBuffer = 32 << 10

// get returns an empty buffer that holds at least size bytes.
func (p *bufferPool) get(size int) []byte {
	switch {
	case p == nil:
		return make([]byte, 0, size)
	case size <= smallBuffer:
		return make([]byte, 0, smallBuffer)
	case size <= mediumBuffer:
		return fromPool(&p.medium, mediumBuffer)
	case size <= largeBuffer:
		return fromPool(&p.large, largeBuffer)
	default:
		return make([]byte, 0, size)
	}
}

// put takes a buffer back; one of another size than get makes is left to the
// collector. A nil pool keeps nothing.
func (p *bufferPool) put(buffer []byte) {
	if p == nil {
		return
	}
	// Each case takes the address of a variable of its own: the parameter's would cost an allocation in every call.
	switch cap(buffer) {
	case mediumBuffer:
		kept := buffer[:0]
		p.medium.Put(&kept)
	case largeBuffer:
		kept := buffer[:0]
		p.large.Put(&kept)
	}
}

func fromPool(pool *sync.Pool, size int) []byte {
	if buffer, ok := pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 0, size)
}
