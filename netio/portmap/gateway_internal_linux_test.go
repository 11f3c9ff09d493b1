package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// TestGatewayIn reads tables of routes.
func TestGatewayIn(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	raw := func(addr string) string {
		b := netip.MustParseAddr(addr).As4()
		return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[:]))
	}
	line := func(gateway, flags, metric, mask string) string {
		return "eth0\t00000000\t" + raw(gateway) + "\t" + flags + "\t0\t0\t" + metric + "\t" + mask + "\t0\t0\t0\n"
	}
	for _, test := range []struct{ name, table, want string }{
		{"none", head, ""},
		{"one", head + line("192.168.1.1", "0003", "100", "00000000"), "192.168.1.1"},
		{"the best", head + line("192.168.1.1", "0003", "600", "00000000") + line("10.0.0.1", "0003", "100", "00000000"), "10.0.0.1"},
		{"by no gateway", head + line("0.0.0.0", "0001", "0", "00000000"), ""},
		{"half of the internet", head + line("192.168.1.1", "0003", "0", "00000080"), ""},
		{"down", head + line("192.168.1.1", "0002", "0", "00000000"), ""},
		{"garbage", "eth0 00000000 zz 0003 0 0 0 00000000\neth0\n", ""},
	} {
		got, err := gatewayIn(test.table)
		if want := test.want; (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v, want %q", test.name, got, err, want)
		}
	}
	if gateway, err := defaultGateway(); err == nil && !gateway.Is4() {
		t.Errorf("this host: %v", gateway)
	}
}

func FuzzGatewayIn(f *testing.F) {
	f.Add("eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n")
	f.Fuzz(func(t *testing.T, table string) {
		if gateway, err := gatewayIn(table); err == nil && !gateway.Is4() {
			t.Errorf("got %v", gateway)
		}
	})
}
