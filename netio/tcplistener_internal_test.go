package netio

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
)

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	last   byte
}

// placed is a connection that has an address.
type placed struct {
	net.Conn
	remote netip.AddrPort
}

func (p placed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1719} }

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.last++
	select {
	case p.conns <- placed{there, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, p.last}), 7)}:
		return here, nil
	case <-p.closed:
		return nil, errors.New("refused")
	}
}

// tcpWorld is a coordinator's transport that takes TCP.
type tcpWorld struct {
	*testing.T
	pipes    *pipes
	identity *Identity
	relay    *Relay
	switches []*Switch
	listener *TCPListener
}

var tcpCoordinator = netip.MustParseAddrPort("192.0.2.1:1719")

// playTCP plays a scenario on virtual time. Nothing may be left at its end.
func playTCP(t *testing.T, limit int, scenario func(w *tcpWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &tcpWorld{T: t, pipes: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, relay: NewRelay(RelayConfig{})}
		var err error
		if w.identity, err = NewIdentity("coordinator", time.Now()); err != nil {
			t.Fatal(err)
		}
		coordinator := w.transport(SwitchConfig{AcceptRaw: true, Relay: w.relay}, true)
		w.listener = coordinator.ListenTCP(w.pipes, limit)
		scenario(w)
		for _, sw := range w.switches {
			sw.Close()
		}
	})
}

func (w *tcpWorld) transport(config SwitchConfig, coordinator bool) *Transport {
	w.Helper()
	sw, err := NewSwitch(config)
	if err != nil {
		w.Fatal(err)
	}
	w.switches = append(w.switches, sw)
	t := &Transport{sw: sw, config: (&Config{}).withDefaults(), coordinator: coordinator}
	t.who.set(w.identity)
	return t
}

// tcpClient speaks by hand over a TCP link.
type tcpClient struct {
	w        *tcpWorld
	id       uint64
	sequence uint64
	link     *TCPLink
}

// client dials. It has not bound.
func (w *tcpWorld) client(id uint64) *tcpClient {
	w.Helper()
	link, err := w.transport(SwitchConfig{}, false).DialTCP(w.Context(), TCPDial{
		Addr: "coordinator:1719", As: []netip.AddrPort{tcpCoordinator}, Dial: w.pipes.dial,
		Coordinator: Coordinator{Fingerprint: Fingerprint(w.identity.Chain()[0])},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { link.Close() })
	return &tcpClient{w: w, id: id, link: link}
}

func (c *tcpClient) key() [32]byte { return [32]byte{byte(c.id)} }

// send sends a datagram.
func (c *tcpClient) send(datagram []byte) {
	c.w.Helper()
	if err := c.link.Write(tcpCoordinator, Packets{Data: datagram}, false); err != nil {
		c.w.Fatal(err)
	}
}

// want reads one datagram.
func (c *tcpClient) want() []byte {
	c.w.Helper()
	var b Batch
	if err := c.link.Read(&b); err != nil {
		c.w.Fatal(err)
	}
	if b.From != tcpCoordinator {
		c.w.Errorf("from %v, want the coordinator", b.From)
	}
	return b.Buf[:min(b.N, b.Segment)]
}

// bind binds and returns the address that the coordinator sees.
func (c *tcpClient) bind() netip.AddrPort {
	c.w.Helper()
	c.sequence++
	if c.sequence == 1 {
		if err := c.w.relay.AddClient(c.id, c.key()); err != nil {
			c.w.Fatal(err)
		}
	}
	c.send(EncodeBind(nil, c.id, c.sequence, c.key()))
	bound, err := ParseBound(c.want(), c.key())
	if err != nil || bound.Sequence != c.sequence {
		c.w.Fatalf("bound %+v, %v", bound, err)
	}
	return bound.Observed
}

// over reads until the connection has ended.
func (c *tcpClient) over() bool {
	var b Batch
	for c.link.Read(&b) == nil {
	}
	return c.link.Err() != nil
}

// Clients bind over TCP, are told where they really are, and what they send each
// other is relayed.
func TestTCPRelay(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		alice, bob := w.client(1), w.client(2)
		if got := alice.bind(); got != netip.MustParseAddrPort("198.51.100.1:7") {
			w.Errorf("alice is seen at %v", got)
		}
		if got := bob.bind(); got != netip.MustParseAddrPort("198.51.100.2:7") {
			w.Errorf("bob is seen at %v", got)
		}
		here, there, err := w.relay.AddRoute(1, 2)
		if err != nil {
			w.Fatal(err)
		}
		for range 3 {
			packet := make([]byte, 1205)
			putHeader(packet, typeRelay, here)
			packet[headerSize] = typeQUIC
			alice.send(packet)
			putHeader(packet, typeRelay, there)
			if got := bob.want(); string(got) != string(packet) {
				w.Fatalf("bob got % x…", got[:min(8, len(got))])
			}
		}
	})
}

// An ask is answered by as much as it is, and moves nothing.
func TestTCPAsk(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		first, second := w.client(1), w.client(1)
		first.bind()
		second.sequence = 1
		at, _ := w.relay.Bound(1)
		ask := EncodeAsk(nil, 1, 2, second.key(), 1300)
		second.send(ask)
		answer := second.want()
		if bound, err := ParseBound(answer[:bindSize], second.key()); err != nil || bound.Sequence != 2 || len(answer) != 1300 {
			w.Errorf("answer of %d bytes: %+v, %v", len(answer), bound, err)
		}
		if now, _ := w.relay.Bound(1); now != at {
			w.Errorf("bound at %v, was at %v", now, at)
		}
		second.send(ask) // a replay
		synctest.Wait()
		if got := w.relay.Stats().Dropped.Replay; got != 1 {
			w.Errorf("%d replays dropped, want 1", got)
		}
		first.send(EncodeBind(nil, 1, 2, first.key())) // an ask has not used the number up
		if bound, err := ParseBound(first.want(), first.key()); err != nil || bound.Sequence != 2 {
			w.Errorf("bound %+v, %v", bound, err)
		}
	})
}

// Who connects and does not bind is closed after 15 seconds; a client that says nothing for
// 45, too. One that binds stays.
func TestTCPSilence(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		start := time.Now()
		stays, silent, unbound := w.client(1), w.client(2), w.client(3)
		stays.bind()
		silent.bind()
		if took := time.Since(start); !unbound.over() || time.Since(start) != tcpBindWait {
			w.Errorf("who does not bind is closed after %v", took)
		}
		for range 6 {
			<-time.After(10 * time.Second)
			stays.bind()
		}
		if open := w.listener.Stats().Open; !silent.over() || open != 1 {
			w.Errorf("%d connections, want 1", open)
		}
	})
}

// A flood of connections that say nothing, or nothing useful, pushes out its own, is
// bounded, and ends; a client comes in, and one that has bound stays.
func TestTCPFlood(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		stays := w.client(1)
		stays.bind()
		var flood []net.Conn
		for range 3 * maxTCPNew {
			conn, err := w.pipes.dial(w.Context(), "", "")
			if err != nil {
				w.Fatal(err)
			}
			flood = append(flood, conn)
		}
		synctest.Wait()
		if stats := w.listener.Stats(); stats.Open != maxTCPNew+1 || stats.Evicted != 2*maxTCPNew {
			w.Errorf("%+v, want %d open", stats, maxTCPNew+1)
		}
		w.client(2).bind()
		stays.bind()
		<-time.After(tcpBindWait + time.Second)
		if open := w.listener.Stats().Open; open != 2 {
			w.Errorf("%d connections left, want 2", open)
		}
		for _, conn := range flood {
			conn.Close()
		}
	})
}

// At the limit, clients that have bound stay, and others are not let in.
func TestTCPLimit(t *testing.T) {
	playTCP(t, 2, func(w *tcpWorld) {
		first, second := w.client(1), w.client(2)
		first.bind()
		third := w.client(3) // takes the place of the second
		third.bind()
		if !second.over() {
			w.Error("the second stays")
		}
		conn, err := w.pipes.dial(w.Context(), "", "")
		if err != nil {
			w.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			w.Error("a fourth was let in")
		}
		first.bind()
		third.bind()
		if stats := w.listener.Stats(); stats.Refused != 1 || stats.Open != 2 {
			w.Errorf("%+v, want 1 refused and 2 open", stats)
		}
	})
}

// Who speaks something else is closed, at once where that is clear.
func TestTCPGarbage(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		stays := w.client(1)
		stays.bind()
		for name, speak := range map[string]func(net.Conn) (int, error){
			"HTTP":    func(conn net.Conn) (int, error) { return conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
			"zeros":   func(conn net.Conn) (int, error) { return conn.Write(make([]byte, 100)) },
			"nothing": func(conn net.Conn) (int, error) { return 0, conn.Close() },
			"another protocol": func(conn net.Conn) (int, error) {
				return tlsTo(conn, "h2").Read(make([]byte, 1))
			},
			"no protocol": func(conn net.Conn) (int, error) {
				return tlsTo(conn).Read(make([]byte, 1))
			},
			"empty datagram": func(conn net.Conn) (int, error) { return tlsTo(conn, messages.ALPNTCP).Write([]byte{0, 0}) },
			"large datagram": func(conn net.Conn) (int, error) { return tlsTo(conn, messages.ALPNTCP).Write([]byte{255, 255, 34}) },
		} {
			conn, err := w.pipes.dial(w.Context(), "", "")
			if err != nil {
				w.Fatal(err)
			}
			go func() { _, _ = speak(conn) }() // it is closed, sooner or later
			if name == "no protocol" {
				<-time.After(tcpBindWait + time.Second) // in a pipe, its last words wait to be read
			}
			synctest.Wait()
			if open := w.listener.Stats().Open; open != 1 {
				w.Errorf("%s: %d connections left, want 1", name, open)
			}
			conn.Close()
		}
		c := w.client(2)
		c.send([]byte{0}) // a datagram that means nothing is dropped, as by UDP
		c.send([]byte{typeBind})
		c.bind()
		stays.bind()
	})
}

func tlsTo(conn net.Conn, protocols ...string) *tls.Conn {
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
}

// A client that does not read, and one that does not finish its TLS handshake, stop nobody
// else; the first is closed after 20 seconds.
func TestTCPSlowReader(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		conn, err := w.pipes.dial(w.Context(), "", "")
		if err != nil {
			w.Fatal(err)
		}
		if _, err := conn.Write([]byte{22, 3, 1}); err != nil {
			w.Fatal(err)
		}
		slow, other := w.client(1), w.client(2)
		slow.bind()
		other.bind()
		at, _ := w.relay.Bound(1)
		full := 0
		for range 1000 {
			if w.listener.Write(at, Packets{Data: make([]byte, 1200)}, true) != nil {
				full++
			}
		}
		if full < 1000-2*tcpQueueBytes/1200 {
			w.Errorf("%d of 1,000 packets were dropped", full)
		}
		other.bind()
		<-time.After(tcpWriteTimeout + time.Second)
		if open := w.listener.Stats().Open; open != 1 {
			w.Errorf("%d connections left, want 1", open)
		}
		if w.listener.Write(at, Packets{Data: make([]byte, 1200)}, true) == nil {
			w.Error("the connection still takes packets")
		}
		conn.Close()
	})
}

// UDP packets with the address of a TCP connection as their source are dropped.
func TestTCPForgedSource(t *testing.T) {
	playTCP(t, 0, func(w *tcpWorld) {
		c := w.client(1)
		c.bind()
		at, _ := w.relay.Bound(1)
		sw := w.switches[0]
		a := &arrival{Batch: Batch{From: at}, link: nullLink{}}
		if sw.rawAddr(a) != nil {
			w.Error("a forged source was accepted")
		}
		if a := (&arrival{Batch: Batch{From: at}, link: w.listener}); sw.rawAddr(a) == nil {
			w.Error("the connection's packets were not accepted")
		}
		if link, _ := sw.rawRoute(at); link != Link(w.listener) {
			w.Errorf("packets to it take %v", link)
		}
	})
}
