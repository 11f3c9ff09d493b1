package netio

import "context"

// receive returns the next message, or io.EOF after the last. It blocks until
// there is one or ctx ends; a message that is there is returned even if ctx
// ended. The slice is the caller's; small messages share an allocation.
func (i *inbox) receive(ctx context.Context) ([]byte, error) {
	message, _, err := i.next(ctx, false)
	return message, err
}

// receiveInto does the same, but copies the message into buffer, which grows if
// it is too small. The memory of large messages is used again.
func (i *inbox) receiveInto(ctx context.Context, buffer []byte) ([]byte, error) {
	err := i.receiveWith(ctx, func(message []byte) error {
		buffer = append(buffer[:0], message...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return buffer, nil
}

// receiveWith has a message used, whose memory is used again then.
func (i *inbox) receiveWith(ctx context.Context, use func(message []byte) error) error {
	message, whole, err := i.next(ctx, true)
	if err == nil {
		err = use(message)
		i.buffers.put(whole)
	}
	return err
}

// next returns the next message. If its memory is to be used again, the caller gives whole back.
func (i *inbox) next(ctx context.Context, reuse bool) (message, whole []byte, err error) {
	i.mu.Lock()
	for {
		if len(i.current.frames) == 0 && len(i.runs) > 0 {
			i.current, i.runs[0] = i.runs[0], run{}
			i.runs = i.runs[1:]
		}
		if len(i.current.frames) > 0 {
			if message = i.cut(); reuse {
				i.reuse.Store(true)
				whole, i.current.whole = i.current.whole, nil
			}
			if i.readers > 0 && i.bytes > 0 {
				signal(i.ready)
			}
			i.mu.Unlock()
			return message, whole, nil
		}
		if err = i.err; err != nil {
			signal(i.ready) // the others end too
			i.mu.Unlock()
			return nil, nil, err
		}
		i.readers++
		i.mu.Unlock()
		var ended error
		select {
		case <-i.ready:
		case <-ctx.Done():
			ended = ctx.Err()
		}
		i.mu.Lock()
		i.readers--
		if ended != nil {
			i.mu.Unlock()
			return nil, nil, ended
		}
	}
}

// cut takes the first message off current. The pump has checked all frames.
func (i *inbox) cut() []byte {
	header, _, _ := parseFrameHeader(i.current.frames)
	size := header.size + header.body
	message := i.current.frames[header.size:size:size]
	i.current.frames = i.current.frames[size:]
	i.bytes -= size
	i.total++
	if i.window.use(size) {
		i.tell()
	}
	return message
}
