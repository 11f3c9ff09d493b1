package actors

import (
	"context"
	"errors"
	"fmt"
)

// Close ends what the system has to do with peers, in order: all actors but the system's
// own are stopped, each after its children; then what they have sent, the last words
// too, is in mailboxes of the peers. Nothing is sent or spawned any more. What peers send
// meanwhile is refused as soon as its actor has stopped.
//
// Close blocks until then or until ctx ends; its error names what was not done then:
// what has not arrived becomes dead letters when the system is closed.
func (r *Remote) Close(ctx context.Context) error {
	err := r.sys.stopOthers(ctx)
	r.closed.Store(true)
	return errors.Join(err, r.drain(ctx))
}

// drain waits until peers have handled all that was sent to them.
func (r *Remote) drain(ctx context.Context) error {
	for _, p := range r.list() {
		if err := p.drained(ctx); err != nil {
			return fmt.Errorf("messages for actors of %q have not arrived: %w", p.name, err)
		}
	}
	return nil
}

// drained waits until the peer has handled all that was sent to it.
func (p *peer) drained(ctx context.Context) error {
	done := make(chan struct{})
	p.mu.Lock()
	p.drains = append(p.drains, done)
	p.unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settleDrains tells those who wait for it that everything was handled, or has the peer
// say what was. Called with mu held.
func (p *peer) settleDrains() {
	if len(p.drains) == 0 {
		return
	}
	busy := p.queued > 0
	for _, l := range p.lanes {
		if l != nil && l.handled < l.sent {
			busy = true
			l.flush()
		}
	}
	if busy {
		return
	}
	for _, done := range p.drains {
		close(done)
	}
	p.drains = nil
}
