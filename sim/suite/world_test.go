package suite_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// patience limits a test. No test needs it: whatever takes that long hangs.
const patience = time.Minute

// world is a coordinator and its clients, on loopback, in this process. It closes
// them when the test ends and fails the test if a goroutine remains.
type world struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // the test's
	config  coord.Config
	coord   *coord.Coordinator
	clients []*client.Client
	raw     []*netio.Transport // of those that speak by hand
}

// newWorld starts a coordinator.
func newWorld(t *testing.T, change ...func(*coord.Config)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	authority, err := netio.NewAuthority("authority", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	identity, err := authority.Issue("localhost", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ctx: ctx, config: coord.Config{Addr: "127.0.0.1:0", Identity: identity}}
	for _, f := range change {
		f(&w.config)
	}
	t.Cleanup(func() {
		w.end()
		cancel()
	})
	w.start()
	return w
}

// start starts the coordinator, at its former address if it had one.
func (w *world) start() {
	w.t.Helper()
	c, err := coord.Start(w.ctx, &w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.coord = c
	w.config.Addr = c.Addr().String()
}

// stop closes the coordinator.
func (w *world) stop() {
	w.t.Helper()
	if err := w.coord.Close(w.ctx); err != nil {
		w.t.Errorf("close the coordinator: %v", err)
	}
}

// connect attaches a client, or says why not.
func (w *world) connect(name string, change ...func(*client.Config)) (*client.Client, error) {
	config := client.Config{
		Name: name, Coordinator: w.config.Addr, Fingerprint: w.coord.Fingerprint(), Bind: "127.0.0.1:0",
	}
	for _, f := range change {
		f(&config)
	}
	cl, err := client.Connect(w.ctx, &config)
	if err == nil {
		w.clients = append(w.clients, cl)
	}
	return cl, err
}

// client attaches a client.
func (w *world) client(name string, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	cl, err := w.connect(name, change...)
	if err != nil {
		w.t.Fatalf("connect %q: %v", name, err)
	}
	return cl
}

// close closes a client.
func (w *world) close(cl *client.Client) {
	w.t.Helper()
	if err := cl.Close(w.ctx); err != nil {
		w.t.Errorf("close %q: %v", cl.Name(), err)
	}
}

// end closes everything. Clients that a test closed before stay as they are.
func (w *world) end() {
	w.t.Helper()
	for _, cl := range w.clients {
		cl.Abort()
	}
	for _, transport := range w.raw {
		transport.Close()
	}
	if w.coord != nil {
		w.stop()
	}
	noGoroutines(w.t)
}

// stream opens a stream from one client to another, which accepts it.
func (w *world) stream(from, to *client.Client, options *client.StreamOptions) (here, there *client.Stream) {
	w.t.Helper()
	here, err := from.OpenStream(w.ctx, to.Name(), options)
	if err != nil {
		w.t.Fatal(err)
	}
	if there, err = to.AcceptStream(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	return here, there
}

// channel opens a channel from one client to another, which accepts it.
func (w *world) channel(from, to *client.Client, options *client.ChannelOptions) (here, there *client.Channel) {
	w.t.Helper()
	here, err := from.OpenChannel(w.ctx, to.Name(), options)
	if err != nil {
		w.t.Fatal(err)
	}
	if there, err = to.AcceptChannel(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	return here, there
}

// streamOn opens a stream on a channel, whose other end accepts it.
func (w *world) streamOn(here, there *client.Channel) (a, b *client.Stream) {
	w.t.Helper()
	a, err := here.OpenStream(w.ctx, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if b, err = there.AcceptStream(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	return a, b
}

// send sends messages.
func (w *world) send(s *client.Stream, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if err := s.Send(w.ctx, []byte(text)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// want receives exactly these messages.
func (w *world) want(s *client.Stream, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		got, err := s.Receive(w.ctx)
		if err != nil || string(got) != text {
			w.t.Fatalf("received %q, %v, want %q", got, err, text)
		}
	}
}

// wantEnd receives the end of a stream.
func (w *world) wantEnd(s *client.Stream) {
	w.t.Helper()
	if got, err := s.Receive(w.ctx); !errors.Is(err, io.EOF) {
		w.t.Fatalf("received %q, %v, want the end", got, err)
	}
}

// both sends a message each way.
func (w *world) both(a, b *client.Stream) {
	w.t.Helper()
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
	w.t.Helper()
	w.eventually("attached clients", func() bool { return w.coord.Stats().Attached == n })
}

// idle waits until the coordinator knows of no channel and no introduction.
func (w *world) idle() {
	w.t.Helper()
	w.eventually("the coordinator to hold no channel", func() bool {
		stats := w.coord.Stats()
		return stats.Channels == 0 && stats.Pending == 0 && stats.Relay.Routes == 0
	})
}

// eventually looks again and again until yes. It is for counters, which nobody
// can wait for.
func (w *world) eventually(what string, yes func() bool) {
	w.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !yes() {
		select {
		case <-again.C:
		case <-w.ctx.Done():
			w.t.Fatalf("waiting for %s: %v; %+v", what, w.ctx.Err(), w.coord.Stats())
		}
	}
}

// recorder collects a client's events.
type recorder chan client.Event

func newRecorder() recorder { return make(recorder, 1024) }

func (r recorder) config(c *client.Config) { c.OnEvent = func(e client.Event) { r <- e } }

// await returns the next event of type E.
func await[E client.Event](w *world, from recorder) E {
	w.t.Helper()
	for {
		select {
		case event := <-from:
			if e, ok := event.(E); ok {
				return e
			}
		case <-w.ctx.Done():
			w.t.Fatalf("waiting for %T: %v", *new(E), w.ctx.Err())
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
