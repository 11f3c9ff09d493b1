package client

import (
	"net/netip"
	"slices"
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Attachment is what a client knows of itself and its coordinator.
type Attachment struct {
	// Coordinator is the address that the client has attached to; not valid while it
	// is not attached for the first time.
	Coordinator netip.AddrPort
	// Observed is the client's address as the coordinator sees it.
	Observed netip.AddrPort
	// Addrs are the addresses of this host, with the port of the client's socket.
	Addrs []netip.AddrPort
	// RTT is the smoothed round-trip time to the coordinator; zero while there is no
	// connection.
	RTT time.Duration
	// Clock is how far the coordinator's wall clock was ahead of this client's when it
	// attached, if ClockKnown, and ClockError how wrong that can be: half of the time
	// that question and answer took.
	Clock, ClockError time.Duration
	// ClockKnown tells whether the coordinator has told its time.
	ClockKnown bool
}

// Attachment returns what is known now. It does not block.
func (cl *Client) Attachment() Attachment {
	a := Attachment{Addrs: cl.link.Addrs()}
	if relay := cl.shared.relay.Load(); relay != nil {
		a.Coordinator = relay.To
	}
	if observed := cl.shared.observed.Load(); observed != nil {
		a.Observed = *observed
	}
	if home := cl.shared.home.Load(); home != nil {
		if conn := home.Conn(); conn != nil {
			a.RTT = conn.RTT()
		}
	}
	if reading := cl.shared.clock.Load(); reading != nil {
		a.Clock, a.ClockError, a.ClockKnown = reading.ahead, reading.wrong, true
	}
	return a
}

// kinds says where candidates come from.
func (cl *Client) kinds(addrs []netip.AddrPort) []conecv1.AddressKind {
	own := cl.link.Addrs()
	mapped := cl.mappedAddr(own)
	var observed []netip.AddrPort
	if first := cl.shared.observed.Load(); first != nil {
		observed = append(observed, *first)
	}
	for _, other := range cl.ownLinks() {
		own, observed = append(own, other.Link.Addrs()...), append(observed, other.observed)
	}
	kinds := make([]conecv1.AddressKind, len(addrs))
	for i, addr := range addrs {
		switch {
		case slices.Contains(own, addr):
			kinds[i] = conecv1.AddressKind_ADDRESS_KIND_INTERFACE
		case addr == mapped:
			kinds[i] = conecv1.AddressKind_ADDRESS_KIND_MAPPED
		case slices.Contains(observed, addr):
			kinds[i] = conecv1.AddressKind_ADDRESS_KIND_OBSERVED
		}
	}
	return kinds
}

// clockReading is the difference between two wall clocks. It is never changed.
type clockReading struct {
	ahead time.Duration // of the other one
	wrong time.Duration // at most
}

// readClock takes what the other clock showed, in microseconds since 1970, in an
// answer that came now and took so long from the question on. It returns nil if the
// other one shows nothing.
func readClock(shown uint64, now time.Time, took time.Duration) *clockReading {
	const latestShown = 1 << 53 // the year 2255
	if shown == 0 || shown > latestShown {
		return nil
	}
	half := took / 2
	return &clockReading{ahead: time.UnixMicro(int64(shown)).Sub(now.Add(-half)), wrong: half}
}
