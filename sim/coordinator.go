package sim

import (
	"context"
	"net/netip"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
)

// closeWithin is how long a program may take to end in order.
const closeWithin = 10 * time.Second

// Coordinator is a coordinator in a world. The embedded one is replaced by Start.
// Its methods fail the test if they cannot do what they should.
type Coordinator struct {
	*coord.Coordinator
	w      *World
	host   *Host
	config coord.Config

	mu      sync.Mutex
	running *coord.Coordinator // nil if it does not
}

// Coordinator starts a coordinator on a host, at UDP port 1719. Clients attach to
// the world's first. change may be nil, or change the configuration.
func (w *World) Coordinator(h *Host, change func(*coord.Config)) *Coordinator {
	w.T.Helper()
	identity, err := w.authority.Issue(coordinatorName, h.Now())
	w.must(err)
	c := &Coordinator{w: w, host: h, config: coord.Config{
		Identity: identity, Logger: w.trace.logger(h.Name()), KeyLog: w.trace.keyLog(h.Name()), Now: h.Now,
	}}
	if change != nil {
		change(&c.config)
	}
	w.mu.Lock()
	w.coordinators = append(w.coordinators, c)
	w.mu.Unlock()
	c.Start()
	return c
}

// coordinatorName is what certificates of coordinators are for; clients pin them.
const coordinatorName = "coordinator"

// Host returns the host that it runs on.
func (c *Coordinator) Host() *Host { return c.host }

// Start runs it again, with the same identity at the same port. If it still runs,
// it is stopped first. When the scenario has returned, nothing starts.
func (c *Coordinator) Start() {
	c.w.T.Helper()
	c.w.ownInstant()
	c.Stop()
	if c.w.isShutting() {
		return
	}
	link, err := c.host.Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), coord.DefaultPort))
	c.w.must(err)
	config := c.config
	config.Link = link
	config.AlternateLink, err = c.host.Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), coord.DefaultPort+1))
	c.w.must(err)
	if c.w.options.TCP {
		config.Listener, err = c.host.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), coord.DefaultPort))
		c.w.must(err)
	}
	var now *coord.Coordinator
	c.w.as(c.host.Name(), func(ctx context.Context) { now, err = coord.Start(ctx, &config) })
	c.w.must(err)
	c.Coordinator = now
	c.mu.Lock()
	c.running = now
	c.mu.Unlock()
	if c.w.isShutting() {
		c.Stop()
	}
}

// Crash ends it without a goodbye, with all that runs on its host.
func (c *Coordinator) Crash() {
	c.w.T.Helper()
	c.w.Note(c.host.Name(), "", "crashes")
	c.host.Crash()
	c.Stop()
}

// Stop ends it in order.
func (c *Coordinator) Stop() {
	c.w.T.Helper()
	c.mu.Lock()
	now := c.running
	c.running = nil
	c.mu.Unlock()
	if now == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := now.Close(ctx); err != nil {
		c.w.T.Errorf("%s: %v", c.host.Name(), err)
	}
}

// as runs f with the label that names a component in stacks and profiles; what f
// starts has it too.
func (w *World) as(component string, f func(context.Context)) {
	pprof.Do(w.labels, pprof.Labels(componentLabel, component), f)
}

// newAuthority makes who vouches for the coordinators of a world.
func newAuthority() (*netio.Identity, error) {
	return netio.NewAuthority("simulated authority", time.Now())
}
