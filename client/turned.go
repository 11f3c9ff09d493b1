package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/conec-go/conec/messages"
)

// Pauses of a client that its coordinator has turned away.
const (
	turnedFirst   = 5 * time.Second
	turnedSlowest = 5 * time.Minute
)

// turned holds a client back that its coordinator has turned away: nothing changes soon, and
// a coordinator is not to be asked every two seconds by everybody whom it has banned. The
// client actor says what the coordinator has said, who dials waits. Safe for concurrent use.
type turned struct {
	mu    sync.Mutex
	times int       // in a row
	until time.Time // when to dial again
}

// away takes why the attachment, or an attempt, has ended. Each time in a row doubles the
// pause, which is then shortened by up to a fifth, at random. It tells whether the client may not
// attach any more, as far as is known.
func (t *turned) away(err error, now time.Time) (forbidden bool) {
	forbidden = errors.Is(err, messages.ErrBanned) || errors.Is(err, messages.ErrForbidden)
	if !forbidden && !errors.Is(err, messages.ErrKicked) && !errors.Is(err, messages.ErrLimit) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pause := turnedSlowest
	if t.times < 6 {
		pause = min(turnedFirst<<t.times, turnedSlowest)
	}
	t.times++
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand); who was turned away together does not come back together
	early := time.Duration(binary.LittleEndian.Uint32(b[:])) * (pause / 5 / time.Microsecond) >> 32 * time.Microsecond
	t.until = now.Add(pause - early)
	return forbidden
}

// attached forgets former times.
func (t *turned) attached() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times, t.until = 0, time.Time{}
}

// wait blocks until it is time to dial again, or ctx ends.
func (t *turned) wait(ctx context.Context) error {
	t.mu.Lock()
	left := time.Until(t.until)
	t.mu.Unlock()
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
