package actors

import (
	"context"
	"fmt"
	"sync"
)

// A Life is one incarnation of an actor, from Started to Restarting or Stopping. What the actor's pumps say carries the life
// they were started in, because a restart keeps the mailbox and the PID: what speaks for a former life is to be dropped.
//
//	case *actor.Started:
//		a.life = actors.Begin()
//		sys.Pumps.Go(func() { a.dial(a.life, ...) })
//	case *actor.Restarting, *actor.Stopping:
//		a.life.End()
//	case actors.Pumped:
//		if msg.Of(a.life) { ... }
//
// A Life is compared by identity. It may be copied and used from any goroutine. The zero Life has ended, and nothing is of it.
type Life struct{ self *lifetime }

type lifetime struct {
	ctx    context.Context //nolint:containedctx // a life is a context with an identity
	cancel context.CancelFunc
}

// Pumped is a message of a pump to its own actor: a struct that embeds the [Life] it was made in.
type Pumped interface {
	// Of says whether the message was made in life.
	Of(life Life) bool
}

// Begin begins a life. It lasts until [Life.End].
func Begin() Life {
	ctx, cancel := context.WithCancel(context.Background())
	return Life{&lifetime{ctx, cancel}}
}

// End ends the life: its context is canceled, so its pumps end. It may be called more than once, and does not wait.
func (l Life) End() {
	if l.self != nil {
		l.self.cancel()
	}
}

// Context is canceled when the life ends. It is for pumps.
func (l Life) Context() context.Context {
	if l.self == nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}
	return l.self.ctx
}

// Of makes a struct that embeds a Life a [Pumped]: it says whether both are the same life. A life that ended still is.
func (l Life) Of(life Life) bool { return l.self != nil && l.self == life.self }

// Pumps starts goroutines that block on behalf of actors, and can wait for all of them. The zero value is ready. Its methods
// may be called from any goroutine; [Pumps.Wait] blocks and so is not for Receive.
type Pumps struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n becomes 0; nil unless somebody waits
}

// Go runs f in a goroutine of its own. f must end soon after its actor's life does.
func (p *Pumps) Go(f func()) {
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
	go func() {
		defer p.done()
		f()
	}()
}

func (p *Pumps) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	if p.n == 0 && p.none != nil {
		close(p.none)
		p.none = nil
	}
}

// Len returns how many pumps are running.
func (p *Pumps) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Wait blocks until no pump is running. If ctx ends before, it says how many are left, in an error that wraps ctx's.
func (p *Pumps) Wait(ctx context.Context) error {
	p.mu.Lock()
	if p.n == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.none == nil {
		p.none = make(chan struct{})
	}
	none := p.none
	p.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d pumps still run: %w", p.Len(), ctx.Err())
	}
}
