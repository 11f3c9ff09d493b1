package netio

import (
	"net/netip"
	"slices"
	"testing"
)

func TestReachable(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	any6, any4 := netip.MustParseAddrPort("[::]:7"), netip.MustParseAddrPort("0.0.0.0:7")
	tests := []struct {
		name  string
		ips   []netip.Addr
		local netip.AddrPort
		want  []string
	}{
		{
			"sorted, once, no loopback", addrs("2001:db8::1", "192.0.2.9", "127.0.0.1", "192.0.2.1", "192.0.2.9", "::1"), any6,
			[]string{"192.0.2.1:7", "192.0.2.9:7", "[2001:db8::1]:7"},
		},
		{"IPv4 only", addrs("2001:db8::1", "192.0.2.9"), any4, []string{"192.0.2.9:7"}},
		{"only loopback", addrs("127.0.0.1", "::1"), any6, []string{"127.0.0.1:7", "[::1]:7"}},
		{"no link-local", addrs("fe80::1", "169.254.1.1", "ff02::1", "127.0.0.1"), any6, []string{"127.0.0.1:7"}},
		{"nothing", nil, any6, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, a := range reachable(test.ips, test.local) {
				got = append(got, a.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	var many []netip.Addr
	for i := range byte(100) {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, i}))
	}
	if n := len(reachable(many, any6)); n != MaxAddrs {
		t.Errorf("%d addresses", n)
	}
}

func TestZoneIndex(t *testing.T) {
	for zone, want := range map[string]uint32{"": 0, "3": 3, "no such interface": 0} {
		if got := zoneIndex(zone); got != want {
			t.Errorf("zone %q: %d, want %d", zone, got, want)
		}
	}
}
