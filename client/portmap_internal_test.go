package client

import (
	"net/netip"
	"testing"
	"time"
)

// TestNeedsPort holds where a port at the gateway is asked for.
func TestNeedsPort(t *testing.T) {
	for _, test := range []struct {
		name, observed string
		own            []string
		want           bool
	}{
		{"behind a NAT", "203.0.113.9:33007", []string{"192.168.1.2:7"}, true},
		{"behind a carrier's", "203.0.113.9:33007", []string{"100.64.1.2:7"}, true},
		{"behind a NAT in a NAT", "192.168.1.2:33007", []string{"172.17.0.2:7"}, true},
		{"seen by IPv6", "[2001:db8::1]:7", []string{"192.168.1.2:7", "[2001:db8::1]:7"}, true},
		{"not attached, or over TCP", "", []string{"192.168.1.2:7"}, false},
		{"public", "203.0.113.9:7", []string{"203.0.113.9:7"}, false},
		{"public, and seen under another", "203.0.113.10:7", []string{"203.0.113.9:7"}, false},
		{"public, and private", "203.0.113.10:7", []string{"10.0.0.1:7", "203.0.113.9:7"}, false},
		{"the coordinator's network", "192.168.1.2:7", []string{"192.168.1.2:7"}, false},
		{"the coordinator's host", "127.0.0.1:7", []string{"192.168.1.2:7"}, false},
		{"loopback only", "192.168.1.2:7", []string{"127.0.0.1:7"}, false},
		{"IPv6 only", "[2001:db8::1]:7", []string{"[2001:db8::1]:7"}, false},
	} {
		var observed netip.AddrPort
		if test.observed != "" {
			observed = netip.MustParseAddrPort(test.observed)
		}
		var own []netip.AddrPort
		for _, text := range test.own {
			own = append(own, netip.MustParseAddrPort(text))
		}
		if got := needsPort(observed, own); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// TestPortPlan follows a mapping that is made, can not be renewed, and is lost.
func TestPortPlan(t *testing.T) {
	start := time.Now()
	now, p := start, portPlan{}
	fail := func(again time.Duration, kept bool) {
		t.Helper()
		if gotAgain, gotKept := p.failed(now); gotAgain != again || gotKept != kept {
			t.Errorf("after %v: got %v, kept %v, want %v, %v", now.Sub(start), gotAgain, gotKept, again, kept)
		}
		now = now.Add(again)
	}
	for _, again := range []time.Duration{10, 20, 40, 80, 80} {
		fail(again*time.Minute, false)
	}
	if again := p.mapped(now, 2*time.Minute); again != time.Minute {
		t.Errorf("renewed after %v", again)
	}
	now = now.Add(time.Minute)
	for _, again := range []time.Duration{30, 15, 15} {
		fail(again*time.Second, true)
	}
	fail(10*time.Minute, false)
	fail(20*time.Minute, false)
}
