package netio

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// pollHost calls hint, by one goroutine, when it finds the network changed, until end is called.
func pollHost(hint func(Hint)) (end func(), err error) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(pollEvery)
		defer ticker.Stop()
		now := bootClock()
		sleep, addrs, from := drowse{now()}, interfaceAddrs(0), sources()
		for {
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
			nowAddrs, nowFrom := interfaceAddrs(0), sources()
			told := Hint{Rerouted: nowFrom != from, Slept: sleep.slept(now())}
			if told != (Hint{}) || !slices.Equal(nowAddrs, addrs) {
				hint(told)
			}
			addrs, from = nowAddrs, nowFrom
		}
	}()
	return func() {
		close(stop)
		<-done
	}, nil
}

// sources are the addresses from which this host would send to the internet, of both families; invalid where it can not.
func sources() (from [2]netip.Addr) {
	for i, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // for documentation (RFC 5737, RFC 3849); nothing is sent
		conn, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		if addr, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			from[i] = addr.AddrPort().Addr()
		}
		_ = conn.Close()
	}
	return from
}
