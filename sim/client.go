package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
)

// connectWithin is how long a client may take to attach.
const connectWithin = 20 * time.Second

// Client is a client in a world, named like its host. The embedded one is replaced
// by Start: who may run at the same time calls Current instead.
type Client struct {
	*client.Client
	w       *World
	host    *Host
	config  client.Config
	onEvent func(client.Event)
	current atomic.Pointer[client.Client]

	mu       sync.Mutex
	starting bool
	link     netio.Link // of the one that runs, or ran last
	events   []Event
}

// Event is what a client told its program.
type Event struct {
	// At is how long after the world's start it did.
	At time.Duration
	client.Event
}

// Client starts a client on a host, attached to the world's first coordinator. It
// blocks until the client is attached; if that fails, so does the test. change may
// be nil, or change the configuration.
func (w *World) Client(h *Host, change func(*client.Config)) *Client {
	w.T.Helper()
	c := w.NewClient(h, change)
	w.must(c.Start())
	return c
}

// Clients starts a client on each host, all at the same time, and blocks until
// they are attached.
func (w *World) Clients(change func(*client.Config), hosts ...*Host) []*Client {
	w.T.Helper()
	clients := make([]*Client, len(hosts))
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		clients[i] = w.NewClient(h, change)
		w.ownInstant()
		all.Go(func() { errs[i] = clients[i].start() })
	}
	all.Wait()
	for _, err := range errs {
		w.must(err)
	}
	return clients
}

// NewClient makes a client as Client does, without starting it: [Client.Start] does,
// and may fail without failing the test.
func (w *World) NewClient(h *Host, change func(*client.Config)) *Client {
	w.T.Helper()
	identity, err := netio.NewIdentity(h.Name(), h.Now())
	w.must(err)
	w.mu.Lock()
	if len(w.coordinators) == 0 {
		w.mu.Unlock()
		w.T.Fatalf("client %q: the world has no coordinator yet", h.Name())
	}
	first := w.coordinators[0]
	w.mu.Unlock()
	c := &Client{w: w, host: h, config: client.Config{
		Name: h.Name(), Identity: identity,
		Coordinator: netip.AddrPortFrom(h.reaches(first.host), coord.DefaultPort).String(), Fingerprint: first.Fingerprint(),
		Logger: w.trace.logger(h.Name()), KeyLog: w.trace.keyLog(h.Name()), Now: h.Now,
		TCPAddr: "none", Dial: h.DialTCP, Proxy: "none",
	}}
	if w.options.TCP {
		c.config.TCPAddr = c.config.Coordinator
	}
	if change != nil {
		change(&c.config)
	}
	c.onEvent, c.config.OnEvent = c.config.OnEvent, c.note
	w.mu.Lock()
	w.clients = append(w.clients, c)
	w.mu.Unlock()
	return c
}

// Host returns the host that it runs on.
func (c *Client) Host() *Host { return c.host }

// Current returns the client that runs now, nil if none does.
func (c *Client) Current() *client.Client { return c.current.Load() }

// reaches returns the first address of another host that is of a family which the
// host has an address of.
func (h *Host) reaches(other *Host) netip.Addr {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	for _, there := range other.interfaces {
		for _, addr := range there.addrs {
			for _, here := range h.interfaces {
				if slices.ContainsFunc(here.addrs, func(own netip.Addr) bool { return own.Is4() == addr.Is4() }) {
					return addr
				}
			}
		}
	}
	if len(other.interfaces) == 0 {
		return netip.Addr{}
	}
	return other.interfaces[0].addrs[0]
}

// errRuns is returned by Start.
var errRuns = errors.New("the client runs already")

// Start runs it, again if it was stopped or has crashed, with the same identity.
// It blocks until the client is attached. While it runs that is an error; when the
// scenario has returned, [net.ErrClosed].
func (c *Client) Start() error {
	c.w.ownInstant()
	return c.start()
}

func (c *Client) start() error {
	c.mu.Lock()
	if c.starting || c.current.Load() != nil && c.host.hears(c.link) {
		c.mu.Unlock()
		return fmt.Errorf("start %s: %w", c.host.Name(), errRuns)
	}
	c.starting = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.starting = false
	}()
	c.abort() // its host has crashed under it
	if c.w.isShutting() {
		return fmt.Errorf("start %s: the scenario is over: %w", c.host.Name(), net.ErrClosed)
	}
	return c.connect()
}

func (c *Client) connect() error {
	link, err := c.host.Listen(netip.AddrPort{})
	if err != nil {
		return err
	}
	config := c.config
	config.Link = link
	if config.OpenLink == nil {
		config.OpenLink = func() (netio.Link, error) { return c.host.Listen(netip.AddrPort{}) }
	}
	if config.OpenLinkOn == nil {
		config.OpenLinkOn = c.host.ListenOn
	}
	var now *client.Client
	c.w.as(c.host.Name(), func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, connectWithin)
		defer cancel()
		now, err = client.Connect(ctx, &config)
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.link = link
	c.mu.Unlock()
	c.Client = now
	c.current.Store(now)
	if c.w.isShutting() {
		c.abort()
		return fmt.Errorf("start %s: the scenario is over: %w", c.host.Name(), net.ErrClosed)
	}
	return nil
}

// hears reports whether a socket of the host is still open.
func (h *Host) hears(link netio.Link) bool {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return slices.ContainsFunc(h.sockets, func(s *socket) bool { return s == link })
}

// Crash ends it without a goodbye, with all that runs on its host.
func (c *Client) Crash() {
	c.w.Note(c.host.Name(), "", "crashes")
	c.host.Crash()
	c.abort()
}

// Stop ends it in order.
func (c *Client) Stop() error {
	now := c.current.Swap(nil)
	if now == nil {
		return nil
	}
	c.w.Note(c.host.Name(), "", "stops")
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return now.Close(ctx)
}

// abort ends it, if it runs.
func (c *Client) abort() {
	if now := c.current.Swap(nil); now != nil {
		now.Abort()
	}
}

// Events returns what it told so far, over all its runs.
func (c *Client) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func (c *Client) note(e client.Event) {
	c.mu.Lock()
	c.events = append(c.events, Event{c.w.Elapsed(), e})
	c.mu.Unlock()
	c.w.noteEvent(c.host.Name(), e)
	if c.onEvent != nil {
		c.onEvent(e)
	}
}

// noteEvent writes what a client told into the trace.
func (w *World) noteEvent(name string, e client.Event) {
	switch e := e.(type) {
	case client.Attached:
		w.Note(name, "", "attached, seen as "+e.Observed)
	case client.Detached:
		w.Note(name, "", "detached: "+e.Err.Error())
	case client.ChannelOpened:
		w.Note(name, e.Peer, "channel opened")
	case client.ChannelClosed:
		w.Note(name, e.Peer, "channel closed: "+e.Err.Error()+", restarting: "+strconv.FormatBool(e.Restarting))
	case client.PathChanged:
		w.Note(name, e.Peer, "path to "+e.Remote+", relayed: "+strconv.FormatBool(e.Relayed))
	case client.NetworkChanged:
		w.Note(name, "", fmt.Sprintf("network changed: from %v to %v, slept %v", e.Former, e.Addrs, e.Slept))
	}
}
