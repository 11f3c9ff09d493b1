package sim_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// near is the line of hosts that the scenario says nothing about: 20 ms from host
// to host one way, so 40 ms there and back, and 80 ms over the relay.
var near = sim.Line{Latency: 10 * time.Millisecond}

const (
	direct  = 40 * time.Millisecond // there and back between two clients, or a client and the coordinator
	relayed = 2 * direct
)

// Where a coordinator and the clients listen.
const clientPort = 4000

var hubAddr = addr("203.0.113.1:1719")

// world is a network with a coordinator, and clients. It lives in a bubble; the
// scenario's own goroutine uses it.
type world struct {
	*testing.T
	network     *sim.Network
	hub         *sim.Host
	identity    *netio.Identity // of the coordinator
	fingerprint string
	coordinator *coord.Coordinator
	keepAlive   time.Duration // of the coordinator
	clients     []*program
	flowing     []*flow
}

// program is a client with its host.
type program struct {
	*client.Client
	world  *world
	name   string
	host   *sim.Host
	config client.Config

	mu     sync.Mutex
	events []event
}

// event is what a client told its program.
type event struct {
	at time.Time
	client.Event
}

// inWorld runs a scenario in a bubble. When it returns, everything is closed, and
// the bubble checks that no goroutine is left.
func inWorld(t *testing.T, seed uint64, scenario func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := &world{T: t, network: sim.NewNetwork(seed)}
		var err error
		w.hub, err = w.network.Host("coordinator", w.network.Internet(), near, hubAddr.Addr())
		w.must(err)
		authority, err := netio.NewAuthority("simulated authority", time.Now())
		w.must(err)
		w.identity, err = authority.Issue("coordinator.example", time.Now())
		w.must(err)
		w.startCoordinator()
		defer func() {
			w.end()
			if t.Failed() {
				t.Logf("seed %d, %v of virtual time, network: %s", seed, time.Since(began), w.network.Stats())
			}
		}()
		scenario(w)
	})
}

func (w *world) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range w.clients {
		if p.Client != nil {
			all.Go(p.Abort)
		}
	}
	all.Wait()
	for _, f := range w.flowing {
		_ = f.end() // the scenario has asked for it, or has failed
	}
	if w.coordinator != nil {
		w.check(w.coordinator.Close(ctx))
	}
	w.network.Close()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Error(err)
	}
}

// startCoordinator runs a coordinator on the hub, always with the same identity.
func (w *world) startCoordinator() {
	w.Helper()
	link, err := w.hub.Listen(hubAddr)
	w.must(err)
	w.coordinator, err = coord.Start(context.Background(), &coord.Config{
		Link: link, Identity: w.identity, KeepAlive: w.keepAlive, Logger: w.logger("coordinator"),
	})
	w.must(err)
	w.fingerprint = w.coordinator.Fingerprint()
}

// crashCoordinator ends the coordinator without a goodbye.
func (w *world) crashCoordinator() {
	w.Helper()
	w.hub.Crash()
	w.check(w.coordinator.Close(context.Background()))
	w.coordinator = nil
}

// logger shows what a program logs to who runs one scenario with -v.
func (w *world) logger(name string) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("at", name)
}

// host adds a host with the next free address.
func (w *world) host(name string, line sim.Line) *sim.Host {
	number := len(w.clients) + 1
	h, err := w.network.Host(name, w.network.Internet(), line, netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}))
	w.must(err)
	return h
}

// client attaches a client on a host of its own. change may be nil.
func (w *world) client(name string, line sim.Line, change func(*client.Config)) *program {
	w.Helper()
	p := &program{world: w, name: name, host: w.host(name, line)}
	identity, err := netio.NewIdentity(name, time.Now())
	w.must(err)
	p.config = client.Config{
		Name: name, Coordinator: "203.0.113.1:1719", Fingerprint: w.fingerprint, Identity: identity,
		Logger: w.logger(name), OnEvent: p.note,
	}
	if change != nil {
		change(&p.config)
	}
	w.clients = append(w.clients, p)
	p.start()
	return p
}

// start runs the client, for the first time or after a crash.
func (p *program) start() {
	p.world.Helper()
	p.world.must(p.tryStart(20 * time.Second))
}

func (p *program) tryStart(within time.Duration) error {
	link, err := p.host.Listen(netip.AddrPortFrom(netip.Addr{}, clientPort))
	if err != nil {
		return err
	}
	p.config.Link = link
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cl, err := client.Connect(ctx, &p.config)
	if err == nil {
		p.Client = cl
	}
	return err
}

// addr is where the client's packets come from.
func (p *program) addr() netip.AddrPort { return netip.AddrPortFrom(p.host.Addr(), clientPort) }

// move takes the client's host to another address.
func (p *program) move(to netip.AddrPort) {
	p.world.Helper()
	p.world.must(p.host.Move(p.world.network.Internet(), near, to.Addr()))
}

// crash ends the client without a goodbye.
func (p *program) crash() {
	p.host.Crash()
	p.Abort()
}

func (p *program) note(e client.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, event{time.Now(), e})
	if testing.Verbose() {
		fmt.Fprintf(p.world.Output(), "%s at=%s event %T%+v\n", time.Now().Format("04:05.000"), p.name, e, e)
	}
}

// since returns the events that came after an instant.
func (p *program) since(t time.Time) (list []event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if !e.at.Before(t) {
			list = append(list, e)
		}
	}
	return list
}

// paths tells when a client's channels changed to or from the relay.
func (p *program) paths(since time.Time, relayed bool) (at []time.Time) {
	for _, e := range p.since(since) {
		if change, ok := e.Event.(client.PathChanged); ok && change.Relayed == relayed {
			at = append(at, e.at)
		}
	}
	return at
}

// lost returns the channels that a client lost since an instant.
func (p *program) lost(since time.Time) (list []client.ChannelClosed) {
	for _, e := range p.since(since) {
		if closed, ok := e.Event.(client.ChannelClosed); ok {
			list = append(list, closed)
		}
	}
	return list
}

// within returns a context that ends after that long.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// eventually waits until ok, and fails the scenario if that takes too long.
func (w *world) eventually(what string, within time.Duration, ok func() bool) {
	w.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > within {
			w.Fatalf("not within %v: %s", within, what)
		}
	}
}

// direct waits until a channel takes a direct path in both directions.
func (w *world) direct(within time.Duration, streams ...*client.Stream) {
	w.Helper()
	w.eventually("direct path", within, func() bool {
		for _, s := range streams {
			if path := s.Channel().Path(); path.Relayed || !path.Remote.IsValid() {
				return false
			}
		}
		return true
	})
}

// relays waits until a channel takes the relay in both directions.
func (w *world) relays(within time.Duration, streams ...*client.Stream) {
	w.Helper()
	w.eventually("relayed path", within, func() bool {
		for _, s := range streams {
			if !s.Channel().Path().Relayed {
				return false
			}
		}
		return true
	})
}

// open opens a stream and returns both ends.
func (w *world) open(from, to *program, options *client.StreamOptions) (near, far *client.Stream) {
	w.Helper()
	near, err := from.OpenStream(within(20*time.Second), to.name, options)
	w.must(err)
	far, err = to.AcceptStream(within(20 * time.Second))
	w.must(err)
	return near, far
}

// flow sends numbered messages through a stream, and checks that each arrives,
// once, in order.
type flow struct {
	from, to *client.Stream
	every    time.Duration
	size     int
	once     sync.Once
	stop     chan struct{}
	done     sync.WaitGroup

	mu       sync.Mutex
	sent     uint64
	received uint64
	last     time.Time     // when the last message came
	gap      time.Duration // longest time between two messages
	slowest  time.Duration // longest time that a message was on the way
	err      error         // first fault
}

// flows starts a flow in each direction of a stream.
func (w *world) flows(a, b *client.Stream, every time.Duration, size int) both {
	return both{w.flow(a, b, every, size), w.flow(b, a, every, size)}
}

func (w *world) flow(from, to *client.Stream, every time.Duration, size int) *flow {
	f := &flow{from: from, to: to, every: every, size: max(size, 16), stop: make(chan struct{}), last: time.Now()}
	f.done.Go(f.send)
	f.done.Go(f.receive)
	w.flowing = append(w.flowing, f)
	return f
}

func (f *flow) send() {
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	defer f.from.CloseSend()
	message := make([]byte, f.size)
	for number := uint64(0); ; number++ {
		binary.BigEndian.PutUint64(message, number)
		binary.BigEndian.PutUint64(message[8:], uint64(time.Now().UnixNano()))
		if err := f.from.Send(context.Background(), message); err != nil {
			f.fail(err)
			return
		}
		f.mu.Lock()
		f.sent++
		f.mu.Unlock()
		select {
		case <-ticker.C:
		case <-f.stop:
			return
		}
	}
}

func (f *flow) receive() {
	for message, err := range f.to.Messages(context.Background()) {
		if err != nil {
			f.fail(err)
			return
		}
		now := time.Now()
		f.mu.Lock()
		if number := binary.BigEndian.Uint64(message); number != f.received && f.err == nil {
			f.err = fmt.Errorf("message %d came where %d was due", number, f.received)
		}
		f.received++
		f.gap = max(f.gap, now.Sub(f.last))
		f.slowest = max(f.slowest, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(message[8:])))))
		f.last = now
		f.mu.Unlock()
	}
}

func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// measure forgets the longest times so far.
func (f *flow) measure() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gap, f.slowest, f.last = 0, 0, time.Now()
}

func (f *flow) longest() (gap, slowest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.gap, time.Since(f.last)), f.slowest
}

func (f *flow) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received
}

// end stops sending and returns what is wrong once everything has arrived.
func (f *flow) end() error {
	f.once.Do(func() { close(f.stop) })
	f.done.Wait()
	if f.err == nil && f.sent != f.received {
		f.err = fmt.Errorf("%d messages sent, %d received, then a clean end", f.sent, f.received)
	}
	return f.err
}

// both are the flows of the two directions of a stream.
type both [2]*flow

func (b both) measure() {
	b[0].measure()
	b[1].measure()
}

// gap returns the longest time without a message since measure, of the worse direction.
func (b both) gap() time.Duration {
	first, _ := b[0].longest()
	second, _ := b[1].longest()
	return max(first, second)
}

func (b both) end() error {
	ends := make(chan error, 1)
	go func() { ends <- b[0].end() }()
	err := b[1].end()
	return errors.Join(err, <-ends)
}

// attached waits until the coordinator has the clients.
func (w *world) attached(limit time.Duration, clients ...*program) {
	w.Helper()
	began := time.Now()
	w.eventually("attached again", limit, func() bool {
		return w.coordinator.Stats().Attached == len(clients)
	})
	for _, p := range clients {
		w.eventually(p.name+" knows", time.Second, func() bool {
			return slices.ContainsFunc(p.since(began), func(e event) bool {
				_, ok := e.Event.(client.Attached)
				return ok
			})
		})
	}
}

// greet opens a stream of its own and sends a message each way.
func (w *world) greet(from, to *program) {
	w.Helper()
	a, b := w.open(from, to, nil)
	w.say(a, b, "there", 5*time.Second)
	w.say(b, a, "back", 5*time.Second)
	a.Close()
	b.Close()
}

// say sends a message and waits for it at the other end.
func (w *world) say(from, to *client.Stream, text string, limit time.Duration) {
	w.Helper()
	w.must(from.Send(within(limit), []byte(text)))
	got, err := to.Receive(within(limit))
	if err != nil || string(got) != text {
		w.Fatalf("received %q, %v; want %q", got, err, text)
	}
}

func addr(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// First bytes of datagrams (docs/protocol.md).
const (
	typeRelay  = 32
	typeDirect = 33
	typeBind   = 34
	typeBound  = 35
	typeProbe  = 36
)
