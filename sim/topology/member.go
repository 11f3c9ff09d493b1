package topology

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// retryAfter is how long a program waits until it tries again what failed.
const retryAfter = 500 * time.Millisecond

// member is a host with its client, over all the client's lives. Its life is one
// goroutine's; faults ask for changes by want.
type member struct {
	p      *player
	given  Host
	host   *sim.Host
	random *rand.Rand              // of its own goroutine
	addrs  map[string][]netip.Addr // that it had, by place; of the scenario and of faults, one at a time

	mu       sync.Mutex
	program  *sim.Client
	current  *client.Client // nil while none is attached
	changed  chan struct{}  // closed when current or wanted changes, and replaced
	wanted   bool           // it should run
	attached bool
	times    int // it attached
}

func (m *member) name() string { return m.given.Name }

// want says whether the client should run.
func (m *member) want(run bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = run
	m.tell()
}

// tell wakes who waits for a change. Called with mu held.
func (m *member) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// isAttached tells whether the client has the coordinator, as far as it knows.
func (m *member) isAttached() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached
}

// live keeps the client running while it is wanted.
func (m *member) live(ctx context.Context) {
	for ctx.Err() == nil {
		m.mu.Lock()
		start, changed := m.wanted && m.current == nil, m.changed
		m.mu.Unlock()
		if start {
			if err := m.start(ctx); err == nil {
				continue
			}
			m.p.count(func(t *totals) { t.FailedAttachments++ })
		}
		var again <-chan time.Time
		if start {
			again = time.After(spread(m.random, retryAfter))
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// start runs the client, once.
func (m *member) start(ctx context.Context) error {
	if err := m.program.Start(); err != nil {
		return err
	}
	now := m.program.Current()
	if now == nil {
		return errors.New("ended at once")
	}
	m.mu.Lock()
	wanted := m.wanted
	if wanted {
		m.current = now
		m.tell()
	}
	m.mu.Unlock()
	if !wanted { // it was crashed or stopped meanwhile
		m.program.Crash()
		return errors.New("not wanted any more")
	}
	m.p.world.Go(func() { m.accept(ctx, now) })
	return nil
}

// awaitClient blocks until the client runs.
func (m *member) awaitClient(ctx context.Context) (*client.Client, error) {
	for {
		m.mu.Lock()
		now, changed := m.current, m.changed
		m.mu.Unlock()
		if now != nil {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// crash ends the client without a goodbye, stop in order.
func (m *member) crash() {
	m.want(false)
	m.host.Crash()
	m.gone()
	m.program.Crash()
}

func (m *member) stop() {
	m.want(false)
	m.gone()
	_ = m.program.Stop() // peers that are gone are no concern of it
}

func (m *member) gone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = nil
	m.setAttached(false)
	m.tell()
}

// setAttached counts changes. Called with mu held.
func (m *member) setAttached(attached bool) {
	if m.attached == attached {
		return
	}
	m.attached = attached
	change := -1
	if attached {
		m.times++
		change = 1
	}
	m.p.count(func(t *totals) {
		t.Attached += change
		if attached {
			t.Attachments++
		} else {
			t.Detachments++
		}
	})
}

// heard takes what the client tells.
func (m *member) heard(event client.Event) {
	switch e := event.(type) {
	case client.Attached:
		m.mu.Lock()
		m.setAttached(true)
		m.mu.Unlock()
		m.p.event("attached", m.name(), "as "+e.Observed)
	case client.Detached:
		m.mu.Lock()
		m.setAttached(false)
		m.mu.Unlock()
		m.p.event("detached", m.name(), e.Err.Error())
	case client.PathChanged:
		kind := "direct to "
		if e.Relayed {
			kind = "relayed to "
		}
		m.p.event("path", m.name(), kind+e.Peer)
		for _, pair := range []Pair{{m.name(), e.Peer}, {e.Peer, m.name()}} {
			for _, f := range m.p.byPair[pair] {
				f.look()
			}
		}
	case client.ChannelClosed:
		if e.Err != nil {
			m.p.event("channel", m.name(), "to "+e.Peer+" closed: "+e.Err.Error())
		}
	case client.ChannelOpened:
	}
}

// accept gives each stream that comes to its flow.
func (m *member) accept(ctx context.Context, now *client.Client) {
	for {
		stream, err := now.AcceptStream(ctx)
		if err != nil {
			return // the client has ended
		}
		f := m.p.flowOf(stream, m.name())
		if f == nil {
			stream.Reset()
			continue
		}
		m.p.world.Go(func() { f.receive(ctx, stream) })
	}
}
