package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// stagger is the head start that each address has over the next (RFC 8305
// section 8 recommends 250 milliseconds).
const stagger = 250 * time.Millisecond

// lookup resolves the coordinator's host to the addresses that a socket bound to
// local can reach.
func lookup(ctx context.Context, host string, port uint16, local netip.Addr) ([]netip.AddrPort, error) {
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		ip = ip.Unmap()
		if local.Is4() && !ip.Is4() || local.Is6() && !local.IsUnspecified() && ip.Is4() {
			continue
		}
		addrs = append(addrs, netip.AddrPortFrom(ip, port))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address that can be reached from %s", host, local)
	}
	return addrs, nil
}

// dialFirst dials the addresses one after the other, each with a head start, and
// returns the first connection.
func dialFirst(ctx context.Context, addrs []netip.AddrPort,
	dial func(context.Context, netip.AddrPort) (*netio.Conn, error),
) (*netio.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *netio.Conn
		err  error
	}
	results := make(chan result)
	var errs []error
	next, running := 0, 0
	start := func() {
		addr := addrs[next]
		next++
		running++
		go func() {
			conn, err := dial(ctx, addr)
			if err != nil {
				err = fmt.Errorf("%s: %w", addr, err)
			}
			results <- result{conn, err}
		}()
	}
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	start()
	var won *netio.Conn
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.conn
				cancel()
			case r.err == nil:
				r.conn.Close(messages.ErrCanceled)
			default:
				errs = append(errs, r.err)
			}
			if won == nil && next < len(addrs) && ctx.Err() == nil {
				start()
			}
		case <-timer.C:
			if won == nil && next < len(addrs) {
				start()
				timer.Reset(stagger)
			}
		}
	}
	if won == nil {
		return nil, errors.Join(errs...)
	}
	return won, nil
}
