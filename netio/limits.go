package netio

import "github.com/conec-go/conec/messages"

// Limits bound what one stream holds, in bytes. A zero field means its default.
type Limits struct {
	// MaxMessage is the largest message, sent or received. If zero, 16 MiB.
	MaxMessage int
	// SendBuffer is how much may wait to be sent. If zero, 256 KiB.
	SendBuffer int
	// ReceiveBuffer is how much may wait to be received, or be on its way, at first,
	// if the peer's memory allows it ([Config]). It is at least 64 KiB, and grows up
	// to 6 MiB, or to one message, while what came is received fast. If zero, 256 KiB.
	ReceiveBuffer int
}

// check returns an error if a message is too large.
func (l *Limits) check(message []byte) error {
	if len(message) > l.MaxMessage {
		return &messages.SizeError{Size: len(message), Limit: l.MaxMessage}
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	if l.MaxMessage == 0 {
		l.MaxMessage = DefaultMaxMessage
	}
	if l.SendBuffer == 0 {
		l.SendBuffer = 256 << 10
	}
	if l.ReceiveBuffer == 0 {
		l.ReceiveBuffer = 256 << 10
	}
	return l
}
