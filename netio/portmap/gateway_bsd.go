//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package portmap

import (
	"errors"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// defaultGateway is that of the first default route in the kernel's table.
func defaultGateway() (netip.Addr, error) {
	table, err := route.FetchRIB(unix.AF_INET, route.RIBTypeRoute, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, table)
	if err != nil {
		return netip.Addr{}, err
	}
	const wanted = unix.RTF_UP | unix.RTF_GATEWAY
	for _, message := range messages {
		entry, ok := message.(*route.RouteMessage)
		if !ok || entry.Flags&wanted != wanted || len(entry.Addrs) <= unix.RTAX_NETMASK {
			continue
		}
		to, isTo := entry.Addrs[unix.RTAX_DST].(*route.Inet4Addr)
		by, isBy := entry.Addrs[unix.RTAX_GATEWAY].(*route.Inet4Addr)
		mask, isMask := entry.Addrs[unix.RTAX_NETMASK].(*route.Inet4Addr)
		if isTo && isBy && to.IP == [4]byte{} && (!isMask || mask.IP == [4]byte{}) {
			return netip.AddrFrom4(by.IP), nil
		}
	}
	return netip.Addr{}, errors.New("no default route by a gateway")
}
