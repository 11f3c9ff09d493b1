package suite_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// tunnels is an HTTP proxy that connects by CONNECT.
type tunnels struct {
	*httptest.Server
	auth   string       // that it wants, "" for none
	status atomic.Int32 // that it refuses with, 0 if it does not

	running sync.WaitGroup
	mu      sync.Mutex
	open    []net.Conn
	count   int // so far
}

func (w *world) tunnels() *tunnels {
	p := &tunnels{}
	p.Server = httptest.NewServer(p)
	w.Cleanup(p.end)
	return p
}

// end closes everything. The scenario has ended before, but its goroutines are counted then.
func (p *tunnels) end() {
	p.cut()
	p.Close()
	p.running.Wait()
}

// cut ends all connections.
func (p *tunnels) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.open {
		conn.Close()
	}
	p.open = nil
}

func (p *tunnels) tunneled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// ServeHTTP connects.
func (p *tunnels) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	user, password, _ := (&http.Request{Header: http.Header{"Authorization": request.Header["Proxy-Authorization"]}}).BasicAuth()
	switch {
	case request.Method != http.MethodConnect:
		answer.WriteHeader(http.StatusMethodNotAllowed)
		return
	case p.status.Load() != 0:
		answer.WriteHeader(int(p.status.Load()))
		return
	case p.auth != "" && user+":"+password != p.auth:
		answer.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	there, err := (&net.Dialer{}).DialContext(request.Context(), "tcp", request.Host)
	if err != nil {
		answer.WriteHeader(http.StatusBadGateway)
		return
	}
	here, _, err := answer.(http.Hijacker).Hijack()
	if err != nil {
		there.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, here, there)
	p.count++
	p.mu.Unlock()
	_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	for _, way := range [][2]net.Conn{{here, there}, {there, here}} {
		p.running.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			here.Close()
			there.Close()
		})
	}
}

// Over a proxy a client attaches as without, with the user and password of the proxy's
// URL. When the proxy breaks the connection, it makes another, and no message is lost.
func TestProxy(t *testing.T) {
	onLoopback(t, func(w *world) {
		proxy := w.tunnels()
		proxy.auth = "user:secret/:@"
		events := newRecorder()
		alice, _ := w.gated("alice", true, events.config, func(c *client.Config) {
			c.Proxy = strings.Replace(proxy.URL, "http://", "http://user:secret%2F%3A%40@", 1)
		})
		await[client.Attached](w, events)
		bob, _ := w.gated("bob", false)
		here, there := w.stream(alice, bob, nil)
		to, back := w.traffic(here, there), w.traffic(there, here)
		for i := range 3 {
			to.flows(100)
			back.flows(100)
			start := time.Now()
			proxy.cut()
			w.eventually("another connection", func() bool { return proxy.tunneled() == i+2 })
			w.soon("another connection", start)
		}
		to.flows(100)
		back.flows(100)
		to.stop()
		back.stop()
		w.both(w.stream(bob, alice, nil))
		w.stayed(events)
	})
}

// Where only the proxy can resolve the coordinator's name, a client is attached all the same.
func TestProxyResolves(t *testing.T) {
	onLoopback(t, func(w *world) {
		alice, _ := w.gated("alice", false, func(c *client.Config) {
			c.Coordinator, c.Proxy = "coordinator.invalid", w.tunnels().URL
		})
		bob, _ := w.gated("bob", false)
		w.both(w.stream(alice, bob, nil))
		w.overTCP(alice, true)
	})
}

// A coordinator restarts, and a client that can not reach it hears nothing of that. When
// it can again, it finds out soon that it is not known, and attaches again.
func TestRestartBehindProxy(t *testing.T) {
	onLoopback(t, func(w *world) {
		proxy := w.tunnels()
		alice, _ := w.gated("alice", true, func(c *client.Config) { c.Proxy = proxy.URL })
		bob, _ := w.gated("bob", false)
		here, there := w.stream(alice, bob, nil)
		w.both(here, there)
		proxy.status.Store(http.StatusBadGateway)
		proxy.cut()
		w.stop()
		w.start()
		proxy.status.Store(0)
		back := time.Now()
		w.attached(2)
		w.soon("attached again", back)
		w.both(here, there)
	})
}

// What a proxy does not want is told, without the password.
func TestProxyRefuses(t *testing.T) {
	onLoopback(t, func(w *world) {
		identity, err := netio.NewIdentity("alice", time.Now())
		if err != nil {
			w.Fatal(err)
		}
		transport := w.transport(identity, nil)
		const wantsUser = "wants a user and a password in its URL, or others"
		for name, test := range map[string]struct {
			auth   string
			status int32
			user   string
			want   string
		}{
			"no user":        {auth: "user:secret", want: wantsUser},
			"wrong password": {auth: "user:secret", user: "user:terces@", want: wantsUser},
			"forbidden":      {status: http.StatusForbidden, user: "user:terces@", want: "refuses to connect to ADDR: 403 Forbidden"},
		} {
			proxy := w.tunnels()
			proxy.auth = test.auth
			proxy.status.Store(test.status)
			through, err := url.Parse(strings.Replace(proxy.URL, "http://", "http://"+test.user, 1))
			if err != nil {
				w.Fatal(err)
			}
			_, err = transport.DialTCP(w.ctx, netio.TCPDial{
				Addr: w.tcpAt.String(), As: []netip.AddrPort{w.coord.Addr()}, Proxy: through,
				Coordinator: netio.Coordinator{Fingerprint: w.coord.Fingerprint()},
			})
			want := "unreachable: proxy " + through.Host + ": " + strings.Replace(test.want, "ADDR", w.tcpAt.String(), 1)
			if !errors.Is(err, messages.ErrUnreachable) || !strings.HasSuffix(err.Error(), want) {
				w.Errorf("%s: error %v, want %q", name, err, want)
			}
		}
	})
}

// The context of a call ends the wait for a proxy that says nothing.
func TestProxySilent(t *testing.T) {
	onLoopback(t, func(w *world) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.Fatal(err)
		}
		defer silent.Close()
		config := w.clientConfig("alice")
		g := &gate{Link: config.Link}
		g.shut.Store(true)
		config.Link, config.Proxy = g, "http://"+silent.Addr().String()
		ctx, cancel := context.WithCancel(w.ctx)
		go func() {
			conn, err := silent.Accept()
			if err == nil {
				defer conn.Close()
			}
			cancel()
		}()
		if _, err := client.Connect(ctx, &config); !errors.Is(err, context.Canceled) {
			w.Errorf("error %v, want canceled", err)
		}
	})
}
