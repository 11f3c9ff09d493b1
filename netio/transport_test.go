package netio_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// tapLink shows what is written to a link.
type tapLink struct {
	netio.Link
	written func(to netip.AddrPort, p netio.Packets)
}

func (l *tapLink) Write(to netip.AddrPort, p netio.Packets, wait bool) error {
	l.written(to, p)
	return l.Link.Write(to, p, wait)
}

// home makes a coordinator and a client that is connected to it.
func home(t *testing.T, coordinator, client *netio.Config) (dialed, accepted *netio.Conn) {
	t.Helper()
	var n fakeNet
	id := newIdentity(t, "localhost")
	c := newCoordinator(t, n.link("10.0.0.9:9"), id, coordinator)
	a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), client)
	dialed, err := a.DialHome(within(t), netip.MustParseAddrPort("10.0.0.9:9"), pinned(id))
	if err != nil {
		t.Fatal(err)
	}
	if accepted, err = c.AcceptHome(within(t)); err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

// pinned knows a coordinator by the fingerprint of its certificate.
func pinned(id *netio.Identity) netio.Coordinator {
	return netio.Coordinator{Fingerprint: netio.Fingerprint(id.Chain()[0])}
}

func TestHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := home(t, nil, nil)
		if name, err := netio.CertificateName(c.Certificate()); name != "alice" || err != nil {
			t.Errorf("client %q, %v", name, err)
		}
		if c.Remote().String() != "10.0.0.1:1" || a.Remote().String() != "10.0.0.9:9" || a.Port() != nil {
			t.Errorf("addresses %v and %v, port %v", c.Remote(), a.Remote(), a.Port())
		}
		keyA, errA := a.ExportKey("bind")
		keyC, errC := c.ExportKey("bind")
		other, err := c.ExportKey("other")
		if keyA != keyC || keyA == other || keyA == [32]byte{} || errors.Join(errA, errC, err) != nil {
			t.Errorf("keys %x, %x and %x: %v", keyA, keyC, other, errors.Join(errA, errC, err))
		}
		if a.Err() != nil {
			t.Error(a.Err())
		}
		c.Close(messages.ErrSuperseded)
		<-a.Done()
		if err := a.Err(); !errors.Is(err, messages.ErrSuperseded) || !netio.IsRemote(err) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("the client got %v", err)
		}
		if err := c.Err(); !errors.Is(err, messages.ErrSuperseded) || netio.IsRemote(err) {
			t.Errorf("the coordinator got %v", err)
		}
	})
}

// TestHomeStreamLimit: on a home channel, a client opens as many streams as the coordinator allows beside its control stream,
// the coordinator none.
func TestHomeStreamLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c := home(t, &netio.Config{MaxStreams: 2}, nil)
		if _, err := a.OpenControl(within(t)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := a.OpenStream(within(t), &conecv1.OpenStream{}); err != nil {
				t.Fatal(err)
			}
		}
		for name, conn := range map[string]*netio.Conn{"client": a, "coordinator": c} {
			ctx, cancel := context.WithTimeout(within(t), time.Second)
			if _, err := conn.OpenStream(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
	})
}

func TestStatelessRetry(t *testing.T) {
	for _, retry := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var n fakeNet
			var retries atomic.Int32
			link := &tapLink{n.link("10.0.0.9:9"), func(_ netip.AddrPort, p netio.Packets) {
				if len(p.Data) > 0 && p.Data[0]&0xf0 == 0xf0 { // RFC 9000 section 17.2.5
					retries.Add(1)
				}
			}}
			id := newIdentity(t, "localhost")
			c := newCoordinator(t, link, id, &netio.Config{StatelessRetry: retry})
			a := newEnd(t, n.link("10.0.0.1:1"), newIdentity(t, "alice"), nil)
			if _, err := a.DialHome(within(t), link.LocalAddr(), pinned(id)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.AcceptHome(within(t)); err != nil {
				t.Fatal(err)
			}
			if got := retries.Load() > 0; got != retry {
				t.Errorf("retry %v: sent %d", retry, retries.Load())
			}
		})
	}
}

// keyLog is a writer for any goroutine.
type keyLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *keyLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func TestKeyLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := [4]keyLog{}
		home(t, &netio.Config{KeyLog: &logs[0]}, &netio.Config{KeyLog: &logs[1]})
		connectEnds(t, &netio.Config{KeyLog: &logs[2]}, &netio.Config{KeyLog: &logs[3]})
		settle()
		for i := range logs {
			for _, label := range []string{"CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "} {
				if !strings.Contains(logs[i].text.String(), label) {
					t.Errorf("log %d has no %s", i, label)
				}
			}
		}
		if logs[0].text.String() != logs[1].text.String() {
			t.Error("the two sides logged different secrets")
		}
	})
}

// refusal is why a connection that was dialed ended, at once or soon after; nil if it lives.
func refusal(conn *netio.Conn, err error) error {
	if err != nil {
		return err
	}
	select {
	case <-conn.Done():
	case <-time.After(time.Minute):
	}
	return conn.Err()
}

// TestExpectOne dials a port twice; the second time comes before or after the first was taken.
func TestExpectOne(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newEnds(t, nil, nil)
			await := b.expect(a)
			dial := func() (*netio.Conn, error) {
				return a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
			}
			first, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the other side may see the end of two handshakes in any order
			take := func() {
				if _, err := await(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			if taken {
				take()
			}
			if err = refusal(dial()); !errors.Is(err, messages.ErrRefused) || !netio.IsRemote(err) {
				t.Errorf("taken %v: second connection: %v", taken, err)
			}
			if !taken {
				take()
			}
			if first.Err() != nil {
				t.Errorf("first connection: %v", first.Err())
			}
		})
	}
}

// TestExpectAbandoned stops waiting for a peer in the middle of its handshake: its connection must not be left over,
// and others must get in.
func TestExpectAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var meanwhile func()
		now := func() time.Time {
			if meanwhile != nil {
				f := meanwhile
				meanwhile = nil
				f()
			}
			return time.Now()
		}
		a, b := newEnds(t, nil, &netio.Config{Now: now})
		ctx, cancel := context.WithCancel(within(t))
		abandoned := make(chan error, 1)
		await := b.expect(a)
		go func() {
			_, err := await(ctx)
			abandoned <- err
		}()
		meanwhile = func() { // b looks at the clock to check a's certificate
			cancel()
			if err := <-abandoned; !errors.Is(err, context.Canceled) {
				t.Errorf("await: %v", err)
			}
			abandoned <- nil
		}
		if err := refusal(a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])); !errors.Is(err, messages.ErrRefused) || !netio.IsRemote(err) {
			t.Errorf("the one that nobody waits for: %v", err)
		}
		if err := <-abandoned; err != nil {
			t.Error(err)
		}
		_, _ = connect(t, a, b)
	})
}

// TestExpectAgain expects a peer anew while the former wait for it has not ended.
func TestExpectAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, nil, nil)
		former := b.expect(a)
		latter := b.expect(a)
		ctx, cancel := context.WithCancel(within(t))
		cancel()
		if _, err := former(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := latter(within(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestExpectLeftover: a connection came, and then nobody took it.
func TestExpectLeftover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, nil, nil)
		await := b.expect(a)
		conn, err := a.DialChannel(within(t), a.port, "bob", b.id.Chain()[0])
		if err != nil {
			t.Fatal(err)
		}
		settle()
		ctx, cancel := context.WithCancel(within(t))
		cancel()
		taken, err := await(ctx)
		if err == nil {
			taken.Close(messages.ErrRefused)
		}
		if err := refusal(conn, nil); !errors.Is(err, messages.ErrRefused) || !netio.IsRemote(err) {
			t.Error(err)
		}
	})
}

// TestTransportClose closes a transport in the middle of everything it can do.
func TestTransportClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, nil, nil)
		other := openPort(t, a.Switch())
		ca, cb := connect(t, a, b)
		out, in := openStream(t, ca, cb)
		_ = in
		ctx := context.Background() // nothing but Close ends what follows
		calls := map[string]func() error{
			"expect":        func() error { _, err := a.Expect(other, "carol", nil)(ctx); return err },
			"accept home":   func() error { _, err := a.AcceptHome(ctx); return err },
			"accept stream": func() error { _, err := ca.AcceptStream(ctx); return err },
			"dial":          func() error { _, err := a.DialChannel(ctx, other, "carol", nil); return err },
			"receive":       func() error { _, err := out.Receive(ctx); return err },
			"send": func() error {
				for {
					if err := out.Send(ctx, make([]byte, 9000)); err != nil {
						return err
					}
				}
			},
		}
		type result struct {
			name string
			err  error
		}
		results := make(chan result)
		for name, call := range calls {
			go func() { results <- result{name, call()} }()
		}
		settle()
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- a.Close() }()
		}
		for range calls {
			if r := <-results; !errors.Is(r.err, net.ErrClosed) || netio.IsRemote(r.err) {
				t.Errorf("%s: %v", r.name, r.err)
			}
		}
		for range 2 {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		}
		<-out.Ended()
		if !errors.Is(ca.Err(), net.ErrClosed) {
			t.Error(ca.Err())
		}
		if _, err := a.DialChannel(ctx, a.port, "bob", nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial after Close: %v", err)
		}
	})
}

// TestPeerVanishes has a peer whose packets stop to come: the connection ends by itself.
func TestPeerVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, &netio.Config{IdleTimeout: 5 * time.Second}, nil)
		ca, _ := connect(t, a, b)
		b.port.SetPath(netio.Path{})
		<-ca.Done()
		if err := ca.Err(); !errors.Is(err, messages.ErrUnreachable) || netio.IsRemote(err) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(within(t), time.Second)
		defer cancel()
		if _, err := a.DialChannel(ctx, a.port, "bob", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		if _, err := a.DialChannel(within(t), a.port, "bob", nil); !errors.Is(err, messages.ErrUnreachable) {
			t.Errorf("dial: %v", err)
		}
	})
}

// TestPackets runs noise, spoofed and replayed packets into a live channel: it goes on.
func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		var mu sync.Mutex
		var seen [][]byte // packets that b sent to a
		la := n.link("10.0.0.1:1")
		lb := &tapLink{n.link("10.0.0.2:2"), func(_ netip.AddrPort, p netio.Packets) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, splitPackets(p)...)
		}}
		a := newEnd(t, la, newIdentity(t, "alice"), nil)
		b := newEnd(t, lb, newIdentity(t, "bob"), nil)
		joinPorts(a.port, a.link, b.port, b.link)
		ca, cb := connect(t, a, b)
		out, in := openStream(t, ca, cb)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			mu.Lock()
			packet := bytes.Clone(seen[random.IntN(len(seen))])
			mu.Unlock()
			from := []netip.AddrPort{strangers, lb.LocalAddr()}[i%2]
			switch i / 2 % 4 {
			case 0: // as it was
			case 1:
				packet[random.IntN(len(packet))] ^= 1 << random.IntN(8)
			case 2:
				packet = packet[:1+random.IntN(len(packet))]
			case 3: // the header of a real one, and noise
				for j := 6; j < len(packet); j++ {
					packet[j] = byte(random.Uint32())
				}
			}
			la.deliver(from, packet)
			for _, s := range [][2]*netio.Stream{{out, in}, {in, out}} {
				if err := s[0].Send(within(t), numbered(i)); err != nil {
					t.Fatal(err)
				}
				if got, err := s[1].Receive(within(t)); string(got) != string(numbered(i)) || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
			}
		}
		openStream(t, cb, ca)
		if ca.Err() != nil || cb.Err() != nil {
			t.Error(ca.Err(), cb.Err())
		}
	})
}

// splitPackets returns the datagrams that a write makes.
func splitPackets(p netio.Packets) (out [][]byte) {
	batch := batchOf(netip.AddrPort{}, p)
	for off := 0; off < batch.N; off += batch.Segment {
		out = append(out, bytes.Clone(batch.Buf[off:min(off+batch.Segment, batch.N)]))
	}
	return out
}

// TestNoiseAtSocket sends random bytes to the real UDP ports of a coordinator and a client that are connected, and
// looks for goroutines that are left when both have been closed.
func TestNoiseAtSocket(t *testing.T) {
	id := newIdentity(t, "localhost")
	lc, la := listenLoopback(t), listenLoopback(t)
	c := newCoordinator(t, lc, id, &netio.Config{StatelessRetry: true})
	a := newEnd(t, la, newIdentity(t, "alice"), nil)
	dialed, err := a.DialHome(within(t), lc.LocalAddr(), pinned(id))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := c.AcceptHome(within(t))
	if err != nil {
		t.Fatal(err)
	}
	control, err := dialed.OpenControl(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err = control.Send(attach(0)); err != nil {
		t.Fatal(err)
	}
	controlIn, err := accepted.AcceptControl(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = controlIn.Receive(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, to := range []*netio.UDPLink{lc, la} {
		noise, err := net.DialUDP("udp", nil, udpAddr(to))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			packet := make([]byte, 1+random.IntN(1400))
			for j := range packet {
				packet[j] = byte(random.Uint32())
			}
			_, _ = noise.Write(packet)
			if i%100 != 0 {
				continue
			}
			if err := controlIn.Send(attach(i)); err != nil {
				t.Fatal(err)
			}
			if got, err := control.Receive(); err != nil || got.GetAttach().GetName() != attach(i).GetAttach().GetName() {
				t.Fatalf("%v, %v", got, err)
			}
		}
		_ = noise.Close()
	}
	if _, err = a.DialHome(within(t), lc.LocalAddr(), pinned(id)); err != nil {
		t.Errorf("another connection: %v", err)
	}
	if err := errors.Join(a.Close(), c.Close(), dialed.Err()); err == nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("close: %v", err)
	}
	noGoroutines(t)
}

// attach is a control message with a number.
func attach(i int) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: string(numbered(i))}}}
}
