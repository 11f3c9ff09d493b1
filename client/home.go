package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// none in an address turns something off.
const none = "none"

// tcpHeadStart is how long UDP may take to reach the coordinator until TCP is tried, too.
const tcpHeadStart = time.Second

// lookupTimeout limits the time to resolve the coordinator's host, which a network that
// has a proxy may not be able to.
const lookupTimeout = 5 * time.Second

// noAddr stands for a coordinator that only the proxy finds: nothing is ever there (RFC 6666).
var noAddr = netip.MustParseAddr("100::1")

// homeDialed is how one way to dial the home channel ended.
type homeDialed struct {
	conn *netio.Conn    // over UDP
	link *netio.TCPLink // over TCP
	err  error
}

// dialHome is called by the home channel's pump. It tries all addresses of the
// coordinator by UDP, and TCP as well if that takes long.
func (cl *Client) dialHome(ctx context.Context) (*netio.Conn, error) {
	select { // a former life's may just be ending
	case cl.way.dialing <- struct{}{}:
		defer func() { <-cl.way.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := cl.turned.wait(ctx); err != nil {
		return nil, err
	}
	host, port, err := splitHostPort(cl.config.Coordinator)
	if err != nil {
		return nil, err
	}
	round, blocked := cl.way.begin()
	looking, stop := context.WithTimeout(ctx, lookupTimeout)
	addrs, err := lookup(looking, host, port, cl.link.LocalAddr().Addr())
	stop()
	if err != nil {
		err = fmt.Errorf("%w: %w", messages.ErrUnreachable, err)
	}
	if cl.config.TCPAddr == none {
		if err != nil {
			return nil, err
		}
		return dialFirst(ctx, addrs, cl.dialAt)
	}
	racing, cancel := context.WithCancel(ctx)
	defer cancel()
	udp, as := make(chan homeDialed, 1), addrs
	if err != nil {
		udp <- homeDialed{err: err}
		as = []netip.AddrPort{netip.AddrPortFrom(noAddr, port)}
	} else {
		go func() {
			conn, err := dialFirst(racing, addrs, cl.dialAt)
			udp <- homeDialed{conn: conn, err: err}
		}()
	}
	head := tcpHeadStart
	if blocked {
		head = 0
	}
	won := raceTCP(racing, cancel, udp, head, func(ctx context.Context) homeDialed {
		link, err := cl.dialTCP(ctx, as)
		return homeDialed{link: link, err: err}
	})
	switch {
	case won.link != nil:
		return cl.dialOver(ctx, round, won.link)
	case won.err == nil:
		_, _ = cl.way.take(round, nil) // nobody else dials
	}
	return won.conn, won.err
}

// raceTCP waits for UDP, and dials TCP as well after the head start, or once UDP has
// got no answer. It returns the first success, and calls cancel, which must end both.
func raceTCP(ctx context.Context, cancel func(), udp <-chan homeDialed, head time.Duration, dial func(context.Context) homeDialed) homeDialed {
	var byUDP, byTCP homeDialed
	timer := time.NewTimer(head)
	defer timer.Stop()
	tcp := make(chan homeDialed, 1)
	started, waiting := false, true // waiting for UDP
	for {
		select {
		case byUDP = <-udp:
			waiting = false
			if !errors.Is(byUDP.err, messages.ErrUnreachable) || netio.IsRemote(byUDP.err) { // it works, or the answer is no
				cancel()
				if started && byTCP.err == nil {
					drop(<-tcp)
				}
				return byUDP
			}
		case byTCP = <-tcp:
			if byTCP.err == nil {
				cancel()
				if waiting {
					if byUDP = <-udp; byUDP.err == nil {
						drop(byTCP)
						return byUDP
					}
				}
				return byTCP
			}
		case <-timer.C:
		}
		switch {
		case !started:
			started = true
			go func() { tcp <- dial(ctx) }()
		case !waiting && byTCP.err != nil:
			return homeDialed{err: fmt.Errorf("%w; over TCP: %w", byUDP.err, byTCP.err)}
		}
	}
}

// drop closes a TCP link that nobody needs.
func drop(d homeDialed) {
	if d.link != nil {
		_ = d.link.Close()
	}
}

// known says how the client knows its coordinator.
func (cl *Client) known() netio.Coordinator {
	host, _, _ := splitHostPort(cl.config.Coordinator) // valid, or nothing is dialed
	return netio.Coordinator{Host: host, Fingerprint: cl.config.Fingerprint, Roots: cl.config.Roots, Revoked: cl.trust.revocations()}
}

// An address is dialed so often, one attempt after the other, while none has ended: the pauses between QUIC's first packets
// double, and the coordinator may be back in one of them.
const (
	dialTries = 20
	dialAgain = 500 * time.Millisecond
)

// dialAt dials an address. The attempt that ends first counts.
func (cl *Client) dialAt(ctx context.Context, addr netip.AddrPort) (*netio.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan homeDialed)
	again := time.NewTicker(dialAgain)
	defer again.Stop()
	started := 0
	for {
		if started < dialTries {
			started++
			go func() {
				conn, err := cl.dialOnce(ctx, addr)
				ended <- homeDialed{conn: conn, err: err}
			}()
		}
		select {
		case first := <-ended:
			cancel()
			for range started - 1 {
				if late := <-ended; late.err == nil {
					late.conn.Close(messages.ErrCanceled)
				}
			}
			return first.conn, first.err
		case <-again.C:
		}
	}
}

func (cl *Client) dialOnce(ctx context.Context, addr netip.AddrPort) (*netio.Conn, error) {
	return cl.transport.DialHome(ctx, addr, cl.known())
}

// dialOver dials the home channel over a TCP link.
func (cl *Client) dialOver(ctx context.Context, round uint64, link *netio.TCPLink) (*netio.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-link.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	_, _ = cl.way.take(round, link) // nobody else dials
	conn, err := cl.dialOnce(ctx, link.Remote())
	if err == nil {
		return conn, nil
	}
	if broken := link.Err(); broken != nil {
		err = fmt.Errorf("%w: %w", messages.ErrUnreachable, broken)
	}
	cl.way.begin() // forgets the link
	return nil, fmt.Errorf("over TCP: %w", err)
}

// dialTCP opens a TCP link to the coordinator, which the switch knows by one of addrs.
func (cl *Client) dialTCP(ctx context.Context, addrs []netip.AddrPort) (*netio.TCPLink, error) {
	proxy, err := cl.proxy()
	if err != nil {
		return nil, err
	}
	return cl.transport.DialTCP(ctx, netio.TCPDial{
		Addr: cl.config.TCPAddr, As: addrs, Coordinator: cl.known(), Proxy: proxy, Dial: cl.config.Dial,
	})
}

// proxy returns the URL of the HTTP proxy to go through, nil if there is none.
func (cl *Client) proxy() (*url.URL, error) {
	switch cl.config.Proxy {
	case "":
		return http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: cl.config.TCPAddr}})
	case none:
		return nil, nil
	}
	return parseProxy(cl.config.Proxy)
}

// parseProxy reads the URL of an HTTP proxy. Its errors do not show the password.
func parseProxy(text string) (*url.URL, error) {
	proxy, err := url.Parse(text)
	if err != nil || proxy.Hostname() == "" || proxy.Scheme != "http" {
		return nil, errors.New("want http://host:port, with user:password@ before the host if it needs them")
	}
	return proxy, nil
}
