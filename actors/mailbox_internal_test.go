package actors

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// counter is an invoker without an actor.
type counter struct {
	n    int
	want int
	done chan struct{}
}

func (c *counter) InvokeUserMessage(any) {
	if c.n++; c.n == c.want {
		close(c.done)
	}
}
func (c *counter) InvokeSystemMessage(any)       {}
func (c *counter) EscalateFailure(reason, _ any) { panic(reason) }

func TestMailboxShrinks(t *testing.T) {
	m := NewMailbox(10_000)().(*Mailbox)
	for range 10_000 {
		m.PostUserMessage(1) // nobody runs yet
	}
	if got := m.UserMessageCount(); got != 10_000 {
		t.Fatalf("%d messages wait, want 10000", got)
	}
	m.PostUserMessage(1)
	if got := m.stats(); got.Depth != 10_000 || got.Drops != 1 {
		t.Errorf("stats %+v", got)
	}
	c := &counter{want: 10_001, done: make(chan struct{})}
	m.RegisterHandlers(c, actor.NewSynchronizedDispatcher(300))
	m.PostSystemMessage(&actor.Started{}) // runs here until there are no messages
	m.PostUserMessage(1)
	<-c.done
	if got := cap(m.user) + cap(m.taking.msgs); got > keep {
		t.Errorf("room for %d messages is kept, want at most %d", got, keep)
	}
	if got := m.UserMessageCount(); got != 0 {
		t.Errorf("%d messages wait", got)
	}
}
