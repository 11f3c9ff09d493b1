package actorstest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/messages"
)

// link is what is between two systems of a net: whether, and how, anything passes. All of
// it is under mu, which is the net's.
type link struct {
	mu    *sync.Mutex
	cut   bool
	held  bool
	delay time.Duration

	lanes   []*end        // of their openers, those that are not over
	changed chan struct{} // closed when the state has changed; nil if nobody waits
}

// pass waits until a lane may be opened, which takes a message each way, and calls open
// with mu held in that very moment. Called without mu.
func (l *link) pass(ctx context.Context, open func() error) error {
	for late := false; ; {
		l.mu.Lock()
		var due <-chan time.Time
		switch {
		case l.cut:
			l.mu.Unlock()
			return messages.ErrUnreachable
		case l.held:
		case late || l.delay == 0:
			defer l.mu.Unlock()
			return open()
		default:
			due = time.After(2 * l.delay)
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-due:
			late = true
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add remembers a lane. Called with mu held, like all that follows.
func (l *link) add(opener *end) {
	l.lanes = append(slices.DeleteFunc(l.lanes, (*end).isOver), opener)
}

// ends returns both ends of each lane.
func (l *link) ends() (ends []*end) {
	for _, opener := range l.lanes {
		ends = append(ends, opener, opener.other)
	}
	return ends
}

// change changes the state, and has everybody look at it who waits. What has arrived until
// then has arrived.
func (l *link) change(change func()) {
	now := time.Now()
	for _, e := range l.ends() {
		e.settle(now)
	}
	change()
	for _, e := range l.ends() {
		e.notify()
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// cutLanes ends all lanes. What has not arrived is lost.
func (l *link) cutLanes() {
	now := time.Now()
	for _, e := range l.ends() {
		e.cut(now)
	}
}
