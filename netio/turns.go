package netio

import (
	"context"
	"slices"
	"sync"
)

// turns are the senders that wait for room, in order: else a large message would wait
// for ever among small ones. A plain value, under a mutex of its owner's.
type turns []chan struct{}

// await blocks until all that came before are served and there is room, it is over,
// or ctx ends. Called with mu held, and holds it when it returns.
func (t *turns) await(ctx context.Context, mu *sync.Mutex, room, over func() bool) (err error) {
	turn := make(chan struct{}, 1)
	*t = append(*t, turn)
	for err == nil && !over() && ((*t)[0] != turn || !room()) {
		mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			err = ctx.Err()
		}
		mu.Lock()
	}
	at := slices.Index(*t, turn)
	*t = slices.Delete(*t, at, at+1)
	t.wake() // there may be room for the next one, too
	return err
}

// wake lets the first look again, which wakes the next.
func (t *turns) wake() {
	if len(*t) > 0 {
		signal((*t)[0])
	}
}
