package portmap

import (
	"net/netip"
	"testing"
)

// FuzzAnswer gives messages to all decoders.
func FuzzAnswer(f *testing.F) {
	p := &pcp{}
	granted := p.request(inner, netip.AddrPortFrom(outside, 7), wanted)
	granted[1] |= pcpResponse
	granted[3] = 0
	f.Add(granted)
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9})
	f.Add([]byte{0, 129, 0, 0, 0, 0, 0, 9, 0x9c, 0xbb, 0, 7, 0, 0, 14, 16})
	f.Add([]byte("HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: http://127.0.0.1:5000/root.xml\r\n\r\n"))
	at := site{gateway: loopback, inner: inner}
	f.Fuzz(func(t *testing.T, message []byte) {
		if outer, lifetime, err := p.answer(message, inner.Port()); err == nil && (!outer.Addr().IsValid() || lifetime < 0) {
			t.Errorf("PCP: %v, %v", outer, lifetime)
		}
		if addr, err := pmpAddressAnswer(message); err == nil && !addr.Is4() {
			t.Errorf("NAT-PMP: %v", addr)
		}
		if _, lifetime, err := pmpMapAnswer(message, inner.Port()); err == nil && lifetime < 0 {
			t.Errorf("NAT-PMP: %v", lifetime)
		}
		if location, err := at.location(message); err == nil && location.Hostname() != loopback.String() {
			t.Errorf("UPnP: %v", location)
		}
	})
}
