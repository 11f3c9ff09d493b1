package sim_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/sim"
)

// near is the line of hosts that the scenario says nothing about: 20 ms from host
// to host one way, so 40 ms there and back, and 80 ms over the relay.
var near = sim.Line{Latency: 10 * time.Millisecond}

const (
	direct  = 40 * time.Millisecond // there and back between two clients, or a client and the coordinator
	relayed = 2 * direct
)

// clientPort is the first that a host gives away.
const clientPort = 49152

var hubAddr = addr("203.0.113.1:1719")

// world is a world with a coordinator, and clients in the internet. The scenario's
// own goroutine uses it.
type world struct {
	*sim.World
	hub         *sim.Host
	coordinator *sim.Coordinator
	epoch       time.Time // when it began
	clients     []*program
	flowing     []*flow
}

// program is a client with what the scenario wants to know of it.
type program struct {
	*sim.Client
	world *world
}

// inWorld runs a scenario.
func inWorld(t *testing.T, seed uint64, scenario func(w *world)) {
	t.Helper()
	inWorldWith(t, seed, nil, scenario)
}

// inWorldWith runs a scenario with another configuration of the coordinator.
func inWorldWith(t *testing.T, seed uint64, change func(*coord.Config), scenario func(w *world)) {
	t.Helper()
	sim.Test(t, &sim.Options{Seed: seed, Limit: 2 * time.Hour}, func(v *sim.World) {
		w := &world{World: v, epoch: time.Now().Add(-v.Elapsed())}
		w.hub = v.Host("coordinator", v.Internet(), near, hubAddr.Addr())
		w.coordinator = v.Coordinator(w.hub, change)
		scenario(w)
		for _, p := range w.clients {
			p.Current().Abort()
		}
		for _, f := range w.flowing {
			_ = f.end() // the scenario has asked for it, or has failed
		}
	})
}

func (w *world) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Error(err)
	}
}

// host adds a host with the next free address.
func (w *world) host(name string, line sim.Line) *sim.Host {
	w.T.Helper()
	number := len(w.clients) + 1
	return w.Host(name, w.Internet(), line, netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}))
}

// client attaches a client on a host of its own. change may be nil.
func (w *world) client(name string, line sim.Line, change func(*client.Config)) *program {
	w.T.Helper()
	p := &program{w.Client(w.host(name, line), change), w}
	w.clients = append(w.clients, p)
	return p
}

// addr is where the client's packets come from, unless it was started again.
func (p *program) addr() netip.AddrPort { return netip.AddrPortFrom(p.Host().Addr(), clientPort) }

// move takes the client's host to another address.
func (p *program) move(to netip.AddrPort) {
	p.world.T.Helper()
	p.world.must(p.Host().Move(p.world.Internet(), near, to.Addr()))
}

// since returns the events that came after an instant.
func (p *program) since(t time.Time) (list []sim.Event) {
	for _, e := range p.Events() {
		if e.At >= t.Sub(p.world.epoch) {
			list = append(list, e)
		}
	}
	return list
}

// paths tells when a client's channels changed to or from the relay.
func (p *program) paths(since time.Time, relayed bool) (at []time.Time) {
	for _, e := range p.since(since) {
		if change, ok := e.Event.(client.PathChanged); ok && change.Relayed == relayed {
			at = append(at, p.world.epoch.Add(e.At))
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

// direct waits until a channel takes a direct path in both directions.
func (w *world) direct(within time.Duration, streams ...*client.Stream) {
	w.T.Helper()
	w.Eventually(within, "direct path", func() bool {
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
	w.T.Helper()
	w.Eventually(within, "relayed path", func() bool {
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
	w.T.Helper()
	near, err := from.OpenStream(within(20*time.Second), to.Name(), options)
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
	w.T.Helper()
	began := time.Now()
	w.Eventually(limit, "attached again", func() bool {
		return w.coordinator.Stats().Attached == len(clients)
	})
	for _, p := range clients {
		w.Eventually(time.Second, p.Name()+" knows", func() bool {
			return slices.ContainsFunc(p.since(began), func(e sim.Event) bool {
				_, ok := e.Event.(client.Attached)
				return ok
			})
		})
	}
}

// greet opens a stream of its own and sends a message each way.
func (w *world) greet(from, to *program) {
	w.T.Helper()
	a, b := w.open(from, to, nil)
	w.say(a, b, "there", 5*time.Second)
	w.say(b, a, "back", 5*time.Second)
	a.Close()
	b.Close()
}

// say sends a message and waits for it at the other end.
func (w *world) say(from, to *client.Stream, text string, limit time.Duration) {
	w.T.Helper()
	w.must(from.Send(within(limit), []byte(text)))
	got, err := to.Receive(within(limit))
	if err != nil || string(got) != text {
		w.T.Fatalf("received %q, %v; want %q", got, err, text)
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
	typeWho    = 38 // to a client that is not known, as large as what it sent
)

// frameKind returns the first byte of a packet that carries a frame, as if it came from the first address that QUIC knows; 0 if there is none.
func frameKind(p sim.Packet) byte {
	if len(p.Payload) == 0 {
		return 0
	}
	switch kind := p.Payload[0]; kind {
	case typeRelay + 8, typeRelay + 16, typeDirect + 8, typeDirect + 16:
		return kind &^ 24
	default:
		return kind
	}
}
