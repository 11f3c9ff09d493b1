package suite_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// patience limits a test. No test needs it: whatever takes that long hangs.
const patience = time.Minute

// world is a coordinator and its clients, in this process, each on a machine of
// its own. They are closed when the scenario ends.
type world struct {
	*testing.T
	ground   ground
	ctx      context.Context //nolint:containedctx // the test's
	cancel   context.CancelFunc
	machines map[string]machine
	config   coord.Config
	change   []func(*coord.Config)
	coord    *coord.Coordinator
	tcp      bool               // the coordinator takes TCP, and clients know where
	tcpAt    netip.AddrPort     // then
	raw      []*netio.Transport // of those that speak by hand

	background sync.WaitGroup // ends when the scenario does

	mu      sync.Mutex
	links   []netio.Link
	clients []*client.Client
	addrs   map[*client.Client]netip.AddrPort // where each is on its network
}

func newWorld(t *testing.T, at ground) *world {
	t.Helper()
	w := &world{T: t, ground: at, machines: map[string]machine{}, addrs: map[*client.Client]netip.AddrPort{}}
	w.ctx, w.cancel = context.WithTimeout(context.Background(), patience)
	return w
}

// begin starts a coordinator.
func (w *world) begin(change ...func(*coord.Config)) {
	w.Helper()
	authority, err := netio.NewAuthority("authority", time.Now())
	if err != nil {
		w.Fatal(err)
	}
	w.config.Identity, err = authority.Issue("localhost", time.Now())
	if err != nil {
		w.Fatal(err)
	}
	w.change = change
	w.start()
}

// start starts the coordinator, at its former address if it had one.
func (w *world) start() {
	w.Helper()
	hub := w.machine("coordinator")
	at := netip.AddrPortFrom(hub.address(), 0)
	if w.coord != nil {
		at = w.coord.Addr()
	}
	config := w.config
	var err error
	if config.Link, err = hub.Listen(at); err != nil {
		w.Fatal(err)
	}
	if config.AlternateLink, err = hub.Listen(netip.AddrPortFrom(hub.address(), 0)); err != nil {
		w.Fatal(err)
	}
	w.links = append(w.links, config.Link, config.AlternateLink)
	if w.tcp {
		if config.Listener, err = hub.ListenTCP(netip.AddrPortFrom(hub.address(), w.tcpAt.Port())); err != nil {
			w.Fatal(err)
		}
	}
	for _, f := range w.change {
		f(&config)
	}
	if w.coord, err = coord.Start(w.ctx, &config); err != nil {
		w.Fatal(err)
	}
	w.config.Addr = w.coord.Addr().String()
	w.tcpAt = w.coord.TCPAddr()
}

// machine returns the machine of this name, a new one on the internet if there is none.
func (w *world) machine(name string) machine {
	w.Helper()
	if w.machines[name] == nil {
		w.machines[name] = w.ground.host(name, nil)
	}
	return w.machines[name]
}

// behind adds a machine behind a gateway.
func (w *world) behind(at place, name string) {
	w.Helper()
	w.machines[name] = w.ground.host(name, at)
}

// listen opens a socket on a machine.
func (w *world) listen(name string) netio.Link {
	w.Helper()
	link, err := w.machine(name).Listen(netip.AddrPort{})
	if err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links = append(w.links, link)
	return link
}

// stop closes the coordinator.
func (w *world) stop() {
	w.Helper()
	if err := w.coord.Close(w.ctx); err != nil {
		w.Errorf("close the coordinator: %v", err)
	}
}

// clientConfig is that of a client on the machine of its name.
func (w *world) clientConfig(name string) client.Config {
	w.Helper()
	on := w.machine(name)
	config := client.Config{
		Name: name, Coordinator: w.config.Addr, Fingerprint: w.coord.Fingerprint(), Link: w.listen(name),
		OpenLink: func() (netio.Link, error) { return on.Listen(netip.AddrPort{}) },
	}
	if w.tcp {
		config.TCPAddr, config.Proxy, config.Dial = w.tcpAt.String(), "none", on.DialTCP
	}
	return config
}

// connect attaches a client, or says why not.
func (w *world) connect(name string, change ...func(*client.Config)) (*client.Client, error) {
	w.Helper()
	config := w.clientConfig(name)
	for _, f := range change {
		f(&config)
	}
	cl, err := client.Connect(w.ctx, &config)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.clients = append(w.clients, cl)
		if config.Link != nil {
			w.addrs[cl] = config.Link.Addrs()[0]
		}
	}
	return cl, err
}

// addr is where a client is on its network.
func (w *world) addr(cl *client.Client) netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addrs[cl]
}

// client attaches a client.
func (w *world) client(name string, change ...func(*client.Config)) *client.Client {
	w.Helper()
	cl, err := w.connect(name, change...)
	if err != nil {
		w.Fatalf("connect %q: %v", name, err)
	}
	return cl
}

// close closes a client.
func (w *world) close(cl *client.Client) {
	w.Helper()
	if err := cl.Close(w.ctx); err != nil {
		w.Errorf("close %q: %v", cl.Name(), err)
	}
}

// end closes everything. Clients that a test closed before stay as they are.
func (w *world) end() {
	w.Helper()
	w.cancel()
	for _, cl := range w.clients {
		cl.Abort()
	}
	for _, transport := range w.raw {
		transport.Close()
	}
	w.background.Wait()
	if w.coord != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.coord.Close(ctx); err != nil {
			w.Errorf("close the coordinator: %v", err)
		}
	}
	for _, link := range w.links { // of those that have not been used
		link.Close()
	}
}

// stream opens a stream from one client to another, which accepts it.
func (w *world) stream(from, to *client.Client, options *client.StreamOptions) (here, there *client.Stream) {
	w.Helper()
	here, err := from.OpenStream(w.ctx, to.Name(), options)
	if err != nil {
		w.Fatal(err)
	}
	if there, err = to.AcceptStream(w.ctx); err != nil {
		w.Fatal(err)
	}
	return here, there
}

// channel opens a channel from one client to another, which accepts it.
func (w *world) channel(from, to *client.Client, options *client.ChannelOptions) (here, there *client.Channel) {
	w.Helper()
	here, err := from.OpenChannel(w.ctx, to.Name(), options)
	if err != nil {
		w.Fatal(err)
	}
	if there, err = to.AcceptChannel(w.ctx); err != nil {
		w.Fatal(err)
	}
	return here, there
}

// streamOn opens a stream on a channel, whose other end accepts it.
func (w *world) streamOn(here, there *client.Channel) (a, b *client.Stream) {
	w.Helper()
	a, err := here.OpenStream(w.ctx, nil)
	if err != nil {
		w.Fatal(err)
	}
	if b, err = there.AcceptStream(w.ctx); err != nil {
		w.Fatal(err)
	}
	return a, b
}

// send sends messages.
func (w *world) send(s *client.Stream, texts ...string) {
	w.Helper()
	for _, text := range texts {
		if err := s.Send(w.ctx, []byte(text)); err != nil {
			w.Fatal(err)
		}
	}
}

// want receives exactly these messages.
func (w *world) want(s *client.Stream, texts ...string) {
	w.Helper()
	for _, text := range texts {
		got, err := s.Receive(w.ctx)
		if err != nil || string(got) != text {
			w.Fatalf("received %q, %v, want %q", got, err, text)
		}
	}
}

// wantEnd receives the end of a stream.
func (w *world) wantEnd(s *client.Stream) {
	w.Helper()
	if got, err := s.Receive(w.ctx); !errors.Is(err, io.EOF) {
		w.Fatalf("received %q, %v, want the end", got, err)
	}
}

// both sends a message each way.
func (w *world) both(a, b *client.Stream) {
	w.Helper()
	w.send(a, "there")
	w.want(b, "there")
	w.send(b, "back")
	w.want(a, "back")
}

// echo sends back what comes on every stream of a client, until it is closed.
func (w *world) echo(cl *client.Client) {
	go func() {
		for {
			s, err := cl.AcceptStream(w.ctx)
			if err != nil {
				return
			}
			go func() {
				for message, err := range s.Messages(w.ctx) {
					if err != nil || s.Send(w.ctx, message) != nil {
						return
					}
				}
				s.CloseSend()
			}()
		}
	}()
}

// attached waits until the coordinator has n clients.
func (w *world) attached(n int) {
	w.Helper()
	w.eventually("attached clients", func() bool { return w.coord.Stats().Attached == n })
}

// idle waits until the coordinator knows of no channel and no introduction.
func (w *world) idle() {
	w.Helper()
	w.eventually("the coordinator to hold no channel", func() bool {
		stats := w.coord.Stats()
		return stats.Channels == 0 && stats.Pending == 0 && stats.Relay.Routes == 0
	})
}

// eventually looks again and again until yes. It is for counters, which nobody
// can wait for.
func (w *world) eventually(what string, yes func() bool) {
	w.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !yes() {
		select {
		case <-again.C:
		case <-w.ctx.Done():
			w.Fatalf("waiting for %s: %v; %+v", what, w.ctx.Err(), w.coord.Stats())
		}
	}
}

// recorder collects a client's events.
type recorder chan client.Event

func newRecorder() recorder { return make(recorder, 1024) }

func (r recorder) config(c *client.Config) { c.OnEvent = func(e client.Event) { r <- e } }

// await returns the next event of type E.
func await[E client.Event](w *world, from recorder) E {
	w.Helper()
	for {
		select {
		case event := <-from:
			if e, ok := event.(E); ok {
				return e
			}
		case <-w.ctx.Done():
			w.Fatalf("waiting for %T: %v", *new(E), w.ctx.Err())
		}
	}
}

// wantError checks that err is an OpError for an operation towards a peer, that
// it matches is, and reads like text.
func wantError(t *testing.T, err, is error, remote bool, text string) {
	t.Helper()
	var op *messages.OpError
	switch {
	case !errors.As(err, &op):
		t.Errorf("error %v is no OpError", err)
	case !errors.Is(err, is):
		t.Errorf("error %q does not match %q", err, is)
	case op.Remote != remote:
		t.Errorf("error %q has Remote %v, want %v", err, op.Remote, remote)
	case err.Error() != text:
		t.Errorf("error reads\n%s, want\n%s", err, text)
	}
}

// noGoroutines fails the test if a goroutine of ours or of QUIC's remains. What
// has just been told to end is given time to.
func noGoroutines(t *testing.T) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		left := goroutines()
		if len(left) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Errorf("%d goroutines remain, such as\n%s", len(left), left[0])
			return
		}
	}
}

// goroutines returns the stacks of goroutines of ours and of QUIC's, but for
// those that run tests.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	return slices.DeleteFunc(strings.Split(string(buf), "\n\n"), func(stack string) bool {
		return strings.Contains(stack, "testing.tRunner") ||
			!strings.Contains(stack, "conec-go/conec") && !strings.Contains(stack, "quic-go")
	})
}
